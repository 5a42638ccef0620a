"""What unit files need to know of one instance. Pure."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from netns_tools.config import daemonfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.paths import Paths

NAME_FILES = ("resolv.conf", "hosts", "nsswitch.conf")
"""Files in /etc/netns/NAME that stand in for those in /etc (ip-netns(8))."""


@dataclass(frozen=True)
class Facts:
    """What follows from the configuration of an instance.

    ``order`` is NETWORK_ORDER; ``namespaces`` and ``devices`` must be there first;
    ``sources`` are the configuration files that exist, as the running system names them.
    """

    order: str
    namespaces: tuple[str, ...]
    devices: tuple[str, ...]
    sources: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For the record; ``Facts(**d)`` is the way back."""
        return asdict(self)


def facts_from_dict(record: dict[str, object]) -> Facts:
    """The facts that ``as_dict`` gave. Raises ``KeyError``, ``TypeError`` for anything else."""

    def strings(name: str) -> tuple[str, ...]:
        value = record[name]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise TypeError(name)
        return tuple(value)

    order = record["order"]
    if not isinstance(order, str):
        raise TypeError("order")
    return Facts(order, strings("namespaces"), strings("devices"), strings("sources"))


def facts_of(config: Config, paths: Paths) -> Facts:
    """The facts of a checked configuration."""
    nstype = config.nstype
    return Facts(
        order=config.text("NETWORK_ORDER") or "before",
        namespaces=_distinct(config, nstype.needs_namespaces),
        devices=_distinct(config, nstype.needs_devices),
        sources=tuple(
            path.removeprefix(paths.root)
            for path in config.inputs
            if path.startswith(paths.conf + "/") and os.path.exists(path)
        ),
    )


def facts_of_daemon(nstype: str, name: str, paths: Paths) -> Facts:
    """The facts of a daemon's instance: which file it reads; what is in there changes no unit."""
    found = [path for path in daemonfile.candidates(nstype, name, paths) if os.path.exists(path)]
    return Facts("none", (), (), tuple(path.removeprefix(paths.root) for path in found[:1]))


def _distinct(config: Config, options: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in map(config.text, options) if value))
