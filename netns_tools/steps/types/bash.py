"""Bash types: TYPE.sh with configure_TYPE_{up,down}_{outside,inside}, run as themselves."""

from __future__ import annotations

import posix
import sys

from netns_tools.errors import ConfigError, NetnsToolsError
from netns_tools.steps.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.config.nstype import NsType
    from netns_tools.paths import Paths


def plan(config: Config, paths: Paths) -> Plan:
    """Plan a bash type: what it does is known to its script alone; the note says what is sourced."""
    result = Plan()
    result.note("bash", *(f"source {path}" for path in sources(config.nstype, config.name, paths)))
    return result


def sources(nstype: NsType, name: str, paths: Paths) -> list[str]:
    """The files that a step sources, in order: the script, then the layers that exist.

    A YAML layer is not a file that bash reads: its values stand as ``=NAME=value``.
    Raises ``ConfigError`` when a file may be written by others than root.
    """
    from netns_tools.config.trust import check_file

    found: list[str] = [nstype.path]
    problems = check_file(nstype.path, paths)
    for path in paths.layers(nstype.name, name):
        if not _exists(path):
            continue
        wrong = check_file(path, paths)
        problems += wrong
        if wrong:
            continue
        if path.endswith(".yaml"):
            found += _assignments(path, paths)
        else:
            found.append(path)
    if problems:
        raise ConfigError(problems)
    return found


def run(arguments: list[str], libdir: str, paths: Paths) -> int:
    """Replace this process by bash running one step: TYPE NAME [PARAMETER...] up|down outside|inside.

    A stop goes by the files as they are, and by those of the start when they cannot be used any more.
    """
    from netns_tools.config.nstype import load_nstype

    nstype, name, *_, updown, inout = arguments
    kept = f"{paths.run_plan(nstype, name)}/kept.sh"
    try:
        files = sources(load_nstype(nstype, paths), name, paths)
    except ConfigError as error:
        if updown != "down" or not _exists(kept):
            raise
        print(f"{error.render()}\nnetns-{nstype}@{name}: undone by the files of the start", file=sys.stderr)
        files = [kept]
    if (updown, inout) == ("up", "outside"):
        _keep(files, kept, paths)
    command = ["/bin/bash", "--norc", "--noprofile", f"{libdir}/lib/bash-step", str(len(files))]
    try:
        posix.execv(command[0], [*command, *files, *arguments])
    except OSError as error:
        raise NetnsToolsError(
            f"cannot run {files[0]}: {command[0]}: {error.strerror}", hint="a bash type needs bash"
        ) from None
    return 1


def _keep(files: list[str], kept: str, paths: Paths) -> None:
    """Write what a start sources into one file, for a stop after which nothing may be left."""
    from netns_tools.config.trust import read_file
    from netns_tools.steps.types.commands import quote

    with open(kept, "wb") as copy:
        for file in files:
            if file.startswith("="):
                name, _, value = file[1:].partition("=")
                copy.write(f"{name}={quote(value)}\n".encode())
            else:
                copy.write((read_file(file, paths) or b"") + b"\n")


def _assignments(path: str, paths: Paths) -> list[str]:
    """The values of a YAML layer; the configuration was checked when the plan was made."""
    from netns_tools.config import shell, trust, yamlfile

    text = shell.decode(trust.read_file(path, paths) or b"", path)
    values, problems = yamlfile.flat_values(yamlfile.read_tree(text, path))
    if problems:
        raise ConfigError(problems)
    return [f"={key.upper()}={value.text}" for key, (_, value) in values.items()]


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True
