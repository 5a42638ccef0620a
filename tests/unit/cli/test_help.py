"""--help teaches: every command says what it is for and shows examples. So do the manual pages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from netns_tools import __version__
from netns_tools.cli import addrset, completion, man, natmap, netnsctl, nft_save
from netns_tools.cli.roff import Page

if TYPE_CHECKING:
    from .conftest import Machine

SUBCOMMANDS = list(netnsctl.COMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommand(machine: Machine, name: str) -> None:
    result = machine.run_bare(name, "--help")
    assert result.code == 0
    examples = result.out.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all("netnsctl" in line for line in examples)
    assert max(len(line) for line in result.out.splitlines()) <= 100


@pytest.mark.parametrize(
    "command",
    [netnsctl.command, nft_save.command, addrset.command, natmap.command],
    ids=["netnsctl", "netns-nft-save", "netns-addrset", "netns-natmap"],
)
def test_program(machine: Machine, command: click.Command) -> None:
    for option in ("--help", "-h"):
        result = machine.run_bare(option, command=command)
        assert result.code == 0
        assert "Examples:\n" in result.out
    assert __version__ in machine.run_bare("--version", command=command).out


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_is_a_file_of_its_name(name: str) -> None:
    command = netnsctl.Subcommands().get_command(click.Context(netnsctl.command), name)
    assert command is not None
    assert command.name == name
    assert command.short_help


@pytest.mark.parametrize("program", list(completion.PROGRAMS))
@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_script(machine: Machine, shell: str, program: str) -> None:
    result = machine.run_bare("completion", shell, "--program", program)
    assert result.code == 0
    assert f"_{program.replace('-', '_').upper()}_COMPLETE={shell}_complete" in result.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.out, text=True, check=True, timeout=20)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("netnsctl pl", ["plan"]),
        ("netnsctl types m", ["macvlan"]),
        ("netnsctl plan v", ["veth"]),
        ("netnsctl plan --root ROOT veth ", ["alpha", "beta"]),
        ("netnsctl check --root ROOT veth a", ["alpha"]),
        ("netnsctl --root ROOT plan macvlan ", ["gamma"]),
        ("netnsctl completion z", ["zsh"]),
        ("netnsctl check --root ROOT addrset ", ["blue", "host"]),
    ],
)
def test_completed_values(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]
) -> None:
    machine.veth("alpha")
    machine.veth("beta")
    machine.write("macvlan-gamma.conf", "")
    machine.write("addrset-blue.yaml", "")
    words = words.replace("ROOT", str(machine.root))
    monkeypatch.setenv("_NETNSCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    out = machine.run_bare().out
    assert [line.partition(",")[2] for line in out.splitlines()] == expected


def test_completed_names_of_a_daemon(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.veth("alpha")
    machine.write("addrset-blue.yaml", "")
    words = f"netns-addrset status --root {machine.root} --name "
    monkeypatch.setenv("_NETNSCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    out = machine.run_bare(command=addrset.command).out
    assert [line.partition(",")[2] for line in out.splitlines()] == ["blue", "host"]


def test_man_pages(machine: Machine, tmp_path: Path) -> None:
    result = machine.run_bare(str(tmp_path / "man"), command=man.command)
    assert result.code == 0
    pages = {path.name: path for path in (tmp_path / "man").rglob("*.?")}
    assert sorted(pages) == [
        "netns-addrset.8", "netns-natmap.8", "netns-nft-save.8", "netns-types.7", "netns-update.8",
        "netns.conf.5", "netnsctl.8", "netnsinit.8",
    ]  # fmt: skip
    text = pages["netns-types.7"].read_text()
    assert "VETH\\_" not in text
    assert "VETH_IFADDR_INSIDE" in text
    assert "zones.*.set4" in text
    assert "addrset\\-host.sock" in pages["netns-addrset.8"].read_text()
    assert "docker remap" in pages["netns-natmap.8"].read_text()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("page", list(man.pages()), ids=lambda page: page.file)
def test_man_page_has_no_warnings(page: Page) -> None:
    result = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z"], input=page.text(), capture_output=True, text=True,
        check=True, timeout=30,
    )  # fmt: skip
    assert result.stderr == ""
