"""A Docker of the tests' own, in namespaces and a cgroup of its own; it leaves no trace."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.deaf import DeafProxy
from tests.docker.programs import NoDockerError, environment, programs
from tests.machine import remove_cgroups

IMAGE = "netns-tools:1"

SECONDS = 60

# A cgroup of its own becomes the root of a cgroup namespace. Then all leave that root for a
# cgroup below: with processes in it, runc could not pass on its controllers (cgroups(7)).
_OUTER = r"""
set -eu
mount -t cgroup2 cgroup2 /mnt
mkdir "/mnt/$1"
echo $$ >"/mnt/$1/cgroup.procs"
umount /mnt
exec unshare --cgroup sh -euc '
mount -t cgroup2 cgroup2 /mnt
mkdir /mnt/daemon
echo $$ >/mnt/daemon/cgroup.procs
umount /mnt
exec unshare --net --uts --ipc --mount --propagation private --pid --fork --kill-child=KILL sh -c "$1" sh "$2"
' sh "$2" "$3"
"""

# What dockerd and containerd write outside of their own directories (/etc/docker,
# /opt/containerd) goes into an overlay and a tmpfs. The first process reaps the shims that a
# killed dockerd leaves.
_INNER = r"""
set -eu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 netns-tools-docker /run
mkdir /run/etc /run/etc-work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc-work overlay /etc
mount -t tmpfs -o mode=755 netns-tools-docker /opt
# dockerd runs itself without its environment: the loader must find the libraries without it.
if [ -n "${LD_LIBRARY_PATH-}" ]; then
    mkdir -p /etc/ld.so.conf.d
    printf '%s\n' "$LD_LIBRARY_PATH" | tr : '\n' >/etc/ld.so.conf.d/00-docker.conf
    [ ! -d /var/cache/ldconfig ] || mount -t tmpfs -o mode=700 netns-tools-docker /var/cache/ldconfig
    ldconfig
