"""Debian's own Docker, unpacked and not installed: no service is enabled, no other Docker is replaced."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.machine import ROOT_ENVIRONMENT

CACHE = Path("/var/cache/netns-tools-tests")


class NoDockerError(Exception):
    """Docker's programs cannot be had here; the text says why."""


def programs() -> Path:
    """A directory with the unpacked packages; made under a lock and moved into place whole."""
    packages = ["docker.io", "busybox-static"]
    try:
        _run(["apt-cache", "show", *packages])
    except NoDockerError:
        _run(["apt-get", "update", "-qq"])  # there are no package lists yet
    if _run(["apt-cache", "--names-only", "search", "^docker-cli$"]).strip():
        packages.append("docker-cli")  # a package of its own since Debian 13
    version = _run(["apt-cache", "policy", *packages])
    directory = CACHE / f"docker-{hashlib.sha256(version.encode()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not directory.is_dir():
                raise NoDockerError("it is not there yet")
            _try(directory)
        except NoDockerError:
            for stale in (*CACHE.glob("docker-*"), *CACHE.glob(".docker-*")):
                shutil.rmtree(stale)
            with tempfile.TemporaryDirectory(prefix=".docker-", dir=CACHE) as work:
                made = Path(work) / "root"
                _unpack(packages, Path(work), made)
                made.rename(directory)
    return directory


def environment(directory: Path) -> dict[str, str]:
    """The environment in which the unpacked programs find each other and their libraries."""
    own = ":".join(f"{directory}/{place}" for place in ("usr/sbin", "usr/bin", "sbin", "bin"))
    found = {"PATH": f"{own}:{ROOT_ENVIRONMENT['PATH']}"}
    for name, patterns in (
        ("LD_LIBRARY_PATH", ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*")),
        ("XTABLES_LIBDIR", ("usr/lib/*/xtables",)),
    ):
        places = [str(place) for pattern in patterns for place in directory.glob(pattern)]
        if places:
            found[name] = ":".join(places)
    return {**ROOT_ENVIRONMENT, **found}


def _try(directory: Path) -> None:
    """Raise ``NoDockerError`` unless all is there; a library that the machine had may have been removed."""
    for program in ("dockerd", "docker", "containerd", "runc", "iptables", "ip6tables"):
        _run([program, "--version"], environment(directory))


def _unpack(packages: list[str], work: Path, made: Path) -> None:
    """Fetch packages with all that they need and the machine lacks, and unpack them."""
    archives = work / "archives"
    (archives / "partial").mkdir(parents=True)
    # Nothing is written beside the archives, so no lock is needed and nobody is disturbed.
    options = [
        "-o",
        f"Dir::Cache::archives={archives}",
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "APT::Sandbox::User=",
    ]
    words = ["apt-get", "install", "-qq", "-y", "--download-only", "--reinstall", "--no-install-recommends"]
    try:
        _run([*words, *options, *packages])
    except NoDockerError:
        # The package lists may be old.
        _run(["apt-get", "update", "-qq"])
        _run([*words, *options, *packages])
    for package in archives.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(made)])
    for name in ("iptables", "ip6tables"):
        # What update-alternatives does at an installation.
        link = made / "usr/sbin" / name
        if (made / "usr/sbin/xtables-nft-multi").exists() and not os.path.lexists(link):
            link.symlink_to("xtables-nft-multi")
    _try(made)


def _run(words: list[str], environment: dict[str, str] = ROOT_ENVIRONMENT) -> str:
    """The output of a command. Raises ``NoDockerError`` with all that it said."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDockerError(f"{' '.join(words)}: {error}") from None
    if done.returncode != 0:
        raise NoDockerError(f"{' '.join(words)}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
