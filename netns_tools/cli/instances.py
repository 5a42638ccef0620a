"""Types and instances as the commands need them; where they are found is ``netns_tools.units.discover``."""

from __future__ import annotations

import os

from netns_tools.check.survey import Instance
from netns_tools.config import daemonfile
from netns_tools.config.nstype import load_nstype
from netns_tools.errors import ConfigError, Problem
from netns_tools.names import RESERVED, nsname_problem, nstype_problem
from netns_tools.units.discover import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.config.nstype import NsType
    from netns_tools.paths import Paths


class Known:
    """What there is: types that can be loaded, instances sorted by NAME and TYPE, and problems with either.

    ``broken`` are the names of types whose definition cannot be read, ``daemons`` those of daemons.
    """

    def __init__(self, paths: Paths) -> None:
        found = find(paths)
        self.types: dict[str, NsType] = found.types
        self.broken: set[str] = found.broken
        self.problems: list[Problem] = found.problems
        self.instances: list[Instance] = []
        self.daemons: set[str] = {name for name in found.types if found.is_daemon(name)}
        serving = {key for key in found.serving if key[0] in self.daemons}
        for nstype, name in found.configured | found.enabled | found.running | serving:
            one = Instance(nstype, name, self._files(paths, nstype, name))
            one.enabled = (nstype, name) in found.enabled
            one.running = (nstype, name) in found.running | serving
            one.state = "active" if one.running else "inactive"
            self.instances.append(one)
        self.instances.sort(key=lambda one: (one.name, one.nstype))

    def _files(self, paths: Paths, nstype: str, name: str) -> list[str]:
        """The files that exist and belong to this instance alone, or are the one that a daemon reads."""
        candidates = [f"{paths.conf}/{nstype}-{name}{suffix}" for suffix in (".conf", ".yaml", ".rules")]
        if nstype in self.daemons:
            candidates = [daemonfile.find(nstype, name, paths)]
        return [path for path in candidates if os.path.lexists(path)]


def check_names(nstype: str, name: str, *, daemon: bool = False) -> None:
    """Refuse a TYPE or NAME that cannot be one; raises ConfigError. Both become parts of paths."""
    problems = [Problem(text) for text in (nstype_problem(nstype), nsname_problem(name)) if text]
    if name in RESERVED and not daemon:
        problems.append(Problem(f"{name!r} is the host's own network namespace; a type needs one of its own"))
    if problems:
        raise ConfigError(problems)


def load_instance(nstype: str, name: str, paths: Paths) -> Config:
    """The configuration of TYPE in NAME. Raises ConfigError with all problems, as a start would."""
    from netns_tools.config.layers import load_config

    check_names(nstype, name)
    return load_config(load_nstype(nstype, paths), name, paths)
