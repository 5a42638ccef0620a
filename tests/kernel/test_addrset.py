"""netns-addrset on real netlink and nftables: what the sets hold follows what the links have."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from netns_tools.addrset.record import Record
from netns_tools.kernel.nftset import LiveSet, SetId
from tests.kernel.addrset import FILTER, AddrSet, elements, running, wait_for
from tests.kernel.conftest import FakeHost
from tests.kernel.isolated import isolated

WAN = "interfaces:\n  - {name: wan0, nftables_zone: wan}\n"
SEED = """
interfaces:
  - name: wan0 # Interface name
    dhcp: true
    nftables_zone: wan
  - name: lan0
    address: 192.168.1.1/24
    nftables_zone: lan
"""


@pytest.fixture
def wan(host: FakeHost) -> FakeHost:
    """A host with the link wan0 and its other end, both up."""
    host.run("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "far0")
    host.run("ip", "link", "set", "wan0", "up")
    host.run("ip", "link", "set", "far0", "up")
    return host


def ip(host: FakeHost, *words: str) -> None:
    host.run("ip", *words)


def test_addresses_come_and_go(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        assert daemon.elements("wan_ips") == {"192.0.2.1"}
        ip(wan, "address", "add", "192.0.2.2/24", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.1", "192.0.2.2")
        ip(wan, "address", "add", "2001:db8::1/64", "dev", "wan0", "nodad")
        daemon.wait_elements("wan_ips6", "2001:db8::1")
        ip(wan, "address", "flush", "dev", "wan0", "scope", "global")
        daemon.wait_elements("wan_ips")
        daemon.wait_elements("wan_ips6")


def test_a_file_of_rust_network_mgr_works_unchanged(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "link", "add", "lan0", "type", "bridge")
    ip(wan, "address", "add", "192.168.1.1/24", "dev", "lan0")
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    rules = """
    table inet filter {
        set wan_ips { type ipv4_addr; flags dynamic; }
        set lan_ips { type ipv4_addr; flags dynamic; }
        chain input { type filter hook input priority 0; policy accept; ip saddr @wan_ips counter drop; }
    }
    """
    with running(wan, tmp_path, SEED + "socket_path: /run/mgr.sock\n", rules) as daemon:
        assert daemon.elements("wan_ips") == {"192.0.2.1"}
        assert daemon.elements("lan_ips") == {"192.168.1.1"}
        said = wan.run("socat", "-", "UNIX-CONNECT:/run/mgr.sock", input="ping\n").stdout
        assert said == "pong\n"


def test_what_is_never_in_a_set(wan: FakeHost, tmp_path: Path) -> None:
    wan.run("sysctl", "-qw", "net.ipv6.conf.wan0.dad_transmits=1")
    with running(wan, tmp_path, WAN) as daemon:
        ip(wan, "address", "add", "10.9.9.1", "peer", "10.9.9.2/32", "dev", "wan0")
        ip(wan, "address", "add", "169.254.7.7/16", "dev", "wan0", "scope", "link")
        ip(wan, "address", "add", "127.0.0.9/8", "dev", "wan0", "scope", "host")
        # Its other end has the same one: duplicate address detection fails.
        ip(wan, "address", "add", "2001:db8::2/64", "dev", "far0", "nodad")
        ip(wan, "address", "add", "2001:db8::2/64", "dev", "wan0")
        ip(wan, "address", "add", "2001:db8::3/64", "dev", "wan0", "preferred_lft", "0", "nodad")
        daemon.wait_elements("wan_ips", "10.9.9.1")
        daemon.wait_elements("wan_ips6", "2001:db8::3")
        wait_for(
            lambda: "dadfailed" in wan.run("ip", "-6", "address", "show", "dev", "wan0").stdout,
            "the duplicate is found",
        )
        ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")  # one more event, to wait for
        daemon.wait_elements("wan_ips", "10.9.9.1", "192.0.2.1")
        assert daemon.elements("wan_ips6") == {"2001:db8::3"}


def test_a_tentative_address_waits_for_its_probation(wan: FakeHost, tmp_path: Path) -> None:
    with running(wan, tmp_path, WAN) as daemon:
        ip(wan, "address", "add", "2001:db8::9/64", "dev", "wan0")
        shown = wan.run("ip", "-6", "address", "show", "dev", "wan0").stdout
        if "tentative" in shown:
            assert daemon.elements("wan_ips6") == set()
        daemon.wait_elements("wan_ips6", "2001:db8::9")
        assert (
            "tentative"
            not in wan.run("ip", "-6", "address", "show", "dev", "wan0", "to", "2001:db8::9").stdout
        )


def test_patterns_renames_and_links_that_come_later(wan: FakeHost, tmp_path: Path) -> None:
    config = "interfaces:\n  - {name: 'ppp*', nftables_zone: wan}\n"
    with running(wan, tmp_path, config) as daemon:
        ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
        ip(wan, "link", "add", "ppp7", "type", "bridge")
        ip(wan, "address", "add", "198.51.100.7/32", "dev", "ppp7")
        daemon.wait_elements("wan_ips", "198.51.100.7")
        ip(wan, "link", "set", "wan0", "down")
        ip(wan, "link", "set", "wan0", "name", "ppp0")
        daemon.wait_elements("wan_ips", "198.51.100.7", "192.0.2.1")
        ip(wan, "link", "set", "ppp0", "name", "other")
        daemon.wait_elements("wan_ips", "198.51.100.7")
        ip(wan, "link", "delete", "ppp7")
        daemon.wait_elements("wan_ips")


def test_a_port_that_leaves_a_bridge_is_not_gone(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        ip(wan, "link", "set", "wan0", "master", "uplink")
        ip(wan, "link", "set", "wan0", "nomaster")
        ip(wan, "address", "add", "192.0.2.2/24", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.1", "192.0.2.2")


def test_two_prefixes_with_one_host(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    ip(wan, "address", "add", "192.0.2.1/28", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        ip(wan, "address", "delete", "192.0.2.1/24", "dev", "wan0")
        ip(wan, "address", "add", "192.0.2.5/24", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.1", "192.0.2.5")
        ip(wan, "address", "delete", "192.0.2.1/28", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.5")


def test_require_up(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN + "zones: {wan: {require_up: true}}\n") as daemon:
        daemon.wait_elements("wan_ips", "192.0.2.1")
        ip(wan, "link", "set", "wan0", "down")
        daemon.wait_elements("wan_ips")
        ip(wan, "link", "set", "wan0", "up")
        daemon.wait_elements("wan_ips", "192.0.2.1")


INTERVALS = """
table inet filter {
    set wan_ips { type ipv4_addr; flags interval; }
    set wan_ips6 { type ipv6_addr; flags interval; auto-merge; }
}
"""


def test_networks_instead_of_hosts(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    ip(wan, "address", "add", "192.0.2.130/28", "dev", "wan0")
    ip(wan, "address", "add", "2001:db8::1/64", "dev", "wan0", "nodad")
    ip(wan, "address", "add", "2001:db8:0:1::1/64", "dev", "wan0", "nodad")
    with running(wan, tmp_path, WAN + "zones: {wan: {networks: true}}\n", INTERVALS) as daemon:
        assert daemon.elements("wan_ips") == {"192.0.2.0/24"}
        assert daemon.elements("wan_ips6") == {"2001:db8::/63"}
        ip(wan, "address", "delete", "192.0.2.1/24", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.128/28")
        ip(wan, "address", "delete", "2001:db8::1/64", "dev", "wan0")
        daemon.wait_elements("wan_ips6", "2001:db8:0:1::/64")


def test_hosts_in_an_interval_set(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN, INTERVALS) as daemon:
        assert daemon.elements("wan_ips") == {"192.0.2.1"}
        ip(wan, "address", "add", "192.0.2.9/24", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.1", "192.0.2.9")


def test_foreign_elements(wan: FakeHost, tmp_path: Path) -> None:
    """An exclusive set loses them, another one keeps them, whatever we do beside them."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    rules = (
        FILTER + "table ip t { set keep { type ipv4_addr; }; set spans { type ipv4_addr; flags interval; }; }"
    )
    config = """
interfaces:
  - {name: wan0, nftables_zone: wan}
  - {name: wan0, nftables_zone: keep}
  - {name: wan0, nftables_zone: spans}
zones:
  keep: {family: ip, table: t, set4: keep, exclusive: false}
  spans: {family: ip, table: t, set4: spans, exclusive: false, networks: true}
"""
    with running(wan, tmp_path, config, rules) as daemon:
        for words in ("inet filter wan_ips", "ip t keep", "ip t spans"):
            wan.run("nft", f'add element {words} {{ 203.0.113.9 comment "mine" }}')
        daemon.wait_elements("wan_ips", "192.0.2.1", seconds=2)
        daemon.wait_elements("keep", "192.0.2.1", "203.0.113.9", table="ip t")
        ip(wan, "address", "add", "198.51.100.1/24", "dev", "wan0")
        ip(wan, "address", "delete", "192.0.2.1/24", "dev", "wan0")
        daemon.wait_elements("keep", "198.51.100.1", "203.0.113.9", table="ip t")
        daemon.wait_elements("spans", "198.51.100.0/24", "203.0.113.9", table="ip t")
        assert wan.run("nft", "list", "table", "ip", "t").stdout.count('comment "mine"') == 2


