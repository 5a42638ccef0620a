"""The frame of a daemon, with a service that does what a test wants, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_tools.host.control import Answer, ask

PROGRAM = """
import sys, time
from netns_tools.errors import NetnsToolsError
from netns_tools.host.control import Answer
from netns_tools.host.daemon import Daemon
from netns_tools.host.journal import Journal
from netns_tools.host.runtime import lock_of
from netns_tools.paths import Paths

class Service:
    socket_problems = {}
    well = True
    state = "fine"
    more = []
    def start(self, loop): self.loop = loop
    def stop(self): print("stopped", flush=True)
    def reload(self):
        self.more = [sys.argv[1] + "/more.sock"]
        return Answer("ok") if self.state == "fine" else Answer("error: file:1: bad", 2)
    def answer(self, command):
        if command == "hang": time.sleep(1000)
        if command == "sick": self.well, self.state = False, "sick"
        if command == "raise": raise KeyError("nobody expected this")
        if command == "refuse": raise NetnsToolsError("no", hint="never")
        if command == "later": self.loop.call_soon(lambda: 1 / 0)
        return Answer("done")
    def summary(self): return self.state
    def is_well(self): return self.well
    def sockets(self): return self.more

paths = Paths(sys.argv[1])
lock_of("test", "x", paths).acquire()
sys.exit(Daemon("test", "x", paths, Service(), Journal()).run())
"""


class Run:
    """The process, and what it told its service manager."""

    def __init__(self, directory: Path, watchdog: float) -> None:
        self.root = directory
        (directory / "run/netns-tools").mkdir(parents=True)
        self.path = str(directory / "run/netns-tools/test-x.sock")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.settimeout(10)
        environment = {
            **{key: value for key, value in os.environ.items() if key != "WATCHDOG_PID"},
            "NOTIFY_SOCKET": str(directory / "notify"),
            "WATCHDOG_USEC": str(int(watchdog * 1e6)),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(directory)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hears(self, word: str) -> str:
        """Wait until a message begins so."""
        while True:
            said = self.manager.recv(1000).decode()
            if said.startswith(word):
                return said

    def silence(self, word: str, seconds: float) -> bool:
        """Whether no such message comes for a time."""
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self.manager.settimeout(left)
                if self.manager.recv(1000).decode().startswith(word):
                    return False
        except TimeoutError:
            pass
        return True

    def ask(self, word: str) -> Answer:
        answer = ask(self.path, word)
        assert answer is not None
        return answer


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path, watchdog=0.4)
    yield run
    run.process.kill()
    run.process.communicate()
    run.manager.close()


def test_life(daemon: Run) -> None:
    assert daemon.hears("READY=1") == "READY=1\nSTATUS=fine"
    daemon.hears("WATCHDOG=1")
    assert daemon.ask("ping") == Answer("pong")
    daemon.process.terminate()
    daemon.hears("STOPPING=1")
    assert daemon.process.communicate(timeout=10)[0] == "stopped\n"
    assert daemon.process.returncode == 0
    assert not os.path.exists(daemon.path)


def test_who_hangs_feeds_no_watchdog(daemon: Run) -> None:
    daemon.hears("WATCHDOG=1")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(daemon.path)
        client.sendall(b"hang\n")
        assert daemon.silence("WATCHDOG=1", 0.15) or daemon.silence("WATCHDOG=1", 1.5)
    # What systemd does then; the journal gets to know where it hung.
    daemon.process.send_signal(signal.SIGABRT)
    assert "in answer" in daemon.process.communicate(timeout=10)[1]


def test_who_gets_no_work_done_feeds_no_watchdog(daemon: Run) -> None:
    daemon.hears("WATCHDOG=1")
    daemon.ask("sick")
    daemon.hears("STATUS=sick")
    assert daemon.silence("WATCHDOG=1", 1.0)
    assert daemon.ask("ping") == Answer("pong")


def test_reload(daemon: Run) -> None:
    daemon.hears("READY=1")
    assert daemon.ask("reload") == Answer("ok")
    assert ask(str(daemon.root / "more.sock"), "ping") == Answer("pong")
    daemon.ask("sick")
    assert daemon.ask("reload") == Answer("error: file:1: bad", 2)
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.ask("ping") == Answer("pong")


def test_mistakes_of_a_service_do_not_end_it(daemon: Run) -> None:
    daemon.hears("READY=1")
    assert daemon.ask("raise").code == 1
    assert daemon.ask("refuse") == Answer("error: no\n  hint: never", 1)
    assert daemon.ask("later") == Answer("done")
    assert daemon.ask("ping") == Answer("pong")
    daemon.process.terminate()
    said = daemon.process.communicate(timeout=10)[1]
    assert "KeyError" in said
    assert "ZeroDivisionError" in said
    assert "Traceback" not in said
