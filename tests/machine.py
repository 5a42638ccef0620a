"""Throwaway machines: a real systemd as PID 1, booted in half a second, gone without a trace.

    with Machine("debian12") as machine:
        machine.write("/etc/conf.d/netns/veth-demo.conf", "VETH_IFADDR_OUTSIDE=10.0.0.1/24\\n...")
        machine.run("systemctl start netns-veth@demo")
        assert "10.0.0.1/24" in machine.run("ip -br address").stdout

A machine is systemd-nspawn on an overlay whose upper layer is a tmpfs. The lower layer
is this machine's own root when it runs the same Debian release, otherwise a root that
mmdebstrap made once and that is kept in the cache. The checkout is visible inside,
read-only, as ``Machine.PROJECT``; nothing of it is installed.

Everything that a machine mounts lies in a mount namespace of its own and each of its
processes dies with its parent, so even a test run that is killed leaves neither mounts
nor processes. It needs root, and only the standard library: the demo uses it too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

RELEASES = {"debian12": "bookworm", "debian13": "trixie"}
"""What can be booted, with the name that Debian's archive has for it."""

PACKAGES = (
    *(
        "systemd",
        "systemd-sysv",
        "dbus",
        "iproute2",
        "netbase",
        "iptables",
        "nftables",
        "iputils-ping",
        "procps",
        "curl",
        "make",
    ),
    *("python3", "python3-click", "python3-h11", "python3-yaml", "python3-jinja2", "python3-nftables"),
)
"""What a root made by mmdebstrap holds beyond the essential packages."""

ROOT_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
}
"""The whole environment of every command inside a machine."""

BOOT_SECONDS = 60
COMMAND_SECONDS = 60

# The machine's own root is laid out and booted by this script, in a private mount
# namespace. A cgroup2 mount of its own gives the machine the unified hierarchy that
# Debian has by default, whatever the host uses. A cgroup of its own keeps machines that
# run at the same time apart, and kills one whole: TERM comes when the test run has died.
# Units and configuration that the host has beyond what packages ship are taken out: the
# host's services must not start here. systemd-nspawn ends with 133 when the machine
# reboots.
_BOOT = r"""
set -eu
name=$1 lower=$2 project=$3 inside=$4
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$name"
echo $$ >"/sys/fs/cgroup/$name/cgroup.procs"
mount -t tmpfs -o mode=755 netns-tools-machine /mnt
cd /mnt
mkdir upper work root
mount -t overlay -o "lowerdir=$lower,upperdir=upper,workdir=work" overlay root
mount -t tmpfs -o mode=755 netns-tools-machine /run
rm -rf root/etc/systemd/system root/etc/rc?.d root/etc/fstab root/etc/machine-id \
    root/etc/conf.d/netns root/etc/netns root/usr/share/systemd-netns root/usr/lib/netns-tools \
    root/var/cache/netns-tools root/var/lib/netns-tools root/var/log/journal \
    root/usr/lib/systemd/system/netns* root/usr/lib/sysusers.d/netns* root/usr/sbin/netns*
mkdir -p root/etc/systemd/system "root$inside"
tr -d - </proc/sys/kernel/random/uuid >root/etc/machine-id
trap 'echo 1 >"/sys/fs/cgroup/$name/cgroup.kill"' TERM
while :; do
    status=0
    systemd-nspawn --quiet --directory=root --boot --machine="$name" \
        --private-network --register=no --keep-unit --notify-ready=yes --console=pipe \
        --bind-ro="$project:$inside" systemd.unit=multi-user.target &
    wait "$!" || status=$?
    [ "$status" = 133 ] || exit "$status"
done
"""

# Kills and removes the cgroup of one machine, and those that killed test runs left.
_REMOVE_CGROUPS = r"""
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1
for path in /sys/fs/cgroup/netns-tools-*; do
    pid=${path#/sys/fs/cgroup/netns-tools-} pid=${pid%%-*}
    [ "$path" = "/sys/fs/cgroup/$1" ] || { [ -d "$path" ] && [ ! -d "/proc/$pid" ]; } || continue
    echo 1 >"$path/cgroup.kill"
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        find "$path" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.05
    done
done
"""

