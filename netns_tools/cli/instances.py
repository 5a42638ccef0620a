"""Which types and which instances there are: from file names, links of systemd and directories under /run."""

from __future__ import annotations

import os

from netns_tools.check.survey import Instance
from netns_tools.config.nstype import NsType, load_nstype, load_nstypes
from netns_tools.errors import ConfigError, Problem
from netns_tools.names import RESERVED, nsname_problem, nstype_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from netns_tools.config.layers import Config
    from netns_tools.paths import Paths

SUFFIXES = (".conf", ".yaml", ".rules")
"""Of configuration files, whose name is TYPE or TYPE-NAME."""


def load_types(paths: Paths) -> tuple[dict[str, NsType], list[Problem]]:
    """All types that can be loaded, and the problems of those that cannot: one broken file hides no other."""
    try:
        return load_nstypes(paths), []
    except ConfigError as error:
        types: dict[str, NsType] = {}
        for name in _type_names(paths):
            try:
                types[name] = load_nstype(name, paths)
            except ConfigError:
                continue
        return types, error.problems


def _type_names(paths: Paths) -> list[str]:
    """Names that may be types, from the files that define types."""
    names = {stem for stem, suffix in _files(paths.nstypes) if suffix == ".yaml"}
    names |= {stem for stem, suffix in _files(paths.conf) if suffix in (".yaml", ".sh")}
    names |= {stem for stem, suffix in _files(paths.legacy_types) if suffix == ".sh"}
    return sorted(name for name in names - {"default"} if "-" not in name)


def _files(directory: str) -> list[tuple[str, str]]:
    """Names of the files of a directory as (stem, suffix), sorted; hidden ones and backups are not meant."""
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [os.path.splitext(name) for name in names if name[0] != "." and not name.endswith("~")]


def find_instances(paths: Paths, types: Mapping[str, NsType]) -> list[Instance]:
    """All instances that are configured, enabled or running, sorted by NAME and TYPE; states are not asked for."""
    found: dict[tuple[str, str], Instance] = {}

    def instance(nstype: str, name: str) -> Instance:
        return found.setdefault((nstype, name), Instance(nstype, name))

    for stem, suffix in _files(paths.conf):
        nstype, hyphen, name = stem.partition("-")
        if suffix in SUFFIXES and hyphen and nstype in types and not nsname_problem(name):
            instance(nstype, name).files.append(f"{paths.conf}/{stem}{suffix}")
    for nstype, name in _enabled(paths.units):
        if nstype in types:
            instance(nstype, name).enabled = True
    for nstype, name in _running(paths.run):
        one = instance(nstype, name)
        one.running = True
        one.state = "active"
    return sorted(found.values(), key=lambda one: (one.name, one.nstype))


def instance_of(unit: str) -> tuple[str, str] | None:
    """TYPE and NAME of ``netns-TYPE@NAME.service``; None for any other unit. A template has no NAME."""
    if not (unit.startswith("netns-") and unit.endswith(".service")):
        return None
    nstype, at, name = unit.removeprefix("netns-").removesuffix(".service").partition("@")
    return (nstype, name) if at and nstype and not nsname_problem(name) else None


def _enabled(units: str) -> Iterable[tuple[str, str]]:
    """Instances that ``systemctl enable`` linked: ``netns-TYPE@NAME.service`` in a .wants or .requires directory."""
    for stem, suffix in _files(units):
        if suffix in (".wants", ".requires"):
            for name, extension in _files(f"{units}/{stem}{suffix}"):
                if key := instance_of(name + extension):
                    yield key


def _running(run: str) -> Iterable[tuple[str, str]]:
    """Instances with a plan under /run: a directory NAME/TYPE."""
    try:
        names = sorted(os.listdir(run))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if nsname_problem(name) or not os.path.isdir(f"{run}/{name}"):
            continue
        for nstype in sorted(os.listdir(f"{run}/{name}")):
            if os.path.isdir(f"{run}/{name}/{nstype}") and nstype[0] != ".":
                yield nstype, name


def check_names(nstype: str, name: str) -> None:
    """Refuse a TYPE or NAME that cannot be one; raises ConfigError. Both become parts of paths."""
    problems = [Problem(text) for text in (nstype_problem(nstype), nsname_problem(name)) if text]
    if name in RESERVED:
        problems.append(Problem(f"{name!r} is the host's own network namespace; a type needs one of its own"))
    if problems:
        raise ConfigError(problems)


def load_instance(nstype: str, name: str, paths: Paths) -> Config:
    """The configuration of TYPE in NAME. Raises ConfigError with all problems, as a start would."""
    from netns_tools.config.layers import load_config

    check_names(nstype, name)
    return load_config(load_nstype(nstype, paths), name, paths)
