"""A netns-addrset of a test: on its fake host, with its control socket and what it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kernel.conftest import REPOSITORY, FakeHost

ADDRSET = ("/usr/bin/python3", "-P", "-m", "netns_tools.cli.addrset")

FILTER = """
table inet filter {
    set wan_ips { type ipv4_addr; }
    set wan_ips6 { type ipv6_addr; }
}
"""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> float:
    """Wait until a condition is met; how long that took, in seconds."""
    began = time.monotonic()
    while not condition():
        took = time.monotonic() - began
        assert took < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.002)
    return time.monotonic() - began


class AddrSet:
    """The daemon of NAME on a host, or none; and the commands that speak to it."""

    def __init__(self, host: FakeHost, name: str = "host") -> None:
        self.host = host
        self.name = name
        self.process: subprocess.Popen[str] | None = None
        self.log = Path("/dev/null")

    def command(
        self,
        *words: str,
        check: bool = True,
        environment: dict[str, str] | None = None,
        closed: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """One of the commands, ``plan`` for instance; ``closed``: redirections of the shell."""
        before = ("sh", "-c", f'exec "$@" {closed}', "-") if closed else ()
        line = (*before, *ADDRSET, *words, "--name", self.name)
        return self.host.run(*line, check=check, env=_environment(environment), cwd="/")

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        """One of the commands, while others run; the caller ends it."""
        return self.host.spawn(
            *ADDRSET, *words, "--name", self.name, env=_environment(None), cwd="/", stderr=subprocess.DEVNULL
        )

    def start(self, tmp_path: Path, environment: dict[str, str] | None = None) -> None:
        """Start the daemon and wait until it has applied everything once."""
        self.log = tmp_path / f"{self.name}.log"
        with self.log.open("a") as log:
            self.process = self.host.spawn(
                *ADDRSET, "run", "--name", self.name, stderr=log, env=_environment(environment), cwd="/"
            )
        wait_for(self.is_up, f"the daemon answers; it said: {self.log.read_text()}")

    def is_up(self) -> bool:
        """Whether it answers; it is an error when it has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.command("ping", check=False).returncode == 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the daemon; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        status = self.process.wait(timeout=10)
        self.process = None
        return status

    def status(self) -> dict[str, Any]:
        """``status --json``."""
        found = json.loads(self.command("status", "--json").stdout)
        assert isinstance(found, dict)
        return found

    def set_status(self, name: str) -> dict[str, Any]:
        """What the status says of one set."""
        found = next(one for one in self.status()["sets"] if one["set"] == name)
        assert isinstance(found, dict)
        return found

    def elements(self, set_name: str, table: str = "inet filter") -> set[str] | None:
        """What a set in the kernel holds, as texts; None when it does not exist."""
        return elements(self.host, set_name, table, "" if self.name == "host" else self.name)

    def wait_elements(
        self, set_name: str, *texts: str, table: str = "inet filter", seconds: float = 5
    ) -> float:
        """Wait until a set holds exactly these."""
        return wait_for(
            lambda: self.elements(set_name, table) == set(texts), f"{set_name} holds {texts}", seconds
        )


def elements(host: FakeHost, set_name: str, table: str, netns: str = "") -> set[str] | None:
    """What a set in the kernel holds, as nft itself lists it."""
    where = ["ip", "netns", "exec", netns] if netns else []
    done = host.run(*where, "nft", "-j", "list", "set", *table.split(), set_name, check=False)
    if done.returncode:
        return None
    found = next(item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item)
    return {_text(one) for one in found.get("elem", [])}


def _text(element: Any) -> str:
    if isinstance(element, str):
        return element
    if "elem" in element:
        return _text(element["elem"]["val"])
    if "range" in element:
        return "-".join(element["range"])
    return f"{element['prefix']['addr']}/{element['prefix']['len']}"


def _environment(more: dict[str, str] | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NETNS_", "DOCKER_"))}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **(more or {})}


@contextmanager
def running(host: FakeHost, tmp_path: Path, config: str, rules: str = FILTER) -> Iterator[AddrSet]:
    """A daemon on a host with these rules and this configuration; nothing of it is left behind."""
    if rules:
        host.run("nft", "-f", "-", input=rules)
    host.configure("addrset-host.yaml", config)
    daemon = AddrSet(host)
    try:
        daemon.start(tmp_path)
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.stop(signal.SIGKILL)
