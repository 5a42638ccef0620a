"""sd_notify, the lock and the journal of a daemon."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netns_tools.host.journal import Journal
from netns_tools.host.lock import Held, Lock
from netns_tools.host.notify import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_what_systemd_hears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@netns-tools-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1) if abstract else address)
        manager.settimeout(5)
        notifier = Notifier()
        assert notifier.watchdog == 30
        assert "NOTIFY_SOCKET" not in os.environ  # children do not speak for us
        notifier.send("READY=1", "STATUS=fine")
        assert manager.recv(100) == b"READY=1\nSTATUS=fine"


def test_a_watchdog_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent")
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    notifier = Notifier()
    assert notifier.watchdog == 0
    notifier.send("READY=1")  # nobody listens: no error


@pytest.mark.parametrize("text", ["", "-5", "soon", "9" * 5000])
def test_a_watchdog_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent")
    monkeypatch.setenv("WATCHDOG_USEC", text)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert Notifier().watchdog == 0


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert Notifier().watchdog == 0


def test_one_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "a.lock")
    first = Lock(path, "netns-x@y")
    first.acquire()
    with pytest.raises(Held, match=rf"netns-x@y runs already \(process {os.getpid()}\)"):
        Lock(path, "netns-x@y").acquire()
    first.release()
    Lock(path, "netns-x@y").acquire()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "a.lock")
    program = f"from netns_tools.host.lock import Lock; Lock({path!r}, 'x').acquire(); print('held'); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Held, match=f"process {holder.pid}"):
        Lock(path, "x").acquire()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    Lock(path, "x").acquire()


def test_the_journal_repeats_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    journal = Journal()
    for _ in range(3):
        journal.error("set x: broken", subject="x")
    journal.well("x", "set x is fine")
    journal.well("x", "set x is fine")
    journal.error("set x: broken", subject="x")
    journal.warning("one\ntwo \x1b[31m")
    journal.info("y" * 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:5] == [
        "<3>set x: broken",
        "<6>set x is fine",
        "<3>set x: broken",
        "<4>one",
        r"<4>two \x1b[31m",
    ]
    assert lines[5].endswith("... (1000 characters)")
