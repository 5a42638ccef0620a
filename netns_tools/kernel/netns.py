"""The network namespace that this process is in."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys

from netns_tools.errors import NetnsToolsError
from netns_tools.names import name_unit, nsname_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h; Python's socket does not name it


def identity() -> tuple[int, int]:
    """Device and inode of this thread's network namespace: equal for the same one (namespaces(7))."""
    status = os.stat("/proc/thread-self/ns/net")
    return status.st_dev, status.st_ino


def cookie() -> int:
    """A number for this thread's network namespace that no later one gets, unlike its inode.

    It counts from 1 since the boot (SO_NETNS_COOKIE of socket(7), Linux 5.14).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as any_socket:
        return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def enter(name: str, paths: Paths) -> None:
    """Join namespace NAME, unless it is the one we are in, or NAME is ``host``.

    Only this thread moves, and sockets stay where they were made: call it first.
    Raises ``NetnsToolsError`` when there is no such namespace; it is never created.
    """
    if name == "host":
        return
    if problem := nsname_problem(name):
        raise NetnsToolsError(problem)
    path = f"{paths.netns}/{name}"
    remedy = f"start it: systemctl start {name_unit(name)}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NetnsToolsError(f"there is no namespace {name}: {path} is missing", hint=remedy) from None
    except OSError as error:
        raise NetnsToolsError(f"cannot open namespace {name}: {path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != identity():
            _join(name, path, descriptor, remedy)
    finally:
        os.close(descriptor)


def _join(name: str, path: str, descriptor: int, remedy: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns needs Python 3.12
    if libc.setns(descriptor, _CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EINVAL:  # an ordinary file, left behind when the namespace was unmounted
        raise NetnsToolsError(f"there is no namespace {name}: {path} is an ordinary file", hint=remedy)
    hint = "joining a namespace needs CAP_SYS_ADMIN: run the command as root" if code == errno.EPERM else ""
    raise NetnsToolsError(f"cannot join namespace {name}: {path}: {os.strerror(code)}", hint=hint)
