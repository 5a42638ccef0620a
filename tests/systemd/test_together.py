"""Several types on one namespace, and namespaces that depend on each other."""

from __future__ import annotations

import itertools

import pytest

from tests.machine import Machine
from tests.systemd.test_contract import gone

VETH = "VETH_IFADDR_OUTSIDE=10.9.0.1/24\nVETH_IFADDR_INSIDE=10.9.0.2/24\nVETH_GATEWAY=10.9.0.1\n"
OPEN = "table inet filter { chain input { type filter hook input priority 0; policy accept; }; }\n"


def states(machine: Machine, name: str) -> dict[str, str]:
    """The state of each unit of a namespace."""
    listed = machine.run(f"systemctl list-units --all --plain --no-legend 'netns*@{name}.service'").stdout
    return {line.split()[0].partition("@")[0]: line.split()[2] for line in listed.splitlines()}


@pytest.mark.parametrize("order", list(itertools.permutations(["veth", "nft", "lo"])), ids="-".join)
def test_any_order_of_start_and_stop(machine: Machine, order: tuple[str, ...]) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.run("netns-update")
    for nstype in order:
        machine.run(f"systemctl start netns-{nstype}@demo")
    machine.run("ping -c1 -W2 10.9.0.2 && ip netns exec demo nft list table inet filter")
    for stopped, nstype in enumerate(order, 1):
        machine.run(f"systemctl stop netns-{nstype}@demo")
        left = set(order[stopped:])
        if "lo" not in left:
            left.discard("nft")  # the firewall requires loopback, and stops with it
        machine.wait_for(f"! systemctl is-active -q netns_outside-{nstype}@demo")
        if "veth" in left:
            machine.run("ping -c1 -W2 10.9.0.2")
        for other in left - {"lo"}:
            assert machine.run(f"systemctl is-active netns-{other}@demo").stdout == "active\n"
    gone(machine, "demo")


