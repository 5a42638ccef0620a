"""Checks across instances: what each file alone cannot tell."""

from __future__ import annotations

import pytest

from netns_tools.check import (
    addresses,
    check_survey,
    devices,
    filenames,
    macs,
    namespaces,
    networkd,
    peers,
    rules,
)
from netns_tools.check.survey import Finding, Machine, NetworkFile, Survey

from .conftest import Surveyor, macvlan, veth

VE_NETWORK = "[Match]\nKind=veth\nName=ve-*\n# Driver=x\n\n[Network]\nDHCPServer=yes\n"


def texts(findings: list[Finding]) -> list[str]:
    """Findings as 'FILE:LINE MESSAGE', without directories."""
    return [
        f"{one.problem.path.rpartition('/')[2]}:{one.problem.line} "
        + " ".join(word.rpartition("/conf.d/netns/")[2] for word in one.problem.message.split(" "))
        for one in findings
    ]


def test_nothing_is_wrong(survey: Surveyor) -> None:
    found = survey(
        {
            "veth-a.conf": veth("10.1.0"),
            "veth-b.conf": veth("10.2.0"),
            "macvlan-a.conf": macvlan("192.168.1.9/24"),
            "macvlan-b.conf": macvlan("192.168.1.10/24"),
        }
    )
    assert check_survey(found) == []
    assert check_survey(Survey("/none")) == []


# Addresses


def test_address_of_another_instance(survey: Surveyor) -> None:
    found = addresses.check(
        survey({"veth-a.conf": veth("10.1.0"), "macvlan-b.conf": macvlan("'10.9.0.1/24, 10.1.0.2/16'")})
    )
    assert texts(found) == [
        "veth-a.conf:2 address 10.1.0.2/24 is used twice: in VETH_IFADDR_INSIDE of veth@a "
        "and in macvlan-b.conf:1 (MACVLAN_IFADDR of macvlan@b)"
    ]
    assert sorted(found[0].keys) == [("macvlan", "b"), ("veth", "a")]


@pytest.mark.parametrize("other", ["2001:DB8:0::1/64", "2001:db8::1"])
def test_one_address_written_in_two_ways(survey: Surveyor, other: str) -> None:
    files = {"macvlan-a.conf": macvlan("2001:db8::1/64"), "macvlan-b.conf": macvlan(f"'{other} nodad'")}
    assert len(addresses.check(survey(files))) == 1


def test_the_caret_stands_under_the_address(survey: Surveyor) -> None:
    files = {
        "macvlan-a.conf": macvlan("10.1.0.1/24"),
        "macvlan-b.conf": macvlan("'10.2.0.1/24, 10.1.0.1/24'"),
    }
    (found,) = addresses.check(survey(files))
    assert found.problem.text == "MACVLAN_IFADDR='10.2.0.1/24, 10.1.0.1/24'"
    assert found.problem.text[found.problem.column - 1 :][: found.problem.width] == "10.1.0.1/24"


def test_one_line_for_several_instances(survey: Surveyor) -> None:
    files = {"macvlan.conf": macvlan("10.1.0.1/24"), "macvlan-a.conf": "", "macvlan-b.yaml": "{}"}
    (found,) = addresses.check(survey(files))
    assert texts([found]) == [
        "macvlan.conf:1 address 10.1.0.1/24 is used by 2 instances: macvlan@a, macvlan@b"
    ]
    assert "set MACVLAN_IFADDR in macvlan-NAME.conf" in found.problem.hint


def test_link_local_addresses_belong_to_their_link(survey: Surveyor) -> None:
    files = {"macvlan-a.conf": macvlan("fe80::1/64"), "macvlan-b.conf": macvlan("fe80::1/64")}
    assert addresses.check(survey(files)) == []


def test_address_of_the_host(survey: Surveyor) -> None:
    files = {"default.conf": "HOST_ADDR=192.168.1.1/24\n", "macvlan-a.conf": macvlan("192.168.1.1/24")}
    assert texts(addresses.check(survey(files))) == [
        "macvlan-a.conf:1 address 192.168.1.1/24 is the host's own: MACVLAN_IFADDR of macvlan@a "
        "and HOST_ADDR in default.conf:1"
    ]


def test_overlapping_networks_of_the_host(survey: Surveyor) -> None:
    files = {
        "veth-a.conf": "VETH_IFADDR_OUTSIDE=10.0.0.1/8\nVETH_IFADDR_INSIDE=10.0.0.2/8\n",
        "veth-b.conf": veth("10.3.0"),
        "veth-c.conf": veth("11.3.0"),
        "veth-d.conf": veth("10.4.0", "VETH_NSNAME_OUTSIDE=b\n"),
    }
    found = addresses.check(survey(files))
    assert texts(found) == [
        "veth-b.conf:1 network 10.3.0.0/24 of veth@b overlaps network 10.0.0.0/8: "
        "veth-a.conf:1 (VETH_IFADDR_OUTSIDE of veth@a)"
    ]
    assert found[0].problem.severity == "warning"


