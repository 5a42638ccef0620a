"""The table of the NAT mapper with real sockets: who reaches whom, by which address, seen as whom."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from netns_tools.kernel.nattable import Change, LiveTable, OwnTable
from netns_tools.kernel.nftset import Nft, NftError
from netns_tools.natmap.model import Desired, Dnat, Entry, Hairpin, Masquerade, Ports, Snat
from netns_tools.natmap.table import MARK, SKELETON, Observed, content, plan, plan_step
from tests.kernel.conftest import REPOSITORY
from tests.kernel.isolated import ip, isolated, nft
from tests.kernel.natrig import V4, V6, Addresses, Reached, Rig, list_table, list_tables, set_sysctl

FAMILIES = pytest.mark.parametrize("at", [V4, V6], ids=["v4", "v6"])
PROTOCOLS = pytest.mark.parametrize("proto", ["tcp", "udp"])
SCOPES = pytest.mark.parametrize("scope", ["addrif", "addr", "if", "any"])

NOTHING = Observed()


def install(*entries: Entry, observed: Observed = NOTHING) -> OwnTable:
    """A table with these entries."""
    table = OwnTable(SKELETON)
    table.install(content(Desired.of(entries), observed))
    return table


def read(table: OwnTable) -> LiveTable:
    found = table.read()
    assert found is not None
    return found


def dnat(at: Addresses, scope: str, ports: Ports, proto: str = "tcp", **more: object) -> Dnat:
    """A mapping of the public address, of the client's link, of both, or of any local address."""
    host = at.public if scope in ("addrif", "addr") else ""
    iface = "wan0" if scope in ("addrif", "if") else ""
    made = Dnat(proto, host, iface, ports, at.server, at.family)
    return replace(made, **more)  # type: ignore[arg-type]


ONE = Ports(8080, 8080, 80)


# Who is reached


