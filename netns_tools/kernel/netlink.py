"""Netlink messages and sockets, as far as the watchers need them (netlink(7), linux/netlink.h)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import NamedTuple

from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Buffer = bytes | bytearray | memoryview

NETLINK_NETFILTER = 12  # Python's socket does not name it

NLM_F_REQUEST = 0x1
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300

NLMSG_ERROR = 2
NLMSG_DONE = 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 8 << 20  # a storm of 10,000 messages fits; the default of 208 KiB holds some 270
_DATAGRAM = 1 << 16  # the kernel makes its dumps in pieces of at most 32 KiB
_ANSWER_SECONDS = 5.0


class Message(NamedTuple):
    """A netlink message; its body is ``data[start:end]`` of the buffer that it was found in."""

    kind: int
    flags: int
    sequence: int
    port: int
    start: int
    end: int


def messages(data: Buffer) -> Iterator[Message]:
    """The messages in a datagram; what is cut off or malformed ends them without an error."""
    offset, size = 0, len(data)
    unpack = _HEADER.unpack_from
    while offset + 16 <= size:
        length, kind, flags, sequence, port = unpack(data, offset)
        if length < 16 or offset + length > size:
            return
        yield Message(kind, flags, sequence, port, offset + 16, offset + length)
        offset += (length + 3) & ~3


def attributes(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, start and end of each attribute's value in ``data[start:end]``; a malformed one ends them."""
    unpack = _ATTRIBUTE.unpack_from
    while start + 4 <= end:
        length, kind = unpack(data, start)
        if length < 4 or start + length > end:
            return
        yield kind & _TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


def request(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    """A request as it is sent."""
    return _HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute as it is sent, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def error_code(data: Buffer, message: Message) -> int:
    """The errno of an NLMSG_ERROR or NLMSG_DONE; 0: none."""
    if message.end - message.start < 4:
        return 0
    return -int(struct.unpack_from("=i", data, message.start)[0])


class Overrun(Exception):
    """The kernel had to drop messages, because they were not read in time."""


class EventSocket:
    """A socket that receives what the kernel announces to multicast groups. It never blocks.

    ``groups`` is a mask: bit n-1 for group n. Raises ``NetnsToolsError``.
    """

    def __init__(self, protocol: int, groups: int, purpose: str) -> None:
        self._purpose = purpose
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
            )
        except OSError as error:
            raise _unavailable(purpose, error) from None
        try:
            self._enlarge()
            self._socket.bind((0, groups))
        except OSError as error:
            self._socket.close()
            raise _unavailable(purpose, error) from None
        self._buffer = bytearray(_DATAGRAM)
        self._view = memoryview(self._buffer)

    def _enlarge(self) -> None:
        """Make room for bursts; without CAP_NET_ADMIN as far as net.core.rmem_max allows."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def receive(self) -> memoryview | None:
        """The next datagram of the kernel, valid until the next call; None when nothing is queued.

        Raises ``Overrun`` when messages were lost. The kernel then drops everything
        until the queue has been read to its end (NETLINK_S_CONGESTED in
        net/netlink/af_netlink.c): ``discard()``.
        """
        while True:
            try:
                # With MSG_TRUNC the size is the datagram's own, even if it did not fit.
                size, sender = self._socket.recvfrom_into(self._buffer, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Overrun from None
                raise _unavailable(self._purpose, error) from None
            if sender[0] != 0:
                continue  # a process may send as well; only the kernel is believed
            if size > _DATAGRAM:
                raise Overrun
            return self._view[:size]

    def discard(self) -> None:
        """Throw away what is queued, so that the kernel queues again."""
        while True:
            try:
                self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise _unavailable(self._purpose, error) from None


class Requester:
    """A socket for requests, one after the other; made in the namespace that it asks about.

    Raises ``NetnsToolsError``.
    """

    def __init__(self, protocol: int, purpose: str) -> None:
        self._purpose = purpose
        self._sequence = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise _unavailable(purpose, error) from None
        self._socket.settimeout(_ANSWER_SECONDS)

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> Iterator[tuple[bytes, bool]]:
        """The datagrams of a dump, each with whether the kernel says that it is inconsistent."""
        self._send(kind, NLM_F_DUMP, body)
        while True:
            data = self._receive()
            interrupted = False
            for message in messages(data):
                if message.sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
                if message.kind in (NLMSG_ERROR, NLMSG_DONE):
                    self._check(error_code(data, message))
                    yield data, interrupted
                    return
            yield data, interrupted

    def ask(self, kind: int, body: bytes) -> tuple[bytes, Message] | None:
        """The one answer to a request; None: what was asked for does not exist."""
        self._send(kind, 0, body)
        while True:
            data = self._receive()
            for message in messages(data):
                if message.sequence != self._sequence:
                    continue  # of a request that ended in an error
                if message.kind != NLMSG_ERROR:
                    return data, message
                code = error_code(data, message)
                if code == errno.ENOENT:
                    return None
                self._check(code)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        try:
            self._socket.send(request(kind, flags, body, self._sequence))
        except OSError as error:
            raise _unavailable(self._purpose, error) from None

    def _receive(self) -> bytes:
        try:
            while True:
                data, sender = self._socket.recvfrom(_DATAGRAM)
                if sender[0] == 0:
                    return data
        except OSError as error:
            raise _unavailable(self._purpose, error) from None

    def _check(self, code: int) -> None:
        if code:
            raise _unavailable(self._purpose, OSError(code, os.strerror(code)))


def _unavailable(purpose: str, error: OSError) -> NetnsToolsError:
    reason = error.strerror or str(error)
    hint = "it needs CAP_NET_ADMIN: run it as root" if isinstance(error, PermissionError) else ""
    return NetnsToolsError(f"cannot {purpose}: {reason}", hint=hint)