def test_loopback_leaves_with_the_firewall_that_pulled_it_in(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.run("netns-update; systemctl start netns-nft@demo")
    machine.run(
        "systemctl is-active netns-lo@demo && systemctl restart netns-nft@demo"
        " && systemctl is-active netns-lo@demo"
    )
    machine.run("systemctl stop netns-nft@demo")
    gone(machine, "demo")


def test_loopback_leaves_when_the_firewall_does_not_even_get_a_plan(machine: Machine) -> None:
    machine.run("rm -f /etc/conf.d/netns/nft.rules; netns-update")
    failed = machine.run("systemctl start netns-nft@demo", check=False)
    assert failed.returncode != 0
    assert "canceled" not in failed.stderr
    assert "no firewall rules" in machine.journal("netns_outside-nft@demo")
    gone(machine, "demo")


def test_loopback_that_a_user_started_stays(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.run("netns-update; systemctl start netns-lo@demo; systemctl start netns-nft@demo")
    machine.run("systemctl stop netns-nft@demo")
    machine.wait_for("! systemctl is-active -q netns_outside-nft@demo")
    machine.run("systemctl is-active netns-lo@demo")


def test_loopback_that_another_unit_needs_stays(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.write(
        "/etc/systemd/system/needs-lo.service",
        "[Unit]\nRequires=netns-lo@demo.service\n[Service]\nExecStart=/bin/sleep 1000\n",
    )
    machine.run(
        "netns-update --daemon-reload; systemctl start netns-nft@demo needs-lo; systemctl stop netns-nft@demo"
    )
    machine.wait_for("! systemctl is-active -q netns_outside-nft@demo")
    machine.run("systemctl is-active needs-lo netns-lo@demo")
    machine.run("systemctl stop needs-lo; rm /etc/systemd/system/needs-lo.service; systemctl daemon-reload")


def test_a_firewall_that_cannot_be_loaded_leaves_nothing_reachable(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.write("/etc/conf.d/netns/nft-demo.rules", "this is no ruleset\n")
    machine.run("netns-update")
    assert machine.run("systemctl start netns-veth@demo netns-nft@demo", check=False).returncode != 0
    assert machine.run("ping -c1 -W1 10.9.0.2", check=False).returncode != 0
    assert "nft-demo.rules:1" in machine.journal("netns-nft@demo")


@pytest.mark.parametrize("fault", ["missing", "writable by the group"])
def test_rules_that_are_missing_or_not_trusted_leave_nothing_reachable(machine: Machine, fault: str) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.run("rm -f /etc/conf.d/netns/nft.rules")
    if fault != "missing":
        machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN, mode=0o664)
    machine.run("netns-update", check=False)
    assert machine.run("systemctl start netns-nft@demo netns-veth@demo", check=False).returncode != 0
    assert machine.run("ping -c1 -W1 10.9.0.2", check=False).returncode != 0
    gone(machine, "demo")


def test_a_firewall_that_lacks_what_it_requires_leaves_nothing_reachable(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.write("/etc/conf.d/netns/lo-demo.yaml", "no_such_option: 1\n")
    machine.run("netns-update", check=False)
    assert machine.run("systemctl start netns-nft@demo netns-veth@demo", check=False).returncode != 0
    assert machine.run("ping -c1 -W1 10.9.0.2", check=False).returncode != 0
    gone(machine, "demo")


def test_a_bash_type_may_take_the_place_of_the_firewall(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.write(
        "/etc/conf.d/netns/nft.sh",
        "NO_CONFIG_REQUIRED=1\nconfigure_nft_up_inside() { nft add table inet own; }\n",
    )
    machine.run("netns-update; systemctl start netns-nft@demo netns-veth@demo; ping -c1 -W2 10.9.0.2")
    machine.run("ip netns exec demo nft list table inet own")


def test_rules_no_longer_trusted_close_a_running_namespace(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.run("netns-update; systemctl start netns-nft@demo netns-veth@demo; ping -c1 -W2 10.9.0.2")
    machine.run("chmod g+w /etc/conf.d/netns/nft-demo.rules; systemctl restart netns-nft@demo", check=False)
    assert machine.run("ping -c1 -W1 10.9.0.2", check=False).returncode != 0
    machine.run("systemctl stop netns-veth@demo; systemctl reset-failed 'netns*@demo.service'")
    gone(machine, "demo")


def test_a_failed_restart_of_the_firewall_alone_leaves_nothing(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.run("netns-update")
    for _ in range(4):
        machine.run("chmod 644 /etc/conf.d/netns/nft-demo.rules; systemctl start netns-nft@demo")
        machine.run(
            "chmod g+w /etc/conf.d/netns/nft-demo.rules; systemctl restart netns-nft@demo", check=False
        )
        gone(machine, "demo")


def test_a_reserved_name_leaves_nothing(machine: Machine) -> None:
    machine.run("netns-update")
    assert machine.run("systemctl start netns-lo@host", check=False).returncode != 0
    assert "host's own namespace" in machine.journal("netns_name@host")
    machine.run("test ! -e /run/netns-tools/host")


def test_rules_are_there_before_a_link_is_up(machine: Machine) -> None:
    """A ruleset that is slow to load: the link waits for it."""
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    elements = ", ".join(f"10.{a}.{b}.{c}" for a in range(2) for b in range(200) for c in range(100))
    machine.write(
        "/etc/conf.d/netns/nft-demo.rules",
        f"table inet filter {{ set s {{ type ipv4_addr; elements = {{ {elements} }}; }}; }}\n",
    )
    machine.run("netns-update; systemctl start netns-veth@demo netns-nft@demo")
    loaded, up = (
        int(machine.run(f"systemctl show -P {stamp} {unit}").stdout)
        for stamp, unit in (
            ("ActiveEnterTimestampMonotonic", "netns-nft@demo"),
            ("InactiveExitTimestampMonotonic", "netns_outside-veth@demo"),
        )
    )
    assert loaded <= up


def test_saved_rules_come_back_exactly(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.run("netns-update; systemctl start netns-nft@demo")
    live = """
    add set inet filter friends { type ipv4_addr; flags interval
        elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.9 } }
    add map inet filter ports { type inet_service : verdict; elements = { 22 : accept, 80 : drop } }
    add counter inet filter hits { packets 7 bytes 420 }
    add rule inet filter input ip saddr @friends counter packets 3 bytes 99 tcp dport vmap @ports
    add rule inet filter input counter name "hits" accept
    """
    machine.run(["ip", "netns", "exec", "demo", "nft", "-f", "-"], stdin=live)
    rules = machine.run("ip netns exec demo nft list ruleset").stdout
    assert "Successfully saved nftables ruleset for 'demo'" in machine.run("netns-nft-save demo").stdout
    assert machine.run("stat -c '%U:%G %a' /etc/conf.d/netns/nft-demo.rules").stdout == "root:root 644\n"
    for how in ("restart", "stop", "start", "restart"):
        machine.run(f"systemctl {how} netns-nft@demo")
        if how == "stop":
            gone(machine, "demo")
        else:
            assert machine.run("ip netns exec demo nft list ruleset").stdout == rules


def test_auto_save_keeps_what_was_added_at_run_time(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.write("/etc/conf.d/netns/nft-demo.conf", "NFT_AUTO_SAVE=yes\n")
    machine.run("netns-update; systemctl start netns-nft@demo; ip netns exec demo nft add table inet added")
    machine.run("systemctl stop netns-nft@demo")
    gone(machine, "demo")
    machine.run("systemctl start netns-nft@demo; ip netns exec demo nft list table inet added")


def test_stopping_the_firewall_keeps_its_rules_while_the_namespace_lives(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN.replace("policy accept", "policy drop"))
    machine.run("netns-update; systemctl start netns-veth@demo netns-nft@demo; systemctl stop netns-nft@demo")
    assert machine.run("ping -c1 -W1 10.9.0.2", check=False).returncode != 0


def test_the_other_end_in_another_namespace(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH + "VETH_NSNAME_OUTSIDE=router\n")
    machine.run("netns-update; systemctl start netns-veth@demo")
    machine.run("ip netns exec router ping -c1 -W2 10.9.0.2")
    machine.run("systemctl stop netns-veth@demo")
    gone(machine, "demo")
    gone(machine, "router")


def test_a_failure_in_the_other_namespace_leaves_nothing(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH + "VETH_NSNAME_OUTSIDE=theirs\n")
    machine.run("netns-update; ip netns add theirs")
    try:
        assert machine.run("systemctl start netns-veth@demo", check=False).returncode != 0
        gone(machine, "demo")
        machine.run("ip netns exec theirs true")
    finally:
        machine.run("ip netns delete theirs")


def test_two_namespaces_that_name_each_other(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-one.conf", VETH + "VETH_NSNAME_OUTSIDE=two\n")
    machine.write(
        "/etc/conf.d/netns/veth-two.conf", VETH.replace("10.9", "10.8") + "VETH_NSNAME_OUTSIDE=one\n"
    )
    for name in ("one", "two"):
        machine.write(f"/etc/conf.d/netns/nft-{name}.rules", OPEN)
    machine.run("netns-update; systemctl start netns-veth@one netns-veth@two netns-nft@one netns-nft@two")
    machine.run("ip netns exec two ping -c1 -W2 10.9.0.2; ip netns exec one ping -c1 -W2 10.8.0.2")
    assert (
        "ordering cycle" not in machine.run("journalctl -b -q --no-pager | grep -i cycle", check=False).stdout
    )


def test_a_foreign_device_of_the_same_name_survives(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.run("netns-update; ip link add ve-demo0 type bridge")
    try:
        assert machine.run("systemctl start netns-veth@demo", check=False).returncode != 0
        gone(machine, "demo")
        assert "left alone" in machine.journal("netns_outside-veth@demo")
        assert "bridge" in machine.run("ip -d link show ve-demo0").stdout
    finally:
        machine.run("ip link delete ve-demo0")


def test_a_namespace_that_took_the_place_of_ours_survives(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.run("netns-update; systemctl start netns-veth@demo; ip netns delete demo; ip netns add demo")
    machine.run("ip -n demo link add theirs type bridge")
    try:
        machine.run("systemctl stop netns-veth@demo")
        machine.wait_for("! test -e /run/netns-tools/demo")
        machine.run("ip -n demo link show theirs")
        assert "left alone" in machine.journal("netns_name@demo")
    finally:
        machine.run("ip netns delete demo")
    gone(machine, "demo")


@pytest.mark.parametrize(
    "damage", ["rm own.sh own.conf", "echo if >>own.conf", "echo if >>own.sh", "chmod g+w own.sh"]
)
def test_a_bash_type_is_undone_whatever_became_of_its_files(machine: Machine, damage: str) -> None:
    script = (
        "configure_own_up_outside() { ip link add own-$1 type bridge; }\n"
        "configure_own_down_outside() { ip link delete own-$1; echo gone: $OWN_WORD; }\n"
    )
    machine.write("/etc/conf.d/netns/own.sh", script)
    machine.write("/etc/conf.d/netns/own.conf", "OWN_WORD='a word'\n")
    machine.run("netns-update; systemctl start netns-own@demo; ip link show own-demo")
    machine.run(f"cd /etc/conf.d/netns && {damage}; systemctl stop netns-own@demo")
    gone(machine, "demo")
    assert machine.run("ip link show own-demo", check=False).returncode != 0
    assert "gone: a word" in machine.journal("netns_outside-own@demo")


def test_a_device_that_vanished_does_not_hinder_the_stop(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.run("netns-update; systemctl start netns-veth@demo netns-lo@demo; ip link delete ve-demo0")
    machine.run("systemctl stop netns-veth@demo")
    assert machine.run("systemctl list-units --failed --no-legend 'netns*@demo.service'").stdout == ""
    machine.run("systemctl start netns-veth@demo; ping -c1 -W2 10.9.0.2")


def test_a_type_in_use_is_not_removed_from_under_it(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/own.sh", "NO_CONFIG_REQUIRED=1\n")
    machine.run("netns-update; systemctl start netns-own@demo; rm /etc/conf.d/netns/own.sh")
    update = machine.run("netns-update", check=False)
    assert update.returncode == 1
    assert "demo" in update.stdout + update.stderr
    machine.run("systemctl is-active netns-own@demo; test -e /etc/systemd/system/netns-own@.service")
    machine.run("systemctl stop netns-own@demo")
    gone(machine, "demo")
    machine.run("netns-update")
    machine.run("test ! -e /etc/systemd/system/netns-own@.service")


def test_a_service_inside_sees_the_namespaces_files(machine: Machine) -> None:
    machine.write("/etc/netns/demo/resolv.conf", "nameserver 192.0.2.53\n")
    machine.write(
        "/etc/conf.d/netns/own.sh",
        "NO_CONFIG_REQUIRED=1\nconfigure_own_up_inside() { cat /etc/resolv.conf > /run/seen; }\n",
    )
    machine.write("/etc/conf.d/netns/own-demo.conf", "")
    machine.run(
        "echo 'nameserver 198.51.100.1' > /etc/resolv.conf; netns-update; systemctl start netns-own@demo"
    )
    assert machine.read("/run/seen") == "nameserver 192.0.2.53\n"


def test_everything_enabled_comes_up_at_boot(machine: Machine) -> None:
    machine.write("/etc/conf.d/netns/veth-demo.conf", VETH)
    machine.write("/etc/conf.d/netns/nft-demo.rules", OPEN)
    machine.run("netns-update; systemctl enable netns-veth@demo netns-nft@demo")
    machine.reboot()
    machine.wait_for("systemctl is-active -q multi-user.target")
    machine.run("ping -c1 -W2 10.9.0.2; ip netns exec demo nft list table inet filter")
    before = machine.run("systemctl show -P Before netns-veth@demo").stdout.split()
    assert "network.target" in before
    machine.run("systemctl disable netns-veth@demo netns-nft@demo")