_CAN_OVERLAY = r"""
mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir upper work root &&
mount -t overlay -o "lowerdir=/,upperdir=upper,workdir=work" overlay root &&
test -x root/usr/bin/python3 -a -x root/lib/systemd/systemd &&
mkdir root/overlay-works
"""

_counter = itertools.count(1)


class MachineError(Exception):
    """A machine did not boot, or a command in it failed; the text has all that it printed."""


class Machine:
    """One machine, from ``with`` to the end of the block; see the module for an example."""

    PROJECT = "/usr/src/netns-tools"
    """Where the checkout is inside."""

    def __init__(self, release: str = "debian12", *, project: Path | None = None) -> None:
        self.release = release
        self.name = f"netns-tools-{os.getpid()}-{next(_counter)}"
        self.project = project or Path(__file__).resolve().parent.parent
        self._boot: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._console: IO[bytes] | None = None
        self._notify: socket.socket | None = None

    def __enter__(self) -> Machine:
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # ---- life

    def boot(self) -> None:
        """Start the machine and wait until systemd says that it is up."""
        lower = root_of(self.release)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"\0{self.name}")  # abstract: no file that could stay behind
        self._console = tempfile.TemporaryFile()  # noqa: SIM115 -- kill() closes it
        unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, "boot"]
        parameters = [self.name, lower, str(self.project), self.PROJECT]
        try:
            self._boot = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *unshare, *parameters],
                env={**ROOT_ENVIRONMENT, "NOTIFY_SOCKET": f"@{self.name}"},
                stdin=subprocess.DEVNULL,
                stdout=self._console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the test run; it ends the machine in order
            )
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    def reboot(self) -> None:
        """Reboot in order, and wait until the machine is up again. Files stay, /run is new."""
        self.run("systemctl reboot", check=False)  # the machine may cut the connection first
        self._await_ready()

    def poweroff(self) -> None:
        """Shut down in order (SIGRTMIN+4 to systemd), then remove what is left."""
        if self._boot is not None and self._boot.poll() is None:
            os.kill(self._leader, signal.SIGRTMIN + 4)
            try:
                self._boot.wait(BOOT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise MachineError(f"{self.name} does not power off") from None
        self.kill()

    def kill(self) -> None:
        """Pull the plug: processes, mounts and cgroups are gone when this returns."""
        if self._boot is not None:
            self._boot.kill()
            self._boot.wait()
            self._boot = None
            remove_cgroups(self.name)
        if self._notify is not None:
            self._notify.close()
            self._notify = None
        if self._console is not None:
            self._console.close()
            self._console = None
        self._leader = 0

    def _await_ready(self) -> None:
        """Read systemd-nspawn's messages (sd_notify(3)): which process is PID 1, and READY=1 from it."""
        assert self._boot is not None
        assert self._console is not None
        assert self._notify is not None
        self._notify.settimeout(0.2)
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self._boot.poll() is not None:
                break
            try:
                message = self._notify.recv(4096).decode().splitlines()
            except TimeoutError:
                continue
            for line in message:
                key, _, value = line.partition("=")
                if key == "X_NSPAWN_LEADER_PID":
                    self._leader = int(value)
            if "READY=1" in message:
                return
        self._console.seek(0)
        said = self._console.read().decode(errors="replace")[-4000:]
        raise MachineError(
            f"{self.name} ({self.release}) does not boot (status {self._boot.returncode}):\n{said}"
        )

    def _drain(self) -> None:
        """Read what systemd said since: it reports each daemon-reload, and hangs when nobody listens."""
        if self._notify is not None:
            self._notify.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._notify.recv(4096)

    # ---- what a test does with it

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = True,
        timeout: float = COMMAND_SECONDS,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root inside: a line for bash, or a list of words for no shell at all.

        With ``check`` a status other than 0 is a MachineError that shows what was printed.
        """
        self._drain()
        done = subprocess.run(
            self.command(command),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=ROOT_ENVIRONMENT,
            check=False,
        )
        if check and done.returncode != 0:
            line = command if isinstance(command, str) else shlex.join(command)
            raise MachineError(
                f"{self.release}$ {line}\nstatus {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def command(self, command: str | Sequence[str]) -> list[str]:
        """The words that run a command inside, for a caller who wants a Popen of his own."""
        words = ["bash", "-c", command] if isinstance(command, str) else list(command)
        # -r: in a chroot, the root of a mount namespace is not what its processes see as /.
        return ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", *words]

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.run(["cat", path]).stdout

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file, with its directories; the owner is root."""
        script = 'mkdir -p "${1%/*}" && rm -f "$1" && cat >"$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "write", path, f"{mode:o}"], stdin=text)

    def journal(self, unit: str, *, lines: int = 200) -> str:
        """What a unit and systemd on its behalf have logged, messages only, oldest first."""
        self.run("journalctl --sync", check=False)
        return self.run(["journalctl", "-q", "--no-pager", "-o", "cat", "-n", str(lines), "-u", unit]).stdout

    def wait_for(self, command: str, *, timeout: float = 10) -> None:
        """Repeat a line for bash until it succeeds; ``systemctl stop`` returns before all is gone."""
        self.wait_until(lambda: self.run(command, check=False).returncode == 0, what=command, timeout=timeout)

    def wait_until(self, true: Callable[[], bool], *, what: str = "", timeout: float = 10) -> None:
        """Repeat a question until the answer is yes; a MachineError when it stays no."""
        deadline = time.monotonic() + timeout
        while not true():
            if time.monotonic() > deadline:
                raise MachineError(f"{self.release}: not within {timeout} s: {what or true.__name__}")
            time.sleep(0.05)


def remove_cgroups(name: str) -> None:
    """Kill and remove a cgroup, and those that killed test runs left (``netns-tools-PID-...``)."""
    _unshared(_REMOVE_CGROUPS, name)


# ---- roots


def root_of(release: str) -> str:
    """The directory under the overlay of a release, made when it is not there yet."""
    suite = RELEASES[release]
    if _own_suite() == suite and _unshared(_CAN_OVERLAY).returncode == 0:
        return "/"
    return str(_made_root(suite))


def _own_suite() -> str:
    release = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\S+)$", release, re.M)
    return found[1] if found and re.search(r"^ID=debian$", release, re.M) else ""


