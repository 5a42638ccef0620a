"""Clients, a router and servers in network namespaces, and sockets that tell who reached whom.

All of it lives in the process of an ``isolated`` test, so nothing is left behind.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.kernel.isolated import CLONE_NEWNET, ip

SECONDS = 20.0
"""How long an answer is waited for that has to come; none comes late on a healthy machine."""


class Addresses(NamedTuple):
    """The addresses of one family. ``beside``: another one of the router; ``gate``: that towards far."""

    family: int
    client: str
    other: str
    beside: str
    public: str
    lan: str
    subnet: str
    server: str
    peer: str
    gate: str
    far: str


V4 = Addresses(
    family=4,
    client="198.51.100.10",
    other="198.51.100.20",
    beside="198.51.100.1",
    public="203.0.113.1",
    lan="10.77.1.1",
    subnet="10.77.1.0/24",
    server="10.77.1.10",
    peer="10.77.1.11",
    gate="10.88.0.1",
    far="10.88.0.5",
)
V6 = Addresses(
    family=6,
    client="2001:db8:1::10",
    other="2001:db8:1::20",
    beside="2001:db8:1::1",
    public="2001:db8:f::1",
    lan="fd77:1::1",
    subnet="fd77:1::/64",
    server="fd77:1::10",
    peer="fd77:1::11",
    gate="fd88::1",
    far="fd88::5",
)

_libc = ctypes.CDLL(None, use_errno=True)


class Reached(NamedTuple):
    """The end of a connection: which server, at which of its ports, and the client that it sees."""

    server: str
    port: int
    source: str


class Pair(NamedTuple):
    """Both ends of an established TCP connection."""

    client: socket.socket
    server: socket.socket

    def works(self) -> bool:
        """Whether bytes still go both ways."""
        for one, other in (self, reversed(self)):
            one.sendall(b"x")
            if other.recv(1) != b"x":
                return False
        return True


class Rig:
    """Namespaces ``router`` (where the test is), ``client``, ``server``, ``peer`` and ``far``.

    The client is at wan0 of the router, server and peer are at its bridge br0, far is at far0. The
    client has a second address (``other``), the router one that is at none of the links (``public``).
    """

    def __init__(self) -> None:
        self._spaces = {"router": _current()}
        self._listening: dict[socket.socket, tuple[str, int]] = {}
        _settle()
        _write("net/ipv4/ip_forward", "1")
        _write("net/ipv6/conf/all/forwarding", "1")
        ip(
            "link add br0 type bridge",
            f"addr add {V4.public}/32 dev lo",
            f"addr add {V6.public}/128 dev lo",
        )
        _serve("br0", V4.lan, V6.lan)
        self._add("client", "wan0", [V4.client, V4.other], [V6.client, V6.other], V4.beside, V6.beside)
        self._add("far", "far0", [V4.far], [V6.far], V4.gate, V6.gate)
        self._add("server", "srv0", [V4.server], [V6.server], V4.lan, V6.lan, bridge=True)
        self._add("peer", "peer0", [V4.peer], [V6.peer], V4.lan, V6.lan, bridge=True)

    def _add(
        self, name: str, link: str, v4: list[str], v6: list[str], gate4: str, gate6: str, bridge: bool = False
    ) -> None:
        """Make a namespace at a link of the router, with the router as its gateway."""
        made = self._spaces[name] = _new()
        # By the number of the descriptor: it has no name that could be left behind.
        ip(f"link add {link} type veth peer name eth0 netns /proc/{os.getpid()}/fd/{made}")
        if bridge:
            # A target that reaches itself comes back by the port of the bridge that it left by.
            ip(f"link set {link} master br0", f"link set {link} type bridge_slave hairpin on")
            ip(f"link set {link} up")
        else:
            _serve(link, gate4, gate6)
        with self.inside(name):
            _settle()
            ip(
                "link set lo up",
                *(f"addr add {one}/24 dev eth0" for one in v4),
                # Of several addresses the first one is the source; the others are deprecated.
                f"addr add {v6[0]}/64 dev eth0 nodad",
                *(f"addr add {one}/64 dev eth0 nodad preferred_lft 0" for one in v6[1:]),
                "link set eth0 up",
                f"route add default via {gate4}",
                f"route add ::/0 via {gate6}",
            )

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Be in another namespace; sockets that are made there stay there."""
        before = _current()
        try:
            _enter(self._spaces[name])
            yield
        finally:
            _enter(before)
            os.close(before)

    def listen(self, name: str, port: int, proto: str = "tcp", address: str = "") -> None:
        """Let a namespace answer at a port, on IPv4 and IPv6."""
        with self.inside(name):
            for family in (socket.AF_INET, socket.AF_INET6):
                if address and (":" in address) != (family == socket.AF_INET6):
                    continue
                made = socket.socket(family, _kind(proto))
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind((address, port))
                if proto == "tcp":
                    made.listen(64)
                made.settimeout(SECONDS)
                self._listening[made] = name, port

    def reach(
        self, name: str, address: str, port: int, proto: str = "tcp", source: str = ""
    ) -> Reached | None:
        """Who answers at an address and port; None when the machine there says that nobody does."""
        with self.inside(name), _client(address, proto, source) as client:
            try:
                client.connect((address, port))
                client.send(b"?")
                return self._answer(client, proto)
            except ConnectionRefusedError:
                return None

    def _answer(self, client: socket.socket, proto: str) -> Reached | None:
        """Take the connection or datagram, answer, and see the answer arrive."""
        ready = select.select([*self._listening, client], [], [], SECONDS)[0]
        assert ready, "nobody got it, and nobody refused it"
        if ready[0] is client:
            client.recv(1)  # raises what was reported
            raise AssertionError("an answer out of nowhere")
        server, port = self._listening[ready[0]]
        if proto == "tcp":
            taken, peer = ready[0].accept()
            with taken:
                taken.settimeout(SECONDS)
                assert taken.recv(1) == b"?"
                taken.sendall(b"!")
                assert client.recv(1) == b"!"
        else:
            data, peer = ready[0].recvfrom(16)
            assert data == b"?"
            ready[0].sendto(b"!", peer)
            assert client.recv(1) == b"!"
        return Reached(server, port, peer[0])

    def pair(self, name: str, address: str, port: int) -> Pair:
        """An established connection to whoever answers there."""
        with self.inside(name):
            client = _client(address, "tcp", "")
            client.connect((address, port))
        ready = select.select(list(self._listening), [], [], SECONDS)[0]
        taken, _peer = ready[0].accept()
        taken.settimeout(SECONDS)
        return Pair(client, taken)


