"""What is wanted: identities, conflicts, and changes, against a mapping from each identity to its fate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.natmap.model import (
    Conflict,
    Desired,
    Dnat,
    Entry,
    Hairpin,
    Identity,
    Masquerade,
    PolicyRoute,
    Ports,
    Snat,
    overlaps,
)

from .entries import crowded_dnats, dnats, others

Fate = tuple[object, ...]


def dnat(proto: str, host: str, first: int, last: int, to: int, target: str = "10.0.0.10") -> Dnat:
    return Dnat(proto, host, "", Ports(first, last, to), target, 4)


def fates(desired: Desired) -> dict[Identity, Fate]:
    """What happens to each host port. Fails when two mappings have one."""
    found: dict[Identity, Fate] = {}
    for entry in desired.dnat:
        for identity in entry.identities():
            assert identity not in found
            to = identity.port + entry.ports.shift
            found[identity] = (entry.target, to, entry.masquerade, entry.allow_from, entry.container)
    return found


def is_sorted(desired: Desired) -> bool:
    return list(desired.dnat) == sorted(desired.dnat, key=lambda entry: entry.key)


def grown(entries: list[Dnat]) -> Desired:
    """The entries added one by one, each in place of what is there."""
    desired = Desired()
    for entry in entries:
        desired = desired.merge(Desired.of([entry]))
    return desired


CROWDS = st.lists(crowded_dnats(), max_size=8)


# Identity


def test_an_identity_is_protocol_scope_and_port() -> None:
    base = Dnat("tcp", "", "", Ports(80, 80, 80), "10.0.0.1", 4)
    variants = [
        base,
        replace(base, proto="udp"),
        replace(base, host="192.0.2.1"),
        replace(base, iface="eth0"),
        replace(base, iface="eth1"),
        replace(base, target="2001:db8::1", family=6),
        replace(base, iface="eth0", target="2001:db8::1", family=6),
        replace(base, host="192.0.2.1", iface="eth0"),
        replace(base, host="192.0.2.1", iface="eth1"),
        replace(base, host="2001:db8::2", iface="eth0", target="2001:db8::1", family=6),
        replace(base, ports=Ports(8080, 8080, 80)),
    ]
    identities = [identity for entry in variants for identity in entry.identities()]
    assert len(identities) == len(set(identities)) == len(variants)
    assert not overlaps(variants)
    assert identities[0] == ("tcp", "*/4", 80)
    assert identities[2].scope == "192.0.2.1"
    assert identities[6].scope == "%eth0/6"
    assert identities[7].scope == "192.0.2.1%eth0"
    assert identities[9].scope == "2001:db8::2%eth0"


@pytest.mark.parametrize(
    ("identity", "shown"),
    [
        (Identity("tcp", "192.0.2.1", 80), "tcp 192.0.2.1:80"),
        (Identity("tcp", "2001:db8::1", 80), "tcp [2001:db8::1]:80"),
        (Identity("tcp", "192.0.2.1%eth0", 80), "tcp 192.0.2.1%eth0:80"),
        (Identity("tcp", "2001:db8::1%eth0", 80), "tcp [2001:db8::1]%eth0:80"),
        (Identity("udp", "*/6", 53), "udp *:53 (IPv6)"),
        (Identity("tcp", "%eth0/4", 80), "tcp eth0:80 (IPv4)"),
    ],
)
def test_identities_are_shown_to_people(identity: Identity, shown: str) -> None:
    assert str(identity) == shown


def test_a_port_that_is_to_be_chosen_has_no_identity() -> None:
    free = Dnat("tcp", "", "", Ports(0, 0, 80), "10.0.0.1", 4)
    assert list(free.identities()) == []
    assert not overlaps([free, free])
    assert not Desired.of([free]).conflicts(Desired.of([replace(free, target="10.0.0.2")]))
    assert list(free.moved(8000).identities()) == [("tcp", "*/4", 8000)]
    assert free.moved(8000).ports.to == 80


def test_parts_of_a_range_go_where_they_went() -> None:
    whole = dnat("tcp", "", 9500, 9599, 9000)
    assert whole.only(9550).ports == Ports(9550, 9550, 9050)
    assert whole.moved(7000).ports == Ports(7000, 7099, 9000)


# Changes: deleting tcp/53 leaves udp/53, 80 leaves 8080


def test_without_takes_exactly_what_is_named() -> None:
    desired = Desired.of(
        [
            dnat("tcp", "", 53, 53, 53),
            dnat("udp", "", 53, 53, 53),
            dnat("tcp", "", 80, 80, 80),
            dnat("tcp", "", 8080, 8080, 80),
            dnat("tcp", "10.0.0.1", 80, 80, 80),
        ]
    )
    left = desired.without(Desired.of([dnat("tcp", "", 53, 53, 1, "10.9.9.9"), dnat("tcp", "", 80, 80, 80)]))
    assert set(fates(left)) == {("udp", "*/4", 53), ("tcp", "*/4", 8080), ("tcp", "10.0.0.1", 80)}


def test_a_port_is_cut_out_of_a_range() -> None:
    desired = Desired.of([dnat("tcp", "", 9500, 9599, 9000)])
    left = desired.without(Desired.of([dnat("tcp", "", 9550, 9550, 1)]))
    assert [entry.ports for entry in left.dnat] == [Ports(9500, 9549, 9000), Ports(9551, 9599, 9051)]


def test_adding_twice_changes_nothing() -> None:
    desired = Desired.of([dnat("tcp", "", 9500, 9599, 9000)])
    again = Desired.of([dnat("tcp", "", 9550, 9560, 9050)])
    assert not desired.conflicts(again)
    assert desired.merge(again) == desired


def test_a_container_is_the_same_target_whatever_its_address() -> None:
    mapped = replace(dnat("tcp", "", 80, 80, 80), container="web")
    desired = Desired.of([mapped])
    stopped = Desired.of([replace(mapped, target="")])
    assert not desired.conflicts(stopped)
    assert desired.merge(stopped) == desired
    assert desired.conflicts(Desired.of([replace(mapped, container="")]))
    moved = desired.with_targets(lambda entry: {"web": "10.0.0.99"}[entry.container])
    assert moved.dnat == (replace(mapped, target="10.0.0.99"),)


def test_other_options_are_a_conflict_but_no_other_target() -> None:
    base = dnat("tcp", "", 80, 80, 80)
    (conflict,) = Desired.of([base]).conflicts(Desired.of([replace(base, masquerade=True)]))
    assert not conflict.is_other_target
    (conflict,) = Desired.of([base]).conflicts(Desired.of([replace(base, target="10.9.9.9")]))
    assert conflict.is_other_target
    assert (conflict.old, conflict.new) == (base, replace(base, target="10.9.9.9"))


HAIRPIN = Hairpin("192.0.2.1", "10.0.0.1", "tcp", Ports(80, 89, 80), "10.0.0.0/24")


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        (Snat("10.0.0.0/24", "eth0", "192.0.2.1"), Snat("10.0.0.0/24", "eth0", "192.0.2.2"), []),
        (Snat("10.0.0.0/24", "eth0", "192.0.2.1"), Masquerade("10.0.0.0/24", "eth0"), []),
        (Masquerade("10.0.0.0/24", "eth0"), Masquerade("10.0.0.0/24", "eth0", ("10.0.0.0/8",)), []),
        (PolicyRoute("10.0.0.1/32", "192.0.2.1", 100), PolicyRoute("10.0.0.1/32", "192.0.2.1", 1000), []),
        (
            HAIRPIN,
            replace(HAIRPIN, target="10.0.0.2", ports=Ports(80, 80, 80)),
            [replace(HAIRPIN, ports=Ports(81, 89, 81))],
        ),
    ],
)
def test_one_source_or_port_has_one_entry(old: Entry, new: Entry, left: list[Entry]) -> None:
    desired = Desired.of([old])
    assert desired.conflicts(Desired.of([new])) == [(old, new)]
    assert overlaps([old, new]) == [(old, new)]
    assert desired.merge(Desired.of([new])) == Desired.of([new, *left])
    assert desired.without(Desired.of([new])) == Desired.of(left)
    assert not desired.conflicts(desired)
    assert desired.merge(desired) == desired


@pytest.mark.parametrize(
    "entry",
    [
        Snat("10.0.0.0/24", "eth1", "192.0.2.1"),
        Snat("10.0.0.0/25", "eth0", "192.0.2.1"),
        PolicyRoute("10.0.0.2/32", "192.0.2.1", 100),
        replace(HAIRPIN, lan="10.0.1.0/24"),
        replace(HAIRPIN, proto="udp"),
        replace(HAIRPIN, ports=Ports(90, 90, 90)),
    ],
)
def test_others_stay_beside_it(entry: Entry) -> None:
    there: list[Entry] = [
        Snat("10.0.0.0/24", "eth0", "192.0.2.1"),
        PolicyRoute("10.0.0.1/32", "192.0.2.1", 100),
        HAIRPIN,
    ]
    desired = Desired.of(there)
    assert not desired.conflicts(Desired.of([entry]))
    assert desired.merge(Desired.of([entry])) == Desired.of([*there, entry])
    assert desired.without(Desired.of([entry])) == desired


# Whatever they are


@given(CROWDS, CROWDS)
def test_merge_is_an_update_of_fates(first: list[Dnat], second: list[Dnat]) -> None:
    old, new = grown(first), grown(second)
    merged = old.merge(new)
    assert is_sorted(merged)
    assert fates(merged) == fates(old) | fates(new)


@given(CROWDS, CROWDS)
def test_without_removes_fates(first: list[Dnat], second: list[Dnat]) -> None:
    old, new = grown(first), grown(second)
    left = old.without(new)
    assert is_sorted(left)
    gone = fates(new)
    assert fates(left) == {identity: fate for identity, fate in fates(old).items() if identity not in gone}


@given(CROWDS, CROWDS)
def test_a_conflict_is_another_fate(first: list[Dnat], second: list[Dnat]) -> None:
    old, new = grown(first), grown(second)
    before, after = fates(old), fates(new)
    changed = {identity for identity in before.keys() & after.keys() if before[identity] != after[identity]}
    conflicts = old.conflicts(new)
    for conflict in conflicts:
        assert set(_identities(conflict.old)) & set(_identities(conflict.new))
    told = {
        identity
        for conflict in conflicts
        for identity in set(_identities(conflict.old)) & set(_identities(conflict.new))
    }
    assert told == changed


def _identities(entry: Entry) -> list[Identity]:
    assert isinstance(entry, Dnat)
    return list(entry.identities())


@given(CROWDS, st.integers(1, 30))
def test_a_port_is_found(entries: list[Dnat], port: int) -> None:
    desired = grown(entries)
    identity = Identity("tcp", "*/4", port)
    found = desired.find(identity)
    assert (found is not None) == (identity in fates(desired))
    assert found is None or identity in list(found.identities())


@given(CROWDS)
def test_overlaps_name_everyone_who_meets_another(entries: list[Dnat]) -> None:
    meeting = {
        index
        for index, one in enumerate(entries)
        for other in entries[:index] + entries[index + 1 :]
        if set(one.identities()) & set(other.identities())
    }
    found = overlaps(entries)
    named = {id(entry) for conflict in found for entry in (conflict.old, conflict.new)}
    assert named == {id(entries[index]) for index in meeting}
    order = {id(entry): index for index, entry in enumerate(entries)}
    for conflict in found:
        assert set(_identities(conflict.old)) & set(_identities(conflict.new))
        assert order[id(conflict.old)] < order[id(conflict.new)]


@given(st.lists(dnats() | others(), max_size=10))
def test_entries_of_all_kinds_are_sorted_and_counted(entries: list[Entry]) -> None:
    desired = Desired.of(entries)
    assert set(desired) == set(entries)
    assert len(desired) == len(set(entries))
    assert Desired.of(reversed(entries)) == desired or overlaps(desired)


def test_a_wide_range_meets_every_port_in_it() -> None:
    wide, low, high = dnat("tcp", "", 1, 30, 1), dnat("tcp", "", 2, 3, 2), dnat("tcp", "", 10, 11, 10)
    assert overlaps([low, wide, high]) == [(low, wide), (wide, high)]


def test_a_container_that_is_called_like_an_address_is_not_that_address() -> None:
    base = dnat("tcp", "", 80, 80, 80)
    assert Desired.of([base]).conflicts(Desired.of([replace(base, container=base.target)]))


def test_a_conflict_has_two_sides() -> None:
    base = dnat("tcp", "", 80, 80, 80)
    assert Conflict(base, base).is_duplicate