def test_a_flushed_ruleset_is_refilled(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        wan.run("nft", "-f", "-", input="flush ruleset\n" + FILTER)
        daemon.wait_elements("wan_ips", "192.0.2.1", seconds=0.5)
        wan.run("nft", "flush", "ruleset")
        wait_for(lambda: daemon.set_status("wan_ips")["state"] == "waiting", "it waits")
        wan.run("nft", "-f", "-", input=FILTER)
        daemon.wait_elements("wan_ips", "192.0.2.1", seconds=0.5)
        assert daemon.set_status("wan_ips")["state"] == "ok"


def test_sets_that_cannot_be_filled_harm_no_other(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    ip(wan, "address", "add", "192.0.2.2/24", "dev", "wan0")
    names = ("good", "type", "timeout", "full", "missing", "spans")
    config = "interfaces:\n" + "".join(f"  - {{name: wan0, nftables_zone: {n}}}\n" for n in names)
    config += "zones:\n  spans: {networks: true}\n"
    rules = """
    table inet filter {
        set good_ips { type ipv4_addr; }
        set type_ips { type inet_service; }
        set timeout_ips { type ipv4_addr; flags timeout; }
        set full_ips { type ipv4_addr; size 1; }
        set spans_ips { type ipv4_addr; }
    }
    """
    with running(wan, tmp_path, config, rules) as daemon:
        states = {one["set"]: one for one in daemon.status()["sets"]}
        assert states["good_ips"]["state"] == "ok"
        assert states["missing_ips"]["state"] == "waiting"
        for name, word in (
            ("type", "ipv4_addr"),
            ("timeout", "time out"),
            ("full", ""),
            ("spans", "interval"),
        ):
            assert states[f"{name}_ips"]["state"] == "error"
            assert word in states[f"{name}_ips"]["error"]
        assert daemon.status()["state"] == "degraded"
        ip(wan, "address", "add", "192.0.2.3/24", "dev", "wan0")
        daemon.wait_elements("good_ips", "192.0.2.1", "192.0.2.2", "192.0.2.3")
        assert daemon.elements("type_ips") == daemon.elements("timeout_ips") == set()
        assert len(daemon.elements("full_ips") or ()) <= 1
        # What was wrong is mended by the administrator: no restart is needed.
        wan.run(
            "nft",
            "delete set inet filter spans_ips;"
            "add set inet filter spans_ips { type ipv4_addr; flags interval; }",
        )
        daemon.wait_elements("spans_ips", "192.0.2.0/24")


def test_a_set_that_is_full_changes_all_the_same(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    rules = "table inet filter { set wan_ips { type ipv4_addr; size 1; }; }"
    with running(wan, tmp_path, WAN, rules) as daemon:
        wan.run(
            "ip",
            "-batch",
            "-",
            input="address replace 192.0.2.2/24 dev wan0\naddress delete 192.0.2.1/24 dev wan0\n",
        )
        shown = wan.run("ip", "-4", "-brief", "address", "show", "dev", "wan0").stdout.split()[2:]
        daemon.wait_elements("wan_ips", *(text.partition("/")[0] for text in shown))
        wait_for(lambda: daemon.set_status("wan_ips")["state"] == "ok", "it is right")


def test_a_table_with_an_owner_is_left_alone(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    owner = wan.spawn("nft", "-i", stdin=-1, stdout=-1)
    assert owner.stdin is not None
    owner.stdin.write(
        "add table inet owned { flags owner; }\nadd set inet owned wan_ips { type ipv4_addr; }\n"
    )
    owner.stdin.flush()
    try:
        wait_for(lambda: elements(wan, "wan_ips", "inet owned") == set(), "the table is there")
        config = WAN + "zones: {wan: {table: owned}}\n"
        with running(wan, tmp_path, config, "") as daemon:
            found = daemon.set_status("wan_ips")
            assert found["state"] == "error"
            assert "owner" in found["error"]
            assert daemon.elements("wan_ips", "inet owned") == set()
    finally:
        owner.kill()
        owner.communicate()


OWN = "own_table: true\n" + WAN


def test_a_table_of_its_own(wan: FakeHost, tmp_path: Path) -> None:
    """It is made, an administrator's chains in it survive a restart, and purge takes it away."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    table = "inet netns_addrset_host"
    with running(wan, tmp_path, OWN, "") as daemon:
        assert daemon.elements("wan_ips", table) == {"192.0.2.1"}
        assert daemon.elements("wan_ips6", table) == set()
        wan.run("nft", f"add chain {table} mine; add rule {table} mine ip saddr @wan_ips drop")
        assert daemon.stop() == 0
        ip(wan, "address", "add", "192.0.2.2/24", "dev", "wan0")
        daemon.start(tmp_path)
        assert daemon.elements("wan_ips", table) == {"192.0.2.1", "192.0.2.2"}
        assert "drop" in wan.run("nft", "list chain", *table.split(), "mine").stdout
        # Prefixes need another kind of set. The rule holds this one: an error, not a lost rule.
        wan.configure("addrset-host.yaml", OWN + "zones: {wan: {networks: true}}\n")
        assert daemon.command("reload", check=False).returncode == 1
        assert daemon.set_status("wan_ips")["state"] == "error"
        wan.run("nft", f"flush chain {table} mine")
        daemon.wait_elements("wan_ips", "192.0.2.0/24", table=table, seconds=8)
        assert daemon.stop() == 0
        left = daemon.command("purge", check=False)
        assert left.returncode == 1
        assert "chain mine" in left.stderr
        wan.run("nft", f"delete chain {table} mine")
        daemon.command("purge")
        assert wan.run("nft", "list", "ruleset").stdout == ""


def test_purge_leaves_what_is_not_ours(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN + "zones: {wan: {exclusive: false}}\n") as daemon:
        wan.run("nft", "add element inet filter wan_ips { 203.0.113.9 }")
        assert daemon.command("purge", check=False).returncode == 1  # it runs
        daemon.stop()
        assert daemon.elements("wan_ips") == {"192.0.2.1", "203.0.113.9"}
        daemon.command("purge")
        assert daemon.elements("wan_ips") == {"203.0.113.9"}


def test_purge_of_a_namespace_that_is_gone(wan: FakeHost) -> None:
    wan.run("ip", "netns", "add", "blue")
    wan.configure("addrset-blue.yaml", OWN)
    blue = AddrSet(wan, "blue")
    blue.command("run", "--once")
    wan.run("ip", "netns", "delete", "blue")
    blue.command("purge")
    assert wan.run("ls", "/run/netns-tools").stdout == "addrset-blue.lock\n"


def test_what_status_says_of_interfaces(wan: FakeHost, tmp_path: Path) -> None:
    """An interface without a zone is shown; one that nobody named is not."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    config = WAN + "  - {name: up*}\n"
    with running(wan, tmp_path, config) as daemon:
        found = {one["name"]: (one["zones"], one["addresses"]) for one in daemon.status()["interfaces"]}
        assert found["uplink"][0] == []
        assert found["wan0"][0] == ["wan"]
        assert "192.0.2.1" in found["wan0"][1]
        assert "far0" not in found
        assert "wan0 (wan): 192.0.2.1" in daemon.command("status").stdout


def test_privacy_addresses(wan: FakeHost, tmp_path: Path) -> None:
    """The kernel makes temporary addresses beside one that says so; only who asks for them has them."""
    wan.run("sysctl", "-qw", "net.ipv6.conf.wan0.use_tempaddr=2")
    config = WAN + "  - {name: wan0, nftables_zone: all}\nzones: {all: {temporary: true}}\n"
    rules = FILTER + "table inet filter { set all_ips6 { type ipv6_addr; }; }"
    with running(wan, tmp_path, config, rules) as daemon:
        ip(wan, "address", "add", "2001:db8::5/64", "dev", "wan0", "mngtmpaddr", "nodad")
        daemon.wait_elements("wan_ips6", "2001:db8::5")
        wait_for(lambda: len(daemon.elements("all_ips6") or ()) == 2, "the temporary one is in")
        assert daemon.elements("wan_ips6") == {"2001:db8::5"}


# Reload, restart, two at once


def test_reload(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    rules = FILTER + "table inet filter { set b_ips { type ipv4_addr; }; }"
    with running(wan, tmp_path, WAN, rules) as daemon:
        assert daemon.process is not None
        before = daemon.status()["pid"]
        wan.run("nft", "add element inet filter b_ips { 203.0.113.9 }")
        wan.configure("addrset-host.yaml", "interfaces:\n  - {name: wan0, nftables_zone: b}\n")
        daemon.command("reload")
        # Applied when it has answered: the zone that left has its set emptied of what was ours.
        assert daemon.elements("wan_ips") == set()
        assert daemon.elements("b_ips") == {"192.0.2.1"}
        wan.configure("addrset-host.yaml", "interfaces:\n  - {name: wan0, nftables_zoen: c}\n")
        refused = daemon.command("reload", check=False)
        assert refused.returncode == 2
        assert "/etc/conf.d/netns/addrset-host.yaml:2:" in refused.stderr
        assert "nftables_zoen" in daemon.status()["reload_error"]
        ip(wan, "address", "add", "192.0.2.2/24", "dev", "wan0")
        daemon.wait_elements("b_ips", "192.0.2.1", "192.0.2.2")
        wan.configure("addrset-host.yaml", WAN)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_elements("wan_ips", "192.0.2.1", "192.0.2.2")
        assert daemon.status()["pid"] == before


def test_a_reload_is_a_reload_though_a_set_cannot_be_filled(wan: FakeHost, tmp_path: Path) -> None:
    """All else of the new configuration is in force, and nothing says otherwise."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        wan.run("nft", "add set inet filter ports_ips { type inet_service; }")
        more = "  - {name: wan0, nftables_zone: ports}\nsocket_path: /run/second.sock\n"
        wan.configure("addrset-host.yaml", WAN + more)
        said = daemon.command("reload", check=False)
        assert said.returncode == 1
        assert "inet filter ports_ips" in said.stderr
        wan.run("test", "-S", "/run/second.sock")
        assert "the old one stays" not in daemon.log.read_text()
        assert daemon.status()["sockets"] == {"/run/second.sock": "listening"}


def test_what_others_do_beside_our_set_slows_nothing_down(wan: FakeHost, tmp_path: Path) -> None:
    """A program that blocks addresses in a set of its own, in the same table."""
    with running(wan, tmp_path, WAN) as daemon:
        wan.run("nft", "add set inet filter blocked { type ipv4_addr; }")
        for number in range(60):
            wan.run("nft", "add", "element", "inet", "filter", "blocked", f"{{ 10.0.0.{number} }}")
        took = []
        for number in range(5):
            wan.run("nft", "add", "element", "inet", "filter", "blocked", f"{{ 10.0.1.{number} }}")
            ip(wan, "address", "add", f"192.0.2.{number}/24", "dev", "wan0")
            wanted = [f"192.0.2.{one}" for one in range(number + 1)]
            took.append(daemon.wait_elements("wan_ips", *wanted))
        assert sorted(took)[2] < 0.15


def test_sockets_that_somebody_removes_come_back(wan: FakeHost, tmp_path: Path) -> None:
    wan.run("nft", "-f", "-", input=FILTER)
    wan.configure("addrset-host.yaml", WAN + "socket_path: /run/second.sock\n")
    daemon = AddrSet(wan)
    try:
        # Looks after itself as often as a service manager wants to hear of it, a quarter of this.
        daemon.start(tmp_path, {"NOTIFY_SOCKET": "/run/no-manager", "WATCHDOG_USEC": "400000"})
        wan.run("rm", "-r", "/run/netns-tools", "/run/second.sock")
        wait_for(daemon.is_up, "the socket is there again")
        wait_for(lambda: wan.run("test", "-S", "/run/second.sock", check=False).returncode == 0, "both are")
        assert wan.run("stat", "-c", "%a", "/run/netns-tools").stdout == "755\n"
        for words in (["run"], ["purge"]):  # though the lock is gone
            second = daemon.command(*words, check=False)
            assert (second.returncode, "runs already" in second.stderr) == (1, True)
        assert daemon.command("run", "--once").stdout == "ok\n"
        assert daemon.is_up()
        assert daemon.stop() == 0
        assert wan.run("ls", "/run/netns-tools", "/run").stdout.count(".sock") == 0
    finally:
        if daemon.process is not None:
            daemon.stop(signal.SIGKILL)


def test_a_full_disk_is_told_and_forgotten(wan: FakeHost, tmp_path: Path) -> None:
    """Sets are kept true all the same; that nobody will know what in them is ours stands in the status."""
    wan.run("mkdir", "/run/netns-tools")
    wan.run("mount", "-t", "tmpfs", "-o", "size=8k,mode=755", "tmpfs", "/run/netns-tools")
    with running(wan, tmp_path, WAN) as daemon:
        fill = "cd /run/netns-tools && rm addrset-host.record && cat /dev/zero > junk"
        wan.run("sh", "-c", fill, check=False)
        ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.1")
        ip(wan, "address", "add", "192.0.2.2/24", "dev", "wan0")
        daemon.wait_elements("wan_ips", "192.0.2.1", "192.0.2.2")
        wait_for(lambda: daemon.status()["record_error"], "it says so")
        assert daemon.status()["state"] == "degraded"
        assert "No space left" in daemon.command("status").stdout
        wan.run("rm", "/run/netns-tools/junk")
        ip(wan, "address", "add", "192.0.2.3/24", "dev", "wan0")
        wait_for(lambda: daemon.status()["state"] == "ok", "it is over")


@isolated
def test_nothing_follows_a_piece_of_a_line_in_the_record() -> None:
    """A full disk cuts a line off; what comes later must not make another address of it."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/mnt"], check=True, timeout=20)
    id = SetId("inet", "filter", "wan_ips")
    live = LiveSet(id, "ipv4_addr", handles=(3, 7))

    def known() -> set[str]:
        record = Record("/mnt/record", 4)
        record.load()
        return set(record.owned(id, live) or ())

    record = Record("/mnt/record", 4)
    record.put(id, (3, 7), frozenset())
    record.add(id, (3, 7), ["192.0.2.1"])
    with pytest.raises(OSError, match="No space left"):
        record.add(id, (3, 7), [f"10.0.{number}.1" for number in range(999)])
    with pytest.raises(OSError, match="No space left"):
        record.add(id, (3, 7), ["192.0.2.2"])
    assert known() == {"192.0.2.1"}
    subprocess.run(["mount", "-o", "remount,size=64k", "/mnt"], check=True, timeout=20)
    record.add(id, (3, 7), ["192.0.2.3"])
    assert known() == {"192.0.2.3"}


def test_a_zone_that_left_while_nobody_looked(wan: FakeHost, tmp_path: Path) -> None:
    """Killed without a word, started with another configuration: what was ours is known and goes."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    rules = FILTER + "table inet filter { set b_ips { type ipv4_addr; }; }"
    with running(wan, tmp_path, WAN, rules) as daemon:
        daemon.stop(signal.SIGKILL)
        wan.run("nft", "add element inet filter wan_ips { 203.0.113.9 }")
        wan.configure("addrset-host.yaml", "interfaces:\n  - {name: wan0, nftables_zone: b}\n")
        daemon.start(tmp_path)
        assert daemon.elements("wan_ips") == {"203.0.113.9"}
        assert daemon.elements("b_ips") == {"192.0.2.1"}


def test_changes_while_it_was_not_there(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        assert daemon.stop() == 0
        assert daemon.elements("wan_ips") == {"192.0.2.1"}  # traffic stays as it is
        ip(wan, "address", "delete", "192.0.2.1/24", "dev", "wan0")
        ip(wan, "address", "add", "192.0.2.7/24", "dev", "wan0")
        wan.run("nft", "add element inet filter wan_ips { 203.0.113.9 }")
        daemon.start(tmp_path)
        assert daemon.elements("wan_ips") == {"192.0.2.7"}


def test_a_second_daemon_does_not_disturb_the_first(wan: FakeHost, tmp_path: Path) -> None:
    with running(wan, tmp_path, WAN) as daemon:
        first = daemon.status()["pid"]
        second = daemon.command("run", check=False)
        assert second.returncode == 1
        assert f"runs already (process {first})" in second.stderr
        assert daemon.status()["pid"] == first


def test_run_once(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    wan.run("nft", "-f", "-", input=FILTER)
    wan.configure("addrset.yaml", WAN)
    command = AddrSet(wan)
    planned = command.command("plan").stdout
    assert planned == "add element inet filter wan_ips { 192.0.2.1 }\n"
    assert command.elements("wan_ips") == set()
    command.command("run", "--once")
    assert command.elements("wan_ips") == {"192.0.2.1"}
    assert command.command("plan").stdout == "# nothing to do\n"
    with running(wan, tmp_path, WAN, "") as daemon:
        before = daemon.status()["counters"]["transactions"]
        daemon.command("run", "--once")
        assert daemon.status()["counters"]["transactions"] == before


@pytest.mark.parametrize("words", [["run", "--once"], ["run"]])
def test_several_at_once(wan: FakeHost, words: list[str]) -> None:
    """Each run --once succeeds, and of many daemons one runs."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    wan.run("nft", "-f", "-", input=FILTER)
    wan.configure("addrset-host.yaml", WAN)
    daemon = AddrSet(wan)
    late = [daemon.spawn("run", "--once") for _ in range(3)]
    started = [daemon.spawn(*words) for _ in range(6)]
    try:
        assert [one.wait(timeout=30) for one in late] == [0, 0, 0]
        if words == ["run"]:
            wait_for(lambda: sum(one.poll() is None for one in started) == 1, "one is left")
            wait_for(lambda: daemon.command("ping", check=False).returncode == 0, "it answers")
        else:
            assert [one.wait(timeout=30) for one in started] == [0] * 6
    finally:
        for one in started + late:
            one.kill()
            one.wait()
    assert daemon.elements("wan_ips") == {"192.0.2.1"}


def test_without_libnftables(wan: FakeHost) -> None:
    wan.configure("addrset-host.yaml", WAN)
    where = "ldconfig -p | sed -n 's/.*libnftables.so.1 .*=> //p'"
    wan.run("sh", "-c", f"for one in $({where}); do mount --bind /dev/null $one; done")
    for words in (["run"], ["run", "--once"], ["plan"]):
        said = AddrSet(wan).command(*words, check=False)
        assert said.returncode == 1
        assert "apt install libnftables1" in said.stderr
        assert "Traceback" not in said.stderr


def test_nobody_else_can_hold_the_lock(wan: FakeHost) -> None:
    wan.run("nft", "-f", "-", input=FILTER)
    wan.configure("addrset-host.yaml", WAN)
    wan.run("install", "-D", "-m", "644", "/dev/null", "/run/netns-tools/addrset-host.lock")
    AddrSet(wan).command("run", "--once")
    assert wan.run("stat", "-c", "%a", "/run/netns-tools/addrset-host.lock").stdout == "600\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_is_closed(wan: FakeHost, closed: str) -> None:
    wan.run("nft", "-f", "-", input=FILTER)
    wan.configure("addrset-host.yaml", WAN)
    said = AddrSet(wan).command("run", "--once", closed=closed)
    assert said.stderr == ""


def test_commands_without_a_daemon(host: FakeHost) -> None:
    command = AddrSet(host)
    for words in (("ping",), ("status",), ("status", "--json"), ("reload",), ("metrics",)):
        done = command.command(*words, check=False)
        assert done.returncode == 1
        assert "systemctl start netns-addrset@host" in done.stderr
    missing = command.command("run", check=False)
    assert missing.returncode == 2
    assert "/etc/conf.d/netns/addrset-host.yaml" in missing.stderr
    assert command.command("run", "--name", "nowhere", check=False).returncode == 2


def test_inside_a_namespace(wan: FakeHost, tmp_path: Path) -> None:
    """Entered by name; the host's own set of that name is not touched, and two daemons do not meet."""
    wan.run("nft", "-f", "-", input=FILTER)
    wan.run("ip", "netns", "add", "blue")
    wan.run("ip", "netns", "exec", "blue", "nft", "-f", "-", input=FILTER)
    ip(wan, "-n", "blue", "link", "add", "wan0", "type", "bridge")
    wan.configure("addrset-blue.yaml", WAN)
    blue = AddrSet(wan, "blue")
    with running(wan, tmp_path, WAN, "") as daemon:
        blue.start(tmp_path)
        try:
            ip(wan, "-n", "blue", "address", "add", "198.51.100.1/24", "dev", "wan0")
            blue.wait_elements("wan_ips", "198.51.100.1")
            assert daemon.elements("wan_ips") == set()
        finally:
            blue.stop()
    refused = AddrSet(wan, "green").command(
        "run", check=False, environment={"NETNS_ADDRSET_CONFIG": "/etc/conf.d/netns/addrset-blue.yaml"}
    )
    assert refused.returncode == 1
    assert "there is no namespace green" in refused.stderr


def test_a_namespace_made_anew_under_an_old_name(wan: FakeHost) -> None:
    """It has the old one's inode, its sets have the old ones' handles; but nothing in it is ours."""
    wan.configure("addrset-blue.yaml", f"zones: {{wan: {{exclusive: no}}}}\n{WAN}")
    blue = AddrSet(wan, "blue")

    def make(address: str, element: str) -> None:
        rules = FILTER.replace("type ipv4_addr;", f"type ipv4_addr; {element}")
        wan.run("ip", "netns", "exec", "blue", "nft", "-f", "-", input=rules)
        ip(wan, "-n", "blue", "link", "add", "wan0", "type", "bridge")
        ip(wan, "-n", "blue", "address", "add", address, "dev", "wan0")
        blue.command("run", "--once")

    def inode() -> str:
        wan.run("ip", "netns", "add", "blue")
        return wan.run("stat", "-c", "%i", "/run/netns/blue").stdout

    def has_the_old_inode() -> bool:
        wan.run("ip", "netns", "del", "blue")  # the kernel gives the number free a little later
        return inode() == old

    old = inode()
    make("192.0.2.1/24", "")
    assert blue.elements("wan_ips") == {"192.0.2.1"}
    # Others may get the number; then this proves less, and what it proves has to hold all the same.
    any(has_the_old_inode() for _ in range(50))
    make("192.0.2.9/24", "elements = { 192.0.2.1 }")
    assert blue.elements("wan_ips") == {"192.0.2.1", "192.0.2.9"}
    blue.command("purge")
    assert blue.elements("wan_ips") == {"192.0.2.1"}


def test_the_environment_names_another_file(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    wan.run("nft", "-f", "-", input=FILTER)
    wan.write("/etc/mine.yaml", WAN)
    command = AddrSet(wan)
    command.command("run", "--once", environment={"NETNS_ADDRSET_CONFIG": "/etc/mine.yaml"})
    assert command.elements("wan_ips") == {"192.0.2.1"}


def test_metrics(wan: FakeHost, tmp_path: Path) -> None:
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        lines = daemon.command("metrics").stdout.splitlines()
        labels = '{zone="wan",family="inet",table="filter",set="wan_ips"}'
        assert f"netns_addrset_set_elements{labels} 1" in lines
        assert f"netns_addrset_set_ok{labels} 1" in lines


# Much at once


def storm(count: int, verb: str) -> str:
    return "".join(
        f"address {verb} 10.{n // 65536}.{n // 256 % 256}.{n % 256}/32 dev wan0\n"
        for n in range(1, count + 1)
    )


def test_a_storm_loses_nothing(wan: FakeHost, tmp_path: Path) -> None:
    """5,000 additions and 5,000 deletions; and once more while the daemon is stopped."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        assert daemon.process is not None
        wan.run("ip", "-batch", "-", input=storm(5000, "add"))
        wait_for(lambda: len(daemon.elements("wan_ips") or ()) == 5001, "all are in", 20)
        wan.run("ip", "-batch", "-", input=storm(5000, "delete"))
        daemon.wait_elements("wan_ips", "192.0.2.1", seconds=20)
        daemon.process.send_signal(signal.SIGSTOP)
        for verb in ("add", "delete", "add", "delete"):
            wan.run("ip", "-batch", "-", input=storm(5000, verb))
        ip(wan, "address", "add", "192.0.2.2/24", "dev", "wan0")
        wan.run("nft", "add element inet filter wan_ips { 203.0.113.9 }")
        daemon.process.send_signal(signal.SIGCONT)
        daemon.wait_elements("wan_ips", "192.0.2.1", "192.0.2.2", seconds=20)


def test_somebody_who_fights_for_a_set(wan: FakeHost, tmp_path: Path) -> None:
    """Two programs that each undo the other do not burn a processor, and the set is right in the end."""
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    with running(wan, tmp_path, WAN) as daemon:
        script = "for i in $(seq 300); do nft add element inet filter wan_ips '{ 203.0.113.9 }'; done"
        wan.run("sh", "-c", script)
        daemon.wait_elements("wan_ips", "192.0.2.1", seconds=2)
        assert daemon.status()["counters"]["transactions"] < 150


@pytest.fixture
def far(wan: FakeHost) -> FakeHost:
    """A host whose other end of wan0 is in a namespace of its own, and can be spoken with."""
    wan.run("ip", "netns", "add", "far")
    ip(wan, "link", "set", "far0", "netns", "far")
    ip(wan, "-n", "far", "address", "add", "192.0.2.254/24", "dev", "far0")
    ip(wan, "-n", "far", "link", "set", "far0", "up")
    ip(wan, "address", "add", "192.0.2.1/24", "dev", "wan0")
    return wan


@pytest.mark.parametrize("flags", ["", "flags interval;"])
def test_no_packet_is_lost_while_a_set_changes(far: FakeHost, tmp_path: Path, flags: str) -> None:
    rules = f"""
    table inet filter {{
        set wan_ips {{ type ipv4_addr; {flags} }}
        chain output {{
            type filter hook output priority 0; policy accept;
            oifname wan0 udp dport 9 ip saddr != @wan_ips counter drop
            oifname wan0 udp dport 9 counter accept
        }}
    }}
    """
    send = (
        "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.bind(('192.0.2.1', 0)); n = 0; end = time.monotonic() + 2\n"
        "while time.monotonic() < end:\n    s.sendto(b'x', ('192.0.2.254', 9)); n += 1\nprint(n)"
    )
    with running(far, tmp_path, WAN, rules) as daemon:
        sender = far.spawn("/usr/bin/python3", "-c", send, stdout=-1)
        before = daemon.status()["counters"]["transactions"]
        for n in range(40):
            ip(far, "address", "add", f"198.51.100.{n + 1}/32", "dev", "wan0")
        sent = int(sender.communicate()[0])
        listed = json.loads(far.run("nft", "-j", "list", "chain", "inet", "filter", "output").stdout)
        counters = [
            one["counter"]["packets"]
            for item in listed["nftables"]
            for one in item.get("rule", {}).get("expr", [])
            if "counter" in one
        ]
        assert counters == [0, sent]
        assert sent > 1000
        assert daemon.status()["counters"]["transactions"] > before + 5
