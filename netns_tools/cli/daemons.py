"""Daemons: what the commands know of each. A new one is a line in ``SETTINGS``."""

from __future__ import annotations

from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

SETTINGS = {
    "addrset": ("netns_tools.addrset.config", "load_settings"),
    "natmap": ("netns_tools.natmap.file", "load_desired"),
}
"""TYPE → the module and function ``(name, paths)`` that read and check its configuration."""

PLAN = {"addrset": "plan", "natmap": "ls"}
"""TYPE → its command that shows what differs from what is wanted."""


def daemon_problems(nstype: str, name: str, paths: Paths) -> list[Problem]:
    """What is wrong with the configuration of a daemon: all that it would say itself at a start."""
    from importlib import import_module

    module, function = SETTINGS[nstype]
    try:
        settings = getattr(import_module(module), function)(name, paths)
    except ConfigError as error:
        return error.problems
    return list(getattr(settings, "warnings", ()))
