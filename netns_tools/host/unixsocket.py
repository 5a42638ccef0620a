"""Unix stream sockets with a path: listening on one, and reaching who listens there (unix(7))."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
import time

from netns_tools.errors import NetnsToolsError

_FLAGS = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
_AGAIN = 0.01  # seconds until the next attempt while the queue of who listens is full


def bind(path: str, group: str = "") -> tuple[socket.socket, int]:
    """A socket bound to ``path``, and the inode it has there; it listens not yet.

    Mode 0660, of ``group`` if there is such a group. A socket that nobody listens on makes room.
    Raises ``NetnsToolsError``: somebody listens there, something else is there, it is not allowed;
    then everything is as before.
    """
    _clear(path)
    bound = socket.socket(socket.AF_UNIX, _FLAGS)
    try:
        mask = os.umask(0o117)
        try:
            bound.bind(path)
        finally:
            os.umask(mask)
        inode = os.lstat(path).st_ino
    except OSError as error:
        bound.close()
        hint = "its directory must exist and be writable for the service (ReadWritePaths= of the unit)"
        raise NetnsToolsError(f"cannot listen on {path}: {error.strerror or error}", hint=hint) from None
    try:
        _give_to(path, group)
    except OSError as error:
        bound.close()
        remove(path, inode)
        hint = "the service needs CAP_CHOWN for that (CapabilityBoundingSet= of the unit)"
        raise NetnsToolsError(
            f"cannot give {path} to the group {group}: {error.strerror or error}", hint=hint
        ) from None
    return bound, inode


def is_at(path: str, inode: int) -> bool:
    """Whether that inode is at ``path``, so that nobody removed or replaced it."""
    try:
        return os.lstat(path).st_ino == inode
    except OSError:
        return False


def remove(path: str, inode: int) -> None:
    """Remove the socket, unless something else has taken its place."""
    with contextlib.suppress(OSError):
        if is_at(path, inode):
            os.unlink(path)


def connect(path: str, timeout: float) -> socket.socket | None:
    """A connection to who listens on ``path``; None when nobody does. Raises ``NetnsToolsError``.

    ``timeout``: seconds to get it, and for each later step.
    """
    deadline = time.monotonic() + timeout
    connection = socket.socket(socket.AF_UNIX, _FLAGS)
    connection.settimeout(timeout)
    try:
        while True:
            try:
                connection.connect(path)
                return connection
            except BlockingIOError:  # connect(2): the queue of who listens is full
                if time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except PermissionError:
        connection.close()
        raise NetnsToolsError(f"not allowed to use {path}", hint=_who_may(path)) from None
    except OSError as error:
        connection.close()
        raise NetnsToolsError(f"cannot ask the daemon by {path}: {error.strerror or error}") from None


def _give_to(path: str, group: str) -> None:
    try:
        number = grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        return
    if number >= 0 and os.stat(path).st_gid != number:
        os.chown(path, -1, number)


def _who_may(path: str) -> str:
    try:
        group = os.stat(path).st_gid
        shown = grp.getgrgid(group).gr_name if group else ""
    except (OSError, KeyError):
        shown = ""
    return "run the command as root (sudo)" + (f", or become a member of the group {shown}" if shown else "")


def _clear(path: str) -> None:
    """Make room for a socket: one that nobody listens on goes, everything else stays."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise NetnsToolsError(
            f"cannot listen on {path}: something that is no socket is there", hint="move it away"
        )
    if _is_alive(path):
        raise NetnsToolsError(
            f"cannot listen on {path}: somebody else does", hint="stop that program, or choose another path"
        )
    with contextlib.suppress(OSError):
        os.unlink(path)


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, _FLAGS) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # EAGAIN: its backlog is full; EACCES: not ours
            return True
        return True
