"""Which types and instances there are, from the names of files and directories."""

from __future__ import annotations

import os

from netns_tools.config.nstype import DAEMON, load_nstype, load_nstypes
from netns_tools.errors import ConfigError, Problem
from netns_tools.names import HOST, RESERVED, nsname_problem, nstype_problem
from netns_tools.units.unitfile import FIREWALL, split_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from netns_tools.config.nstype import NsType
    from netns_tools.paths import Paths

Key = tuple[str, str]
"""TYPE and NAME."""


class Found:
    """What is there. ``broken`` are types whose definition cannot be read; what belongs to them stays.

    ``running`` have the plan of a start; ``serving`` are daemons with a control socket.
    """

    __slots__ = ("broken", "configured", "enabled", "problems", "running", "serving", "types")

    def __init__(self) -> None:
        self.types: dict[str, NsType] = {}
        self.broken: set[str] = set()
        self.configured: set[Key] = set()
        self.enabled: set[Key] = set()
        self.running: set[Key] = set()
        self.serving: set[Key] = set()
        self.problems: list[Problem] = []

    def instances(self) -> list[Key]:
        """Every instance of a type that is known."""
        keys = self.configured | self.enabled | self.running
        keys |= {key for key in self.serving if self.is_daemon(key[0])}
        return sorted(key for key in keys if key[0] in self.types)

    def is_daemon(self, nstype: str) -> bool:
        """Whether this TYPE is known, and a daemon."""
        return nstype in self.types and self.types[nstype].kind == DAEMON


def find_running(paths: Paths) -> Found:
    """Look at what runs only."""
    found = Found()
    found.running = set(_running(paths.run))
    found.serving = set(_serving(paths.run))
    return found


def find(paths: Paths) -> Found:
    """Look at definitions, configuration, enabled units and what runs."""
    found = find_running(paths)
    _find_types(paths, found)
    entries = _entries(paths.conf)
    found.configured = set(_configured(paths, entries, found))
    found.enabled = {key for key in _enabled(paths.units) if _may_be(key, found)}
    for nstype, name in sorted(found.enabled):
        if nstype not in found.types and nstype not in found.broken:
            found.problems.append(
                Problem(
                    f"netns-{nstype}@{name} is enabled, but there is no type {nstype!r}",
                    hint=f"systemctl disable netns-{nstype}@{name}, or define the type "
                    f"in {paths.conf}/{nstype}.yaml or {nstype}.sh",
                    severity="warning",
                )
            )
    return found


def _find_types(paths: Paths, found: Found) -> None:
    """One broken definition does not hide the others."""
    try:
        found.types = load_nstypes(paths)
        return
    except ConfigError as error:
        found.problems += error.problems
    shipped = {entry.removesuffix(".yaml") for entry in _entries(paths.nstypes) if entry.endswith(".yaml")}
    own = {entry.rpartition(".")[0] for entry in _entries(paths.conf) if entry.endswith((".yaml", ".sh"))}
    legacy = {entry.removesuffix(".sh") for entry in _entries(paths.legacy_types) if entry.endswith(".sh")}
    for name in sorted(name for name in shipped | own | legacy if not nstype_problem(name)):
        try:
            found.types[name] = load_nstype(name, paths)
        except ConfigError:
            found.broken.add(name)


def _configured(paths: Paths, entries: list[str], found: Found) -> Iterator[Key]:
    """Instances that have a file: TYPE-NAME.conf, TYPE-NAME.yaml, nft-NAME.rules; TYPE.yaml of a daemon."""
    for entry in entries:
        stem, _, suffix = entry.rpartition(".")
        nstype, hyphen, name = stem.partition("-")
        if suffix not in ("conf", "yaml", "rules") or not stem or entry.startswith("."):
            continue
        if suffix == "rules" and nstype != FIREWALL:
            continue
        if not hyphen and nstype == "default":
            continue
        problem = _file_problem(nstype, name, hyphen, suffix, paths, found)
        if problem is not None:
            problem.path = f"{paths.conf}/{entry}"
            found.problems.append(problem)
        elif hyphen and nstype in found.types:
            yield nstype, name
        elif found.is_daemon(nstype):
            yield nstype, HOST  # the file of every NAME; this one needs nothing else


def _file_problem(
    nstype: str, name: str, hyphen: str, suffix: str, paths: Paths, found: Found
) -> Problem | None:
    """What is wrong with the name of a configuration file; None when nothing is."""
    rename = "rename the file; it is read for TYPE-NAME, and TYPE ends at the first hyphen"
    if message := nstype_problem(nstype):
        return Problem(f"not used: {message}", hint=rename, severity="warning")
    if nstype not in found.types:
        if nstype in found.broken:
            return None
        known = ", ".join(sorted(found.types))
        return Problem(
            f"not used: there is no type {nstype!r}",
            hint=f"rename it ({known}), or define the type in {paths.conf}/{nstype}.yaml or {nstype}.sh",
            severity="warning",
        )
    if hyphen and (message := nsname_problem(name)):
        return Problem(f"not used: {message}", hint=rename, severity="warning")
    if found.is_daemon(nstype):
        return _daemon_problem(nstype, name, suffix)
    if name in RESERVED:
        return Problem(
            f"not used: {name!r} is the host's own namespace", hint="choose another NAME", severity="warning"
        )
    return None


def _daemon_problem(nstype: str, name: str, suffix: str) -> Problem | None:
    """A daemon reads one YAML file."""
    if suffix == "yaml":
        return None
    file = f"{nstype}-{name}.yaml" if name else f"{nstype}.yaml"
    return Problem(
        f"not used: {nstype!r} is a daemon, which is configured in YAML alone",
        hint=f"write {file} instead; `netnsctl types {nstype}` describes its keys",
        severity="warning",
    )


def _may_be(key: Key, found: Found) -> bool:
    """Whether there can be such an instance: only daemons run in the host's own namespace."""
    return key[1] not in RESERVED or found.is_daemon(key[0]) or key[0] in found.broken


def _enabled(units: str) -> Iterator[Key]:
    """Instances that ``systemctl enable`` linked."""
    for directory in _entries(units):
        if directory.endswith((".wants", ".requires")):
            for entry in _entries(f"{units}/{directory}"):
                key = split_unit(entry) if entry.startswith("netns-") else None
                if key:
                    yield key


def _running(run: str) -> Iterator[Key]:
    """Instances with the plan of a start: RUN/NAME/TYPE is a directory."""
    for name in _entries(run):
        if nsname_problem(name):
            continue
        for nstype in _entries(f"{run}/{name}"):
            if not nstype_problem(nstype) and os.path.isdir(f"{run}/{name}/{nstype}"):
                yield nstype, name


def _serving(run: str) -> Iterator[Key]:
    """Daemons with a control socket: RUN/TYPE-NAME.sock; one that was killed leaves it."""
    for entry in _entries(run):
        nstype, hyphen, name = entry.removesuffix(".sock").partition("-")
        if entry.endswith(".sock") and hyphen and not nstype_problem(nstype) and not nsname_problem(name):
            yield nstype, name


def _entries(directory: str) -> list[str]:
    """The sorted names in a directory; none when it is none."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
