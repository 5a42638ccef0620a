"""Which listeners a mapping would take packets from, and that garbage is no listener."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.kernel.listener import Listener, Place, decode, in_the_way


def listener(family: int, address: str, interface: str = "", proto: str = "tcp") -> Listener:
    return Listener(proto, family, address, 80, interface, 7, 0)


ANY, ONE, DEVICE, BOTH = (
    Place("tcp", 4, "", "", 80),
    Place("tcp", 4, "192.0.2.1", "", 80),
    Place("tcp", 4, "", "eth0", 80),
    Place("tcp", 4, "192.0.2.1", "eth0", 80),
)


@pytest.mark.parametrize(
    ("place", "address", "interface"),
    [
        (ANY, "", ""),
        (ANY, "192.0.2.1", ""),
        (ANY, "127.0.0.53", ""),
        (ANY, "", "eth0"),
        (ONE, "", ""),
        (ONE, "192.0.2.1", ""),
        (ONE, "", "eth1"),
        (DEVICE, "", ""),
        (DEVICE, "192.0.2.1", ""),
        (DEVICE, "", "eth0"),
        (DEVICE._replace(interface="lo"), "127.0.0.1", ""),
        (BOTH, "", ""),
        (BOTH, "192.0.2.1", ""),
        (BOTH, "", "eth0"),
        (BOTH, "192.0.2.1", "eth0"),
    ],
)
def test_in_the_way(place: Place, address: str, interface: str) -> None:
    found = listener(4, address, interface)
    assert in_the_way([found], [place]) == [(place, found)]
    assert in_the_way([found], [place], {7}) == []


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (ANY, listener(6, "")),
        (ANY, listener(4, "", proto="udp")),
        (ANY._replace(port=8080), listener(4, "")),
        (ONE, listener(4, "192.0.2.2")),
        (ONE, listener(4, "127.0.0.1")),
        (DEVICE, listener(4, "127.0.0.1")),
        (DEVICE._replace(family=6), listener(6, "::1")),
        (DEVICE, listener(4, "", "eth1")),
        (BOTH, listener(4, "192.0.2.2")),
        (BOTH, listener(4, "192.0.2.2", "eth0")),
        (BOTH, listener(4, "", "eth1")),
        (BOTH, listener(4, "192.0.2.1", "eth1")),
    ],
)
def test_not_in_the_way(place: Place, found: Listener) -> None:
    assert in_the_way([found], [place]) == []


def test_each_pair_is_told() -> None:
    many = [listener(4, ""), listener(4, "192.0.2.1")]
    assert len(in_the_way(many, [ANY, ONE, DEVICE])) == 6


def message(body: bytes) -> bytes:
    whole = struct.pack("=IHHII", 16 + len(body), 20, 2, 1, 0) + body
    return whole + b"\0" * (-len(whole) % 4)


def test_a_socket_without_the_attribute_is_of_its_family_alone() -> None:
    body = struct.pack("=BBBB", socket.AF_INET6, 10, 0, 0) + b"\0\x50" + bytes(66)
    (found,) = decode(message(body), "tcp")
    assert (found.family, found.address, found.port) == (6, "", 80)
    assert [one.family for one in decode(message(body + struct.pack("=HHI", 5, 11, 0)), "tcp")] == [6, 4]
    assert list(decode(message(body), "udp")) == []


@given(st.binary(max_size=100), st.sampled_from([2, 10, 0]), st.sampled_from([7, 10]))
def test_garbage_is_no_error(garbage: bytes, family: int, state: int) -> None:
    list(decode(garbage, "tcp"))
    list(decode(message(bytes([family, state]) + garbage), "tcp"))
    list(decode(message(bytes([family, state]) + bytes(70) + garbage), "udp"))