def _made_root(suite: str) -> Path:
    """A root made by mmdebstrap, from the cache; made under a lock and moved into place whole."""
    cache = Path("/var/cache/netns-tools-tests")
    cache.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    root = cache / f"{suite}-{content}"
    with (cache / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.is_dir():
            return root
        for stale in (*cache.glob(f"{suite}-*"), *cache.glob(f".{suite}-*")):
            shutil.rmtree(stale)
        print(f"making a {suite} root in {root} (once, about a minute)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=f".{suite}-", dir=cache) as work:
            made = Path(work) / "root"
            # mmdebstrap reads deb lines from standard input when it is given no mirror.
            command = [
                *("setpriv", "--pdeathsig", "KILL", "mmdebstrap"),
                "--quiet",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                suite,
                str(made),
            ]
            done = subprocess.run(
                command, input=_apt_source(suite), capture_output=True, text=True, timeout=600, check=False
            )
            if done.returncode != 0:
                raise MachineError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
            made.chmod(0o755)
            made.rename(root)
    return root


def _apt_source(suite: str) -> str:
    """A deb line for a suite at the mirror that this machine's own apt uses; empty when there is none."""
    words = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]
    targets = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    for line in targets.splitlines():
        uri, release, component = line.split()
        if release in (_own_suite(), "stable") and component == "main" and "security" not in uri:
            return f"deb {uri} {suite} main\n"
    return ""


def _unshared(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace that is gone afterwards."""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *arguments]
    return subprocess.run(words, capture_output=True, text=True, env=ROOT_ENVIRONMENT, check=False)
