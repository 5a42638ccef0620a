"""Who listens where, and how a port is kept free of listeners.

Sockets are asked of the kernel by sock_diag(7): unlike /proc/net/tcp6 it tells whether a socket of
IPv6 takes IPv4 as well. All of it is about the network namespace that the calling thread is in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Set
from typing import NamedTuple

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.netlink import Requester, attributes, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.kernel.netlink import Buffer

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2; its socket id stays empty
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8sIIIII")  # struct inet_diag_msg
_INET_DIAG_SKV6ONLY = 11
_TCP_CLOSE, _TCP_LISTEN = 7, 10  # a UDP socket without a peer is in the state CLOSE

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOLS = {
    "tcp": (socket.IPPROTO_TCP, socket.SOCK_STREAM, _TCP_LISTEN),
    "udp": (socket.IPPROTO_UDP, socket.SOCK_DGRAM, _TCP_CLOSE),
}
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_FREE_PORT_TRIES = 30_000  # of some 28,000 ports


class Listener(NamedTuple):
    """A socket that takes what comes to a port.

    ``family`` 4 or 6: a socket of IPv6 that takes IPv4 as well appears twice. ``address`` is "" for
    every address. ``interface``: the only one that it listens on, "" for all. ``uid``: whose it is.
    """

    proto: str
    family: int
    address: str
    port: int
    interface: str
    inode: int
    uid: int

    def __str__(self) -> str:
        """``tcp 192.0.2.1:80``, ``udp *:53``, ``tcp [2001:db8::1]:80 on eth0``."""
        address = self.address or ("*" if self.family == 4 else "[::]")
        address = f"[{address}]" if ":" in self.address else address
        return f"{self.proto} {address}:{self.port}" + (f" on {self.interface}" if self.interface else "")


class Place(NamedTuple):
    """Where a mapping takes packets from their listener.

    ``host``: an address; "" for every local address of ``family``. ``interface``: the one by which
    they come in, "" for any.
    """

    proto: str
    family: int
    host: str
    interface: str
    port: int


class Process(NamedTuple):
    """Who has a socket open."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def observe_listeners(protos: Iterable[str] = ("tcp", "udp")) -> list[Listener]:
    """All sockets that listen. Raises ``NetnsToolsError``."""
    kernel = Requester(_NETLINK_SOCK_DIAG, "ask who listens in this network namespace")
    found: list[Listener] = []
    try:
        for proto in protos:
            number, _, state = _PROTOCOLS[proto]
            for family in _FAMILIES.values():
                body = _REQUEST.pack(family, number, 0, 1 << state)
                for data, _interrupted in kernel.dump(_SOCK_DIAG_BY_FAMILY, body):
                    found += decode(data, proto)
    finally:
        kernel.close()
    return sorted(set(found))


def decode(data: Buffer, proto: str) -> Iterator[Listener]:
    """The listeners in a datagram; anything else is skipped."""
    state_of_proto = _PROTOCOLS[proto][2]
    for message in messages(data):
        if message.kind != _SOCK_DIAG_BY_FAMILY or message.end - message.start < _ANSWER.size:
            continue
        family, state, _, _, port, _, source, _, index, _, _, _, _, uid, inode = _ANSWER.unpack_from(
            data, message.start
        )
        if state != state_of_proto or family not in _FAMILIES.values():
            continue
        only = True
        for kind, begin, end in attributes(data, message.start + _ANSWER.size, message.end):
            if kind == _INET_DIAG_SKV6ONLY:
                only = any(data[begin:end])
        for version, packed in _addresses(family, source, only):
            address = socket.inet_ntop(_FAMILIES[version], packed) if any(packed) else ""
            number = int.from_bytes(port, "big")
            yield Listener(proto, version, address, number, _interface(index), inode, uid)


def _addresses(family: int, source: bytes, only: bool) -> Iterator[tuple[int, bytes]]:
    """What a socket takes, by family."""
    if family == socket.AF_INET:
        yield 4, source[:4]
    elif source[:12] == _MAPPED:
        yield 4, source[12:]
    else:
        yield 6, source
        if not any(source) and not only:
            yield 4, bytes(4)


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return f"interface {index}"  # it is gone


def in_the_way(
    listeners: Iterable[Listener], places: Iterable[Place], ours: Collection[int] = ()
) -> list[tuple[Place, Listener]]:
    """Which listeners would get no more packets, or fewer, by mappings at these places.

    ``ours``: inodes of sockets that only keep a port free (``Reservations.inodes``).
    """
    by_port: dict[tuple[str, int, int], list[Listener]] = {}
    for listener in listeners:
        if listener.inode not in ours:
            key = (listener.proto, listener.family, listener.port)
            by_port.setdefault(key, []).append(listener)
    return [
        (place, listener)
        for place in places
        for listener in by_port.get((place.proto, place.family, place.port), ())
        if _meet(place, listener)
    ]


