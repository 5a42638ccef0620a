"""The control socket of a daemon: one command a line, and an answer.

A person types a word (``echo status | socat - UNIX-CONNECT:/run/netns-tools/...``); our own
commands send ``{"command": "status"}`` and get one line of JSON with the exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from dataclasses import dataclass

from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REQUEST_MAX = 4096
"""Longest request, in bytes."""

_CLIENTS_MAX = 128  # more than are accepted at once (the backlog, 100): each is heard before it is the oldest
_IDLE = 10.0  # seconds that a client may take for a request, or to read a piece of the answer
_ANSWER_MAX = 64 << 20  # of an answer that our own command reads; a status of 100,000 elements has 4 MB


@dataclass(frozen=True)
class Answer:
    """What a command gets: text for a person, and the exit code that a program of ours ends with."""

    text: str
    code: int = 0


class ControlServer:
    """Listens on one or more sockets, mode 0660.

    Clients that are slow, silent or endless lose their line; if there are too many, the one that
    has been silent for the longest time makes room.
    """

    def __init__(self, handle: Callable[[str], Awaitable[Answer]]) -> None:
        self._handle = handle
        self._servers: dict[str, tuple[asyncio.Server, int]] = {}
        self._clients: dict[asyncio.StreamWriter, None] = {}  # the last one was heard most recently

    async def listen(self, path: str) -> None:
        """Listen on ``path`` too, unless somebody else does. Raises ``NetnsToolsError``."""
        if self.is_found(path):
            return
        if path in self._servers:
            self.close(path)
        _clear(path)
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            mask = os.umask(0o117)
            try:
                listener.bind(path)
            finally:
                os.umask(mask)
            inode = os.stat(path).st_ino
            server = await asyncio.start_unix_server(self._serve, sock=listener, limit=REQUEST_MAX)
        except OSError as error:
            hint = "its directory must exist and be writable for the service (ReadWritePaths= of the unit)"
            raise NetnsToolsError(f"cannot listen on {path}: {error.strerror or error}", hint=hint) from None
        self._servers[path] = (server, inode)

    def close(self, path: str) -> None:
        """Listen no longer on ``path`` and remove it, if it still is ours."""
        server, inode = self._servers.pop(path)
        server.close()
        with contextlib.suppress(OSError):
            if _is_at(path, inode):
                os.unlink(path)

    def is_found(self, path: str) -> bool:
        """Whether a client finds us at ``path``: nobody removed or replaced the socket."""
        _, inode = self._servers.get(path, (None, -1))
        return _is_at(path, inode)

    def close_all(self) -> None:
        """Listen nowhere any more."""
        for path in list(self._servers):
            self.close(path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= _CLIENTS_MAX:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.transport.abort()
        self._clients[writer] = None
        try:
            while await self._one(reader, writer):
                if self._clients.pop(writer, True) is None:
                    self._clients[writer] = None
                await asyncio.sleep(0)  # one who asks without end lets others have their turn
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), _IDLE)
        except OSError:
            pass
        finally:
            self._clients.pop(writer, None)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another may come."""
        try:
            line = await asyncio.wait_for(reader.readline(), _IDLE)
        except ValueError:  # longer than the limit
            writer.write(f"error: a request has at most {REQUEST_MAX} bytes\n".encode())
            return False
        command, as_json = _parse(line)
        if command:
            answer = await self._handle(command)
            text = (
                json.dumps({"code": answer.code, "text": answer.text})
                if as_json
                else answer.text.rstrip("\n")
            )
            writer.write(text.encode(errors="backslashreplace") + b"\n")
            await asyncio.wait_for(writer.drain(), _IDLE)
        return line.endswith(b"\n")


def _parse(line: bytes) -> tuple[str, bool]:
    """The command in a request, and whether it came as JSON."""
    text = line.decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        return text, False
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        return text, True
    command = request.get("command")
    return (command if isinstance(command, str) else text), True


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


def _is_at(path: str, inode: int) -> bool:
    try:
        return os.lstat(path).st_ino == inode
    except OSError:
        return False


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # EAGAIN: its backlog is full; EACCES: not ours
            return True
        return True


def ask(path: str, command: str, *, timeout: float = 10.0) -> Answer | None:
    """Send one command to a daemon; None when none listens there. Raises ``NetnsToolsError``.

    ``timeout``: seconds, for each step.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise NetnsToolsError(
                f"not allowed to use {path}", hint="run the command as root (sudo)"
            ) from None
        except OSError as error:
            raise NetnsToolsError(f"cannot ask the daemon by {path}: {error.strerror or error}") from None
        try:
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            return _read_answer(connection, path)
        except (OSError, ValueError) as error:
            what = f"no answer within {timeout:g} s" if isinstance(error, TimeoutError) else str(error)
            raise NetnsToolsError(
                f"the daemon at {path} did not answer {command!r}: {what}",
                hint="it hangs or is being stopped; look into its journal",
            ) from None


def _read_answer(connection: socket.socket, path: str) -> Answer:
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionError("it closed the connection")
        received += piece
        if len(received) > _ANSWER_MAX:
            raise ConnectionError(f"its answer is longer than {_ANSWER_MAX} bytes")
    answer = json.loads(received)
    if not isinstance(answer, dict) or not isinstance(answer.get("code"), int):
        raise ValueError("what it said is no answer")
    return Answer(str(answer.get("text", "")), answer["code"])
