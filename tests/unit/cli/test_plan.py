"""netnsctl plan: the commands of a start, and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Machine


def test_sections(machine: Machine) -> None:
    machine.veth("a", more='VETH_GATEWAY="10.0.0.1"\n')
    result = machine.run("plan", "veth", "a")
    assert result.code == 0
    assert result.out.startswith("outside (host)\n  ip link add name ve-a0 ")
    assert "  ip address add 10.0.0.1/24 dev ve-a0  # /etc/conf.d/netns/veth-a.conf:1\n" in result.out
    assert "inside: a\n" in result.out
    assert "  ip -n a address add 10.0.0.2/24 dev ve-a1  # /etc/conf.d/netns/veth-a.conf:2\n" in result.out
    assert "undo inside: a\n  ip -n a link delete group " in result.out


def test_json(machine: Machine) -> None:
    machine.veth("a")
    sections = machine.run("plan", "veth", "a", "--json").json["sections"]
    assert [one["step"] for one in sections] == ["up-outside", "up-inside", "down-inside", "down-outside"]
    assert sections[1]["commands"][-1]["from"].endswith("veth-a.conf:2")


def test_nothing_is_done(machine: Machine) -> None:
    machine.veth("a")
    before = sorted(machine.root.rglob("*"))
    machine.run("plan", "veth", "a")
    assert sorted(machine.root.rglob("*")) == before


def test_firewall(machine: Machine) -> None:
    machine.write("nft-a.rules", "flush ruleset\n")
    result = machine.run("plan", "nft", "a")
    assert "  nft flush ruleset\n  nft -f /etc/conf.d/netns/nft-a.rules\n" in result.out


def test_own_commands(machine: Machine) -> None:
    machine.write(
        "vx.yaml",
        "summary: x\noptions:\n  VX_ID: {kind: text, required: true, help: x, example: '1'}\n"
        "steps:\n  up_inside:\n    - echo {VX_ID}\n",
    )
    machine.write("vx-a.conf", "VX_ID='4 2'\n")
    assert "  echo '4 2'  # /etc/conf.d/netns/vx-a.conf:1" in machine.run("plan", "vx", "a").out


def test_a_refused_configuration(machine: Machine) -> None:
    machine.veth("a", more="VETH_MTU=none\n")
    result = machine.run("plan", "veth", "a")
    assert result.code == 2
    assert "veth-a.conf:3" in result.err
    assert result.out == ""


def test_running(machine: Machine) -> None:
    """The plan of the start is shown, whatever the configuration says now."""
    machine.veth("a")
    result = machine.run("plan", "veth", "a", "--running")
    assert result.code == 1
    assert "veth@a is not running" in result.err
    machine.write(
        "run/netns-tools/a/veth/up-inside.ip", "link set dev old up  # /etc/conf.d/netns/veth-a.conf:7\n"
    )
    result = machine.run("plan", "veth", "a", "--running")
    assert result.out == "inside: a\n  ip -n a link set dev old up  # /etc/conf.d/netns/veth-a.conf:7\n"


def test_names_are_no_paths(machine: Machine) -> None:
    assert machine.run("plan", "veth", "../../etc", "--running").code == 2
    assert machine.run("plan", "../x", "a", "--running").code == 2


def test_bash_type(machine: Machine) -> None:
    """What a script does is known to the script alone."""
    machine.write("own.sh", "NO_CONFIG_REQUIRED=1\nconfigure_own_up_inside() { :; }\n")
    result = machine.run("plan", "own", "a")
    assert result.out == "inside: a\n  configure_own_up_inside a  # /etc/conf.d/netns/own.sh\n"


@pytest.mark.parametrize(("option", "word"), [((), "plan"), (("--running",), "status")])
def test_a_daemon_shows_its_plan_itself(machine: Machine, option: tuple[str, ...], word: str) -> None:
    result = machine.run("plan", "addrset", "host", *option)
    assert result.code == 2
    assert f"netns-addrset {word} --name host" in result.err