fi
mount -t tmpfs -o mode=711 netns-tools-docker "$1"
ip link set lo up
echo ready
exec tini -s -- sleep infinity
"""

_counter = itertools.count(1)


class DockerError(Exception):
    """A command of Docker failed, or dockerd did not start; the text has what was printed."""


class Docker:
    """A dockerd with its own network, mount, process and cgroup namespaces, which outlive it.

    ``socket`` is the path of its socket, reachable from everywhere on this machine.
    """

    def __init__(self, programs: Path, directory: Path) -> None:
        self.socket = str(directory / "docker.sock")
        self.log = directory / "dockerd.log"
        self._data = directory / "data"
        self._data.mkdir()
        self._environment = environment(programs)
        self._cgroup = f"netns-tools-{os.getpid()}-docker{next(_counter)}"
        self._daemon: subprocess.Popen[bytes] | None = None
        # PDEATHSIG: when the test run dies, all of this dies with it.
        self._holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", _OUTER, "sh", self._cgroup, _INNER, str(self._data)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the test run; it ends all this in order
        )
        try:
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() != b"ready\n":
                raise DockerError(f"no namespaces for Docker: {self._said(self._holder)}")
            children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
            self._first = int(children[0])
            self.start_daemon()
            self._import_image(shutil.which("busybox", path=self._environment["PATH"]))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Pull the plug: processes, networks, mounts and cgroups are gone when this returns."""
        self._holder.kill()
        self._holder.communicate()
        if self._daemon is not None:
            # Its process namespace has ended: so has dockerd, and nsenter, which waits for it, ends now.
            self._daemon.wait(SECONDS)
            self._daemon = None
        remove_cgroups(self._cgroup)

    # ---- the daemon

    @property
    def running(self) -> bool:
        """Whether dockerd runs."""
        return self._daemon is not None and self._daemon.poll() is None

    def start_daemon(self, *, live_restore: bool = False) -> None:
        """Start dockerd, and wait until it answers."""
        assert not self.running
        words = [
            "dockerd",
            f"--data-root={self._data}",
            "--exec-root=/run/docker",
            "--pidfile=/run/docker.pid",
        ]
        words += [f"--host=unix://{self.socket}", "--storage-driver=vfs"]
        if live_restore:
            words.append("--live-restore")
        join = 'echo $$ >/sys/fs/cgroup/daemon/cgroup.procs; exec "$@"'
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                [*self._enter(), "sh", "-c", join, "sh", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + SECONDS
        while not self.cli("version", "--format={{.Server.Version}}", check=False):
            if not self.running or time.monotonic() > deadline:
                raise DockerError(f"dockerd does not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def stop_daemon(self) -> None:
        """Stop dockerd as systemd does; without live_restore it stops its containers too."""
        self._signal(signal.SIGTERM)

    def kill_daemon(self) -> None:
        """kill -9: its containers go on without it."""
        self._signal(signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """A dockerd that takes connections and never answers."""
        # Not SIGSTOP: nsenter, which waits for dockerd, would stop itself with it.
        freeze = 'echo "$1" >/sys/fs/cgroup/daemon/cgroup.freeze'
        self._run([*self._enter(), "sh", "-c", freeze, "sh", "1"])
        try:
            yield
        finally:
            self._run([*self._enter(), "sh", "-c", freeze, "sh", "0"])

    def _signal(self, number: signal.Signals) -> None:
        assert self._daemon is not None
        pid = self._run([*self._enter(), "cat", "/run/docker.pid"]).strip()
        self._run([*self._enter(), "kill", f"-{number.name[3:]}", pid])
        self._daemon.wait(SECONDS)
        self._daemon = None

    # ---- what a test does with it

    def cli(self, *words: str, check: bool = True) -> str:
        """The output of ``docker WORDS``; with ``check`` a failure is a DockerError."""
        return self._run(self._client(*words), check=check).strip()

    def run(self, name: str, *options: str) -> str:
        """Start a container that only sleeps; its id."""
        # A sleep that is PID 1 ignores SIGTERM, and a stop would wait ten seconds.
        settings = ["--detach", "--pull=never", "--stop-signal=KILL", f"--name={name}"]
        return self.cli("run", *settings, *options, IMAGE)

    def addresses(self, name: str) -> set[str]:
        """The global addresses that the kernel says the namespace of a running container has."""
        pid = self.cli("inspect", "--format={{.State.Pid}}", name)
        said = self._run([*self._enter(), "nsenter", "-t", pid, "-n", "ip", "-json", "address"])
        return {a["local"] for link in json.loads(said) for a in link["addr_info"] if a["scope"] == "global"}

    def kill_container(self, name: str) -> None:
        """kill -9 of its first process, behind Docker's back."""
        pid = self.cli("inspect", "--format={{.State.Pid}}", name)
        self._run([*self._enter(), "kill", "-KILL", pid])

    def wait_until(self, true: Callable[[], bool], seconds: float = 10) -> None:
        """Repeat a question until the answer is yes; a DockerError when it stays no."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise DockerError(f"not within {seconds:g} s: {true.__name__}")
            time.sleep(0.02)

    def inside(self, *words: str) -> list[str]:
        """The words that run a command in the network namespace that is the host's for this Docker.

        All else is as outside: files, processes, ``socket``.
        """
        return ["nsenter", f"--net={self.netns}", "--", *words]

    @property
    def netns(self) -> str:
        """The path of that network namespace."""
        return f"/proc/{self._first}/ns/net"

    def clean(self) -> None:
        """Take all containers and networks away; a dockerd that does not run is started."""
        if not self.running:
            self.start_daemon()
        containers = self.cli("ps", "--all", "--quiet").split()
        if containers:
            self.cli("rm", "--force", "--volumes", *containers)
        self.cli("network", "prune", "--force")

    def _import_image(self, busybox: str | None) -> None:
        if busybox is None:
            raise DockerError("there is no busybox for the image")
        with tempfile.TemporaryDirectory() as work:
            programs = Path(work) / "image" / "bin"
            programs.mkdir(parents=True)
            shutil.copy(busybox, programs / "busybox")
            for name in ("sh", "sleep", "ip"):
                (programs / name).symlink_to("busybox")
            archive = shutil.make_archive(f"{work}/image", "tar", programs.parent)
            self.cli("import", '--change=CMD ["sleep", "2000000000"]', archive, IMAGE)

    def _client(self, *words: str) -> list[str]:
        return ["docker", f"--config={self._data}", f"--host=unix://{self.socket}", *words]

    def _enter(self) -> list[str]:
        """The words that run a command in all its namespaces."""
        # -r: in a chroot, the root of a mount namespace is not what its processes see as /.
        return ["nsenter", "-t", str(self._first), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]

    def _run(self, words: list[str], *, check: bool = True) -> str:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=self._environment,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise DockerError(f"{' '.join(words)}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    @staticmethod
    def _said(process: subprocess.Popen[bytes]) -> str:
        process.kill()
        return process.communicate()[1].decode(errors="replace").strip()


@pytest.fixture(scope="session")
def docker_session() -> Iterator[Docker]:
    """One Docker for all tests."""
    if os.geteuid() != 0:
        pytest.skip("a dockerd needs root: sudo make check")
    try:
        found = programs()
    except NoDockerError as error:
        pytest.skip(f"Docker cannot be had here: {error}")
    # Not pytest's directory: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="netns-docker-") as directory:
        docker = Docker(found, Path(directory))
        yield docker
        docker.close()


@pytest.fixture
def docker(docker_session: Docker) -> Docker:
    """A Docker that runs, without containers and networks of other tests."""
    docker_session.clean()
    return docker_session


@pytest.fixture
def deaf_socket(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A socket in front of Docker's that lets everything through but events, all of which it swallows."""
    with tempfile.TemporaryDirectory(prefix="netns-docker-") as directory:
        proxy = DeafProxy(f"{directory}/deaf.sock", docker.socket)
        yield proxy.path
        proxy.close()
