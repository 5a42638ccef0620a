"""Commands run as a user runs them, on configuration files below a root of their own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from netns_tools.cli import netnsctl
from netns_tools.cli.entry import status_of


@dataclass
class Output:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Machine:
    """A root directory with configuration, and the commands that look at it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.conf = root / "etc/conf.d/netns"
        self.capsys = capsys
        os.umask(0o022)
        self.conf.mkdir(parents=True)

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a configuration file, or with a slash in its name any file below the root."""
        path = self.root / name if "/" in name else self.conf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def veth(self, name: str, net: str = "10.0.0", more: str = "") -> Path:
        """Configure a veth for NAME with the addresses .1 and .2 of a network."""
        return self.write(
            f"veth-{name}.conf",
            f'VETH_IFADDR_OUTSIDE="{net}.1/24"\nVETH_IFADDR_INSIDE="{net}.2/24"\n{more}',
        )

    def run(self, *args: str, command: click.Command = netnsctl.command) -> Output:
        """Run netnsctl, or another command, with --root at the end."""
        return self.run_bare(*args, "--root", str(self.root), command=command)

    def run_bare(self, *args: str, command: click.Command = netnsctl.command) -> Output:
        """Run a command with exactly these arguments."""
        self.capsys.readouterr()
        code = status_of(command, "netnsctl", list(args))
        out, err = self.capsys.readouterr()
        return Output(code, out.replace(str(self.root), ""), err.replace(str(self.root), ""))

    def check(self, *args: str) -> list[dict[str, Any]]:
        """The findings of 'netnsctl check', without what is only for information."""
        result = self.run("check", "--json", *args)
        findings: list[dict[str, Any]] = result.json["findings"]
        counted = [one for one in findings if one["severity"] != "info"]
        assert result.code == (2 if counted else 0)
        return counted

    def messages(self, *args: str) -> str:
        """All findings as 'file:line: message (hint)', a line each."""
        return "\n".join(
            f"{one['file']}:{one['line']}: {one['message']} ({one['hint']})" for one in self.check(*args)
        )


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Machine:
    return Machine(tmp_path, capsys)
