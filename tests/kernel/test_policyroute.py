"""Policy routes: the kernel's own answers to where a packet goes, and nothing of others touched."""

from __future__ import annotations

import json
import os
import subprocess
from typing import NamedTuple

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import policyroute
from netns_tools.kernel.policyroute import Change, apply, observe, plan
from tests.kernel.isolated import ip, isolated


class Wanted(NamedTuple):
    source: str
    via: str
    table: int


FOUR = Wanted("10.0.0.5/32", "192.0.2.254", 100)
SIX = Wanted("fd00::5/128", "2001:db8:2::fe", 100)


def router() -> None:
    """Two uplinks of which eth1 has the default route, and addresses behind us to send from."""
    for n in (1, 2):
        ip(
            f"link add eth{n} type veth peer name far{n}",
            f"link set eth{n} up",
            f"link set far{n} up",
            f"address add {'198.51.100' if n == 1 else '192.0.2'}.1/24 dev eth{n}",
            f"address add 2001:db8:{n}::1/64 dev eth{n} nodad",
        )
    ip(
        *(f"address add 10.0.0.{n}/32 dev lo" for n in (5, 6)),
        *(f"address add fd00::{n}/128 dev lo nodad" for n in (5, 6)),
        "route add default via 198.51.100.254",
        "route add default via 2001:db8:1::fe",
    )


def make(*wanted: Wanted, keep_going: bool = False) -> list[str]:
    changes = plan(wanted, observe(one.table for one in wanted))
    apply(changes, keep_going=keep_going)
    assert plan(wanted, observe(one.table for one in wanted)) == []  # a second run changes nothing
    return [str(change) for change in changes]


def way(destination: str, source: str) -> str:
    """The gateway, or else the device, by which the kernel sends a packet."""
    out = subprocess.run(
        ["ip", "-j", "route", "get", destination, "from", source], capture_output=True, check=True, timeout=60
    ).stdout
    (route,) = json.loads(out)
    return str(route.get("gateway", route["dev"]))


def rules_and_routes() -> list[str]:
    """All rules and routes, as ip prints them."""
    commands = (
        "ip -d -4 rule",
        "ip -d -6 rule",
        "ip -d -4 route show table all",
        "ip -d -6 route show table all",
    )
    return [
        line
        for command in commands
        for line in subprocess.run(
            command.split(), capture_output=True, check=True, text=True, timeout=60
        ).stdout.splitlines()
    ]


@isolated
def test_what_comes_from_there_goes_another_way() -> None:
    router()
    before = rules_and_routes()
    make(FOUR, SIX)
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.254"
    assert way("203.0.113.1", "10.0.0.6") == "198.51.100.254"
    assert way("2001:db8:9::1", "fd00::5") == "2001:db8:2::fe"
    assert way("2001:db8:9::1", "fd00::6") == "2001:db8:1::fe"
    make()
    assert rules_and_routes() == before


@isolated
def test_connected_and_later_routes_count() -> None:
    router()
    make(FOUR, SIX)
    assert way("198.51.100.7", "10.0.0.5") == "eth1"
    assert way("2001:db8:1::7", "fd00::5") == "eth1"
    ip(
        "route add 203.0.113.0/24 via 198.51.100.253",
        "route add 2001:db8:9::/48 via 2001:db8:1::fd",
        "link add late type bridge",
        "link set late up",
        "address add 172.16.0.1/24 dev late",
    )
    assert way("203.0.113.1", "10.0.0.5") == "198.51.100.253"
    assert way("2001:db8:9::1", "fd00::5") == "2001:db8:1::fd"
    assert way("172.16.0.9", "10.0.0.5") == "late"
    assert way("203.0.114.1", "10.0.0.5") == "192.0.2.254"


@isolated
def test_the_longer_prefix_counts_whatever_came_first() -> None:
    router()
    net = Wanted("10.0.0.0/24", "192.0.2.253", 1000)
    everything = Wanted("0.0.0.0/0", "192.0.2.252", 77)
    make(net)
    make(net, FOUR)
    make(everything, net, FOUR)
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.254"
    assert way("203.0.113.1", "10.0.0.6") == "192.0.2.253"
    assert way("203.0.113.1", "198.51.100.1") == "192.0.2.252"


