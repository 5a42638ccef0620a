"""A host of its own for each test: network and mount namespace, so that the real host is never touched."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

SETUP = """
set -e
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/o/etc /run/o/etc-work /run/o/var /run/o/var-work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/o/etc,workdir=/run/o/etc-work /etc
mount -t tmpfs tmpfs /var/cache
mount -t tmpfs tmpfs /var/lib
rm -rf /etc/conf.d/netns /etc/netns
mkdir -p /etc/conf.d/netns
ip link set lo up
ip link add uplink type bridge
ip link set uplink up
echo ready
exec sleep infinity
"""


class FakeHost:
    """A network and mount namespace that plays the host; its /etc, /run, /var/cache and /var/lib are its own.

    ``uplink`` is a bridge that plays the network card.
    """

    def __init__(self, libdir: Path) -> None:
        self.netnsinit = libdir / "netnsinit"
        self.netns_name = libdir / "netns-name"
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", SETUP],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def close(self) -> None:
        """End the host; the kernel takes its namespaces, devices and mounts along."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def run(
        self, *command: str | Path, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this host; with ``check`` a failure shows what the command said."""
        done = subprocess.run(
            # --root: in a chroot, the root of a mount namespace is not what its processes see as /.
            [
                "nsenter",
                "-t",
                str(self._process.pid),
                "--net",
                "--mount",
                "--root",
                "--wd",
                *map(str, command),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **options,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def spawn(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a program on this host; nsenter execs it, so the pid is its own. The caller ends it."""
        return subprocess.Popen(
            [
                "nsenter",
                "-t",
                str(self._process.pid),
                "--net",
                "--mount",
                "--root",
                "--wd",
                *map(str, command),
            ],
            text=True,
            **options,
        )

    def project_for_all(self) -> str:
        """Where users other than root find this checkout, which may be below /root."""
        place = "/run/project"
        self.run("sh", "-c", 'mkdir -p "$1" && mount --bind "$2" "$1"', "-", place, REPOSITORY)
        return place

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on this host."""
        self.run(
            "sh",
            "-c",
            'mkdir -p "$(dirname "$1")"; cat > "$1"; chmod "$2" "$1"',
            "-",
            path,
            f"{mode:o}",
            input=text,
        )

    def configure(self, file: str, text: str) -> None:
        """Write a configuration file."""
        self.write(f"/etc/conf.d/netns/{file}", text)

    def links(self, netns: str = "") -> dict[str, dict[str, Any]]:
        """The devices of this host, or of a namespace on it, by name, with details and addresses."""
        where = ["-n", netns] if netns else []
        found = json.loads(self.run("ip", *where, "-d", "-j", "address", "show").stdout or "[]")
        return {link["ifname"]: link for link in found if link}

    def addresses(self, device: str, netns: str = "") -> set[str]:
        """The configured addresses of a device as ``ADDRESS/LENGTH``; link-local ones are left out."""
        info = self.links(netns)[device]["addr_info"]
        return {f"{a['local']}/{a['prefixlen']}" for a in info if a["scope"] != "link"}

    def routes(self, netns: str = "", family: str = "-4") -> list[str]:
        """The routes of a namespace, one text each."""
        where = ["-n", netns] if netns else []
        return [line.strip() for line in self.run("ip", *where, family, "route").stdout.splitlines()]

    def namespaces(self) -> list[str]:
        """The named namespaces."""
        return sorted(line.split()[0] for line in self.run("ip", "netns", "list").stdout.splitlines())

    def name_up(self, name: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """What netns_name@NAME does at a start."""
        return self.run(self.netns_name, "up", name, check=check)

    def name_down(self, name: str) -> None:
        """What netns_name@NAME does at a stop."""
        self.run(self.netns_name, "down", name)

    def step(
        self,
        nstype: str,
        name: str,
        updown: str,
        inout: str,
        *parameters: str,
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run one step where systemd would run it."""
        inside = ["ip", "netns", "exec", name] if inout == "inside" else []
        words: list[str | Path] = [*inside, self.netnsinit, nstype, name, *parameters, updown, inout]
        return self.run(*words, check=check, **options)

    def start(self, nstype: str, name: str) -> str:
        """Create the namespace unless it is there, and take both up steps; return what they said."""
        if name not in self.namespaces():
            self.name_up(name)
        said = self.step(nstype, name, "up", "outside").stderr
        return said + self.step(nstype, name, "up", "inside").stderr

    def nft(self, name: str, *words: str, check: bool = True) -> str:
        """Run nft in a namespace."""
        return self.run("ip", "netns", "exec", name, "nft", *words, check=check).stdout


@pytest.fixture(scope="session")
def libdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts as installed, over the package of this checkout."""
    top = tmp_path_factory.mktemp("lib")
    top.chmod(0o755)
    (top / "netns-tools").symlink_to(REPOSITORY)
    for script in ("netnsinit", "netns-name"):
        text = (REPOSITORY / "lib" / script).read_text().replace("@LIBDIR@", str(top))
        (top / script).write_text(text)
        (top / script).chmod(0o755)
    return top


@pytest.fixture
def host(libdir: Path) -> Iterator[FakeHost]:
    """A fresh host."""
    assert shutil.which("nft"), "the kernel lane needs nftables"
    fake = FakeHost(libdir)
    yield fake
    fake.close()
