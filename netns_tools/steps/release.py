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
    import subprocess

    dependent = unit(nstype, name)
    pulled = unit(required, name)

    def systemctl(*words: str) -> str:
        command = ["systemctl", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=20).stdout

    jobs = systemctl("list-jobs", "--no-legend", "--plain")
    if any(dependent in line.split() and "stop" not in line.split() for line in jobs.splitlines()):
        # A restart, or a start that waits for this stop: it would pull the type in again at once.
        return 0
    wanted = systemctl("show", pulled, *(f"-p{p}" for p in ("RequiredBy", "WantedBy", "BoundBy", "RequisiteOf")))
    users = {word for line in wanted.splitlines() for word in line.partition("=")[2].split()} - {dependent}
    if users:
        states = systemctl("show", "-pActiveState", *sorted(users)).split()
        queued = {word for line in jobs.splitlines() for word in line.split()} & users
        if queued or any(state not in ("ActiveState=inactive", "ActiveState=failed") for state in states):
            return 0
    systemctl("stop", "--no-block", pulled)
    # The note goes last: whatever is killed before, the next stop tries again.
    posix.unlink(f"{paths.run}/{name}/pulled-{required}")
    return 0
