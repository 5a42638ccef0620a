"""What is judged of what was seen: rules of firewalls, ways in, and the texts of findings."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.kernel.filterrules import Chain, Rule, Spans, Table, Test, Verdict, read_iptables, read_nft
from netns_tools.kernel.foreign import Link, Route, Uplink, Way
from netns_tools.kernel.listener import Listener
from netns_tools.natmap.doctor import Look, Owner, examine
from netns_tools.natmap.model import Desired, Dnat, Ports, Snat
from netns_tools.natmap.passage import Block, Firewalls, Packet, passes
from netns_tools.natmap.table import MARK, Observed, content

PACKET = Packet(4, "tcp", "wan0", "br0", (), "203.0.113.1", "8080", "10.77.1.10", "80")
DNAT = Dnat("tcp", "203.0.113.1", "", Ports(8080, 8080, 80), "10.77.1.10", 4)

LOOK = Look(
    links={
        "lo": Link("lo", True, True, True, (("127.0.0.1", 8), ("203.0.113.1", 32))),
        "wan0": Link("wan0", True, True, False, (("198.51.100.1", 24),)),
        "br0": Link("br0", True, True, False, (("10.77.1.1", 24),)),
    },
    uplinks={4: (Uplink("wan0", "198.51.100.254", ""),)},
    routes={"10.77.1.10": Route("br0"), "192.0.2.1": Route("wan0")},
    settings={"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"},
    live=content(Desired.of([DNAT]), Observed()),
)


def nft_rule(*expressions: dict[str, object]) -> list[Table]:
    """A table with one rule, as nft tells of it."""
    listing = [
        {"table": {"family": "inet", "name": "t"}},
        {"set": {"name": "s", "elem": ["10.77.1.10", {"range": ["10.77.2.1", "10.77.2.9"]}]}},
        {"chain": {"name": "c", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
        {"rule": {"chain": "c", "handle": 7, "expr": list(expressions)}},
    ]
    found = read_nft(json.loads(json.dumps(listing)), {7: "the rule"})
    assert found is not None
    return [found]


def blocks(tables: list[Table], packet: Packet) -> list[Block]:
    return list(Firewalls(tables).blocks(packet))


def match(left: object, right: object, op: str = "==") -> dict[str, object]:
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, name: str) -> dict[str, object]:
    return {"payload": {"protocol": protocol, "field": name}}


CT_MARK = {"ct": {"key": "mark"}}
DROP: dict[str, object] = {"drop": None}


@pytest.mark.parametrize(
    ("left", "right", "op", "answer"),
    [
        (payload("tcp", "dport"), 80, "==", True),
        (payload("tcp", "dport"), 80, "!=", False),
        (payload("tcp", "dport"), {"set": [22, {"range": [70, 90]}]}, "==", True),
        (payload("tcp", "dport"), 80, ">=", True),
        (payload("tcp", "dport"), 80, ">", False),
        (payload("tcp", "dport"), 81, "<", True),
        (payload("tcp", "dport"), 79, "<=", False),
        (payload("udp", "dport"), 80, "==", False),
        (payload("ip", "daddr"), "@s", "==", True),
        (payload("ip", "daddr"), {"prefix": {"addr": "10.0.0.0", "len": 8}}, "==", True),
        (payload("ip", "daddr"), "203.0.113.1", "==", False),
        (payload("ip6", "daddr"), "::", "!=", False),
        (payload("ip", "saddr"), "192.0.2.1", "==", None),
        (payload("ip", "ttl"), 64, "==", None),
        ({"meta": {"key": "iifname"}}, "wan*", "==", True),
        ({"meta": {"key": "oifname"}}, "wan*", "==", False),
        ({"meta": {"key": "oifname"}}, {"set": ["br0", "br1"]}, "!=", False),
        ({"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp"]}, "==", True),
        ({"meta": {"key": "nfproto"}}, "ipv6", "==", False),
        ({"meta": {"key": "skuid"}}, 0, "==", None),
        ({"ct": {"key": "state"}}, ["established", "new"], "in", True),
        ({"ct": {"key": "state"}}, "established", "in", False),
        ({"ct": {"key": "status"}}, "dnat", "in", True),
        ({"&": [{"ct": {"key": "status"}}, ["snat", "dnat"]]}, "dnat", "==", None),
        ({"&": [CT_MARK, MARK]}, 0, "!=", True),
        ({"&": [CT_MARK, MARK | 1]}, MARK, "==", True),
        (CT_MARK, MARK, "in", True),
        (CT_MARK, 1, "in", False),
        ({"ct": {"key": "ip daddr", "dir": "original"}}, "203.0.113.1", "==", True),
        ({"ct": {"key": "proto-dst", "dir": "original"}}, 80, "==", False),
        ({"fib": {"result": "type", "flags": ["daddr"]}}, "local", "==", None),
    ],
)
def test_tests_of_nftables(left: object, right: object, op: str, answer: bool | None) -> None:
    """A rule that drops: it surely does (True), surely not (False), or it depends (None)."""
    assert bool(blocks(nft_rule(match(left, right, op), DROP), PACKET)) is (answer is True)
    tables = nft_rule(match(left, right, op), {"accept": None})
    policy = [replace(table, chains={"c": replace(table.chains["c"], policy="drop")}) for table in tables]
    assert bool(blocks(policy, PACKET)) is (answer is False)


@pytest.mark.parametrize("kind", ["limit", "xt", "quota", "ct count", "something new"])
def test_what_is_not_known_is_not_taken_for_sure(kind: str) -> None:
    strange: dict[str, object] = {kind: {"rate": 1}}
    assert not (blocks(nft_rule(strange, DROP), PACKET))
    assert blocks(nft_rule({"counter": {}}, {"log": None}, DROP), PACKET)


@pytest.mark.parametrize(
    ("rule", "is_blocked"),
    [
        ("-j DROP", True),
        ("-i wan+ -o br0 -j DROP", True),
        ("! -i wan0 -j DROP", False),
        ("-p tcp -m tcp --dport 70:90 -j REJECT --reject-with tcp-reset", True),
        ("-p tcp -m multiport --dports 22,80 -j DROP", True),
        ("-p tcp -m multiport ! --dports 22,80 -j DROP", False),
        ("-p udp -j DROP", False),
        ("-d 10.77.1.10/32 -j DROP", True),
        ("-s 192.0.2.0/24 -j DROP", False),
        ("-m conntrack --ctstate NEW -j DROP", True),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP", True),
        ("-m conntrack --ctstate DNAT -j DROP", True),
        ("-m conntrack --ctstatus NONE -j DROP", False),
        ("-m connmark --mark 0x400000/0x400000 -j DROP", True),
        ("-m connmark ! --mark 0x400000/0x400000 -j DROP", False),
        ("-m mark --mark 0x1 -j DROP", False),
        ("-m limit --limit 3/min -j DROP", False),
        ("-m addrtype --dst-type LOCAL -j DROP", False),
        ('-m comment --comment "-j ACCEPT" -j DROP', True),
        ("-j LOG --log-prefix DROP", False),
        ("-j SUB", True),
        ("-g SUB", True),
        ("-p icmp -j SUB", False),
    ],
)
def test_rules_of_iptables(rule: str, is_blocked: bool) -> None:
    saved = f"# a comment\n*filter\n:FORWARD ACCEPT [0:0]\n:SUB - [0:0]\n-A FORWARD {rule}\n"
    saved += "-A SUB -d 192.0.2.1/32 -j RETURN\n-A SUB -j DROP\nCOMMIT\n"
    found = blocks(read_iptables(saved, "ip", "iptables-nft"), PACKET)
    assert bool(found) is is_blocked
    if found:
        assert found[0].table.program == "iptables-nft"
        assert found[0].rule is not None
        assert not (blocks(read_iptables(saved, "ip6", "ip6tables-nft"), PACKET))


def test_marks_of_others() -> None:
    """Who sets marks may have set any of their bits but ours."""
    test = Test(("ctmark",), (("0",),), mask=0xFF)
    assert passes(test, PACKET) is True
    assert passes(test, replace(PACKET, marks_are_ours=False)) is None
    ours = Test(("ctmark",), ((str(MARK),),), mask=MARK)
    assert passes(ours, replace(PACKET, marks_are_ours=False)) is True


CLIENTS = ["192.0.2.1", "192.0.2.77", "10.1.2.3", "198.51.100.9"]
VERDICTS = st.sampled_from(
    [Verdict(kind) for kind in ("accept", "drop", "reject", "return")]
    + [Verdict("jump", "a"), Verdict("jump", "b"), Verdict("goto", "a"), Verdict("goto", "b")]
)
TESTS = st.builds(
    Test,
    st.just(("saddr",)),
    st.lists(
        st.sampled_from(["192.0.2.0/24", "192.0.2.1", "0.0.0.0/1", "10.0.0.0/8"]).map(lambda one: (one,)),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.booleans(),
)
RULES = st.builds(
    Rule,
    st.lists(TESTS, max_size=1).map(tuple),
    st.none() | VERDICTS,
    st.lists(st.tuples(TESTS, VERDICTS), max_size=2).map(tuple),
)


@given(*[st.lists(RULES, max_size=4)] * 3, st.sampled_from(["accept", "drop"]))
def test_what_is_blocked_is_blocked_for_every_client(
    base: list[Rule], a: list[Rule], b: list[Rule], policy: str
) -> None:
    """Of an unknown client nothing is said that is not so of each one."""
    chains = {"a": Chain("a", tuple(a)), "b": Chain("b", tuple(b))}
    chains["c"] = Chain("c", tuple(base), "forward", 0, "filter", policy)
    table = Table("inet", "t", chains)
    singles = [bool(blocks([table], replace(PACKET, sources=(one,)))) for one in CLIENTS]
    if blocks([table], PACKET):
        assert all(singles)
    if blocks([table], replace(PACKET, sources=tuple(CLIENTS))):
        assert all(singles)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=5), st.integers(0, 60))
def test_spans(pairs: list[tuple[int, int]], number: int) -> None:
    spans = Spans.of("dport", (f"{first}-{first + more}" for first, more in pairs))
    expected = any(first <= number <= first + more for first, more in pairs)
    assert spans.holds(Spans.of("dport", [str(number)])) is expected


def test_a_mapping_that_passes_has_no_findings() -> None:
    assert examine(Desired.of([DNAT]), LOOK) == []
    assert examine(Desired(), Look()) == []


def test_the_same_cause_is_one_finding() -> None:
    both = Desired.of([DNAT, Snat("10.77.1.0/24", "wan0", "198.51.100.1")])
    (found,) = examine(both, replace(LOOK, settings={"net/ipv4/ip_forward": "0"}))
    assert found.message == "IPv4 packets are not passed on: forwarding is off (and so for 1 more)"
    assert found.as_dict() == {
        "message": found.message,
        "where": "sysctl net.ipv4.ip_forward = 0",
        "command": "netns-natmap fwd",
        "entry": "dnat 203.0.113.1:8080:10.77.1.10:80/tcp",
    }


def test_what_is_known_of_one_packet_is_not_taken_for_another() -> None:
    saved = "*filter\n:FORWARD ACCEPT [0:0]\n"
    saved += "-A FORWARD -d 10.77.1.10/32 -p tcp -m tcp --dport 80 -j DROP\nCOMMIT\n"
    walls = Firewalls(read_iptables(saved, "ip", "iptables-nft"))
    for packet, expected in [
        (PACKET, True),
        (replace(PACKET, original_port="8081"), True),
        (replace(PACKET, port="81"), False),
        (replace(PACKET, target="10.77.1.11"), False),
        (replace(PACKET, proto="udp"), False),
        (PACKET, True),
    ]:
        assert bool(list(walls.blocks(packet))) is expected


DROP_WAN = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i wan1 -j ACCEPT\nCOMMIT\n"


def test_one_way_in_is_enough() -> None:
    """Of several uplinks the firewall may be meant to close one."""
    look = replace(LOOK, tables=tuple(read_iptables(DROP_WAN, "ip", "iptables-legacy")))
    assert [one.where for one in examine(Desired.of([DNAT]), look)] == [
        "iptables-legacy, table filter, chain FORWARD (policy drop)"
    ]
    two = replace(look, uplinks={4: (Uplink("wan0", "", ""), Uplink("wan1", "", "100"))})
    assert examine(Desired.of([DNAT]), two) == []


def test_clients_come_by_where_they_are() -> None:
    """What is only for some clients has to pass by the link that leads to them."""
    entry = replace(DNAT, allow_from=("172.16.0.0/12",))
    look = replace(
        LOOK,
        tables=tuple(read_iptables(DROP_WAN, "ip", "iptables-legacy")),
        routes={**LOOK.routes, "172.16.0.1": Route("wan1")},
        live=content(Desired.of([entry]), Observed()),
    )
    assert examine(Desired.of([entry]), look) == []
    look = replace(look, routes={**look.routes, "172.16.0.1": Route("wan0")})
    assert len(examine(Desired.of([entry]), look)) == 1


def test_rp_filter_counts_where_it_is_strict() -> None:
    refused = replace(LOOK, refused={Way("wan0", "192.0.2.1", "10.77.1.10")})
    assert examine(Desired.of([DNAT]), refused) == []  # refused for another reason
    settings = {**LOOK.settings, "net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/wan0/rp_filter": "0"}
    (found,) = examine(Desired.of([DNAT]), replace(refused, settings=settings))
    assert found.where == "sysctl net.ipv4.conf.all.rp_filter = 1"
    assert found.command == "netns-natmap policy-route --src-ip 10.77.1.10 --via 198.51.100.254"
    settings["net/ipv4/conf/wan0/rp_filter"] = "2"
    assert examine(Desired.of([DNAT]), replace(refused, settings=settings)) == []


@pytest.mark.parametrize(
    ("owner", "command"),
    [
        (Owner("nginx", 7, "nginx.service"), "systemctl stop nginx.service"),
        (Owner("nc", 7, ""), "kill 7"),
        (Owner("systemd", 1, ""), "systemctl list-sockets"),
        (Owner("docker-proxy", 7, "docker.service"), "docker ps --filter publish=8080/tcp"),
        (None, ""),
    ],
)
def test_who_is_to_stop(owner: Owner | None, command: str) -> None:
    one = Listener("tcp", 4, "203.0.113.1", 8080, "", 5, 0)
    look = replace(LOOK, listeners=(one,), owners={5: owner} if owner else {})
    (found,) = examine(Desired.of([DNAT]), look)
    assert (found.where, found.command) == ("listener tcp 203.0.113.1:8080", command)
    assert examine(Desired.of([DNAT]), replace(look, ours={5})) == []
    assert examine(Desired.of([DNAT]), replace(look, listeners=(one._replace(address=""),))) == []


def test_names_of_interfaces_with_dots() -> None:
    settings = {**LOOK.settings, "net/ipv4/conf/eth0.5/forwarding": "0"}
    entry = replace(DNAT, host="", iface="eth0.5")
    links = {**LOOK.links, "eth0.5": Link("eth0.5", True, True, False, ())}
    look = replace(LOOK, settings=settings, links=links, live=content(Desired.of([entry]), Observed()))
    (found,) = examine(Desired.of([entry]), look)
    assert found.command == "sysctl -w net/ipv4/conf/eth0.5/forwarding=1"
