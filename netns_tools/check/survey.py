"""What the checks look at: every instance, its configuration if that could be loaded, and the machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from netns_tools.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config, Value

Key = tuple[str, str]
"""TYPE and NAME of an instance."""


@dataclass(slots=True)
class Instance:
    """TYPE in namespace NAME: configured, enabled or running, or several of these.

    ``files`` are the files that belong to it alone. ``state`` is systemd's word (active,
    inactive, failed, …); where no systemd can be asked, active or inactive.
    """

    nstype: str
    name: str
    files: list[str] = field(default_factory=list)
    enabled: bool = False
    running: bool = False
    state: str = "inactive"

    @property
    def key(self) -> Key:
        """TYPE and NAME."""
        return self.nstype, self.name


@dataclass(slots=True)
class NetworkFile:
    """One of networkd's .network files."""

    path: str
    text: str


@dataclass(slots=True)
class Machine:
    """What was observed on the machine; ``devices`` is None where it is another system's root."""

    devices: set[str] | None = None
    networkd: bool = False
    network_files: list[NetworkFile] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    ours: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Survey:
    """Everything that is checked together. ``types`` are the names of all types, ``daemons`` among them.

    ``configs`` has none of daemons: each checks its own file.
    """

    conf: str
    types: set[str] = field(default_factory=set)
    file_names: list[str] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    configs: dict[Key, Config] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)
    daemons: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Finding:
    """A problem and the instances that it is about (none: about a file or the machine)."""

    problem: Problem
    keys: list[Key] = field(default_factory=list)


def at(
    value: Value | None, message: str, *, word: str = "", hint: str = "", severity: str = "error"
) -> Problem:
    """A problem at a value; with ``word`` the caret stands under that word.

    A default has no place: the file that defines a type is nothing that an administrator edits.
    """
    if value is None or not value.source:
        return Problem(message, hint=hint, severity=severity)
    return value.problem(message, part=word, hint=hint, severity=severity)


def label(key: Key) -> str:
    """An instance as people write it: ``veth@demo``."""
    return f"{key[0]}@{key[1]}"
