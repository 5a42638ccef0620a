"""Stop what StopWhenUnneeded= should have stopped.

systemd looks whether a unit is still needed when a unit that requires it stops. When
such a unit never came up, because something else that it requires failed, nobody
looks (systemd 252 to 257), and a namespace with nothing in it would stay. Every unit
of ours has OnFailure=netns_sweep.service, which comes here.
"""

from __future__ import annotations

import time

from netns_tools.host import systemd

_SECONDS = 20
"""How long to wait for the jobs of a failed start to end: as long as they go on, things are needed."""

_OURS = ["netns_outside-*@*.service", "netns_name@*.service"]


def sweep() -> int:
    """Stop the outside steps and namespaces that nothing needs."""
    deadline = time.monotonic() + _SECONDS
    while any(job.startswith("netns") and not job.startswith("netns_sweep") for job in systemd.jobs()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    needless = unneeded(systemd.units(_OURS, ["active"]), systemd.jobs())
    outside = [unit for unit in needless if unit.startswith("netns_outside-")]
    if outside:
        systemd.stop(outside)
    for unit in needless:
        if unit.startswith("netns_name@"):
            # It refuses to be stopped by hand. A unit that required it and ends makes systemd look.
            systemd.start(unit.replace("netns_name@", "netns_recheck@", 1))
    return 0


def unneeded(units: list[str], jobs: dict[str, str]) -> list[str]:
    """Those of the units that no other one needs which is up or has a job."""
    found = []
    for unit in units:
        users = systemd.dependents(unit)
        if not users & jobs.keys() and not systemd.units(users, ["active", "activating", "reloading"]):
            found.append(unit)
    return found
