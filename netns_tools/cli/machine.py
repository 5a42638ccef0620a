"""What the commands look at on the running machine: systemd's units, network devices, networkd's files.

Everything here reads; nothing is changed. Below another root there is no running
systemd to ask: then files say what they can.
"""

from __future__ import annotations

import os

from netns_tools.check.survey import Instance, Machine, NetworkFile
from netns_tools.errors import NetnsToolsError
from netns_tools.host import systemd
from netns_tools.units.unitfile import split_unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netns_tools.paths import Paths

_NETWORKD = "systemd-networkd.service"
_UNITS = ("netns-*@*.service", "netns_name@*.service", _NETWORKD)
_NETWORK_DIRS = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
    "/lib/systemd/network",
)
"""Where networkd looks, first one wins (systemd.network(5))."""
_ACTIVE = ("active", "activating", "deactivating", "reloading")


def unit_states(paths: Paths) -> dict[str, str] | None:
    """State of each loaded unit of ours and of networkd, in one call; None where no systemd answers."""
    if paths.root or not systemd.is_running():
        return None
    try:
        return systemd.states(_UNITS)
    except NetnsToolsError:
        return None


def add_states(instances: Iterable[Instance], states: dict[str, str] | None) -> list[Instance]:
    """The instances with systemd's states, and those that only systemd knows, sorted by NAME and TYPE."""
    by_key = {one.key: one for one in instances}
    for one in by_key.values() if states is not None else ():
        one.state = "inactive"
    for unit, state in (states or {}).items():
        key = split_unit(unit) if unit.startswith("netns-") else None
        if key is not None and (state != "inactive" or key in by_key):
            by_key.setdefault(key, Instance(*key)).state = state
    return sorted(by_key.values(), key=lambda one: (one.name, one.nstype))


def observe_machine(paths: Paths, states: dict[str, str] | None) -> Machine:
    """What the checks need to know about the machine."""
    return Machine(
        devices=None if paths.root else _names_in("/sys/class/net"),
        networkd=_networkd_active(paths, states),
        network_files=_network_files(paths),
        namespaces=_names_in(paths.netns),
        ours=_ours(paths, states),
    )


def _ours(paths: Paths, states: dict[str, str] | None) -> set[str]:
    """NAMEs of namespaces that netns-tools made: the mark ``ours`` is under /run, or their unit is active."""
    ours = {name for name in _names_in(paths.run) if os.path.isfile(f"{paths.run}/{name}/ours")}
    for unit, state in (states or {}).items():
        if unit.startswith("netns_name@") and state in _ACTIVE:
            ours.add(unit.removeprefix("netns_name@").removesuffix(".service"))
    return ours


def _names_in(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _networkd_active(paths: Paths, states: dict[str, str] | None) -> bool:
    """Whether networkd runs; without a systemd to ask, whether it is enabled."""
    if states is not None:
        return states.get(_NETWORKD) in _ACTIVE
    wanting = (name for name in _names_in(paths.units) if name.endswith((".wants", ".requires")))
    return any(os.path.lexists(f"{paths.units}/{name}/{_NETWORKD}") for name in wanting)


def _network_files(paths: Paths) -> list[NetworkFile]:
    """networkd's .network files in the order in which it reads them, without those masked by /dev/null."""
    found: dict[str, str] = {}
    for directory in _NETWORK_DIRS:
        for name in _names_in(paths.root + directory):
            if name.endswith(".network"):
                found.setdefault(name, f"{paths.root}{directory}/{name}")
    files = []
    for name in sorted(found):
        try:
            with open(found[name], encoding="utf-8", errors="surrogateescape") as file:
                text = "" if os.path.realpath(found[name]) == "/dev/null" else file.read()
        except OSError:
            continue
        if text.strip():
            files.append(NetworkFile(found[name], text))
    return files
