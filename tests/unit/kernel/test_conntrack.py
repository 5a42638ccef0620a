"""Which tracked connections are meant, and that garbage is none."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.kernel.conntrack import Choice, Entry, Flows, Local, decode
from netns_tools.kernel.netlink import attribute

ENTRY = Entry(
    source=socket.inet_aton("198.51.100.7"),
    destination=socket.inet_aton("192.0.2.1"),
    port=5300,
    answered_by=socket.inet_aton("10.0.0.5"),
    answered_port=6300,
    mark=0x00400001,
    key=b"",
)
LOCAL = Local([(socket.inet_aton("127.0.0.0"), 8), (socket.inet_aton("192.0.2.1"), 32)])
PORTS = {ENTRY.port}
FLOWS = Flows("udp", 4, "192.0.2.1", 5300, 5300)


def test_the_plain_case() -> None:
    assert ENTRY in Choice([FLOWS], LOCAL)


@pytest.mark.parametrize(
    "change",
    [
        {"host": ""},
        {"first": 5000, "last": 5999},
        {"target": "10.0.0.5", "to": 6300},
        {"first": 5299, "last": 5301, "target": "10.0.0.5", "to": 6299},
        {"sources": ("203.0.113.0/24", "198.51.100.0/24")},
        {"sources": ("0.0.0.0/0",)},
        {"without_mark": 0x2},
    ],
)
def test_meant(change: dict[str, object]) -> None:
    assert ENTRY in Choice([replace(FLOWS, **change)], LOCAL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"host": "192.0.2.2"},
        {"first": 5301, "last": 5301},
        {"target": "10.0.0.6", "to": 6300},
        {"target": "10.0.0.5", "to": 6301},
        {"first": 5299, "last": 5301, "target": "10.0.0.5", "to": 6300},
        {"sources": ("198.51.100.8/32",)},
        {"without_mark": 0x00400000},
    ],
)
def test_not_meant(change: dict[str, object]) -> None:
    assert ENTRY not in Choice([replace(FLOWS, **change)], LOCAL)  # type: ignore[arg-type]


def test_one_of_several_is_enough() -> None:
    other = replace(FLOWS, host="192.0.2.2")
    choice = Choice([other, FLOWS], LOCAL)
    assert ENTRY in choice
    assert set(choice.ports) == {5300}
    assert set(Choice([FLOWS, replace(FLOWS, first=1, last=2)], LOCAL).ports) == {1, 2, 5300}


def test_local() -> None:
    assert socket.inet_aton("127.255.0.1") in LOCAL
    assert socket.inet_aton("128.0.0.0") not in LOCAL
    assert socket.inet_aton("192.0.2.2") not in LOCAL
    assert socket.inet_aton("192.0.2.2") in Local([(bytes(4), 0)])


def packed(family: int, source: bytes, destination: bytes, ports: tuple[int, int], number: int) -> bytes:
    """A tuple as the kernel writes it."""
    source_kind, destination_kind = (1, 2) if family == 4 else (3, 4)
    addresses = attribute(source_kind, source) + attribute(destination_kind, destination)
    proto = attribute(1, bytes([number]))
    proto += attribute(2, ports[0].to_bytes(2, "big")) + attribute(3, ports[1].to_bytes(2, "big"))
    return attribute(0x8001, addresses) + attribute(0x8002, proto)


def message(body: bytes, kind: int = 0x100) -> bytes:
    whole = struct.pack("=IHHII", 20 + len(body), kind, 2, 1, 0) + b"\x02\0\0\0" + body
    return whole + b"\0" * (-len(whole) % 4)


def told(number: int = 17, kind: int = 0x100) -> bytes:
    original = packed(4, ENTRY.source, ENTRY.destination, (4000, ENTRY.port), number)
    reply = packed(4, ENTRY.answered_by, ENTRY.source, (ENTRY.answered_port, 4000), number)
    return message(
        attribute(0x8001, original)
        + attribute(0x8002, reply)
        + attribute(8, ENTRY.mark.to_bytes(4, "big"))
        + attribute(12, b"iden"),
        kind,
    )


def test_decode() -> None:
    first, second = decode(told() + told(), 4, "udp", PORTS)
    assert first._replace(key=b"") == ENTRY
    assert first == second
    assert first.key.endswith(attribute(12, b"iden"))
    assert attribute(8, ENTRY.mark.to_bytes(4, "big")) not in first.key


@pytest.mark.parametrize("family", [4, 6])
def test_only_the_ports_that_are_asked_for(family: int) -> None:
    """As the kernel writes it, and with something before the ports."""
    size = 4 if family == 4 else 16
    one, other = bytes(size - 1) + b"\1", bytes(size - 1) + b"\2"
    bodies = [
        extra
        + attribute(0x8001, packed(family, one, other, (4000, 53), 17))
        + attribute(0x8002, packed(family, other, one, (53, 4000), 17))
        for extra in (b"", attribute(8, b"mark"))
    ]
    for body in bodies:
        assert [entry.port for entry in decode(message(body), family, "udp", {53, 54})] == [53]
        assert list(decode(message(body), family, "udp", {4000})) == []


def test_others_are_skipped() -> None:
    assert not list(decode(told(number=6), 4, "udp", PORTS))
    assert not list(decode(told(), 6, "udp", PORTS))
    assert not list(decode(told(kind=0x102), 4, "udp", PORTS))


@given(st.binary(max_size=200), st.integers(0, 250))
def test_garbage_is_no_error(garbage: bytes, place: int) -> None:
    list(decode(garbage, 4, "udp", PORTS))
    list(decode(message(garbage), 4, "udp", PORTS))
    data = bytearray(told())
    data[place : place + len(garbage)] = garbage
    list(decode(bytes(data), 4, "udp", PORTS))
