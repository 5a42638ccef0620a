"""Run a test inside a network namespace of its own, in a child process."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import traceback
from collections.abc import Callable
from typing import ParamSpec

import pytest

P = ParamSpec("P")

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Let a test have a network and mount namespace, gone with it: nothing of the machine changes."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if os.geteuid() != 0:
            pytest.skip("a namespace needs root: sudo make check")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(writer, lambda: test(*args, **kwargs))
        os.close(writer)
        try:
            with open(reader, encoding="utf-8") as pipe:
                said = pipe.read()
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            status = os.waitpid(child, 0)[1]
        if said or status:
            pytest.fail(said or f"the test's process ended with status {status}", pytrace=False)

    return run


def _child(writer: int, test: Callable[[], None]) -> None:
    code = 1
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if libc.unshare(CLONE_NEWNET | CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        ip("link set lo up")
        test()
        code = 0
    except BaseException:
        os.write(writer, traceback.format_exc().encode("utf-8", "replace")[-30_000:])
    finally:
        os._exit(code)


def ip(*lines: str) -> None:
    """Run lines of ip-batch(8)."""
    _run(["ip", "-batch", "-"], "\n".join(lines))


def nft(text: str) -> None:
    """Load what nft(8) reads from a file."""
    _run(["nft", "-f", "-"], text)


def _run(command: list[str], text: str) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
