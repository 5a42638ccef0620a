"""netnsctl types: its examples are right, whatever the type."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netns_tools.config.nstype import DAEMON, load_nstypes
from netns_tools.paths import Paths

if TYPE_CHECKING:
    from .conftest import Machine

SHIPPED = sorted(
    name.removesuffix(".yaml")
    for name in os.listdir(Paths().nstypes)
    if name not in ("default.yaml", "README.md")
)
DAEMONS = sorted(one.name for one in load_nstypes(Paths("/nonexistent")).values() if one.kind == DAEMON)
STEPS = sorted({*SHIPPED} - {*DAEMONS})

OWN = """\
summary: A VXLAN device
options:
  VX_ID: {kind: text, required: true, help: The network's number., example: "42"}
  VX_ADDR: {kind: addresses, help: Addresses., example: "10.9.0.1/24, 2001:db8::9/64"}
steps:
  up_inside:
    - ip link add vx0 type vxlan id {VX_ID} dstport 4789
    - ip address add {VX_ADDR} dev vx0
"""


def test_list(machine: Machine) -> None:
    machine.write("vx.yaml", OWN)
    machine.write("tunnel.sh", "configure_tunnel_up_inside() { :; }\n")
    result = machine.run("types")
    assert result.code == 0
    for name in [*SHIPPED, "vx", "tunnel"]:
        assert f"\n{name} " in result.out
    assert {one["type"] for one in machine.run("types", "--json").json} == {*SHIPPED, "vx", "tunnel"}


@pytest.mark.parametrize("suffix", ["conf", "yaml"])
@pytest.mark.parametrize("nstype", STEPS)
def test_example_passes_check(machine: Machine, nstype: str, suffix: str) -> None:
    example = machine.run("types", nstype, "--example", suffix)
    machine.write(f"{nstype}-demo.{suffix}", example.out)
    if nstype == "nft":
        machine.write("nft.rules", "flush ruleset\n")
    assert machine.messages() == ""


@pytest.mark.parametrize("nstype", DAEMONS)
@pytest.mark.parametrize("name", ["demo", "host"])
def test_example_of_a_daemon_passes_check(machine: Machine, nstype: str, name: str) -> None:
    example = machine.run("types", nstype, "--example", "yaml")
    machine.write(f"{nstype}-{name}.yaml", example.out)
    assert machine.messages() == ""


@pytest.mark.parametrize("nstype", DAEMONS)
def test_the_installed_example_of_a_daemon(machine: Machine, nstype: str) -> None:
    """One text, from the definition of the type."""
    installed = Path(__file__).parents[3] / f"etc/{nstype}.yaml.example"
    assert installed.read_text() == machine.run("types", nstype, "--example", "yaml").out


@pytest.mark.parametrize("nstype", DAEMONS)
def test_a_daemon_has_no_shell_style_example(machine: Machine, nstype: str) -> None:
    result = machine.run("types", nstype, "--example", "conf")
    assert result.code == 2
    assert result.out == ""
    assert f"netnsctl types {nstype} --example yaml" in result.err


@pytest.mark.parametrize("nstype", DAEMONS)
def test_description_of_a_daemon(machine: Machine, nstype: str) -> None:
    result = machine.run("types", nstype)
    found = machine.run("types", nstype, "--json").json
    assert found["keys"]
    for key in found["keys"]:
        assert f"  {key['key']} (" in result.out
        assert key["help"]
    assert found["options"] == []
    assert "conf" not in found["example"]
    assert result.out.endswith("\n" + "\n".join(found["example"]["yaml"]) + "\n")
    assert f"netns-{nstype}@NAME (NAME 'host': in the host's own namespace)" in result.out


@pytest.mark.parametrize("nstype", STEPS)
def test_every_option_of_an_example_has_a_good_value(machine: Machine, nstype: str) -> None:
    """Those in comments too; only another namespace does not exist here."""
    lines = machine.run("types", nstype, "--example", "conf").out.splitlines()
    lines = [line.removeprefix("#") for line in lines if not line.startswith("# ") and "_NSNAME_" not in line]
    machine.write(f"{nstype}-demo.conf", "\n".join(lines) + "\n")
    machine.write("nft.rules", "flush ruleset\n")
    assert [one["message"] for one in machine.check() if one["severity"] == "error"] == []


@pytest.mark.parametrize("nstype", STEPS)
def test_description_ends_with_the_example(machine: Machine, nstype: str) -> None:
    result = machine.run("types", nstype)
    assert result.out.endswith(machine.run("types", nstype, "--example", "conf").out)


@pytest.mark.parametrize("suffix", ["conf", "yaml"])
def test_own_type_in_yaml(machine: Machine, suffix: str) -> None:
    machine.write("vx.yaml", OWN)
    result = machine.run("types", "vx")
    assert "VX_ID (text, required)" in result.out
    machine.write(f"vx-demo.{suffix}", machine.run("types", "vx", "--example", suffix).out)
    assert machine.messages() == ""


def test_own_type_in_bash(machine: Machine) -> None:
    machine.write(
        "tunnel.sh", "# A tunnel to the office\nconfigure_tunnel_up_inside() { assert_non_empty TUN_ID; }\n"
    )
    result = machine.run("types", "tunnel")
    assert result.code == 0
    assert "TUN_ID" in result.out
    machine.write("tunnel-demo.conf", machine.run("types", "tunnel", "--example", "conf").out)
    assert machine.messages() == ""


def test_json(machine: Machine) -> None:
    found = machine.run("types", "veth", "--json").json
    option = next(one for one in found["options"] if one["name"] == "VETH_IFADDR_INSIDE")
    assert option["required"] is True
    assert option["kind"] == "addresses"
    assert "VETH_IFADDR_INSIDE=" in "\n".join(found["example"]["conf"])


def test_unknown_type(machine: Machine) -> None:
    result = machine.run("types", "vet")
    assert result.code == 2
    assert "did you mean 'veth'?" in result.err


def test_example_needs_a_type(machine: Machine) -> None:
    assert machine.run("types", "--example", "conf").code == 2
