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
    if any(dependent in line.split() and {"restart", "try-restart"} & set(line.split()) for line in jobs.splitlines()):
        return 0
    wanted = systemctl("show", pulled, *(f"-p{p}" for p in ("RequiredBy", "WantedBy", "BoundBy", "RequisiteOf")))
    users = {word for line in wanted.splitlines() for word in line.partition("=")[2].split()} - {dependent}
    if users:
        states = systemctl("show", "-pActiveState", *sorted(users)).split()
        queued = {word for line in jobs.splitlines() for word in line.split()} & users
        if queued or any(state not in ("ActiveState=inactive", "ActiveState=failed") for state in states):
            return 0
    posix.unlink(f"{paths.run}/{name}/pulled-{required}")
    systemctl("stop", "--no-block", pulled)
    return 0