@isolated
def test_tables_100_and_1000_are_different_things() -> None:
    router()
    large = Wanted("10.0.0.6/32", "192.0.2.253", 1000)
    make(FOUR, large)
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.254"
    assert way("203.0.113.1", "10.0.0.6") == "192.0.2.253"
    assert all("1000" in line or "10.0.0.6" in line for line in make(FOUR))
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.254"
    assert way("203.0.113.1", "10.0.0.6") == "198.51.100.254"
    make(large)
    assert way("203.0.113.1", "10.0.0.5") == "198.51.100.254"
    assert way("203.0.113.1", "10.0.0.6") == "192.0.2.253"


@isolated
def test_two_sources_share_a_table() -> None:
    router()
    second = FOUR._replace(source="10.0.0.6/32")
    make(FOUR, second)
    make(second)
    assert way("203.0.113.1", "10.0.0.5") == "198.51.100.254"
    assert way("203.0.113.1", "10.0.0.6") == "192.0.2.254"


@isolated
def test_another_gateway_and_another_table() -> None:
    router()
    make(FOUR, SIX)
    said = make(FOUR._replace(via="192.0.2.9"), SIX._replace(via="2001:db8:2::9"))
    assert [line.split(" default ")[0] for line in said] == ["ip route replace", "ip -6 route replace"]
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.9"
    assert way("2001:db8:9::1", "fd00::5") == "2001:db8:2::9"
    make(FOUR._replace(table=101), SIX._replace(table=5000))
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.254"
    assert way("2001:db8:9::1", "fd00::5") == "2001:db8:2::fe"
    assert not any("table 100" in line or "lookup 100" in line for line in rules_and_routes())


@isolated
def test_a_link_local_gateway_has_its_interface() -> None:
    router()
    make(SIX._replace(via="fe80::1%eth2"))
    assert way("2001:db8:9::1", "fd00::5") == "fe80::1"
    make(SIX._replace(via="fe80::1%eth1"))
    assert "dev eth1" in next(line for line in rules_and_routes() if "table 100" in line)
    with pytest.raises(NetnsToolsError) as caught:
        make(SIX._replace(via="fe80::1%eth9"))
    assert "fe80::1 dev eth9" in caught.value.message
    with pytest.raises(NetnsToolsError) as caught:
        make(SIX._replace(via="fe80::1", table=7))
    assert "fe80::1%eth0" in caught.value.hint
    assert not any("table 7 " in line or "lookup 7 " in line for line in rules_and_routes())


@isolated
def test_rules_and_routes_of_others_stay() -> None:
    """Among them what ip-rule's loose way of deleting would take for ours."""
    router()
    ip(
        "rule add pref 20000 from 10.0.0.5 lookup main suppress_prefixlength 0 protocol static",
        "rule add pref 20001 from 10.0.0.5 lookup 100 protocol static",
        "rule add pref 20001 from 10.0.0.5 iif lo lookup 100 protocol 4",
        "rule add pref 20001 from 10.0.0.5 fwmark 7 lookup 100 protocol 4",
        "rule add pref 100 from 10.0.0.5 lookup 500 protocol 78",
        "rule add pref 30000 from 10.0.0.5 lookup 500 protocol 78",
        "route add 172.16.0.0/12 via 192.0.2.7 table 100",
        "route add 172.16.0.0/12 via 192.0.2.7 table 100 protocol 78 metric 20000",
        "route add unreachable default table 100 metric 50000",
        "route add default via 192.0.2.7 table 500 protocol 78",
        "route add default via 192.0.2.7 table 501 metric 20000",
    )
    before = rules_and_routes()
    make(FOUR, SIX)
    during = rules_and_routes()
    assert set(before) < set(during)
    assert len(during) == len(before) + 6
    make()
    assert rules_and_routes() == before


