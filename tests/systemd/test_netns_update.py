"""netns-update on a running system: nothing that runs loses the ground it stands on."""

from __future__ import annotations

import pytest

from tests.machine import Machine

CONF = "/etc/conf.d/netns"
UNITS = "/etc/systemd/system"
VETH = "VETH_IFADDR_OUTSIDE=10.7.0.1/24\nVETH_IFADDR_INSIDE=10.7.0.2/24\n"
SCRIPT = "configure_TYPE_up_inside() {\n    ip link set lo up\n}\n"


def active(machine: Machine, unit: str) -> bool:
    return machine.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"


def loaded_at(machine: Machine) -> str:
    """When systemd last read its unit files."""
    return machine.run("systemctl show -p UnitsLoadTimestampMonotonic").stdout


def add_script(machine: Machine, nstype: str, name: str) -> None:
    machine.write(f"{CONF}/{nstype}.sh", SCRIPT.replace("TYPE", nstype))
    machine.write(f"{CONF}/{nstype}-{name}.conf", "X=1\n")
    machine.run("netns-update")


def test_systemd_is_reloaded_only_when_something_changed(machine: Machine) -> None:
    before = loaded_at(machine)
    machine.write(f"{CONF}/veth-one.conf", VETH)
    said = machine.run("netns-update").stdout
    assert f"Creating '{UNITS}/netns-veth@one.service.d/50-netns-tools.conf'." in said
    assert said.endswith("Update successful.\n")
    changed = loaded_at(machine)
    assert changed != before
    assert machine.run("netns-update").stdout.endswith("Update successful.\n")
    assert loaded_at(machine) == changed
    machine.run("netns-update --daemon-reload")
    assert loaded_at(machine) != changed


def test_plans_are_cached_and_pruned(machine: Machine) -> None:
    machine.write(f"{CONF}/veth-one.conf", VETH)
    machine.run("sleep 0.1; netns-update")  # a file younger than a clock tick is not cached
    plan = machine.read("/var/cache/netns-tools/one@veth.plan")
    assert "ve-one0" in plan
    machine.run(f"rm {CONF}/veth-one.conf; netns-update")
    machine.run("test ! -e /var/cache/netns-tools/one@veth.plan")
    machine.run(f"test ! -e {UNITS}/netns-veth@one.service.d")


def test_a_type_in_use_stays_until_it_is_stopped(machine: Machine) -> None:
    add_script(machine, "own", "one")
    machine.run("systemctl start netns-own@one")
    machine.run(f"rm {CONF}/own.sh {CONF}/own-one.conf")
    done = machine.run("netns-update", check=False)
    assert done.returncode == 1
    assert "netns-own@one.service is in use" in done.stderr
    assert "systemctl stop netns-own@one.service" in done.stderr
    machine.run("systemctl daemon-reload")
    assert active(machine, "netns-own@one")
    machine.run("test -e /run/netns/one")
    machine.run("systemctl stop netns-own@one")
    machine.wait_for("! test -e /run/netns/one")
    done = machine.run("netns-update")
    assert f"Removed stale service file '{UNITS}/netns-own@.service'." in done.stdout
    machine.run(f"! ls {UNITS} | grep own")


def test_failures_of_a_stale_type_are_forgotten(machine: Machine) -> None:
    machine.write(f"{CONF}/own.sh", "configure_own_up_inside() {\n    false\n}\n")
    machine.write(f"{CONF}/own-one.conf", "X=1\n")
    machine.run("netns-update; ! systemctl start netns-own@one")
    machine.wait_for("! test -e /run/netns/one")
    assert "netns-own@one.service" in machine.run("systemctl --failed --plain --no-legend").stdout
    machine.run(f"rm {CONF}/own.sh {CONF}/own-one.conf; netns-update")
    assert "netns-own@one" not in machine.run("systemctl --failed --plain --no-legend").stdout


def test_the_namespace_of_a_running_peer_stays(machine: Machine) -> None:
    machine.write(f"{CONF}/veth-one.conf", VETH + "VETH_NSNAME_OUTSIDE=old\n")
    machine.run("netns-update && systemctl start netns-veth@one")
    machine.write(f"{CONF}/veth-one.conf", VETH + "VETH_NSNAME_OUTSIDE=new\n")
    machine.run("netns-update && sleep 0.5")
    machine.run("ip -n old link show ve-one0")
    machine.run("systemctl restart netns-veth@one && ip -n new link show ve-one0")
    machine.run("netns-update")
    machine.wait_for("! test -e /run/netns/old")
    machine.run("ip -n new link show ve-one0")


