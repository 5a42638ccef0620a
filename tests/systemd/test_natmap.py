"""The unit of the NAT mapper: in its sandbox it can do all of its work, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.machine import Machine

CAP_NET_ADMIN, CAP_NET_RAW = 1 << 12, 1 << 13
SOCKET = "/run/netns-tools/natmap-{}.sock"


@pytest.fixture
def natmap(machine: Machine, nothing_left: None) -> Iterator[Machine]:
    """A machine with a network that mappings can lead to, in the host and in demo."""
    machine.write(
        "/etc/conf.d/netns/veth-demo.conf",
        "VETH_IFADDR_OUTSIDE=10.9.0.1/24\nVETH_IFADDR_INSIDE=10.9.0.2/24\n",
    )
    machine.run("netns-update; systemctl start netns-veth@demo")
    yield machine
    machine.run("systemctl stop 'netns-natmap@*.service'")
    machine.run("netns-natmap clear; netns-natmap purge", check=False)
    machine.run(
        "rm -rf /run/netns-tools/natmap-* /var/lib/netns-tools /etc/systemd/system/netns-natmap@.service.d"
    )
    machine.run("systemctl daemon-reload; systemctl stop 'netns-*@*.service'")


def entries(machine: Machine, name: str = "host") -> dict[str, str]:
    """What is wanted, as commands, and its state."""
    answer = json.loads(machine.run(f"netns-natmap ls --json --name {name}").stdout)
    rows = [row for rows in answer.values() if isinstance(rows, list) for row in rows]
    return {row["command"]: row["state"] for row in rows if isinstance(row, dict)}


def process(machine: Machine, name: str) -> str:
    return machine.run(f"systemctl show -P MainPID netns-natmap@{name}").stdout.strip()


@pytest.mark.parametrize("name", ["host", "demo"])
def test_it_works_in_its_sandbox(natmap: Machine, name: str) -> None:
    inside = "" if name == "host" else f"ip netns exec {name} "
    natmap.run(f"systemctl start netns-natmap@{name}")
    assert natmap.run(f"stat -c %a:%U:%G {SOCKET.format(name)}").stdout == "660:root:netns-natmap\n"
    natmap.run(f"netns-natmap --name {name} dnat 8080:10.9.0.9:80")
    assert entries(natmap, name) == {"dnat 8080:10.9.0.9:80/tcp": "live"}
    # A port is kept from other programs, 127.0.0.1 is opened, forwarding is switched.
    program = "import socket; socket.create_server(('', 8080))"
    said = natmap.run(f'{inside}/usr/bin/python3 -c "{program}"', check=False).stderr
    assert "Address already in use" in said
    device = (
        "ve-demo0" if name == "host" else natmap.run(f"{inside}ip -o route get 10.9.0.9").stdout.split()[2]
    )
    local = f"{inside}cat /proc/sys/net/ipv4/conf/{device}/route_localnet"
    natmap.wait_for(f"[ $({local}) = 1 ]")
    natmap.run(f"netns-natmap --name {name} fwd")
    assert natmap.run(f"{inside}cat /proc/sys/net/ipv4/ip_forward").stdout == "1\n"
    natmap.run(f"netns-natmap --name {name} policy-route --src-ip 10.9.0.7 --via 10.9.0.5")
    assert "10.9.0.7" in natmap.run(f"{inside}ip rule").stdout
    # Its state outlives it, and so do its mappings.
    natmap.run(f"systemctl restart netns-natmap@{name}")
    assert entries(natmap, name)["dnat 8080:10.9.0.9:80/tcp"] == "live"
    natmap.run(f"systemctl reload netns-natmap@{name}")
    natmap.run(f"netns-natmap --name {name} clear")
    assert natmap.run(local).stdout == "0\n"
    assert natmap.run(f"{inside}nft list ruleset").stdout == ""
    assert "Operation not permitted" not in natmap.journal(f"netns-natmap@{name}")


def test_the_rule_in_dockers_chain(natmap: Machine) -> None:
    """By iptables as a program, within the sandbox."""
    if natmap.run("command -v iptables-nft", check=False).returncode:
        pytest.skip("this machine has no iptables")
    for kind in ("nft", "legacy"):
        natmap.run(f"iptables-{kind} -N DOCKER-USER && iptables-{kind} -I FORWARD -j DOCKER-USER")
        natmap.run("systemctl start netns-natmap@host && netns-natmap dnat 8080:10.9.0.9:80")
        assert "netns-natmap" in natmap.run(f"iptables-{kind} -S DOCKER-USER").stdout
        natmap.run("netns-natmap clear && systemctl stop netns-natmap@host")
        assert natmap.run(f"iptables-{kind} -S DOCKER-USER").stdout == "-N DOCKER-USER\n"
        natmap.run(f"iptables-{kind} -F FORWARD && iptables-{kind} -X DOCKER-USER")


@pytest.mark.parametrize("name", ["host", "demo"])
def test_it_has_few_rights(natmap: Machine, name: str) -> None:
    natmap.run(f"systemctl start netns-natmap@{name}")
    status = natmap.read(f"/proc/{process(natmap, name)}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(fields[kind], 16) == CAP_NET_ADMIN | CAP_NET_RAW
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    natmap.run(["systemd-analyze", "security", "--no-pager", "--threshold=25", f"netns-natmap@{name}"])
    inside = f"nsenter -t {process(natmap, name)} -m -r touch"
    said = natmap.run(f"{inside} /etc/x /usr/x /var/x /proc/sys/x", check=False).stderr
    for path in ("/etc/x", "/usr/x", "/var/x"):
        assert f"'{path}': Read-only file system" in said


def test_mappings_survive_a_kill_and_a_flush(natmap: Machine) -> None:
    natmap.run("systemctl start netns-natmap@host; netns-natmap dnat 8080:10.9.0.9:80")
    natmap.run(f"kill -9 {process(natmap, 'host')}; nft list ruleset | grep -q 10.9.0.9")
    natmap.wait_for("netns-natmap ls | grep -q live")
    natmap.wait_for("systemctl is-active -q netns-natmap@host")
    natmap.run("nft flush ruleset")
    natmap.wait_for("nft list ruleset | grep -q 10.9.0.9", timeout=10)


def test_members_of_the_group_may_ask(natmap: Machine) -> None:
    natmap.run("systemctl start netns-natmap@host")
    ask = "netns-natmap dnat 8080:10.9.0.9:80"
    refused = natmap.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups {ask}", check=False)
    assert refused.returncode == 1
    assert "become a member of the group netns-natmap" in refused.stderr
    natmap.run(f"setpriv --reuid=65534 --regid=65534 --groups=netns-natmap {ask}")
    assert entries(natmap) == {"dnat 8080:10.9.0.9:80/tcp": "live"}
