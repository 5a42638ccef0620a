"""What a failure left: removes it, and stops what StopWhenUnneeded= should have stopped.

systemd looks whether a unit is still needed when a unit that requires it stops. When
such a unit never came up, because something else that it requires failed, nobody
looks (systemd 252 to 257), and a namespace with nothing in it would stay. And an
outside step that was killed has had no chance to undo its half of a link. Every unit
of ours has OnFailure=netns_sweep.service, which comes here; starts wait for it.
"""

from __future__ import annotations

import time

from netns_tools.host import systemd
from netns_tools.kernel.link import delete_group
from netns_tools.names import device_group

_SETTLE_SECONDS = 0.1
"""A failure spreads through the jobs of a start within a millisecond; look again after a hundred."""


def sweep() -> int:
    """Undo failed outside steps, then stop outside steps and namespaces that nothing needs."""
    for unit in systemd.units(["netns_outside-*@*.service"], ["failed"]):
        _undo(unit)
    _stop_unneeded()
    time.sleep(_SETTLE_SECONDS)
    _stop_unneeded()
    return 0


def _undo(outside: str) -> None:
    """Delete what the type made in the namespace; its devices carry its group."""
    stem = outside.removeprefix("netns_outside-").removesuffix(".service")
    nstype, _, name = stem.partition("@")
    delete_group(name, device_group(nstype))


def _stop_unneeded() -> None:
    jobs = systemd.jobs()
    needless = unneeded(
        systemd.units(["netns_outside-*@*.service", "netns_name@*.service"], ["active"]), jobs
    )
    outside = [unit for unit in needless if unit.startswith("netns_outside-")]
    for unit in outside:
        _undo(unit)
    if outside:
        systemd.stop(outside)
    for unit in needless:
        if unit.startswith("netns_name@"):
            # It refuses to be stopped by hand. A unit that required it and ends makes systemd look.
            systemd.start(unit.replace("netns_name@", "netns_recheck@", 1))


def unneeded(units: list[str], jobs: dict[str, str]) -> list[str]:
    """Those of the units that have no job and that no other one needs which is up or has a job."""
    alive = set(systemd.units(["*"], ["active", "activating", "reloading"])) | jobs.keys()
    return [
        unit for unit, users in systemd.dependents(units).items() if unit not in jobs and not users & alive
    ]
