"""Policy routes as plans: what is wanted comes about from anything that is there."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.policyroute import (
    PREFERENCE_FIRST,
    PREFERENCE_LAST,
    Change,
    Observed,
    Route,
    Rule,
    decode_defaults,
    decode_rules,
    plan,
    route_of,
    rules_of,
)


class Wanted(NamedTuple):
    source: str
    via: str
    table: int


ONE = Wanted("10.0.0.0/24", "192.0.2.1", 100)
NOTHING = Observed({}, frozenset(), {})

SOURCES = ["10.0.0.0/24", "10.0.0.5/32", "0.0.0.0/0", "fd00::/64", "fd00::5/128", "::/0"]
WISHES = st.builds(
    lambda source, table, n: Wanted(source, f"2001:db8::{n}" if ":" in source else f"192.0.2.{n}", table),
    st.sampled_from(SOURCES),
    st.sampled_from([100, 101, 1000]),
    st.integers(1, 3),
)


def consistent(wishes: list[Wanted]) -> list[Wanted]:
    """Of wishes that exclude each other only one."""
    by_source = {one.source: one for one in wishes}.values()
    return list({(":" in one.via, one.table): one for one in by_source}.values())


def done(observed: Observed, changes: list[Change]) -> Observed:
    """What there is after these changes."""
    rules = dict(observed.rules)
    routes = set(observed.routes)
    for verb, what, old in changes:
        if isinstance(what, Rule):
            rules[what] = rules.get(what, 0) + (1 if verb == "add" else -1)
            assert rules[what] >= 0
            if not rules[what]:
                del rules[what]
        elif verb == "add":
            assert what not in routes
            routes.add(what)
        elif verb == "delete":
            routes.remove(what)
        else:
            assert old is not None
            routes.remove(old)
            routes.add(what)
    return Observed(rules, frozenset(routes), observed.foreign)


@given(st.lists(WISHES).map(consistent), st.lists(WISHES).map(consistent), st.randoms())
def test_from_anything_to_what_is_wanted_and_back(
    first: list[Wanted], second: list[Wanted], random: Random
) -> None:
    there = done(NOTHING, plan(first, NOTHING))
    rules = {rule: random.randint(0, 2) for rule in there.rules}
    routes = frozenset(route for route in there.routes if random.random() < 0.7)
    damaged = Observed({rule: count for rule, count in rules.items() if count}, routes, {})
    changes = plan(second, damaged)
    then = done(damaged, changes)
    assert then.rules == {rule: 1 for one in second for rule in rules_of(one)}
    assert then.routes == {route_of(one) for one in second}
    assert plan(second, then) == []
    back = [change.undo() for change in reversed(changes)]
    assert done(then, back) == damaged
    assert done(then, plan([], then)) == NOTHING


def test_a_route_never_stands_without_its_rules() -> None:
    changes = plan([ONE], NOTHING)
    assert [str(change) for change in changes] == [
        "ip rule add pref 20016 from 10.0.0.0/24 lookup main suppress_prefixlength 0 protocol 78",
        "ip rule add pref 20017 from 10.0.0.0/24 lookup 100 protocol 78",
        "ip route add default via 192.0.2.1 table 100 protocol 78 metric 20000",
    ]
    assert [change.verb for change in plan([], done(NOTHING, changes))] == ["delete"] * 3
    assert isinstance(plan([], done(NOTHING, changes))[0].what, Route)


@given(st.integers(0, 128))
def test_preferences_are_in_our_range_and_by_length(length: int) -> None:
    first, second = rules_of(Wanted(f"::/{length}", "fd00::1", 100))
    assert PREFERENCE_FIRST <= first.preference < second.preference <= PREFERENCE_LAST < 32766
    if length:
        assert second.preference < rules_of(Wanted(f"::/{length - 1}", "fd00::1", 100))[0].preference


def test_addresses_are_written_as_the_kernel_tells_them() -> None:
    mapped = Wanted("::ffff:192.0.2.0/120", "::ffff:192.0.2.1", 100)
    assert rules_of(mapped)[0].source == "::ffff:192.0.2.0/120"
    assert route_of(mapped).via == "::ffff:192.0.2.1"


def test_a_table_with_two_gateways() -> None:
    other = Wanted("10.0.1.0/24", "192.0.2.2", 100)
    with pytest.raises(NetnsToolsError, match="two gateways"):
        plan([ONE, other], NOTHING)
    same = Wanted("10.0.1.0/24", "192.0.2.1", 100)
    assert len(plan([ONE, same], NOTHING)) == 5
    assert len(plan([ONE, Wanted("fd00::/64", "fd00::1", 100)], NOTHING)) == 6


@pytest.mark.parametrize("table", [0, 253, 254, 255, -1, 1 << 32])
def test_tables_that_cannot_be_used(table: int) -> None:
    with pytest.raises(NetnsToolsError, match="cannot be used") as caught:
        plan([ONE._replace(table=table)], NOTHING)
    assert caught.value.hint


def test_a_default_route_of_somebody_else() -> None:
    theirs = Observed({}, frozenset(), {(4, 100): (Route(4, 100, "192.0.2.9", "eth0"),)})
    with pytest.raises(NetnsToolsError, match="somebody else"):
        plan([ONE], theirs)
    same = Observed({}, frozenset(), {(4, 100): (Route(4, 100, "192.0.2.1", "eth0"),)})
    assert [change.verb for change in plan([ONE], same)] == ["add", "add"]
    both = Observed({}, frozenset({Route(4, 100, "192.0.2.1", "eth0")}), same.foreign)
    assert [str(change).split()[1:3] for change in plan([ONE], both)] == [
        ["rule", "add"],
        ["rule", "add"],
        ["route", "delete"],
    ]


@given(st.binary(max_size=200), st.sampled_from([24, 32]))
def test_garbage_is_no_error(garbage: bytes, kind: int) -> None:
    header = (16 + len(garbage)).to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10)
    for data in (garbage, header + garbage):
        for family in (4, 6):
            list(decode_rules(data, family))
            list(decode_defaults(data, family))
