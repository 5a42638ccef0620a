"""The control socket of a daemon: one command a line, and an answer.

A person types a word (``echo status | socat - UNIX-CONNECT:/run/netns-tools/...``); our own
commands send ``{"command": "status"}`` and get one line of JSON with the exit code.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from netns_tools.errors import NetnsToolsError
from netns_tools.host import unixsocket
from netns_tools.host.unixserver import UnixServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

REQUEST_MAX = 4096
"""Longest request, in bytes."""

_IDLE = 10.0  # seconds that a client may take for a request, or to read a piece of the answer
_ANSWER_MAX = 64 << 20  # of an answer that our own command reads; a status of 100,000 elements has 4 MB


@dataclass(frozen=True)
class Answer:
    """What a command gets: text for a person, and the exit code that a program of ours ends with."""

    text: str
    code: int = 0


class ControlServer(UnixServer):
    """Answers the commands that come by its sockets. Clients that are slow or endless lose their line."""

    def __init__(self, handle: Callable[[str], Awaitable[Answer]]) -> None:
        super().__init__(limit=REQUEST_MAX)
        self._handle = handle

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._one(reader, writer):
            await self._heard(writer)

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


def ask(path: str, command: str, *, timeout: float = 10.0) -> Answer | None:
    """Send one command to a daemon; None when none listens there. Raises ``NetnsToolsError``.

    ``timeout``: seconds, for each step.
    """
    connection = unixsocket.connect(path, timeout)
    if connection is None:
        return None
    with connection:
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
