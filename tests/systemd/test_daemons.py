"""The unit of a daemon: its sandbox lets it do its work and nothing else, and systemd looks after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine import Machine

CONFIG = "own_table: yes\ninterfaces:\n  - {name: 've*', nftables_zone: wan}\n"
VETH = "VETH_IFADDR_OUTSIDE=10.9.0.1/24\nVETH_IFADDR_INSIDE=10.9.0.2/24\n"
CAP_NET_ADMIN = 1 << 12


@pytest.fixture
def addrset(machine: Machine, nothing_left: None) -> Iterator[Machine]:
    """A machine with a configuration for every NAME; what a daemon leaves on purpose is removed."""
    machine.write("/etc/conf.d/netns/addrset.yaml", CONFIG)
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.run("netns-update")
    yield machine
    machine.run("systemctl stop 'netns-*@*.service'; rm -rf /etc/systemd/system/netns-addrset@.service.d")
    machine.run("netns-addrset purge; rm -f /run/netns-tools/addrset-*", check=False)
    machine.run("systemctl daemon-reload")


def adjust(machine: Machine, text: str) -> None:
    """As ``systemctl edit netns-addrset@.service`` would."""
    machine.write("/etc/systemd/system/netns-addrset@.service.d/test.conf", f"[Service]\n{text}\n")
    machine.run("systemctl daemon-reload")


def process(machine: Machine, name: str) -> str:
    return machine.run(f"systemctl show -P MainPID netns-addrset@{name}").stdout.strip()


def filled(machine: Machine, name: str, address: str) -> None:
    """Wait until the set of NAME has this address."""
    inside = "" if name == "host" else f"ip netns exec {name} "
    machine.wait_for(f"{inside}nft list set inet netns_addrset_{name} wan_ips | grep -qF {address}")


def test_it_works_in_its_sandbox_in_a_namespace_and_on_the_host(addrset: Machine) -> None:
    addrset.run("systemctl start netns-veth@demo netns-addrset@host netns-addrset@demo")
    for name, address in (("host", "10.9.0.1"), ("demo", "10.9.0.2")):
        filled(addrset, name, address)
        assert addrset.run(f"netns-addrset ping --name {name}").stdout == "pong\n"
        addrset.run(f"systemctl reload netns-addrset@{name}")
        assert addrset.run(f"stat -c %a:%U /run/netns-tools/addrset-{name}.sock").stdout == "660:root\n"
    addrset.run("ip address add 10.9.0.7/24 dev ve-demo0")
    filled(addrset, "host", "10.9.0.7")


@pytest.mark.parametrize("name", ["host", "demo"])
def test_it_has_no_right_but_one(addrset: Machine, name: str) -> None:
    addrset.run(f"systemctl start netns-addrset@{name}")
    status = addrset.read(f"/proc/{process(addrset, name)}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(fields[kind], 16) == CAP_NET_ADMIN
    assert int(fields["CapInh"], 16) | CAP_NET_ADMIN == CAP_NET_ADMIN  # systemd 257 sets it
    assert int(fields["CapAmb"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    said = addrset.run(
        ["systemd-analyze", "security", "--no-pager", "--threshold=25", f"netns-addrset@{name}"]
    )
    assert "Overall exposure level" in said.stdout
    # Within its own mounts: nothing but /run can be written.
    written = addrset.run(
        f"nsenter -t {process(addrset, name)} -m -r touch /etc/x /usr/x /var/x /run/x; rm -f /run/x",
        check=False,
    ).stderr
    assert [f"'{path}': Read-only file system" in written for path in ("/etc/x", "/usr/x", "/var/x")] == [
        True
    ] * 3
    assert "/run/x" not in written


def test_its_mounts_keep_no_namespace(addrset: Machine) -> None:
    """A namespace that goes is gone, though the daemon has a copy of /run/netns."""
    addrset.run("systemctl start netns-addrset@host netns-veth@demo")
    addrset.run("ip link add marker type veth peer name marker1 netns demo")
    addrset.run("systemctl stop netns-veth@demo")
    addrset.wait_for("! ip link show marker 2>/dev/null && ! test -e /run/netns/demo")


def test_a_killed_daemon_comes_back_and_its_namespace_stays(addrset: Machine) -> None:
    addrset.run("systemctl start netns-addrset@demo")
    before = addrset.run("stat -c %i /run/netns/demo").stdout
    addrset.run(f"kill -9 {process(addrset, 'demo')}")
    addrset.wait_for("netns-addrset ping --name demo")
    assert addrset.run("stat -c %i /run/netns/demo").stdout == before
    assert addrset.run("systemctl show -P NRestarts netns-addrset@demo").stdout == "1\n"
    addrset.run("systemctl stop netns-addrset@demo")
    addrset.wait_for("! test -e /run/netns/demo")


def test_a_daemon_that_hangs_is_started_anew(addrset: Machine) -> None:
    adjust(addrset, "WatchdogSec=2s")
    addrset.run("systemctl start netns-addrset@demo")
    addrset.run(f"kill -STOP {process(addrset, 'demo')}")
    addrset.wait_for("[ $(systemctl show -P NRestarts netns-addrset@demo) = 1 ]", timeout=20)
    addrset.wait_for("netns-addrset ping --name demo")


def test_a_refused_configuration_leaves_nothing(addrset: Machine) -> None:
    addrset.write("/etc/conf.d/netns/addrset-demo.yaml", "interfaces: 7\n")
    assert addrset.run("systemctl start netns-addrset@demo", check=False).returncode != 0
    assert "addrset-demo.yaml:1:13: error:" in addrset.journal("netns-addrset@demo")
    addrset.wait_for("! test -e /run/netns/demo && ! systemctl is-active -q netns_name@demo")
    assert addrset.run("systemctl show -P ActiveState,NRestarts netns-addrset@demo").stdout.split() == [
        "0",
        "failed",
    ]


def test_a_reload_with_a_mistake_says_so_and_changes_nothing(addrset: Machine) -> None:
    addrset.run("systemctl start netns-addrset@demo")
    before = process(addrset, "demo")
    addrset.write("/etc/conf.d/netns/addrset-demo.yaml", "interfaces: 7\n")
    assert addrset.run("systemctl reload netns-addrset@demo", check=False).returncode != 0
    assert process(addrset, "demo") == before
    assert addrset.run("systemctl is-active netns-addrset@demo").stdout == "active\n"
    addrset.write("/etc/conf.d/netns/addrset-demo.yaml", CONFIG)
    addrset.run("systemctl reload netns-addrset@demo")


def test_the_namespace_stays_as_long_as_its_daemon(addrset: Machine) -> None:
    addrset.run("systemctl start netns-veth@demo netns-addrset@demo")
    addrset.run("systemctl stop netns-veth@demo")
    addrset.run("ip netns exec demo true && systemctl is-active netns-addrset@demo")
    addrset.run("systemctl stop netns-addrset@demo")
    addrset.wait_for("! test -e /run/netns/demo")


def test_a_type_of_ones_own_in_its_place_waits_until_it_is_stopped(addrset: Machine) -> None:
    addrset.run("systemctl start netns-addrset@host")
    addrset.write("/etc/conf.d/netns/addrset.sh", "configure_addrset_up_inside() { :; }\n")
    said = addrset.run("netns-update", check=False)
    assert "systemctl stop netns-addrset@host.service, then run netns-update again" in said.stderr
    addrset.run("netns-addrset ping && systemctl stop netns-addrset@host")
    addrset.run("rm /etc/conf.d/netns/addrset.yaml; netns-update")
    addrset.run("! test -e /etc/systemd/system/netns-addrset@host.service")
    addrset.run("rm /etc/conf.d/netns/addrset.sh; netns-update")
