"""The one file that configures a daemon TYPE of NAME: which one it is, and whether it is believed."""

from __future__ import annotations

import os

from netns_tools.config import shell, trust
from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths


def variable(nstype: str) -> str:
    """The variable of the environment that overrides the path: ``NETNS_TYPE_CONFIG``."""
    return f"NETNS_{nstype.upper()}_CONFIG"


def candidates(nstype: str, name: str, paths: Paths) -> list[str]:
    """The files of which the first that exists counts, alone."""
    return [f"{paths.conf}/{nstype}-{name}.yaml", f"{paths.conf}/{nstype}.yaml"]


def find(nstype: str, name: str, paths: Paths) -> str:
    """The file that counts, by the environment or by what exists; that of all names when there is none."""
    override = os.environ.get(variable(nstype), "")
    if override:
        return os.path.abspath(override)
    own, shared = candidates(nstype, name, paths)
    return own if os.path.lexists(own) else shared


def read(path: str, nstype: str, name: str, example: str, paths: Paths) -> str:
    """The text of the file. Raises ConfigError: it is missing, others can write it, it is no text.

    ``example`` is a short configuration to show to somebody who has none.
    """
    problems = trust.check_directories(os.path.dirname(path), paths)
    data = None
    try:
        data = trust.read_file(path, paths)
        if data is not None and not problems:
            return shell.decode(data, path)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    raise ConfigError([_missing(path, nstype, name, example, paths)])


def _missing(path: str, nstype: str, name: str, example: str, paths: Paths) -> Problem:
    own, shared = candidates(nstype, name, paths)
    if path not in (own, shared):
        hint = f"{variable(nstype)} names it; without it the file is {own} or {shared}"
        return Problem("there is no such file", path=path, hint=hint)
    shown = "\n".join(f"    {line}" for line in example.splitlines())
    return Problem(
        f"no configuration for {nstype} of {name}: there is neither {own} nor {shared}",
        hint=f"write one of them (the second is for every NAME without a file of its own), such as\n{shown}",
    )