def _meet(place: Place, listener: Listener) -> bool:
    if place.host and listener.address not in ("", place.host):
        return False
    if place.interface and listener.interface:
        return listener.interface == place.interface
    if place.host or not place.interface:
        return True
    # What comes in by an interface is for any address of this host but those of the loopback.
    loopback = listener.address.startswith("127.") or listener.address == "::1"
    return not loopback or place.interface == "lo"


def processes(inodes: Collection[int]) -> dict[int, Process]:
    """Who has these sockets open, by inode, as far as this process may look into others (root: all).

    Of several it is the oldest by number; a socket of systemd's own is that of pid 1.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, Process] = {}
    if not wanted:
        return found
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        held = {wanted[link] for link in _links(pid) if link in wanted} - found.keys()
        if held:
            process = Process(pid, _name(pid))
            found.update(dict.fromkeys(held, process))
        if len(found) == len(wanted):
            break
    return found


def _links(pid: int) -> Iterator[str]:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # gone, or not ours
        return
    for number in numbers:
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{number}")


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "a process"


def free_port(proto: str, family: int, host: str, taken: Collection[int] = ()) -> int:
    """A port that nobody has at an address ("" for every local one) and that is not in ``taken``.

    It is one of net.ipv4.ip_local_port_range; nothing keeps it free (``Reservations``).
    Raises ``NetnsToolsError`` when there is none.
    """
    # Those that are taken are held until the end, so that the kernel offers another one.
    with contextlib.ExitStack() as held:
        for _ in range(min(len(taken) + 1, _FREE_PORT_TRIES)):
            try:
                one = held.enter_context(_bound(Place(proto, family, host, "", 0)))
            except OSError as error:
                raise NetnsToolsError(
                    f"cannot find a free {proto} port: {error.strerror}",
                    hint="name one, or make the range larger: sysctl net.ipv4.ip_local_port_range",
                ) from None
            port = int(one.getsockname()[1])
            if port not in taken:
                return port
    raise NetnsToolsError(f"cannot find a free {proto} port: all are in use by other mappings")


class Reservations:
    """Ports that nobody else can bind: sockets that are bound and do not listen.

    A TCP socket that listened would accept connections into nothing whenever the mapping is gone;
    this way they are refused. Datagrams are dropped. The ports are free again with this process.
    """

    def __init__(self, most: int = 1 << 20) -> None:
        self._most = most  # sockets; a process needs descriptors for other things as well
        self._sockets: dict[Place, socket.socket] = {}
        self._inodes: dict[Place, int] = {}  # of 10,000, as far as somebody has asked

    @property
    def inodes(self) -> set[int]:
        """The inodes of the sockets."""
        for place in self._sockets.keys() - self._inodes.keys():
            self._inodes[place] = os.fstat(self._sockets[place].fileno()).st_ino
        return set(self._inodes.values())

    def update(self, wanted: Iterable[Place]) -> dict[Place, str]:
        """Hold these and no others; those that cannot be held, and why (somebody has it, no descriptors)."""
        places = set(wanted)
        return self.change(places, self._sockets.keys() - places)

    def change(self, places: Set[Place], gone: Set[Place]) -> dict[Place, str]:
        """Hold these too, and no longer those that are gone; those that cannot be held, and why."""
        for place in gone & self._sockets.keys():
            self._sockets.pop(place).close()
            self._inodes.pop(place, None)
        failed = {}
        for place in sorted(places - self._sockets.keys()):
            if len(self._sockets) >= self._most:
                failed[place] = os.strerror(errno.EMFILE)
                continue
            try:
                self._sockets[place] = _bound(place)
            except OSError as error:
                failed[place] = error.strerror or str(error)
                if error.errno == errno.EMFILE:
                    failed.update(dict.fromkeys(places - self._sockets.keys(), failed[place]))
                    break
        return failed

    def close(self) -> None:
        """Give all ports back."""
        self.update(())


def _bound(place: Place) -> socket.socket:
    """A bound socket. The address need not be there (yet). Raises ``OSError``."""
    made = socket.socket(_FAMILIES[place.family], _PROTOCOLS[place.proto][1] | socket.SOCK_CLOEXEC)
    try:
        if place.family == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if place.interface:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, place.interface.encode() + b"\0")
        if place.proto == "udp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # nobody reads
        made.bind((place.host or ("" if place.family == 4 else "::"), place.port))
    except BaseException:
        made.close()
        raise
    return made
