"""Every path of the project, below one root.

This module is on the start path of every namespace: it imports nothing but what is built in.
"""

from __future__ import annotations

from posix import F_OK, access

_PACKAGE_DIR = __file__.rpartition("/")[0]


class Paths:
    """Where things are. ``root`` is ``""`` for the running system, else a directory (no trailing slash).

    ``data`` is the directory that holds ``nstypes/`` and ``unit-templates/``: beside
    the package in a checkout and when installed by make, inside it when installed by
    pip. It does not move with ``root``: it is the program, not the machine that the
    program looks at.
    """

    def __init__(self, root: str = "") -> None:
        self.root = "" if root == "/" else root.rstrip("/")
        inside = access(f"{_PACKAGE_DIR}/nstypes", F_OK)
        self.data = _PACKAGE_DIR if inside else _PACKAGE_DIR.rpartition("/")[0]
        self.nstypes = f"{self.data}/nstypes"
        self.unit_templates = f"{self.data}/unit-templates"
        self.conf = f"{self.root}/etc/conf.d/netns"
        self.legacy_types = f"{self.root}/usr/share/systemd-netns"
        self.units = f"{self.root}/etc/systemd/system"
        self.run = f"{self.root}/run/netns-tools"
        self.cache = f"{self.root}/var/cache/netns-tools"
        self.netns = f"{self.root}/run/netns"
        self.etc_netns = f"{self.root}/etc/netns"

    def run_plan(self, nstype: str, name: str) -> str:
        """The plan of a running TYPE@NAME, as it was started."""
        return f"{self.run}/{name}/{nstype}"

    def cached_plan(self, nstype: str, name: str) -> str:
        """The plan that the next start uses if nothing it was made from has changed."""
        return f"{self.cache}/{name}@{nstype}.plan"

    def layers(self, nstype: str, name: str) -> list[str]:
        """The configuration files of TYPE@NAME, lowest layer first; they need not exist."""
        stems = ("default", nstype, f"{nstype}-{name}")
        return [f"{self.conf}/{stem}{suffix}" for stem in stems for suffix in (".conf", ".yaml")]