def test_addresses_with_errors_are_not_compared(survey: Surveyor) -> None:
    assert (
        addresses.check(
            survey({"macvlan-a.conf": macvlan("10.0.0/24"), "macvlan-b.conf": macvlan("10.0.0/24")})
        )
        == []
    )


# Devices and MAC addresses


def test_device_name_of_another_instance(survey: Surveyor) -> None:
    files = {"veth-a.conf": veth("10.1.0"), "veth-b.conf": veth("10.2.0", "VETH_IFNAME_OUTSIDE=ve-a0\n")}
    (found,) = devices.check(survey(files))
    assert texts([found])[0].startswith(
        "veth-b.conf:3 device name (on the host) ve-a0 is used twice: in VETH_IFNAME_OUTSIDE of veth@b and "
    )
    assert found.problem.message.endswith("(VETH_IFNAME_OUTSIDE of veth@a)")


def test_the_same_name_in_two_namespaces_is_fine(survey: Surveyor) -> None:
    files = {
        "veth-a.conf": veth("10.1.0", "VETH_IFNAME_INSIDE=eth0\n"),
        "veth-b.conf": veth("10.2.0", "VETH_IFNAME_INSIDE=eth0\n"),
    }
    assert devices.check(survey(files)) == []


def test_two_types_in_one_namespace(survey: Surveyor) -> None:
    files = {
        "veth-a.conf": veth("10.1.0", "VETH_IFNAME_INSIDE=eth0\n"),
        "macvlan-a.conf": macvlan("10.2.0.1/24", "MACVLAN_IFNAME=eth0\n"),
    }
    (found,) = devices.check(survey(files))
    assert "device name (in namespace a) eth0 is used twice" in found.problem.message


def test_the_other_end_is_in_another_namespace(survey: Surveyor) -> None:
    files = {
        "veth-a.conf": veth("10.1.0", "VETH_NSNAME_OUTSIDE=b\nVETH_IFNAME_OUTSIDE=eth0\n"),
        "veth-c.conf": veth("10.2.0", "VETH_IFNAME_OUTSIDE=eth0\n"),
        "macvlan-b.conf": macvlan("10.3.0.1/24", "MACVLAN_IFNAME=eth0\n"),
    }
    (found,) = devices.check(survey(files))
    assert "device name (in namespace b) eth0" in found.problem.message


def test_devices_of_own_commands(survey: Surveyor) -> None:
    own = (
        "summary: x\noptions:\n  VX_IFNAME: {kind: ifname, required: true, help: x, example: vx0}\n"
        "steps:\n  up_outside: ['ip link add {VX_IFNAME} type vxlan id 1']\n"
    )
    (found,) = devices.check(
        survey({"vx.yaml": own, "vx-a.conf": "VX_IFNAME=vx0\n", "vx-b.conf": "VX_IFNAME=vx0\n"})
    )
    assert "device name (on the host) vx0 is used twice" in found.problem.message


def test_a_device_that_the_host_has_already(survey: Surveyor) -> None:
    found = survey({"veth-a.conf": veth("10.1.0")})
    found.machine = Machine(devices={"lo", "ve-a0"})
    assert "a device ve-a0 exists on this host already" in devices.check(found)[0].problem.message
    found.instances[0].state = "active"
    assert devices.check(found) == []


def test_a_parent_that_is_missing(survey: Surveyor) -> None:
    found = survey({"macvlan-a.conf": macvlan("10.1.0.1/24", "MACVLAN_PARENT_IFNAME=eno1\n")})
    assert devices.check(found) == []  # another system's root
    found.machine = Machine(devices={"lo", "eth0"})
    (problem,) = (one.problem for one in devices.check(found))
    assert "macvlan@a needs device eno1 (MACVLAN_PARENT_IFNAME)" in problem.message
    assert "devices are: eth0" in problem.hint
    assert problem.line == 2


def test_a_parent_that_another_instance_makes(survey: Surveyor) -> None:
    files = {
        "macvlan-a.conf": macvlan("10.1.0.1/24", "MACVLAN_PARENT_IFNAME=ve-b0\n"),
        "veth-b.conf": veth("10.2.0"),
    }
    found = survey(files)
    found.machine = Machine(devices={"lo"})
    assert devices.check(found) == []


def test_macs(survey: Surveyor) -> None:
    files = {
        "veth-a.conf": veth("10.1.0", "VETH_MAC_INSIDE=02:00:00:00:00:AA\n"),
        "macvlan-b.conf": macvlan("10.2.0.1/24", "MACVLAN_MAC=02:00:00:00:00:aa\n"),
    }
    (found,) = macs.check(survey(files))
    assert "MAC address 02:00:00:00:00:AA is used twice" in found.problem.message


# Other namespaces