def set_sysctl(name: str, value: str) -> None:
    """Set one of the namespace that we are in: ``net/ipv4/conf/br0/route_localnet``."""
    _write(name, value)


def list_table(table: str, *flags: str) -> str:
    """A table as nft lists it: ``inet filter``."""
    return _nft(*flags, "list", "table", *table.split())


def list_tables() -> list[str]:
    """``table inet filter`` for each table."""
    return _nft("list", "tables").splitlines()


def _nft(*words: str) -> str:
    done = subprocess.run(["nft", *words], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _settle() -> None:
    """Let this namespace answer from the first moment, and refuse as often as it is asked."""
    _write("net/ipv6/conf/default/accept_dad", "0")
    _write("net/ipv4/icmp_ratelimit", "0")
    _write("net/ipv6/icmp/ratelimit", "0")


def _serve(link: str, v4: str, v6: str) -> None:
    """Give a link of the router its addresses."""
    ip(
        f"addr add {v4}/24 dev {link}",
        f"addr add {v6}/64 dev {link} nodad",
        f"addr add fe80::1/64 dev {link} nodad",  # to ask for neighbours by; its own one comes late
        f"link set {link} up",
    )


def _client(address: str, proto: str, source: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, _kind(proto))
    made.settimeout(SECONDS)
    if source:
        made.bind((source, 0))
    return made


def _kind(proto: str) -> socket.SocketKind:
    return socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _new() -> int:
    before = _current()
    _call(_libc.unshare(CLONE_NEWNET))
    made = _current()
    _enter(before)
    os.close(before)
    return made


def _enter(descriptor: int) -> None:
    _call(_libc.setns(descriptor, CLONE_NEWNET))


def _call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _write(name: str, value: str) -> None:
    with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
        file.write(value)
