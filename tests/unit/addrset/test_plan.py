"""Plans, played through on a set in memory: what is in it afterwards, and whose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.addrset import ranges
from netns_tools.addrset.plan import ERROR, OK, WAITING, SetPlan, lines, plan_departure, plan_set
from netns_tools.addrset.wanted import Target, Wanted
from netns_tools.kernel.nftset import LiveSet, SetId, element_text
from tests.unit.addrset.zones import WAN

ID = SetId("inet", "filter", "wan_ips")


def target(**more: Any) -> Target:
    return Target(ID, replace(WAN, **more), 4)


def live(elements: Iterable[str] = (), *flags: str, type: str = "ipv4_addr") -> LiveSet:
    return LiveSet(ID, type, frozenset(flags), handles=(1, 2), elements={text: text for text in elements})


def wants(*elements: str, complete: bool = True) -> Wanted:
    return Wanted(frozenset(elements), complete)


def play(plan: SetPlan, before: Iterable[str]) -> set[str]:
    """What a set holds after the commands, by the rules of nft."""
    content = set(before)
    for command in plan.commands:
        for verb, body in command.items():
            assert isinstance(body, dict)
            if "element" not in body:
                if verb == "flush":
                    content.clear()
                continue
            elements = {element_text(raw) for raw in body["element"]["elem"]}
            if verb == "delete":
                assert elements <= content, "nft refuses to delete what is not there"
                content -= elements
            else:
                content |= elements
    return content


HOSTS = st.frozensets(st.integers(1, 30).map(lambda n: f"10.0.0.{n}"))
NETWORKS = st.frozensets(
    st.tuples(st.integers(0, 63), st.integers(24, 30)).map(
        lambda p: f"{ip_address(int(ip_address('10.0.0.0')) + (p[0] * 256 >> 32 - p[1] << 32 - p[1]))}/{p[1]}"
    ),
    max_size=6,
)


@given(HOSTS, HOSTS)
def test_an_exclusive_set_holds_what_is_wanted(actual: frozenset[str], want: frozenset[str]) -> None:
    plan = plan_set(target(), Wanted(want), live(actual), None)
    assert play(plan, actual) == want == plan.owned
    assert set(plan.added) == want - actual
    assert set(plan.removed) == actual - want
    again = plan_set(target(), Wanted(want), live(want), plan.owned)
    assert not again.commands


@given(HOSTS, HOSTS, HOSTS)
def test_a_shared_set_keeps_what_is_foreign(
    actual: frozenset[str], want: frozenset[str], ours: frozenset[str]
) -> None:
    plan = plan_set(target(exclusive=False), Wanted(want), live(actual), ours)
    after = play(plan, actual)
    assert after == (actual - ours) | want
    assert plan.owned == want - (actual - ours)
    assert not plan_set(target(exclusive=False), Wanted(want), live(after), plan.owned).commands
    # And when the zone leaves, all that was foreign is left.
    left = plan_departure(live(after), plan.owned)
    assert play(left, after) == actual - ours


@given(HOSTS, HOSTS, HOSTS)
def test_nothing_of_ours_goes_while_docker_is_silent(
    actual: frozenset[str], want: frozenset[str], ours: frozenset[str]
) -> None:
    plan = plan_set(target(), Wanted(want, complete=False), live(actual), ours)
    assert play(plan, actual) == want | (ours & actual)


def covered(texts: Iterable[str]) -> list[tuple[int, int]]:
    return ranges.merge(map(ranges.parse, texts))


@given(NETWORKS, NETWORKS)
def test_intervals(actual: frozenset[str], want: frozenset[str]) -> None:
    before = ranges.texts(covered(actual), 4)
    plan = plan_set(target(networks=True), Wanted(want), live(before, "interval"), None)
    after = play(plan, before)
    assert covered(after) == covered(want)
    assert not plan_set(target(networks=True), Wanted(want), live(after, "interval"), plan.owned).commands


@given(NETWORKS, NETWORKS, NETWORKS)
def test_intervals_beside_foreign_ones(
    foreign: frozenset[str], want: frozenset[str], later: frozenset[str]
) -> None:
    """Whatever overlaps: afterwards both are covered, no two elements overlap, and foreign ones stay."""
    theirs = ranges.texts(covered(foreign), 4)
    zone = target(networks=True, exclusive=False)
    first = plan_set(zone, Wanted(want), live(theirs, "interval"), None)
    between = play(first, theirs)
    assert covered(between) == covered([*foreign, *want])
    assert set(theirs) <= between
    second = plan_set(zone, Wanted(later), live(between, "interval"), first.owned)
    after = play(second, between)
    assert covered(after) == covered([*foreign, *later])
    pieces = [ranges.parse(text) for text in after]
    assert sum(last - first + 1 for first, last in pieces) == sum(b - a + 1 for a, b in ranges.merge(pieces))
    left = play(plan_departure(live(after, "interval"), second.owned), after)
    assert covered(left) == covered(foreign)


def test_an_element_for_all_else() -> None:
    """``*`` goes from an exclusive set and stays in another one."""
    gone = plan_set(target(), wants("10.0.0.1"), live(["10.0.0.1", "*"], "interval"), None)
    assert play(gone, ["10.0.0.1", "*"]) == {"10.0.0.1"}
    kept = plan_set(target(exclusive=False), wants("10.0.0.2"), live(["*"], "interval"), None)
    assert play(kept, ["*"]) == {"10.0.0.2", "*"}


@pytest.mark.parametrize(
    ("found", "zone", "word"),
    [
        (live(type="ipv6_addr"), target(), "type ipv6_addr"),
        (live(type="ipv4_addr . inet_service"), target(), "inet_service"),
        (live([], "timeout"), target(), "time out"),
        (live([], "constant"), target(), "constant"),
        (live(), target(networks=True), "interval"),
        (LiveSet(ID, "ipv4_addr", table_flags=frozenset({"owner"})), target(), "another program"),
    ],
)
def test_refused(found: LiveSet, zone: Target, word: str) -> None:
    plan = plan_set(zone, wants("10.0.0.1"), found, None)
    assert plan.state == ERROR
    assert not plan.commands
    assert word in plan.error
    assert plan.hint


def test_missing() -> None:
    plan = plan_set(target(), wants("10.0.0.1"), None, None)
    assert (plan.state, plan.commands) == (WAITING, [])
    made = plan_set(target(own_table=True, networks=True), wants("10.0.0.0/25", "10.0.0.128/25"), None, None)
    assert made.state == OK
    assert lines(made) == [
        "add table inet filter",
        "add set inet filter wan_ips { type ipv4_addr; flags interval; }",
        "add element inet filter wan_ips { 10.0.0.0/24 }",
    ]


def test_a_set_of_ours_is_made_anew_only_when_we_filled_it() -> None:
    zone = target(own_table=True, networks=True)
    assert plan_set(zone, wants(), live(), None).state == ERROR
    assert lines(plan_set(zone, wants(), live(), frozenset()))[0] == "delete set inet filter wan_ips"


def test_lines_say_what_happens() -> None:
    plan = plan_set(target(), wants("10.0.0.1"), live(["10.0.0.2"]), None)
    assert lines(plan) == [
        "add element inet filter wan_ips { 10.0.0.1 }",
        "delete element inet filter wan_ips { 10.0.0.2 }",
    ]