@FAMILIES
@PROTOCOLS
@isolated
def test_a_mapping_of_a_host_address(at: Addresses, proto: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    rig.listen("far", 8080, proto)
    install(dnat(at, "addr", ONE, proto))
    assert rig.reach("client", at.public, 8080, proto) == Reached("server", 80, at.client)
    assert rig.reach("far", at.public, 8080, proto) == Reached("server", 80, at.far)
    assert rig.reach("client", at.public, 8081, proto) is None
    assert rig.reach("client", at.beside, 8080, proto) is None
    assert rig.reach("client", at.public, 8080, "tcp" if proto == "udp" else "udp") is None
    assert rig.reach("client", at.far, 8080, proto) == Reached("far", 8080, at.client)


@FAMILIES
@PROTOCOLS
@isolated
def test_a_mapping_of_any_local_address(at: Addresses, proto: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    rig.listen("far", 8080, proto)
    install(dnat(at, "any", ONE, proto))
    for address in (at.public, at.beside, at.lan):
        assert rig.reach("client", address, 8080, proto) == Reached("server", 80, at.client)
    # What only passes through is left alone, also where the router itself sends it.
    assert rig.reach("client", at.far, 8080, proto) == Reached("far", 8080, at.client)
    assert rig.reach("router", at.far, 8080, proto) == Reached("far", 8080, at.gate)


@FAMILIES
@PROTOCOLS
@isolated
def test_a_mapping_of_an_interface(at: Addresses, proto: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    rig.listen("far", 8080, proto)
    install(dnat(at, "if", ONE, proto))
    for address in (at.public, at.beside):
        assert rig.reach("client", address, 8080, proto) == Reached("server", 80, at.client)
        assert rig.reach("far", address, 8080, proto) is None
        assert rig.reach("router", address, 8080, proto) is None
    assert rig.reach("client", at.far, 8080, proto) == Reached("far", 8080, at.client)


@FAMILIES
@PROTOCOLS
@isolated
def test_a_mapping_of_a_host_address_on_an_interface(at: Addresses, proto: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    rig.listen("far", 8080, proto)
    table = install(dnat(at, "addrif", ONE, proto))
    assert rig.reach("client", at.public, 8080, proto) == Reached("server", 80, at.client)
    assert rig.reach("far", at.public, 8080, proto) is None
    assert rig.reach("router", at.public, 8080, proto) is None
    assert rig.reach("client", at.beside, 8080, proto) is None
    assert rig.reach("client", at.public, 8081, proto) is None
    assert rig.reach("client", at.public, 8080, "tcp" if proto == "udp" else "udp") is None
    assert rig.reach("client", at.far, 8080, proto) == Reached("far", 8080, at.client)
    # What of that failed is no failure of the way there.
    table.install(content(Desired.of([dnat(at, "any", ONE, proto)]), NOTHING))
    assert rig.reach("far", at.public, 8080, proto) == Reached("server", 80, at.far)
    assert rig.reach("router", at.public, 8080, proto) == Reached("server", 80, at.public)


@FAMILIES
@isolated
def test_the_closest_scope_counts(at: Addresses) -> None:
    rig = Rig()
    for port in (81, 82, 83, 84):
        rig.listen("server", port)
    install(
        dnat(at, "any", Ports(8080, 8080, 81)),
        dnat(at, "if", Ports(8080, 8080, 82)),
        dnat(at, "addr", Ports(8080, 8080, 83)),
        dnat(at, "addrif", Ports(8080, 8080, 84)),
    )
    assert rig.reach("client", at.public, 8080) == Reached("server", 84, at.client)
    assert rig.reach("far", at.public, 8080) == Reached("server", 83, at.far)
    assert rig.reach("client", at.beside, 8080) == Reached("server", 82, at.client)
    assert rig.reach("far", at.beside, 8080) == Reached("server", 81, at.far)


@FAMILIES
@PROTOCOLS
@SCOPES
@isolated
def test_ranges(at: Addresses, proto: str, scope: str) -> None:
    rig = Rig()
    for port in (9000, 9050, 9099, 9200, 9299):
        rig.listen("server", port, proto)
    install(
        dnat(at, scope, Ports(9000, 9099, 9000), proto),
        dnat(at, scope, Ports(9100, 9199, 9200), proto),
    )
    for port in (9000, 9050, 9099):
        assert rig.reach("client", at.public, port, proto) == Reached("server", port, at.client)
    for port in (9100, 9199):
        assert rig.reach("client", at.public, port, proto) == Reached("server", port + 100, at.client)
    for port in (8999, 9200):
        assert rig.reach("client", at.public, port, proto) is None


@FAMILIES
@SCOPES
@pytest.mark.parametrize("ports", [ONE, Ports(8080, 8081, 8080), Ports(8080, 8081, 80)], ids=str)
@isolated
def test_clients_that_a_mapping_is_not_for_see_none(at: Addresses, scope: str, ports: Ports) -> None:
    rig = Rig()
    rig.listen("server", ports.to)
    allowed = (f"{at.client}/{32 if at.family == 4 else 128}", "192.0.2.0/24", "2001:db8:99::/48")
    install(dnat(at, scope, ports, allow_from=allowed))
    assert rig.reach("client", at.public, 8080) == Reached("server", ports.to, at.client)
    assert rig.reach("client", at.public, 8080, source=at.other) is None


@FAMILIES
@isolated
def test_a_client_that_is_left_out_meets_the_next_scope(at: Addresses) -> None:
    rig = Rig()
    for port in (81, 82):
        rig.listen("server", port)
    allowed = (f"{at.client}/{32 if at.family == 4 else 128}",)
    install(
        dnat(at, "addr", Ports(8080, 8080, 81), allow_from=allowed, masquerade=True),
        dnat(at, "any", Ports(8080, 8080, 82)),
    )
    assert rig.reach("client", at.public, 8080) == Reached("server", 81, at.lan)
    assert rig.reach("client", at.public, 8080, source=at.other) == Reached("server", 82, at.other)


# Whom the target sees


@FAMILIES
@PROTOCOLS
@SCOPES
@isolated
def test_masquerade_only_where_it_is_asked(at: Addresses, proto: str, scope: str) -> None:
    rig = Rig()
    for port in (80, 9000, 9001):
        rig.listen("server", port, proto)
    install(
        dnat(at, scope, Ports(8080, 8080, 80), proto, masquerade=True),
        dnat(at, scope, Ports(8081, 8081, 80), proto),
        dnat(at, scope, Ports(9000, 9001, 9000), proto, masquerade=True),
        dnat(at, scope, Ports(9100, 9101, 9000), proto, masquerade=True),
    )
    assert rig.reach("client", at.public, 8080, proto) == Reached("server", 80, at.lan)
    assert rig.reach("client", at.public, 8081, proto) == Reached("server", 80, at.client)
    assert rig.reach("client", at.public, 9001, proto) == Reached("server", 9001, at.lan)
    assert rig.reach("client", at.public, 9101, proto) == Reached("server", 9001, at.lan)
    assert rig.reach("client", at.server, 80, proto) == Reached("server", 80, at.client)


@FAMILIES
@isolated
def test_masquerade_of_one_scope_is_none_of_another(at: Addresses) -> None:
    rig = Rig()
    rig.listen("server", 80)
    install(dnat(at, "any", ONE, masquerade=True), dnat(at, "addr", ONE))
    assert rig.reach("client", at.public, 8080) == Reached("server", 80, at.client)
    assert rig.reach("client", at.beside, 8080) == Reached("server", 80, at.lan)


@FAMILIES
@PROTOCOLS
@isolated
def test_a_target_reaches_itself(at: Addresses, proto: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    install(dnat(at, "addr", ONE, proto))
    assert rig.reach("server", at.public, 8080, proto) == Reached("server", 80, at.lan)


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("ports", [ONE, Ports(8080, 8081, 8080), Ports(8080, 8081, 80)], ids=str)
@isolated
def test_a_hairpin_is_for_its_lan(at: Addresses, proto: str, ports: Ports) -> None:
    rig = Rig()
    rig.listen("server", ports.to, proto)
    hairpin = Hairpin(at.public, at.server, proto, ports, "")
    table = install(hairpin, observed=Observed({at.server: at.subnet}))
    for name in ("peer", "server"):
        assert rig.reach(name, at.public, 8080, proto) == Reached("server", ports.to, at.lan)
    assert rig.reach("client", at.public, 8080, proto) is None
    # Beside a mapping of the same port, the other clients are seen as themselves.
    table.install(
        content(Desired.of([hairpin, dnat(at, "addr", ports, proto)]), Observed({at.server: at.subnet}))
    )
    assert rig.reach("peer", at.public, 8080, proto) == Reached("server", ports.to, at.lan)
    assert rig.reach("client", at.public, 8080, proto) == Reached("server", ports.to, at.client)


@isolated
def test_hairpins_of_lans_in_one_another() -> None:
    rig = Rig()
    rig.listen("server", 80)
    rig.listen("peer", 80)
    install(
        Hairpin(V4.public, V4.peer, "tcp", Ports(80, 80, 80), "198.51.100.0/24"),
        Hairpin(V4.public, V4.server, "tcp", Ports(70, 90, 70), "198.51.100.16/28"),
    )
    assert rig.reach("client", V4.public, 80) == Reached("peer", 80, V4.lan)
    assert rig.reach("client", V4.public, 80, source=V4.other) == Reached("server", 80, V4.lan)


@FAMILIES
@PROTOCOLS
@SCOPES
@isolated
def test_the_host_itself(at: Addresses, proto: str, scope: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    install(dnat(at, scope, ONE, proto))
    found = rig.reach("router", at.public, 8080, proto)
    assert found == (None if scope in ("addrif", "if") else Reached("server", 80, at.public))


@PROTOCOLS
@isolated
def test_the_host_by_its_loopback_address(proto: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    install(dnat(V4, "any", ONE, proto), observed=Observed(loopback=frozenset(["br0"])))
    set_sysctl("net/ipv4/conf/br0/route_localnet", "1")
    assert rig.reach("router", "127.0.0.1", 8080, proto) == Reached("server", 80, V4.lan)
    assert rig.reach("router", "127.0.0.1", 8081, proto) is None


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "open"])
@isolated
def test_nobody_else_comes_to_the_loopback_address(guarded: bool) -> None:
    """Neither to 127.0.0.1 nor as 127.0.0.1. Without the guard both can be, or this would prove nothing."""
    rig = Rig()
    install(observed=Observed(loopback=frozenset(["br0"] if guarded else [])))
    set_sysctl("net/ipv4/conf/br0/route_localnet", "1")
    service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    service.bind(("0.0.0.0", 5000))
    service.settimeout(20)
    with rig.inside("server"):
        set_sysctl("net/ipv4/conf/eth0/route_localnet", "1")
        ip("route del table local 127.0.0.0/8 dev lo", "route del table local 127.0.0.1 dev lo")
        ip(f"route add 127.0.0.1 via {V4.lan} src {V4.server}")
        ip("addr add 127.0.0.2/32 dev eth0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"to 127.0.0.1", ("127.0.0.1", 5000))
            sender.sendto(b"end", (V4.lan, 5000))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.2", 0))
            sender.sendto(b"as 127.0.0.2", (V4.lan, 5000))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", (V4.lan, 5000))
    came = set()
    for _ in range(2):
        while (data := service.recv(64)) != b"end":
            came.add(data)
    assert came == (set() if guarded else {b"to 127.0.0.1", b"as 127.0.0.2"})


@FAMILIES
@PROTOCOLS
@isolated
def test_source_nat(at: Addresses, proto: str) -> None:
    rig = Rig()
    for name in ("far", "server"):
        rig.listen(name, 80, proto)
    for address in (at.client, at.other):
        rig.listen("client", 80, proto, address)
    single = 32 if at.family == 4 else 128
    table = install(
        Masquerade(at.subnet, "far0"),
        Snat(f"{at.server}/{single}", "far0", at.public),
        Snat(at.subnet, "wan0", at.public, exclude=(f"{at.other}/{single}",)),
    )
    assert rig.reach("peer", at.far, 80, proto) == Reached("far", 80, at.gate)
    assert rig.reach("server", at.far, 80, proto) == Reached("far", 80, at.public)
    assert rig.reach("client", at.far, 80, proto) == Reached("far", 80, at.client)
    assert rig.reach("peer", at.client, 80, proto) == Reached("client", 80, at.public)
    assert rig.reach("peer", at.other, 80, proto) == Reached("client", 80, at.peer)
    assert rig.reach("far", at.server, 80, proto) == Reached("server", 80, at.far)
    table.install({})
    assert rig.reach("server", at.far, 80, proto) == Reached("far", 80, at.server)


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("match", ["ct mark", "meta mark"])
@isolated
def test_firewalls_of_others_know_what_is_ours(at: Addresses, proto: str, match: str) -> None:
    rig = Rig()
    rig.listen("server", 80, proto)
    nft(
        "table inet filter {\n chain forward {\n type filter hook forward priority 0; policy drop;\n"
        f"{match} and {MARK:#x} != 0 accept\n meta l4proto tcp reject with tcp reset\n reject\n }}\n}}"
    )
    table = install(dnat(at, "any", ONE, proto))
    assert rig.reach("client", at.public, 8080, proto) == Reached("server", 80, at.client)
    assert rig.reach("client", at.server, 80, proto) is None
    table.install({})
    assert rig.reach("client", at.server, 80, proto) is None


@isolated
def test_marks_of_others_stay() -> None:
    rig = Rig()
    rig.listen("server", 80)
    nft(
        "table inet other { counter ours { }\n counter theirs { }\n"
        "chain early { type filter hook prerouting priority mangle; ct state new ct mark set 0x00000007; }\n"
        "chain late { type filter hook postrouting priority 200; iifname wan0 goto count; }\n"
        f"chain count {{ ct mark {MARK | 7:#x} counter name ours; ct mark 7 counter name theirs; }}\n}}"
    )
    install(dnat(V4, "addr", ONE))
    rig.reach("client", V4.public, 8080)
    first = list_table("inet other")
    assert "ours {\n\t\tpackets 0" not in first
    assert "theirs {\n\t\tpackets 0" in first
    rig.reach("client", V4.server, 80)
    assert "theirs {\n\t\tpackets 0" not in list_table("inet other")


# What goes on while the table changes


@FAMILIES
@isolated
def test_connections_outlive_every_change(at: Addresses) -> None:
    rig = Rig()
    rig.listen("server", 80)
    rig.listen("peer", 80)
    here, there = dnat(at, "any", ONE), dnat(at, "any", ONE, target=at.peer)
    old, new = Desired.of([here]), Desired.of([there])
    table = install(here)
    pair = rig.pair("client", at.public, 8080)
    table.apply(plan_step(old, new, NOTHING))
    assert pair.works()
    assert rig.reach("client", at.public, 8080) == Reached("peer", 80, at.client)
    table.install(content(new, NOTHING))
    assert pair.works()
    table.apply(plan_step(new, Desired(), NOTHING))
    assert pair.works()
    assert rig.reach("client", at.public, 8080) is None
    table.apply(plan_step(Desired(), old, NOTHING))
    assert pair.works()
    assert rig.reach("client", at.public, 8080) == Reached("server", 80, at.client)


@isolated
def test_no_connection_fails_while_the_table_is_replaced() -> None:
    rig = Rig()
    rig.listen("server", 80)
    wanted = content(Desired.of([dnat(V4, "any", ONE)]), NOTHING)
    table = OwnTable(SKELETON)
    table.install(wanted)
    program = (
        "import json, sys\n"
        "from netns_tools.kernel.nattable import OwnTable\n"
        "from netns_tools.natmap.table import SKELETON\n"
        "given = json.load(sys.stdin).items()\n"
        "wanted = {name: {tuple(k): tuple(d) for k, d in inside} for name, inside in given}\n"
        "table = OwnTable(SKELETON)\n"
        "for _ in range(500): table.install(wanted)\n"
    )
    with working(program, {name: list(inside.items()) for name, inside in wanted.items()}) as process:
        while process.poll() is None:
            assert rig.reach("client", V4.public, 8080) == Reached("server", 80, V4.client)
        assert process.returncode == 0
    assert read(table).content == wanted


@contextmanager
def working(program: str, given: object = None) -> Iterator[subprocess.Popen[str]]:
    """A Python program that runs beside the test."""
    import json

    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(given))
            process.stdin.close()
            yield process
        finally:
            process.kill()


# What is in the kernel


def everything() -> tuple[Desired, Observed]:
    """Entries of every kind, in every scope."""
    entries: list[Entry] = []
    for at in (V4, V6):
        clients = (at.subnet, f"{at.client}/{32 if at.family == 4 else 128}")
        for scope in ("addrif", "addr", "if", "any"):
            for proto in ("tcp", "udp"):
                entries += [
                    dnat(at, scope, Ports(80, 80, 8080), proto, masquerade=True, allow_from=clients),
                    dnat(at, scope, Ports(81, 81, 81), proto),
                    dnat(at, scope, Ports(9000, 9099, 9000), proto, masquerade=True, allow_from=clients),
                    dnat(at, scope, Ports(9100, 9104, 9200), proto),
                    dnat(at, scope, Ports(1024, 8000, 1024), proto),
                ]
        entries += [
            Hairpin(at.public, at.server, "tcp", Ports(80, 80, 8080), ""),
            Hairpin(
                at.public, at.server, "tcp", Ports(7000, 7100, 7000), "0.0.0.0/0" if at == V4 else "::/0"
            ),
            Hairpin(at.public, at.peer, "tcp", Ports(7050, 7150, 7050), at.subnet),
            Snat(clients[1], "eth0", at.public),
            Masquerade(at.subnet, "eth0", (at.subnet, clients[1])),
            Masquerade("0.0.0.0/0" if at == V4 else "::/0", "we-ird.1", (at.subnet,)),
        ]
    return Desired.of(entries), Observed({V4.server: V4.subnet}, frozenset(["br0", "ip", "lo-1", "x" * 15]))


@isolated
def test_all_that_is_written_is_read() -> None:
    wanted = content(*everything())
    assert wanted.keys() == SKELETON.sets.keys()
    table = OwnTable(SKELETON)
    assert table.read() is None
    table.install(wanted)  # as text
    assert read(table) == LiveTable(SKELETON.comment, frozenset(), True, wanted)
    table.apply(plan(read(table).content, {}))
    assert read(table) == LiveTable(SKELETON.comment, frozenset(), True, {})
    table.apply(plan({}, wanted))  # as JSON
    assert read(table).content == wanted
    assert plan(read(table).content, wanted) == []
    table.remove()
    assert table.read() is None
    table.remove()


@isolated
def test_ten_thousand_mappings() -> None:
    many = [
        Dnat("tcp", f"198.18.{n >> 8}.{n & 255}", "", Ports(8080, 8080, 80), f"10.77.{n >> 8}.{n & 255}", 4)
        for n in range(10_000)
    ]
    desired = Desired.of(many)
    wanted = content(desired, NOTHING)
    table = OwnTable(SKELETON)
    table.install(wanted)
    assert read(table).content == wanted
    more = desired.merge(Desired.of([dnat(V4, "any", ONE, masquerade=True)]))
    table.apply(plan_step(desired, more, NOTHING))
    assert read(table).content == content(more, NOTHING)
    table.apply(plan_step(more, desired, NOTHING))
    assert read(table).content == wanted
    table.apply(plan(wanted, {}))
    assert read(table).content == {}


@isolated
def test_elements_of_others_are_seen_and_removed() -> None:
    wanted = content(*everything())
    table = install()
    table.apply(plan({}, wanted))
    foreign = [
        "add element inet netns_natmap addr4 { * : 10.0.0.1 . 80 }",
        'add element inet netns_natmap any6 { tcp . 4444 comment "mine" : ::1 . 80, icmp . 4445 : ::1 . 80 }',
        'add element inet netns_natmap if4_ranges { "ppp*" . tcp . 8-9 : 10.0.0.1 }',
        "add element inet netns_natmap addr4_clients { 10.0.0.1-10.0.0.5 . tcp . 1 . 10.0.0.0/8 }",
        f"delete element inet netns_natmap self4 {{ {V4.server} . {V4.server} }}",
        "delete element inet netns_natmap any4 { tcp . 81 }",
        "add element inet netns_natmap any4 { tcp . 81 : 10.0.0.1 . 81 }",
    ]
    nft("\n".join(foreign))
    live = read(table)
    assert live.whole
    changes = plan(live.content, wanted)
    assert {(change.verb, change.set): len(change.elements) for change in changes} == {
        ("delete", "addr4"): 1,
        ("delete", "addr4_clients"): 1,
        ("delete", "if4_ranges"): 1,
        ("delete", "any4"): 1,
        ("delete", "any6"): 2,
        ("add", "any4"): 1,
        ("add", "self4"): 1,
    }
    table.apply(changes)
    assert read(table).content == wanted


@pytest.mark.parametrize(
    "meddling",
    [
        "insert rule inet netns_natmap lookup counter",
        "flush chain inet netns_natmap forward",
        "add set inet netns_natmap more { type ipv4_addr; }",
        "add chain inet netns_natmap more",
        "add chain inet netns_natmap forward { policy drop; }",
        "flush table inet netns_natmap",
        "delete chain inet netns_natmap forward",
        "replace rule inet netns_natmap forward handle HANDLE accept",
        "add table inet netns_natmap { flags dormant; }",
        "delete table inet netns_natmap\nadd table inet netns_natmap",
        'delete table inet netns_natmap\nadd table inet netns_natmap { comment "COMMENT"; }',
    ],
)
@isolated
def test_a_table_that_others_changed_is_not_whole(meddling: str) -> None:
    wanted = content(*everything())
    table = install()
    table.install(wanted)
    assert read(table).whole
    handle = next(
        line.rpartition(" ")[2]
        for line in list_table("inet netns_natmap", "-a").splitlines()
        if "meta mark set" in line
    )
    text = meddling.replace("HANDLE", handle).replace("COMMENT", SKELETON.comment)
    if text.startswith("delete chain"):
        text = "flush chain inet netns_natmap forward\n" + text
    nft(text)
    live = read(table)
    assert not live.whole
    assert not live.content
    table.install(wanted)
    assert read(table) == LiveTable(SKELETON.comment, frozenset(), True, wanted)


@isolated
def test_another_version_is_replaced_without_a_gap() -> None:
    rig = Rig()
    rig.listen("server", 80)
    wanted = content(Desired.of([dnat(V4, "any", ONE)]), NOTHING)
    older = OwnTable(
        replace(SKELETON, comment="netns-natmap 00000000", chains=dict(list(SKELETON.chains.items())[1:]))
    )
    older.install(wanted)
    pair = rig.pair("client", V4.public, 8080)
    table = OwnTable(SKELETON)
    assert read(table) == LiveTable("netns-natmap 00000000", frozenset(), False, {})
    table.install(wanted)
    assert read(table).whole
    assert pair.works()
    assert not read(older).whole


@isolated
def test_a_refused_change_changes_nothing() -> None:
    wanted = content(Desired.of([dnat(V4, "any", ONE)]), NOTHING)
    table = install()
    table.install(wanted)
    new = Change("add", "any4", [(("udp", "53"), (V4.server, "53"))])
    missing = Change("delete", "any4", [(("tcp", "1"), (V4.server, "1"))])
    other = Change("add", "any4", [(("tcp", "8080"), (V4.peer, "80"))])
    overlapping = [
        Change("add", "any4_ranges", [(("tcp", "10-20"), (V4.server,)), (("tcp", "15-25"), (V4.peer,))])
    ]
    for changes, kind in (
        ([new, missing], "missing"),
        ([new, other], "exists"),
        ([new, *overlapping], "exists"),
    ):
        with pytest.raises(NftError) as caught:
            table.apply(changes)
        assert caught.value.errno == kind
        assert read(table).content == wanted
    with pytest.raises(NftError, match=r"^nft: [^\n{}]{1,120}$"):  # without the elements that it was given
        table.install({**wanted, "any4_ranges": dict(overlapping[0].elements)})
    assert read(table) == LiveTable(SKELETON.comment, frozenset(), True, wanted)


@isolated
def test_a_table_with_an_owner_is_its_owners() -> None:
    owner = Nft()
    owner.apply_text("table inet netns_natmap { flags owner; }")
    table = OwnTable(SKELETON)
    assert read(table) == LiveTable("", frozenset(["owner"]), False, {})
    with pytest.raises(NftError) as caught:
        table.install({})
    assert caught.value.errno == "permission"
    assert list_tables() == ["table inet netns_natmap"]
    with pytest.raises(NftError) as caught:
        table.remove()
    assert caught.value.errno == "permission"


@isolated
def test_what_stands_in_for_the_table_does_not_stay() -> None:
    rig = Rig()
    rig.listen("server", 80)
    wanted = content(Desired.of([dnat(V4, "any", ONE)]), NOTHING)
    table = install()
    table.install(wanted)
    with pytest.raises(NftError):
        table.install({"any4": {("tcp", "no port"): ("nowhere", "1")}})
    assert list_tables() == ["table inet netns_natmap"]
    # One that a killed process has left behind would bring back what has been removed.
    other = replace(SKELETON, table="netns_natmap_next")
    for repair in (table.install, OwnTable(SKELETON).install):
        OwnTable(other).install(wanted)
        assert not read(table).whole
        repair({})
        assert read(table).whole
        assert list_tables() == ["table inet netns_natmap"]
        assert rig.reach("client", V4.public, 8080) is None
    OwnTable(other).install(wanted)
    table.remove()
    assert list_tables() == []
    OwnTable(other).install(wanted)
    table.install({})
    assert list_tables() == ["table inet netns_natmap"]


@isolated
def test_reading_while_others_write() -> None:
    wanted = content(*everything())
    table = install()
    table.install(wanted)
    program = (
        "from netns_tools.kernel.nftset import Nft\n"
        "tool = Nft()\n"
        "while True:\n"
        "  tool.apply_text('table ip other {\\n}\\n')\n"
        "  tool.apply_text('delete table ip other')\n"
    )
    with working(program) as process:
        before = table.generation()
        while table.generation() < before + 20:
            assert process.poll() is None
        for _ in range(10):
            assert read(table).content == wanted


@isolated
def test_only_our_table_is_ours() -> None:
    nft("table ip filter {\n chain forward {\n type filter hook forward priority 0; counter accept\n }\n}")
    nft("table inet netns_natmap2 {\n map addr4 { type ipv4_addr : ipv4_addr; }\n}")
    before = list_table("ip filter"), list_table("inet netns_natmap2")
    table = install()
    table.install(content(*everything()))
    assert read(table).whole
    table.remove()
    assert before == (list_table("ip filter"), list_table("inet netns_natmap2"))
