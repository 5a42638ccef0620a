"""Stop a type that only our own start brought up, once nothing needs it any more.

``netns-nft@N`` requires ``netns-lo@N``. When the firewall stops, loopback must go
again, or the namespace would stay for ever; unless somebody else wants it.
systemd's StopWhenUnneeded= cannot say this: it would also stop a loopback that a
user started by hand. The outside step notes ``pulled-lo`` when it finds loopback
not running.
"""

from __future__ import annotations

from netns_tools.names import unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths


def release(nstype: str, name: str, required: str, paths: Paths) -> int:
    """Stop ``netns-REQUIRED@NAME`` if no unit but ``netns-TYPE@NAME``, which is going down, needs it."""
    import posix

    from netns_tools.host import systemd

    dependent = unit(nstype, name)
    pulled = unit(required, name)
    jobs = systemd.jobs()
    if jobs.get(dependent, "stop") != "stop":
        # A restart, or a start that waits for this stop: it would pull the type in again at once.
        return 0
    users = systemd.dependents(pulled) - {dependent}
    if users & jobs.keys() or systemd.units(users, ["active", "activating", "reloading"]):
        return 0
    systemd.stop(pulled)
    # The note goes last: whatever is killed before, the next stop tries again.
    posix.unlink(f"{paths.run}/{name}/pulled-{required}")
    return 0