def test_a_changed_kind_waits_for_the_stop(machine: Machine) -> None:
    machine.write(f"{CONF}/veth-one.conf", VETH)
    machine.run("netns-update && systemctl start netns-veth@one")
    machine.write(f"{CONF}/veth.sh", SCRIPT.replace("TYPE", "veth"))
    done = machine.run("netns-update", check=False)
    assert done.returncode == 1
    assert "netns-veth@one.service was started by it" in done.stderr
    machine.run("systemctl stop netns-veth@one")
    machine.wait_for("! ip link show ve-one0 2>/dev/null")
    assert "netns-tools kind: bash" in machine.run(f"netns-update && cat {UNITS}/netns-veth@.service").stdout


def test_a_mask_is_left_alone(machine: Machine) -> None:
    machine.run(f"rm {UNITS}/netns-macvlan@.service && systemctl mask -q netns-macvlan@.service")
    done = machine.run("netns-update", check=False)
    assert done.returncode == 1
    assert "masked" in done.stderr
    machine.run(f"test -L {UNITS}/netns-macvlan@.service")
    machine.run("systemctl unmask -q netns-macvlan@.service && netns-update")
    machine.run(f"test -f {UNITS}/netns-macvlan@.service")


@pytest.mark.parametrize("count", [3, 60])
def test_a_full_disk_changes_nothing(machine: Machine, count: int) -> None:
    script = f"""
        mount -t tmpfs -o size=64k,nr_inodes=1k tmpfs {UNITS}
        cp -a /usr/src/netns-tools/tests/golden/nothing/expected/. {UNITS}
        for i in $(seq {count}); do echo "{VETH}" >{CONF}/veth-n$i.conf; done
        head -c 1M /dev/zero >{UNITS}/fill 2>/dev/null
        before=$(ls -lR {UNITS} | sha256sum)
        netns-update
        status=$?
        [ "$before" = "$(ls -lR {UNITS} | sha256sum)" ] || status=77
        ls -A {UNITS} | grep '^[.]' && status=78
        umount -l {UNITS}
        systemctl daemon-reload
        exit $status
    """
    done = machine.run(script, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert done.stderr.count("error:") == 1


def test_only_root_may(machine: Machine) -> None:
    done = machine.run("setpriv --reuid 65534 --regid 65534 --clear-groups netns-update", check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "error: netns-update writes unit files and must be run as root (sudo netns-update)\n"
    )


def test_a_second_one_waits_for_the_first(machine: Machine) -> None:
    machine.run("netns-update")
    holder = "flock /run/netns-tools/update.lock sh -c 'sleep 1; touch /run/released'"
    machine.run(f"{holder} & sleep 0.3; netns-update -q; test -e /run/released")


def test_enabled_instances_start_at_boot_without_a_cycle(machine: Machine) -> None:
    machine.write(f"{CONF}/nft.rules", "flush ruleset\n")
    machine.write(f"{CONF}/nft-a.rules", "flush ruleset\n")
    machine.write(f"{CONF}/veth-a.conf", VETH + "VETH_NSNAME_OUTSIDE=b\nNETWORK_ORDER=online\n")
    machine.write(f"{CONF}/veth-b.conf", VETH.replace("10.7", "10.8") + "VETH_NSNAME_OUTSIDE=a\n")
    units = "netns-veth@a netns-veth@b netns-nft@a netns-nft@b"
    machine.run(f"netns-update && systemctl enable -q {units}")
    machine.reboot()
    machine.wait_for(f"systemctl is-active {units}")
    machine.run("ip -n a link show ve-b0 && ip -n b link show ve-a0")
    assert "cycle" not in machine.run("journalctl -b -q -o cat").stdout
    machine.run(f"systemctl disable -q {units} && ! find {UNITS} -type l | grep netns-")


def test_a_bash_type_sees_the_files_of_its_name(machine: Machine) -> None:
    machine.write("/etc/netns/one/resolv.conf", "nameserver 192.0.2.53\n")
    machine.write(f"{CONF}/own.sh", "configure_own_up_inside() {\n    cat /etc/resolv.conf >/run/seen\n}\n")
    machine.write(f"{CONF}/own-one.conf", "X=1\n")
    machine.run("netns-update && systemctl start netns-own@one")
    assert machine.read("/run/seen") == "nameserver 192.0.2.53\n"


def test_without_udev_a_macvlan_does_not_wait_for_a_device_unit(machine: Machine) -> None:
    machine.run("ip link add parent0 type bridge && ip link set parent0 up; test ! -e /run/udev/control")
    machine.write(f"{CONF}/macvlan-one.conf", "MACVLAN_PARENT_IFNAME=parent0\nMACVLAN_IFADDR=10.7.0.9/24\n")
    machine.run("netns-update && systemctl start netns-macvlan@one", timeout=20)
    machine.run("ip -n one link show eth100; systemctl stop netns-macvlan@one; ip link delete parent0")