def test_a_namespace_that_nothing_is_configured_for(survey: Surveyor) -> None:
    files = {
        "veth-a.conf": veth("10.1.0", "VETH_NSNAME_OUTSIDE=rooter\n"),
        "veth-router.conf": veth("10.2.0"),
    }
    (found,) = peers.check(survey(files))
    assert texts([found]) == [
        "veth-a.conf:3 VETH_NSNAME_OUTSIDE of veth@a names 'rooter', for which no type is configured"
    ]
    assert found.problem.hint == "did you mean 'router'?"


def test_two_that_name_each_other(survey: Surveyor) -> None:
    files = {
        "veth-a.conf": veth("10.1.0", "VETH_NSNAME_OUTSIDE=b\n"),
        "veth-b.conf": veth("10.2.0", "VETH_NSNAME_OUTSIDE=a\n"),
        "veth-c.conf": veth("10.3.0", "VETH_NSNAME_OUTSIDE=a\n"),
    }
    assert texts(peers.check(survey(files))) == [
        "veth-a.conf:3 veth@a and veth@b name each other: here and in veth-b.conf:3"
    ]


def test_a_foreign_namespace(survey: Surveyor) -> None:
    found = survey({"veth-a.conf": veth("10.1.0"), "veth-b.conf": veth("10.2.0")})
    found.machine = Machine(namespaces={"a", "b", "docker"}, ours={"b"})
    assert [one.keys for one in namespaces.check(found)] == [[("veth", "a")]]


# systemd-networkd


def networkd_survey(survey: Surveyor, *files: NetworkFile, more: str = "") -> list[Finding]:
    found = survey({"veth-a.conf": veth("10.1.0", more)})
    found.machine = Machine(networkd=True, network_files=list(files))
    return networkd.check(found)


SHIPPED = NetworkFile("/usr/lib/systemd/network/80-container-ve.network", VE_NETWORK)


def test_networkd_takes_ve_devices(survey: Surveyor) -> None:
    (found,) = networkd_survey(survey, SHIPPED)
    assert (
        "systemd-networkd manages ve-a0 by /usr/lib/systemd/network/80-container-ve.network"
        in found.problem.message
    )
    assert "/etc/systemd/network/79-netns-tools.network" in found.problem.hint
    assert "VETH_IFNAME" in found.problem.hint


@pytest.mark.parametrize("more", ["VETH_IFNAME=vn-\n", "VETH_NSNAME_OUTSIDE=b\n"])
def test_networkd_leaves_others_alone(survey: Surveyor, more: str) -> None:
    assert networkd_survey(survey, SHIPPED, more=more) == []


@pytest.mark.parametrize(
    "text", ["[Match]\nName=ve-*\n[Link]\nUnmanaged=yes\n", "[Match]\nName=eth0 ve-a?\n[Network]\nDHCP=no\n"]
)
def test_the_administrator_has_decided(survey: Surveyor, text: str) -> None:
    assert networkd_survey(survey, NetworkFile("/etc/systemd/network/79-x.network", text), SHIPPED) == []


def test_a_file_that_matches_something_else(survey: Surveyor) -> None:
    other = NetworkFile("/etc/systemd/network/10-x.network", "[Match]\nName=!ve-*\n[Link]\nUnmanaged=yes\n")
    assert len(networkd_survey(survey, other, SHIPPED)) == 1


def test_networkd_does_not_run(survey: Surveyor) -> None:
    found = survey({"veth-a.conf": veth("10.1.0")})
    found.machine = Machine(network_files=[SHIPPED])
    assert networkd.check(found) == []


# Files


def test_file_names_of_every_type_are_fine() -> None:
    names = [
        "default.conf",
        "default.yaml",
        "veth.conf",
        "veth-a.yaml",
        "veth-my-site.conf",
        "nft.rules",
        "nft-a.rules",
        "own.sh",
    ]
    assert filenames.check(Survey("/c", {"veth", "nft", "own"}, names)) == []


@pytest.mark.parametrize(
    "name",
    ["veth-.conf", "veth-a b.conf", "own-a.sh", "veth-a.rules", "zzz.conf", "-a.conf", ".conf.rules"[1:]],
)
def test_file_names_that_nothing_reads(name: str) -> None:
    (found,) = filenames.check(Survey("/c", {"veth", "nft", "own"}, [name]))
    assert found.problem.path == f"/c/{name}"
    assert "so nothing reads this file" in found.problem.message
    assert found.problem.hint


def test_rules_with_flush_after_a_comment() -> None:
    text = "#!/usr/sbin/nft -f\n# flush ruleset\n  flush  ruleset # all\n"
    assert rules.check(Survey("/c", rules={"/c/nft-a.rules": text})) == []
    (found,) = rules.check(Survey("/c", rules={"/c/nft-a.rules": "# flush ruleset\n"}))
    assert found.problem.severity == "info"
