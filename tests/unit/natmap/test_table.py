"""What becomes elements, and what changes: against a packet's fate as the wishes themselves tell it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import combinations
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.kernel.nattable import Change, Content, Data, Key, SetType, commands, lines
from netns_tools.natmap.model import Desired, Dnat, Entry, Hairpin, Masquerade, PolicyRoute, Ports, Snat
from netns_tools.natmap.table import SKELETON, Observed, content, plan, plan_step

from .entries import crowded_dnats, dnats, others

NOTHING = Observed()
HOST, TARGET = "192.0.2.1", "10.77.1.10"


def dnat(first: int, last: int, to: int, host: str = HOST, **more: object) -> Dnat:
    made = Dnat("tcp", host, "", Ports(first, last, to), TARGET, 4)
    return replace(made, **more)  # type: ignore[arg-type]


def elements(*entries: Entry, observed: Observed = NOTHING) -> Content:
    """The elements of these entries, without those by which targets reach themselves."""
    found = content(Desired.of(entries), observed)
    return {name: inside for name, inside in found.items() if not name.startswith("self")}


# A table that does what the kernel does


def span(text: str) -> tuple[int, int]:
    """A field of an element as numbers."""
    if text.isdigit():
        return int(text), int(text)
    first, dash, last = text.partition("-")
    if dash and first.isdigit():
        return int(first), int(last)
    if "/" in text:
        network = ip_network(text)
        return int(network[0]), int(network[-1])
    return int(ip_address(text)), int(ip_address(text))


def fields_meet(kind: str, one: str, other: str) -> bool:
    if kind in ("ifname", "inet_proto"):
        return one == other
    (first, last), (begin, end) = span(one), span(other)
    return first <= end and begin <= last


def meet(type: SetType, one: Key, other: Key) -> bool:
    """Whether some packet has both keys."""
    return all(map(fields_meet, type.key, one, other))


class Table:
    """A table of which a change fails when the kernel would refuse it."""

    def __init__(self, filled: Content) -> None:
        self.content: Content = {name: dict(inside) for name, inside in filled.items()}

    def apply(self, changes: list[Change]) -> None:
        for verb, name, changed in changes:
            inside = self.content.setdefault(name, {})
            for key, data in changed:
                if verb == "delete":
                    del inside[key]
                else:
                    assert key not in inside
                    inside[key] = data

    def filled(self) -> Content:
        return {name: inside for name, inside in self.content.items() if inside}

    def check(self) -> None:
        """Elements fit their sets, and do not overlap."""
        for name, inside in self.content.items():
            type = SKELETON.sets[name]
            for key, data in inside.items():
                assert (len(key), len(data)) == (len(type.key), len(type.data)), name
                single = not any(
                    set(text) & set("-/")
                    for kind, text in zip(type.key, key, strict=True)
                    if kind != "ifname"
                )
                assert type.interval or single, (name, key)
            for one, other in combinations(inside, 2):
                assert not meet(type, one, other), (name, one, other)

    def find(self, name: str, *key: str) -> Data | None:
        inside = self.content.get(name, {})
        return next((data for own, data in inside.items() if meet(SKELETON.sets[name], own, key)), None)


class Packet(NamedTuple):
    """The first packet of a connection, to an address of ours."""

    proto: str
    host: str
    iface: str
    port: int
    client: str


class Fate(NamedTuple):
    target: str
    port: int
    masquerade: bool


def looked_up(table: Table, packet: Packet) -> Fate | None:
    """What the chains of the skeleton do with a packet."""
    family, port = ip_address(packet.host).version, str(packet.port)
    key = (packet.host, packet.proto, port, packet.client)
    if found := table.find(f"hairpin{family}", *key) or table.find(f"hairpin{family}_ranges", *key):
        return Fate(found[0], int([*found, port][1]), True)
    heads: dict[str, tuple[str, ...]] = {
        "addrif": (packet.host, packet.iface),
        "addr": (packet.host,),
        "if": (packet.iface,),
        "any": (),
    }
    for scope, head in heads.items():
        name, place = f"{scope}{family}", (*head, packet.proto, port)
        if (
            table.find(f"{name}_limited", *place) is not None
            and table.find(f"{name}_clients", *place, packet.client) is None
        ):
            continue
        masquerade = any(
            table.find(name + suffix, *place) is not None for suffix in ("_masq", "_masq_ranges")
        )
        if found := table.find(name, *place) or table.find(f"{name}_ranges", *place):
            return Fate(found[0], int([*found, port][1]), masquerade)
        assert not masquerade
    return None


def wished(desired: Desired, subnets: dict[str, str], packet: Packet) -> Fate | None:
    """What the entries say about a packet."""
    client = ip_address(packet.client)
    near: list[tuple[int, Fate]] = []
    for one in desired.hairpin:
        if (one.proto, one.host) == (
            packet.proto,
            packet.host,
        ) and one.ports.first <= packet.port <= one.ports.last:
            for prefix in (one.lan or subnets.get(one.target, one.target), one.target):
                if client in ip_network(prefix):
                    fate = Fate(one.target, packet.port + one.ports.shift, True)
                    near.append((ip_network(prefix).prefixlen, fate))
    if near:
        return max(near, key=lambda pair: pair[0])[1]
    for scope in (
        f"{packet.host}%{packet.iface}",
        packet.host,
        f"%{packet.iface}/{client.version}",
        f"*/{client.version}",
    ):
        for entry in desired.dnat:
            if (
                (entry.scope, entry.proto) == (scope, packet.proto)
                and entry.target
                and entry.ports.first <= packet.port <= entry.ports.last
                and (not entry.allow_from or any(client in ip_network(one) for one in entry.allow_from))
            ):
                return Fate(entry.target, packet.port + entry.ports.shift, entry.masquerade)
    return None


# Few values, so that entries and packets meet

LANS = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32"]
CLIENTS = ["10.9.9.9", "10.1.9.9", "10.1.1.9", "10.1.1.1", "192.168.1.1"]
TARGETS = ["10.1.1.1", "10.9.9.9"]


@st.composite
def few_ports(draw: st.DrawFn) -> Ports:
    first = draw(st.integers(1, 6))
    last = draw(st.integers(first, 6))
    return Ports(first, last, draw(st.sampled_from([first, first + 100])))


@st.composite
def few_dnats(draw: st.DrawFn) -> Dnat:
    host, iface = draw(st.sampled_from([("", ""), (HOST, ""), ("", "eth0"), (HOST, "eth0")]))
    return Dnat(
        "tcp",
        host,
        iface,
        draw(few_ports()),
        draw(st.sampled_from([*TARGETS, ""])),
        4,
        draw(st.booleans()),
        tuple(draw(st.lists(st.sampled_from(LANS), max_size=2, unique=True))),
    )


HAIRPINS = st.builds(
    Hairpin,
    st.just(HOST),
    st.sampled_from(TARGETS),
    st.just("tcp"),
    few_ports(),
    st.sampled_from(["", *LANS]),
)


def grown(entries: list[Entry]) -> Desired:
    """Entries of which each takes the place of what excludes it."""
    desired = Desired()
    for entry in entries:
        desired = desired.merge(Desired.of([entry]))
    return desired


@given(st.lists(few_dnats() | HAIRPINS, max_size=8), st.booleans())
def test_every_packet_goes_where_it_is_wished_to(entries: list[Entry], seen: bool) -> None:
    desired = grown(entries)
    subnets = {"10.1.1.1": "10.1.1.0/24", "10.9.9.9": "10.9.9.0/24"} if seen else {}
    table = Table(content(desired, Observed(subnets)))
    table.check()
    for host in (HOST, "192.0.2.2"):
        for iface in ("eth0", "eth1"):
            for port in range(8):
                for client in CLIENTS:
                    packet = Packet("tcp", host, iface, port, client)
                    assert looked_up(table, packet) == wished(desired, subnets, packet), packet
            assert looked_up(table, Packet("udp", host, iface, 3, CLIENTS[0])) is None


SOURCES = st.sampled_from([*LANS, "0.0.0.0/0", "10.1.1.9"])
EXCLUDES = st.lists(
    st.sampled_from(["192.168.0.0/16", "192.168.1.0/24", "10.0.0.0/8"]), max_size=2, unique=True
).map(tuple)


@given(
    st.lists(
        st.builds(
            Snat,
            SOURCES,
            st.sampled_from(["eth0", "eth1"]),
            st.sampled_from(["192.0.2.1", "192.0.2.2"]),
            EXCLUDES,
        )
        | st.builds(Masquerade, SOURCES, st.sampled_from(["eth0", "eth1"]), EXCLUDES),
        max_size=6,
    )
)
def test_the_longest_source_counts(entries: list[Snat | Masquerade]) -> None:
    desired = grown(list(entries))
    table = Table(content(desired, NOTHING))
    table.check()
    all_of: list[Snat | Masquerade] = [*desired.snat, *desired.masquerade]
    for source in CLIENTS:
        for iface in ("eth0", "eth1", "eth2"):
            for towards in ("192.168.1.1", "10.3.3.3", "203.0.113.1"):
                fits = [
                    one
                    for one in all_of
                    if one.iface == iface and ip_address(source) in ip_network(one.source)
                ]
                best = max(fits, key=lambda one: ip_network(one.source).prefixlen, default=None)
                if best and any(ip_address(towards) in ip_network(one) for one in best.exclude):
                    best = None
                found: object = None
                if table.find("unchanged4", source, iface, towards) is None:
                    found = table.find("snat4", source, iface) or table.find("masquerade4", source, iface)
                expected = None if best is None else (best.address,) if isinstance(best, Snat) else ()
                assert found == expected, (source, iface, towards)


# Changes

ENTRIES = st.lists(dnats() | others() | crowded_dnats() | few_dnats() | HAIRPINS, max_size=8)


@given(ENTRIES, ENTRIES)
def test_changes_lead_from_one_content_to_another(one: list[Entry], other: list[Entry]) -> None:
    old, new = grown(one), grown([*one[::2], *other])
    live, wanted = content(old, NOTHING), content(new, NOTHING)
    assert plan(live, live) == []
    for changes in (plan(live, wanted), plan_step(old, new, NOTHING)):
        table = Table(live)
        table.apply(changes)
        assert table.filled() == wanted
        table.check()
        # Neither are elements written that are there, nor removed that come back.
        keys = [(change.verb, change.set, key, data) for change in changes for key, data in change.elements]
        assert len(keys) == len(set(keys))
        assert not {key[1:] for key in keys if key[0] == "add"} & {
            key[1:] for key in keys if key[0] == "delete"
        }
        assert [change.verb for change in changes] == sorted((c.verb for c in changes), reverse=True)


@given(ENTRIES)
def test_a_step_to_the_same_changes_nothing(entries: list[Entry]) -> None:
    desired = grown(entries)
    again = Desired.of(replace(entry) for entry in desired)
    assert plan_step(desired, again, NOTHING) == []
    assert plan(content(desired, NOTHING), content(again, NOTHING)) == []


def test_foreign_elements_go() -> None:
    wanted = elements(dnat(80, 80, 80))
    live: Content = {
        "addr4": {**wanted["addr4"], ("*",): ("10.0.0.1", "80")},
        "any6": {("tcp", "1"): ("::1", "1")},
    }
    assert lines(SKELETON, plan(live, wanted)) == [
        "delete element inet netns_natmap addr4 { * : 10.0.0.1 . 80 }",
        "delete element inet netns_natmap any6 { tcp . 1 : ::1 . 1 }",
    ]


def test_a_target_reaches_itself_as_long_as_anything_leads_to_it() -> None:
    one, two = dnat(80, 80, 80), dnat(81, 81, 81)
    self4 = ("self4", [((TARGET, TARGET), ())])
    nothing, first, both = Desired(), Desired.of([one]), Desired.of([one, two])

    def of_self(old: Desired, new: Desired) -> list[tuple[str, object]]:
        return [(change.verb, change[1:]) for change in plan_step(old, new, NOTHING) if change.set == "self4"]

    assert of_self(nothing, first) == [("add", self4)]
    assert of_self(first, both) == of_self(both, first) == []
    assert of_self(both, nothing) == [("delete", self4)]
    assert of_self(first, Desired.of([replace(one, masquerade=True)])) == []


# Elements


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (dnat(8080, 8080, 80), {"addr4": {(HOST, "tcp", "8080"): (TARGET, "80")}}),
        (dnat(8080, 8080, 80, host=""), {"any4": {("tcp", "8080"): (TARGET, "80")}}),
        (dnat(80, 80, 80, host="", iface="eth0"), {"if4": {("eth0", "tcp", "80"): (TARGET, "80")}}),
        (dnat(80, 80, 80, iface="eth0"), {"addrif4": {(HOST, "eth0", "tcp", "80"): (TARGET, "80")}}),
        (
            dnat(80, 81, 80, iface="eth0", masquerade=True, allow_from=("192.0.2.9/32",)),
            {
                "addrif4_ranges": {(HOST, "eth0", "tcp", "80-81"): (TARGET,)},
                "addrif4_masq_ranges": {(HOST, "eth0", "tcp", "80-81"): ()},
                "addrif4_limited": {(HOST, "eth0", "tcp", "80-81"): ()},
                "addrif4_clients": {(HOST, "eth0", "tcp", "80-81", "192.0.2.9"): ()},
            },
        ),
        (dnat(9000, 9099, 9000), {"addr4_ranges": {(HOST, "tcp", "9000-9099"): (TARGET,)}}),
        (
            dnat(9500, 9501, 9000),
            {"addr4": {(HOST, "tcp", "9500"): (TARGET, "9000"), (HOST, "tcp", "9501"): (TARGET, "9001")}},
        ),
        (
            dnat(80, 80, 80, masquerade=True, proto="udp"),
            {"addr4": {(HOST, "udp", "80"): (TARGET, "80")}, "addr4_masq": {(HOST, "udp", "80"): ()}},
        ),
        (
            dnat(
                80,
                81,
                90,
                host="",
                masquerade=True,
                allow_from=("10.0.0.0/9", "10.128.0.0/9", "192.0.2.9/32"),
            ),
            {
                "any4": {("tcp", "80"): (TARGET, "90"), ("tcp", "81"): (TARGET, "91")},
                "any4_masq_ranges": {("tcp", "80-81"): ()},
                "any4_limited": {("tcp", "80-81"): ()},
                "any4_clients": {("tcp", "80-81", "10.0.0.0/8"): (), ("tcp", "80-81", "192.0.2.9"): ()},
            },
        ),
        (dnat(80, 80, 80, target="", container="web"), {}),
        (dnat(0, 0, 80), {}),
        (PolicyRoute("10.0.0.0/8", "192.0.2.254", 100), {}),
        (Snat("10.0.0.0/8", "eth0", HOST), {"snat4": {("10.0.0.0/8", "eth0"): (HOST,)}}),
        (
            Masquerade("fd00::/8", "eth0", ("fd00::/8",)),
            {"masquerade6": {("fd00::/8", "eth0"): ()}, "unchanged6": {("fd00::/8", "eth0", "fd00::/8"): ()}},
        ),
        (
            Hairpin("2001:db8::1", "fd00::a", "udp", Ports(53, 53, 5353), "fd00::/64"),
            {"hairpin6": {("2001:db8::1", "udp", "53", "fd00::/64"): ("fd00::a", "5353")}},
        ),
        (
            Hairpin(HOST, TARGET, "tcp", Ports(80, 90, 80), ""),
            {"hairpin4_ranges": {(HOST, "tcp", "80-90", TARGET): (TARGET,)}},
        ),
    ],
)
def test_elements_of_an_entry(entry: Entry, expected: Content) -> None:
    assert elements(entry) == expected


def test_what_is_observed() -> None:
    hairpin = Hairpin(HOST, TARGET, "tcp", Ports(80, 80, 80), "")
    observed = Observed({TARGET: "10.77.1.0/24"}, frozenset(["br0"]))
    assert elements(hairpin, observed=observed) == {
        "hairpin4": {(HOST, "tcp", "80", "10.77.1.0/24"): (TARGET, "80")},
        "loopback": {("br0",): ()},
    }


def test_changes_as_lines_and_as_json() -> None:
    entries = [
        dnat(8080, 8080, 80),
        dnat(9000, 9099, 9000, host="", iface="br-lan", allow_from=("0.0.0.0/0",)),
    ]
    changes = [
        *plan({}, elements(*entries)),
        Change("delete", "any4", [(("tcp", "80"), (TARGET, "80")), (("*",), (TARGET, "81"))]),
    ]
    assert lines(SKELETON, changes) == [
        f"add element inet netns_natmap addr4 {{ {HOST} . tcp . 8080 : {TARGET} . 80 }}",
        f'add element inet netns_natmap if4_ranges {{ "br-lan" . tcp . 9000-9099 : {TARGET} }}',
        'add element inet netns_natmap if4_limited { "br-lan" . tcp . 9000-9099 }',
        'add element inet netns_natmap if4_clients { "br-lan" . tcp . 9000-9099 . 0.0.0.0/0 }',
        f"delete element inet netns_natmap any4 {{ tcp . 80 : {TARGET} . 80, * : {TARGET} . 81 }}",
    ]
    found = [next(iter(command.items())) for command in commands(SKELETON, changes)]
    where = {"family": "inet", "table": "netns_natmap"}
    ports = {"range": [9000, 9099]}
    everybody = {"prefix": {"addr": "0.0.0.0", "len": 0}}
    assert found == [
        ("add", {"element": {**where, "name": name, "elem": inside}})
        for name, inside in (
            ("addr4", [[{"concat": [HOST, "tcp", 8080]}, {"concat": [TARGET, 80]}]]),
            ("if4_ranges", [[{"concat": ["br-lan", "tcp", ports]}, TARGET]]),
            ("if4_limited", [{"concat": ["br-lan", "tcp", ports]}]),
            ("if4_clients", [{"concat": ["br-lan", "tcp", ports, everybody]}]),
        )
    ] + [("delete", {"element": {**where, "name": "any4", "elem": [{"concat": ["tcp", 80]}, "*"]}})]