@isolated
def test_a_table_of_somebody_else() -> None:
    router()
    ip("route add default via 192.0.2.7 table 100")
    before = rules_and_routes()
    with pytest.raises(
        NetnsToolsError, match=r"100 has a default route of somebody else already \(192.0.2.7\)"
    ):
        make(FOUR)
    assert rules_and_routes() == before
    make(FOUR._replace(via="192.0.2.7"))  # what is needed is there already
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.7"
    make()
    assert rules_and_routes() == before


@isolated
def test_what_was_lost_is_made_again() -> None:
    router()
    make(FOUR, SIX)
    whole = sorted(rules_and_routes())
    ip("link set eth2 down")
    assert way("203.0.113.1", "10.0.0.5") == "198.51.100.254"
    ip("link set eth2 up", "address replace 2001:db8:2::1/64 dev eth2 nodad")
    ip("rule del pref 20001")
    apply([Change("add", policyroute.rules_of(FOUR)[0])])  # a second time
    assert sum("from 10.0.0.5 " in line for line in rules_and_routes()) == 2
    make(FOUR, SIX)
    now = sorted(line for line in rules_and_routes() if "fe80::" not in line and "ff00::" not in line)
    assert now == [line for line in whole if "fe80::" not in line and "ff00::" not in line]


@isolated
def test_all_or_nothing() -> None:
    router()
    make(FOUR)
    before = rules_and_routes()
    bad = Wanted("10.0.0.6/32", "203.0.113.9", 200)
    wanted = [FOUR._replace(via="192.0.2.9"), SIX, bad]
    with pytest.raises(NetnsToolsError, match=r"203\.0\.113\.9") as caught:
        apply(plan(wanted, observe([100, 200])))
    assert "subnet" in caught.value.hint
    assert rules_and_routes() == before


@isolated
def test_going_on_past_a_failure() -> None:
    router()
    bad = Wanted("10.0.0.6/32", "203.0.113.9", 90)
    (error,) = apply(plan([bad, FOUR], observe([100, 90])), keep_going=True)
    assert "203.0.113.9" in error.message
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.254"
    assert way("203.0.113.1", "10.0.0.6") == "198.51.100.254"
    ip("address add 203.0.113.1/24 dev eth2")  # its gateway is there now
    apply(plan([bad, FOUR], observe([100, 90])))
    assert way("172.16.0.1", "10.0.0.6") == "203.0.113.9"


@isolated
def test_each_line_is_what_ip_would_do() -> None:
    """The lines, given to ip(8), make the same rules and routes."""
    router()
    wanted = [FOUR, SIX, SIX._replace(source="::/0", via="fe80::1%eth2", table=1000)]
    before = rules_and_routes()
    changes = plan(wanted, observe([100, 1000]))
    for change in changes:
        subprocess.run(str(change).split(), check=True, timeout=60)
    by_ip = rules_and_routes()
    assert plan(wanted, observe([100, 1000])) == []
    for change in plan([], observe()):
        subprocess.run(str(change).split(), check=True, timeout=60)
    assert rules_and_routes() == before
    apply(changes)
    assert rules_and_routes() == by_ip


@isolated
def test_what_is_gone_need_not_be_deleted() -> None:
    router()
    make(FOUR)
    changes = plan([], observe())
    apply(changes)
    assert apply(changes) == []


@isolated
def test_without_rights_it_says_what_is_missing() -> None:
    router()
    os.setresuid(65534, 65534, 65534)
    changes = plan([FOUR], observe([100]))
    with pytest.raises(NetnsToolsError, match=r"ip rule add pref 20000 from 10\.0\.0\.5") as caught:
        apply(changes)
    assert "CAP_NET_ADMIN" in caught.value.hint


@isolated
def test_a_large_main_table_is_not_read() -> None:
    router()
    ip(*(f"route add 10.{n >> 8}.{n & 255}.0/24 via 198.51.100.254 protocol 78" for n in range(3000)))
    assert observe([100]).routes == frozenset()
    make(FOUR)
    assert way("203.0.113.1", "10.0.0.5") == "192.0.2.254"
