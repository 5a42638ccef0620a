"""A root directory with configuration files, and a bash that tells what it would have read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netns_tools.config.layers import Config, load_config
from netns_tools.config.nstype import load_nstype
from netns_tools.errors import ConfigError
from netns_tools.paths import Paths

Write = Callable[[str, str], str]
Load = Callable[..., Config]
Refused = Callable[..., str]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A machine without configuration."""
    paths = Paths(str(tmp_path))
    Path(paths.conf).mkdir(parents=True)
    return paths


@pytest.fixture
def write(paths: Paths) -> Write:
    """Write a configuration file; gives its path."""

    def write_file(name: str, text: str) -> str:
        path = Path(paths.conf) / name
        path.write_text(text, newline="")
        return str(path)

    return write_file


@pytest.fixture
def load(paths: Paths) -> Load:
    """Load the configuration of TYPE@NAME (veth@demo)."""

    def load_it(nstype: str = "veth", name: str = "demo") -> Config:
        return load_config(load_nstype(nstype, paths), name, paths)

    return load_it


@pytest.fixture
def refused(load: Load, paths: Paths) -> Refused:
    """All problems of a configuration that must be refused, as a user reads them, without the directory."""

    def problems_of(nstype: str = "veth", name: str = "demo") -> str:
        with pytest.raises(ConfigError) as caught:
            load(nstype, name)
        return caught.value.render().replace(f"{paths.conf}/", "")

    return problems_of


class Bash:
    """A bash that reads files, each in a process of its own, in which three variables are set before."""

    BEFORE = {"A": "pre/fix.1", "B": "", "D": "a b"}  # noqa: RUF012
    NAMES = ("A", "B", "C", "D", "E")
    _DRIVER = r"""
exec 9>&1
while IFS= read -r -d '' file; do
    (
        A=pre/fix.1 B= D='a b'
        source "$file" </dev/null >/dev/null 2>&1
        printf '%s\1' "$?" "${A-\2}" "${B-\2}" "${C-\2}" "${D-\2}" "${E-\2}" >&9
    )
    printf '\0' >&9
done
"""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "file"
        self.process = subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile", "-c", self._DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": "/nonexistent", "LC_ALL": "C.UTF-8"},
            cwd=directory,
        )

    def variables(self, text: str) -> dict[str, str] | None:
        """NAMES that are set after reading a file of this text; None when bash fails on it."""
        assert self.process.stdin
        assert self.process.stdout
        self.file.write_text(text, newline="")
        self.process.stdin.write(f"{self.file}\0".encode())
        self.process.stdin.flush()
        answer = b""
        while not answer.endswith(b"\0"):
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            answer += piece
            assert piece, "bash has gone"
        assert answer != b"\0", "bash said nothing of the file: it could not fork, or the file made it leave"
        status, *values = answer.decode()[:-1].split("\1")
        if status != "0":
            return None
        return {name: value for name, value in zip(self.NAMES, values, strict=False) if value != "\\2"}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bash]:
    """bash itself, as the judge."""
    process = Bash(tmp_path_factory.mktemp("bash"))
    yield process
    process.close()
