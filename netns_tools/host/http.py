"""HTTP/1.1 with JSON on Unix sockets: the side of the daemon. What the bytes mean is h11's work.

Bodies are JSON whatever their Content-Type says, and so are all answers. A request has
``HEAD_MAX`` bytes before its body at most and ``BODY_MAX`` in it, and ten seconds to arrive.
Who may connect may do everything: that is for the mode and group of the socket to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from netns_tools.errors import NetnsToolsError
from netns_tools.host.httpmessage import BAD, FAILED, Peer, Refused, Request, Response, refusal
from netns_tools.host.unixserver import UnixServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HEAD_MAX = 16 << 10
"""Longest request line with all headers, in bytes; 12 KiB are accepted in any case."""

BODY_MAX = 4 << 20
"""Longest body, in bytes: a configuration file of the longest kind, written out entry by entry."""

_BODIES_MAX = 16 << 20  # of all bodies that are still incomplete

_IDLE = 10.0  # seconds: for a request to come whole, for an answer to be read
_LINGER = 2.0  # seconds in which the rest of a refused request is read, so that its sender hears why
_PIECE = 4096  # bytes read at once
_QUERY_MAX = 16  # parameters
_PEERCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid


class HttpServer(UnixServer):
    """Listens on Unix sockets and has each request answered by ``handle``.

    Errors of ``handle`` become answers: ``Refused`` with its status, other ``NetnsToolsError`` 400
    (exit code 2) or 500. Anything else is 500 too, and told to the loop's exception handler.
    """

    def __init__(self, handle: Callable[[Request], Awaitable[Response]]) -> None:
        super().__init__()
        self._handle = handle
        self._load = _Load()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = _Conversation(reader, writer, self._load)
        while await self._one(conversation):
            await self._heard(writer)

    async def _one(self, conversation: _Conversation) -> bool:
        """Answer one request; whether another may come."""
        try:
            request = await conversation.receive()
            if request is None:
                return False
            response = await self._answer(request)
        except Refused as error:
            response = refusal(error)
        return await conversation.send(response)

    async def _answer(self, request: Request) -> Response:
        try:
            response = await self._handle(request)
            return Response(response.status, _json(response.body), response.headers)
        except NetnsToolsError as error:
            return refusal(error)
        except Exception as error:
            context = {"message": f"{request.method} /{'/'.join(request.path)}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            message = f"internal error: {type(error).__name__}: {error}"
            return Response(FAILED, {"error": message, "code": 1})


class _Load:
    """The bytes of bodies that are still incomplete, of all connections together."""

    def __init__(self) -> None:
        self.bytes = 0


class _Conversation:
    """One connection: requests in, answers out, in turn."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, load: _Load) -> None:
        self._load = load
        self._reader = reader
        self._writer = writer
        self._peer = _peer(writer.get_extra_info("socket"))
        # An incomplete head may be this long and then a piece longer.
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX - _PIECE)
        self._method = b""
        self._begun = False
        self._whole = False

    async def receive(self) -> Request | None:
        """The next request; None when the client has no more. Raises ``Refused``."""
        self._method, self._begun, self._whole = b"", False, False
        try:
            async with asyncio.timeout(_IDLE):
                return await self._receive()
        except TimeoutError:
            if not self._begun:
                return None
            raise Refused(f"the request did not arrive within {_IDLE:g} s", status=408) from None
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                raise Refused(f"the head of a request has at most {HEAD_MAX} bytes", status=431) from None
            raise Refused(f"this is no HTTP request: {error}", status=error.error_status_hint) from None

    async def _receive(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        try:
            while True:
                event = await self._event()
                if isinstance(event, h11.Request):
                    head, self._method = event, event.method
                    self._expect(event)
                elif isinstance(event, h11.Data):
                    body += event.data
                    self._load.bytes += len(event.data)
                    if len(body) > BODY_MAX:
                        _too_long()
                    if self._load.bytes > _BODIES_MAX:
                        raise Refused("too much is being said at once", status=503, hint="try again")
                elif isinstance(event, h11.EndOfMessage) and head:
                    self._whole = True
                    return _request(head, bytes(body), self._peer)
                else:
                    return None
        finally:
            self._load.bytes -= len(body)

    def _expect(self, head: h11.Request) -> None:
        """A head is there: refuse its body, or ask for it."""
        if _length(head) > BODY_MAX:
            _too_long()
        if self._wire.they_are_waiting_for_100_continue:
            self._say(h11.InformationalResponse(status_code=100, headers=[]))

    async def _event(self) -> object:
        while (event := self._wire.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(_PIECE)
            self._begun |= bool(data)
            self._wire.receive_data(data)
        return event

    async def send(self, response: Response) -> bool:
        """Answer; whether another request may come. Raises ``OSError`` when the client does not read."""
        if self._wire.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        body = response.body if isinstance(response.body, bytes) else _json(response.body)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **response.headers,
            **({} if self._whole else {"Connection": "close"}),
        }
        self._say(h11.Response(status_code=response.status, headers=list(headers.items())))
        if self._method != b"HEAD":
            self._say(h11.Data(data=body))
        self._say(h11.EndOfMessage())
        async with asyncio.timeout(_IDLE):
            await self._writer.drain()
        if set(self._wire.states.values()) == {h11.DONE}:
            self._wire.start_next_cycle()
            return True
        await self._end()
        return False

    def _say(self, event: h11.Event) -> None:
        data = self._wire.send(event)
        if data:
            self._writer.write(data)

    async def _end(self) -> None:
        """Hang up so that the client hears the answer out, even if it is still sending itself."""
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while await self._reader.read(1 << 16):
                    pass


def _request(head: h11.Request, body: bytes, peer: Peer) -> Request:
    """Raises ``Refused``."""
    try:
        target = urlsplit(head.target.decode("ascii"))
        pairs = parse_qsl(target.query, keep_blank_values=True, max_num_fields=_QUERY_MAX)
        path = tuple(unquote(word, errors="strict") for word in target.path.removeprefix("/").split("/"))
    except ValueError as error:
        raise Refused(f"the path of the request cannot be read: {error}", status=BAD) from None
    query = dict(pairs)
    if len(query) < len(pairs):
        raise Refused("a parameter in the path of the request is there twice", status=BAD)
    return Request(head.method.decode("ascii"), path, query, _read(body), peer)


def _read(body: bytes) -> Any:
    """What a body says, strictly. Raises ``Refused``."""
    if not body.strip():
        return None
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise Refused("the body of the request is nested too deeply", status=BAD) from None
    except ValueError as error:
        raise Refused(f"the body of the request is no JSON: {error}", status=BAD) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} is there twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _length(head: h11.Request) -> int:
    """What the request says of the length of its body; h11 checked that it is a number."""
    return next((int(value) for name, value in head.headers if name == b"content-length"), 0)


def _too_long() -> NoReturn:
    raise Refused(f"the body of a request has at most {BODY_MAX} bytes", status=413)


def _peer(connection: socket.socket) -> Peer:
    return Peer(
        *_PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    )
