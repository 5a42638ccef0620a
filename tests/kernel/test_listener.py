"""Listeners as real sockets are: every kind is seen, named, and kept away from reserved ports."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.listener import (
    Listener,
    Place,
    Reservations,
    free_port,
    in_the_way,
    observe_listeners,
    processes,
)
from tests.kernel.isolated import ip, isolated

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def with_addresses() -> None:
    ip(
        "link add eth0 type bridge",
        "link set eth0 up",
        "address add 192.0.2.1/24 dev eth0",
        "address add 2001:db8::1/64 dev eth0 nodad",
    )


def opened(proto: str, host: str, port: int, *, only6: bool = True, device: str = "") -> socket.socket:
    """A socket that takes what comes to a port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, KINDS[proto])
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    made.bind((host, port))
    if proto == "tcp":
        made.listen()
    return made


def seen() -> set[tuple[str, str]]:
    return {(str(one), f"IPv{one.family}") for one in observe_listeners()}


@pytest.mark.parametrize("proto", ["tcp", "udp"])
@isolated
def test_every_kind_of_listener(proto: str) -> None:
    with_addresses()
    assert observe_listeners() == []
    with ExitStack() as stack:
        for host, port, only6, device in (
            ("0.0.0.0", 1, True, ""),
            ("192.0.2.1", 2, True, ""),
            ("127.0.0.53", 53, True, ""),
            ("::", 3, True, ""),
            ("::", 4, False, ""),
            ("2001:db8::1", 5, False, ""),
            ("::ffff:192.0.2.1", 6, False, ""),
            ("0.0.0.0", 7, True, "eth0"),
            ("::1", 8, True, ""),
        ):
            stack.enter_context(opened(proto, host, port, only6=only6, device=device))
        assert seen() == {
            (f"{proto} *:1", "IPv4"),
            (f"{proto} 192.0.2.1:2", "IPv4"),
            (f"{proto} 127.0.0.53:53", "IPv4"),
            (f"{proto} [::]:3", "IPv6"),
            (f"{proto} [::]:4", "IPv6"),
            (f"{proto} *:4", "IPv4"),
            (f"{proto} [2001:db8::1]:5", "IPv6"),
            (f"{proto} 192.0.2.1:6", "IPv4"),
            (f"{proto} *:7 on eth0", "IPv4"),
            (f"{proto} [::1]:8", "IPv6"),
        }
        assert observe_listeners(["udp" if proto == "tcp" else "tcp"]) == []
    assert observe_listeners() == []


@isolated
def test_what_does_not_listen_is_no_listener() -> None:
    """Connections, datagram sockets with a peer, ports that are bound and no more."""
    with opened("tcp", "127.0.0.1", 80) as server, socket.create_connection(("127.0.0.1", 80)):
        accepted, _ = server.accept()
        with accepted, opened("udp", "127.0.0.1", 90) as with_peer, socket.socket() as bound:
            with_peer.connect(("127.0.0.1", 91))
            bound.bind(("127.0.0.1", 92))
            assert seen() == {("tcp 127.0.0.1:80", "IPv4")}


