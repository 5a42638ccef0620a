"""However a command ends, the user gets a message and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from netns_tools.cli.entry import status_of
from netns_tools.errors import ConfigError, NetnsToolsError, Problem
from netns_tools.paths import Paths

if TYPE_CHECKING:
    from .conftest import Machine

RAISED = [
    (NetnsToolsError("it broke", hint="mend it"), 1, "error: it broke\n  hint: mend it\n"),
    (ConfigError([Problem("bad", path="f", line=3), Problem("worse")]), 2, "f:3: error: bad\nerror: worse\n"),
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (
        PermissionError(errno.EACCES, "Permission denied", "/etc/x"),
        1,
        "error: /etc/x: Permission denied\n  hint: run",
    ),
    (
        OSError(errno.ENOSPC, "No space left on device", "/etc/x"),
        1,
        "error: /etc/x: No space left on device\n  hint",
    ),
    (ValueError("odd\nvalue"), 1, "error: internal error: ValueError: odd value"),
    (ModuleNotFoundError("no", name="jinja2"), 1, "jinja2 is missing\n  hint: apt install python3-jinja2"),
    (RecursionError("deep"), 1, "error: internal error: RecursionError"),
    (click.UsageError("no"), 2, "Error: no\n"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
]


@pytest.mark.parametrize(("raised", "code", "message"), RAISED, ids=lambda value: type(value).__name__)
def test_errors(raised: BaseException, code: int, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def command() -> None:
        raise raised

    assert status_of(command, "prog", []) == code
    err = capfd.readouterr().err
    assert message.strip() in err
    assert "Traceback" not in err


def test_click_itself_is_missing() -> None:
    hidden = "import sys; sys.modules['click'] = None; import netns_tools.cli.update"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: the Python package click is missing\n  hint: apt install python3-click\n"


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (2, 2)])
def test_a_command_returns_its_exit_code(result: int | None, code: int) -> None:
    assert status_of(click.Command("x", callback=lambda: result), "prog", []) == code


def _program(
    *args: str, stdout: int | None = subprocess.PIPE, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": Paths().data, **more}
    return subprocess.run(
        [sys.executable, "-m", "netns_tools.cli.netnsctl", *args],
        stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30, check=False, env=environment,
    )  # fmt: skip


def test_a_reader_that_is_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    result = _program("types", "veth", stdout=write)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


def test_a_full_disk() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    result = _program("types", "veth", stdout=full)
    os.close(full)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_colour_in_a_pipe() -> None:
    assert "\x1b" not in _program("types", "veth").stdout


def test_any_locale() -> None:
    assert _program("types", "veth", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0").returncode == 0


def test_root_before_or_after_the_subcommand(machine: Machine) -> None:
    machine.veth("a")
    before = machine.run_bare("--root", str(machine.root), "list")
    assert before == machine.run("list")
    assert "veth  a" in before.out


def test_root_that_is_not_there(machine: Machine) -> None:
    assert machine.run_bare("list", "--root", "/nonexistent").code == 2


def test_unknown_subcommand(machine: Machine) -> None:
    result = machine.run_bare("chek")
    assert result.code == 2
    assert "Did you mean 'check'?" in result.err
