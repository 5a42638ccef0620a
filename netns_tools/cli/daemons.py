"""Daemons: what the commands know of each. A new one is a line in ``SETTINGS``."""

from __future__ import annotations

from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

SETTINGS = {"addrset": "netns_tools.addrset.config"}
"""TYPE → the module whose ``load_settings(name, paths)`` reads and checks its configuration."""


def daemon_problems(nstype: str, name: str, paths: Paths) -> list[Problem]:
    """What is wrong with the configuration of a daemon: all that it would say itself at a start."""
    from importlib import import_module

    try:
        settings = import_module(SETTINGS[nstype]).load_settings(name, paths)
    except ConfigError as error:
        return error.problems
    return list(settings.warnings)
