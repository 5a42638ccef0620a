"""Each type on the real kernel: what a start makes, and that an undo leaves nothing behind."""

from __future__ import annotations

import pytest

from netns_tools.names import device_group
from tests.kernel.conftest import FakeHost

VETH = """
VETH_IFADDR_OUTSIDE="10.9.0.1/24, 2001:db8:9::1/64"
VETH_IFADDR_INSIDE="10.9.0.2/24, 2001:db8:9::2/64"
VETH_GATEWAY="10.9.0.1, 2001:db8:9::1"
"""

MACVLAN = """
MACVLAN_PARENT_IFNAME=uplink
MACVLAN_IFADDR="192.0.2.9/24 broadcast +"
MACVLAN_GATEWAY=192.0.2.1
"""


def undo(host: FakeHost, nstype: str, name: str) -> int:
    """What ExecStopPost= of a link type's outside unit does."""
    group = str(device_group(nstype))
    return host.run("ip", "-n", name, "link", "delete", "group", group, check=False).returncode


def test_veth_connects_both_sides_over_ipv4_and_ipv6(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.start("veth", "demo")
    assert host.addresses("ve-demo0") == {"10.9.0.1/24", "2001:db8:9::1/64"}
    assert host.addresses("ve-demo1", "demo") == {"10.9.0.2/24", "2001:db8:9::2/64"}
    host.run("ping", "-c1", "-W2", "10.9.0.2")
    host.run("ping", "-c1", "-W2", "2001:db8:9::2")
    assert "default via 10.9.0.1 dev ve-demo1" in host.routes("demo")
    assert any(r.startswith("default via 2001:db8:9::1") for r in host.routes("demo", "-6"))
    assert host.links()["ve-demo0"]["ifalias"] == "netns-veth@demo.service"


def test_veth_addresses_are_usable_at_once(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.start("veth", "demo")
    for netns, device in (("", "ve-demo0"), ("demo", "ve-demo1")):
        for address in host.links(netns)[device]["addr_info"]:
            assert "tentative" not in address or address["scope"] == "link"


def test_veth_is_gone_after_its_undo_and_the_namespace_stays(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.start("veth", "demo")
    assert undo(host, "veth", "demo") == 0
    assert set(host.links("demo")) == {"lo"}
    assert "ve-demo0" not in host.links()


def test_a_renamed_device_is_undone_and_a_foreign_one_stays(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.start("veth", "demo")
    host.run("ip", "-n", "demo", "link", "set", "ve-demo1", "down")
    host.run("ip", "-n", "demo", "link", "set", "ve-demo1", "name", "renamed")
    host.run("ip", "-n", "demo", "link", "add", "foreign", "type", "bridge")
    undo(host, "veth", "demo")
    assert set(host.links("demo")) == {"lo", "foreign"}


def test_the_second_start_uses_the_cached_plan_and_an_edit_makes_a_new_one(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.start("veth", "demo")
    undo(host, "veth", "demo")
    host.run(
        "sh",
        "-c",
        "while [ ! -e /var/cache/netns-tools/demo@veth.plan ]; do sleep 0.05;"
        f" {host.netnsinit} veth demo up outside; ip -n demo link delete group {device_group('veth')}; done",
    )
    python_is_broken = host.run(
        "unshare",
        "-m",
        "sh",
        "-c",
        f"mount --bind /bin/false /usr/bin/python3; {host.netnsinit} veth demo up outside",
    )
    assert python_is_broken.returncode == 0
    undo(host, "veth", "demo")
    host.configure("veth-demo.conf", VETH.replace("10.9.0.2", "10.9.0.7"))
    host.start("veth", "demo")
    assert host.addresses("ve-demo1", "demo") == {"10.9.0.7/24", "2001:db8:9::2/64"}


def test_veth_mtu_mac_and_routes(host: FakeHost) -> None:
    host.configure(
        "veth-demo.conf",
        VETH
        + "VETH_MTU=1400\nVETH_MAC_OUTSIDE=02:00:00:00:09:01\nVETH_MAC_INSIDE=02:00:00:00:09:02\n"
        + 'VETH_ROUTES_OUTSIDE="10.77.0.0/16 via 10.9.0.2"\n'
        + 'VETH_ROUTES_INSIDE="198.51.100.0/24 via 10.9.0.1, 2001:db8:77::/48 via 2001:db8:9::1"\n',
    )
    host.start("veth", "demo")
    outside, inside = host.links()["ve-demo0"], host.links("demo")["ve-demo1"]
    assert (outside["mtu"], outside["address"]) == (1400, "02:00:00:00:09:01")
    assert (inside["mtu"], inside["address"]) == (1400, "02:00:00:00:09:02")
    assert "10.77.0.0/16 via 10.9.0.2 dev ve-demo0" in host.routes()
    assert "198.51.100.0/24 via 10.9.0.1 dev ve-demo1" in host.routes("demo")
    assert any(r.startswith("2001:db8:77::/48 via 2001:db8:9::1") for r in host.routes("demo", "-6"))


def test_veth_between_two_namespaces(host: FakeHost) -> None:
    host.configure(
        "veth-demo.yaml",
        "veth_nsname_outside: router\nveth_ifaddr_outside: 10.9.0.1/24\n"
        "veth_ifaddr_inside: [10.9.0.2/24, '2001:db8:9::2/64']\n",
    )
    host.name_up("router")
    host.start("veth", "demo")
    assert "ve-demo0" not in host.links()
    assert host.addresses("ve-demo0", "router") == {"10.9.0.1/24"}
    host.run("ip", "netns", "exec", "router", "ping", "-c1", "-W2", "10.9.0.2")
    undo(host, "veth", "demo")
    assert set(host.links("router")) == {"lo"}


def test_a_foreign_device_of_the_same_name_is_named_and_left_alone(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.run("ip", "link", "add", "ve-demo0", "type", "bridge")
    host.name_up("demo")
    failed = host.step("veth", "demo", "up", "outside", check=False)
    assert failed.returncode == 1
    assert "ve-demo0" in failed.stderr
    assert "left alone" in failed.stderr
    undo(host, "veth", "demo")
    assert host.links()["ve-demo0"]["linkinfo"]["info_kind"] == "bridge"


def test_a_foreign_device_inside_is_left_alone(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.name_up("demo")
    host.run("ip", "-n", "demo", "link", "add", "ve-demo1", "type", "bridge")
    assert host.step("veth", "demo", "up", "outside", check=False).returncode == 1
    undo(host, "veth", "demo")
    assert host.links("demo")["ve-demo1"]["linkinfo"]["info_kind"] == "bridge"


def test_what_a_killed_start_left_is_replaced(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.name_up("demo")
    host.step("veth", "demo", "up", "outside")
    said = host.start("veth", "demo")
    assert "left behind" in said
    host.run("ping", "-c1", "-W2", "10.9.0.2")


@pytest.mark.parametrize("mode", ["private", "vepa", "bridge", "passthru", "source"])
def test_macvlan_modes(host: FakeHost, mode: str) -> None:
    sources = "MACVLAN_SOURCE_MACS='02:00:00:00:00:09, 02:00:00:00:00:0a'\n" if mode == "source" else ""
    host.run("ip", "link", "add", "nic", "type", "veth", "peer", "name", "wire")
    host.run("ip", "link", "set", "nic", "up")
    host.configure("macvlan-demo.conf", MACVLAN.replace("uplink", "nic") + f"MACVLAN_MODE={mode}\n" + sources)
    host.start("macvlan", "demo")
    device = host.links("demo")["eth100"]
    assert device["linkinfo"]["info_data"]["mode"] == mode
    assert "02:00:00:00:00:09" in str(device["linkinfo"]) or mode != "source"
    assert host.addresses("eth100", "demo") == {"192.0.2.9/24"}
    assert device["addr_info"][0]["broadcast"] == "192.0.2.255"
    assert undo(host, "macvlan", "demo") == 0
    assert set(host.links("demo")) == {"lo"}


def test_macvlan_never_shows_its_name_on_the_host(host: FakeHost) -> None:
    host.run("ip", "link", "add", "eth100", "type", "bridge")
    for name in ("one", "two"):
        host.configure(f"macvlan-{name}.conf", MACVLAN)
        host.start("macvlan", name)
    assert host.links()["eth100"]["linkinfo"]["info_kind"] == "bridge"


def test_macvlan_without_its_parent_names_it(host: FakeHost) -> None:
    host.configure("macvlan-demo.conf", MACVLAN.replace("uplink", "absent0"))
    host.name_up("demo")
    failed = host.step("macvlan", "demo", "up", "outside", check=False)
    assert failed.returncode == 1
    assert "absent0" in failed.stderr
    assert "MACVLAN_PARENT_IFNAME" in failed.stderr


def test_lo_comes_up(host: FakeHost) -> None:
    host.start("lo", "demo")
    assert "UP" in host.links("demo")["lo"]["flags"]


def test_inside_steps_refuse_to_run_on_the_host(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.name_up("demo")
    host.step("veth", "demo", "up", "outside")
    failed = host.run(host.netnsinit, "veth", "demo", "up", "inside", check=False)
    assert failed.returncode == 1
    assert "inside the namespace" in failed.stderr


@pytest.mark.parametrize("name", ["a-b-c", "x.y", "n_1"])
def test_names_with_hyphens_dots_and_underscores(host: FakeHost, name: str) -> None:
    host.configure(f"veth-{name}.conf", VETH)
    host.start("veth", name)
    assert f"ve-{name}1" in host.links(name)


@pytest.mark.parametrize("name", ["", "host", "a/b", "-x", ".x", "a b", "a\\x2db", "$(id)", "x" * 65])
def test_impossible_names_are_refused_with_a_reason(host: FakeHost, name: str) -> None:
    failed = host.run(host.netnsinit, "veth", name, "up", "outside", check=False)
    assert failed.returncode == 2
    assert "name" in failed.stderr
    assert host.name_up(name, check=False).returncode == 2
    assert host.namespaces() == []


def test_usage(host: FakeHost) -> None:
    assert host.run(host.netnsinit, "--help").returncode == 0
    short = host.run(host.netnsinit, "veth", "demo", "up", check=False)
    assert short.returncode == 1
    assert "Usage: netnsinit TYPE NAME" in short.stderr


def test_a_namespace_of_somebody_else_is_left_alone(host: FakeHost) -> None:
    host.run("ip", "netns", "add", "demo")
    failed = host.name_up("demo", check=False)
    assert failed.returncode == 1
    assert "exists already" in failed.stderr
    host.name_down("demo")
    assert host.namespaces() == ["demo"]


def test_a_namespace_left_by_a_killed_stop_is_replaced(host: FakeHost) -> None:
    host.name_up("demo")
    host.run("ip", "-n", "demo", "link", "add", "old", "type", "bridge")
    assert "interrupted" in host.name_up("demo").stdout + host.name_up("demo").stderr
    assert set(host.links("demo")) == {"lo"}


def test_nothing_is_left_in_run_after_the_name_is_gone(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.start("veth", "demo")
    host.name_down("demo")
    assert host.namespaces() == []
    assert host.run("cat", "/run/netns-tools/.ours/demo").stdout == ""