@isolated
def test_other_namespaces_are_not_seen() -> None:
    with opened("tcp", "127.0.0.1", 80):
        assert len(observe_listeners()) == 1
        program = "from netns_tools.kernel.listener import observe_listeners as o; print(o())"
        command = ["unshare", "--net", sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "[]\n"


@isolated
def test_thousands_of_listeners() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        count = min(5000, hard - 100)
        for port in range(10_000, 10_000 + count):
            stack.enter_context(opened("udp", "127.0.0.1", port))
        started = time.monotonic()
        found = observe_listeners()
        print(f"{count} listeners read in {time.monotonic() - started:.3f} s")
        assert len(found) == count


@isolated
def test_the_process_behind_a_socket() -> None:
    program = (
        "import socket, sys; open('/proc/self/comm', 'w').write('my server');"
        "s = socket.create_server(('127.0.0.1', 80)); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        with opened("udp", "127.0.0.1", 53) as own:
            listeners = observe_listeners()
            found = processes([one.inode for one in listeners])
            named = {str(one): str(found[one.inode]) for one in listeners}
            assert named["tcp 127.0.0.1:80"] == f"my server (pid {server.pid})"
            assert named["udp 127.0.0.1:53"].endswith(f" (pid {os.getpid()})")
            assert processes([os.fstat(own.fileno()).st_ino]).keys() == {os.fstat(own.fileno()).st_ino}
        server.communicate("")
    assert processes([one.inode for one in listeners]) == {}
    assert processes([]) == {}


@isolated
def test_without_rights_processes_of_others_have_no_name() -> None:
    with opened("tcp", "127.0.0.1", 80):
        (listener,) = observe_listeners()
        child = os.fork()
        if child == 0:
            os.closerange(3, 100)
            os.setresuid(65534, 65534, 65534)
            nameless = observe_listeners() == [listener] and processes([listener.inode]) == {}
            os._exit(0 if nameless else 1)
        assert os.waitpid(child, 0)[1] == 0


PLACES = [
    Place("tcp", 4, "", "", 8080),
    Place("tcp", 4, "192.0.2.1", "", 8080),
    Place("tcp", 6, "", "", 8080),
    Place("tcp", 6, "2001:db8::1", "", 8080),
    Place("tcp", 4, "", "eth0", 8080),
    Place("tcp", 6, "2001:db8::1", "eth0", 8080),
    Place("udp", 4, "203.0.113.9", "", 8080),  # an address that is not there yet
    Place("udp", 6, "2001:db8:9::9", "", 8080),
]


@pytest.mark.parametrize("place", PLACES, ids=str)
@isolated
def test_nobody_else_can_have_a_reserved_port(place: Place) -> None:
    with_addresses()
    ip("address add 203.0.113.9/24 dev eth0", "address add 2001:db8:9::9/64 dev eth0 nodad")
    host = place.host or ("0.0.0.0" if place.family == 4 else "::")
    reservations = Reservations()
    assert reservations.update([place]) == {}
    assert reservations.update([place]) == {}
    assert in_the_way(observe_listeners(), [place], reservations.inodes) == []
    with pytest.raises(OSError, match="in use"):
        opened(place.proto, host, place.port)
    with opened(place.proto, host, place.port + 1):
        pass
    reservations.close()
    with opened(place.proto, host, place.port):
        assert in_the_way(observe_listeners(), [place])
        assert reservations.update([place]) == {place: os.strerror(errno.EADDRINUSE)}


@isolated
def test_an_address_that_is_not_there_yet() -> None:
    for place in (Place("tcp", 4, "203.0.113.9", "", 80), Place("udp", 6, "2001:db8:9::9", "", 80)):
        reservations = Reservations()
        assert reservations.update([place]) == {}
        assert len(reservations.inodes) == 1


@isolated
def test_a_reserved_port_refuses_clients() -> None:
    """A listening one would let them wait for ever."""
    reservations = Reservations()
    reservations.update([Place("tcp", 4, "", "", 8080)])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 8080), timeout=10)


@isolated
def test_reservations_follow_what_is_wanted() -> None:
    first, second, third = (Place("tcp", 4, "", "", port) for port in (81, 82, 83))
    reservations = Reservations()
    reservations.update([first, second])
    before = reservations.inodes
    reservations.update([second, third])
    assert len(reservations.inodes & before) == 1
    opened("tcp", "0.0.0.0", 81).close()
    for port in (82, 83):
        with pytest.raises(OSError, match="in use"):
            opened("tcp", "0.0.0.0", port)


@isolated
def test_without_descriptors_the_rest_is_told() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    places = [Place("udp", 4, "", "", port) for port in range(1000, 1100)]
    reservations = Reservations()
    failed = reservations.update(places)
    assert 40 < len(failed) < 100
    assert set(failed.values()) == {os.strerror(errno.EMFILE)}
    reservations.close()
    assert reservations.update(places[:20]) == {}


@isolated
def test_an_interface_that_is_not_there() -> None:
    place = Place("tcp", 4, "", "eth9", 80)
    assert Reservations().update([place]) == {place: os.strerror(errno.ENODEV)}


@pytest.mark.parametrize("proto", ["tcp", "udp"])
@pytest.mark.parametrize(("family", "host"), [(4, ""), (4, "127.0.0.1"), (6, ""), (6, "::1")])
@isolated
def test_a_free_port(proto: str, family: int, host: str) -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write("40000 40009")
    with opened(proto, host or ("0.0.0.0" if family == 4 else "::"), 40003):
        taken = {40000, 40001, 40002, 40005, 40006, 40007, 40008, 40009}
        assert free_port(proto, family, host, taken) == 40004
        with pytest.raises(NetnsToolsError, match=f"cannot find a free {proto} port") as caught:
            free_port(proto, family, host, {*taken, 40004})
        assert "ip_local_port_range" in caught.value.hint
        opened(proto, host or ("0.0.0.0" if family == 4 else "::"), 40004).close()


def test_text() -> None:
    assert str(Listener("tcp", 6, "2001:db8::1", 80, "eth0", 1, 0)) == "tcp [2001:db8::1]:80 on eth0"
