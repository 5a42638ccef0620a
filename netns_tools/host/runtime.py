"""Where a daemon is found while it runs: its socket, and the lock that lets it run once."""

from __future__ import annotations

from netns_tools.host.lock import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths


def socket_path(nstype: str, name: str, paths: Paths) -> str:
    """The control socket of the daemon TYPE of NAME."""
    return f"{paths.run}/{nstype}-{name}.sock"


def lock_of(nstype: str, name: str, paths: Paths) -> Lock:
    """The lock that lets TYPE run once a NAME."""
    return Lock(f"{paths.run}/{nstype}-{name}.lock", f"netns-{nstype}@{name}")
