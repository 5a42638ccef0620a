"""Listening on Unix sockets, whatever is spoken there: who comes, who makes room, what stays behind."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from netns_tools.errors import NetnsToolsError
from netns_tools.host import unixsocket

_CLIENTS_MAX = 128  # more than are accepted at once (the backlog, 100): each is heard before it is the oldest
_CLOSING = 10.0  # seconds in which a client may read what was said to it last


class UnixServer(ABC):
    """Listens on one or more sockets, mode 0660. What is said there is for a subclass: ``_talk``.

    Clients lose their line when they are gone or too slow; if there are too many, the one that has
    been silent for the longest time makes room.
    """

    def __init__(self, limit: int = 1 << 16) -> None:
        self._limit = limit  # bytes of a line
        self._servers: dict[str, tuple[asyncio.Server, int]] = {}
        self._clients: dict[asyncio.StreamWriter, None] = {}  # the last one was heard most recently

    async def listen(self, path: str, group: str = "") -> None:
        """Listen on ``path`` too, unless somebody else does; the members of ``group``, if there is one,
        may connect. Raises ``NetnsToolsError``.
        """
        if self.is_found(path):
            return
        if path in self._servers:
            self.close(path)
        bound, inode = unixsocket.bind(path, group)
        try:
            server = await asyncio.start_unix_server(self._serve, sock=bound, limit=self._limit)
        except OSError as error:
            bound.close()
            unixsocket.remove(path, inode)
            raise NetnsToolsError(f"cannot listen on {path}: {error.strerror or error}") from None
        self._servers[path] = (server, inode)

    def close(self, path: str) -> None:
        """Listen no longer on ``path`` and remove it, if it still is ours."""
        server, inode = self._servers.pop(path)
        server.close()
        unixsocket.remove(path, inode)

    def is_found(self, path: str) -> bool:
        """Whether a client finds us at ``path``: nobody removed or replaced the socket."""
        _, inode = self._servers.get(path, (None, -1))
        return unixsocket.is_at(path, inode)

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
            await self._talk(reader, writer)
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), _CLOSING)
        except OSError:  # it went away, or was too slow (TimeoutError)
            pass
        finally:
            self._clients.pop(writer, None)
            writer.transport.abort()

    @abstractmethod
    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with one client until there is nothing more to say; then its line is cut."""

    async def _heard(self, writer: asyncio.StreamWriter) -> None:
        """This one said something: it is the last to make room, and others have their turn first."""
        if self._clients.pop(writer, True) is None:
            self._clients[writer] = None
        await asyncio.sleep(0)
