"""HTTP and JSON on Unix sockets: the side of our commands. It waits for its answer, without a loop."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import h11

from netns_tools.errors import NetnsToolsError
from netns_tools.host import unixsocket

_ANSWER_MAX = 64 << 20
_HEAD_MAX = 64 << 10


def request(
    path: str, method: str, target: str, body: Any = None, *, timeout: float = 10.0
) -> tuple[int, Any] | None:
    """Ask who listens on ``path``: the status and what the JSON of the answer says; None if nobody does.

    ``target``: path and query as in the request line, encoded (RFC 3986). ``body``: said as JSON,
    unless it is None. ``timeout``: seconds for all of it. ``httpmessage.error_of`` makes an error of
    a refusal. Raises ``NetnsToolsError``: not allowed, or no proper answer in time.
    """
    deadline = time.monotonic() + timeout
    connection = unixsocket.connect(path, timeout)
    if connection is None:
        return None
    data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    with connection:
        try:
            wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX)
            _send(connection, wire, method, target, data)
            return _receive(connection, wire, deadline)
        except (OSError, ValueError, RecursionError, h11.ProtocolError) as error:
            what = f"no answer within {timeout:g} s" if isinstance(error, TimeoutError) else str(error)
            raise NetnsToolsError(
                f"the daemon at {path} did not answer {method} {target}: {what}",
                hint="it hangs or is being stopped; look into its journal",
            ) from None


def _send(connection: socket.socket, wire: h11.Connection, method: str, target: str, data: bytes) -> None:
    headers = [("Host", "localhost"), ("Content-Length", str(len(data))), ("Connection", "close")]
    if data:
        headers.append(("Content-Type", "application/json"))
    said = wire.send(h11.Request(method=method, target=target, headers=headers)) or b""
    said += (data and wire.send(h11.Data(data=data))) or b""
    said += wire.send(h11.EndOfMessage()) or b""
    # Refused before it was all there: the answer says why.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(said)


def _receive(connection: socket.socket, wire: h11.Connection, deadline: float) -> tuple[int, Any]:
    status = 0
    body = bytearray()
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            data = connection.recv(1 << 16)
            if not data and not status:
                raise ConnectionError("it closed the connection")
            wire.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _ANSWER_MAX:
                raise ConnectionError(f"its answer is longer than {_ANSWER_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, json.loads(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("it closed the connection")
