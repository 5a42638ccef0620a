"""Stop a type that only our own start brought up, once nothing needs it any more.

``netns-nft@N`` requires ``netns-lo@N``. When the firewall stops, loopback must go
again, or the namespace would stay for ever; unless somebody else wants it.
systemd's StopWhenUnneeded= cannot say this: it would also stop a loopback that a
user started by hand. The outside step notes ``pulled-lo`` when it finds loopback
not running; loopback starts after that step (After= in its unit).
"""

from __future__ import annotations

import os

from netns_tools.host import systemd
from netns_tools.names import unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

_NOTE = "pulled-"


def release(nstype: str, name: str, failed: bool, paths: Paths) -> int:
    """Stop what ``netns-TYPE@NAME`` brought up, now that its outside step stopped.

    ``failed``: the outside step did not come up, perhaps not even to its notes. What it
    requires and does not run yet has a job of the same start, which is to be taken back.
    """
    dependent = unit(nstype, name)
    jobs = systemd.jobs()
    if not failed and jobs.get(dependent, "stop") != "stop":
        # A restart, or a start that waits for this stop: it would pull the type in again at once.
        return 0
    base = f"{paths.run}/{name}"
    noted = {entry.removeprefix(_NOTE) for entry in os.listdir(base) if entry.startswith(_NOTE)}
    queued = _requirements(nstype, paths) if failed else []
    for required in noted | {each for each in queued if not os.path.isdir(f"{base}/{each}")}:
        pulled = unit(required, name)
        users = systemd.dependents([pulled]).get(pulled, set()) - {dependent}
        if users & jobs.keys() or systemd.units(users, ["active", "activating", "reloading"]):
            continue
        systemd.stop([pulled])
        if required in noted:
            # The note goes last: whatever is killed before, the next stop tries again.
            os.unlink(f"{base}/{_NOTE}{required}")
    return 0


def _requirements(nstype: str, paths: Paths) -> list[str]:
    from netns_tools.config.nstype import load_nstype
    from netns_tools.errors import ConfigError

    try:
        return load_nstype(nstype, paths).requires
    except ConfigError:
        return []
