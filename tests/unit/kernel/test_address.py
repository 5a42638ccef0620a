"""Messages about links and addresses: what they mean, and that garbage means nothing."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.kernel.address import Address, Event, Link, decode
from netns_tools.kernel.netlink import attribute

NEWLINK, DELLINK, NEWADDR, DELADDR = 16, 17, 20, 21
LOCAL, ADDRESS, FLAGS, IFNAME = 2, 1, 8, 3
TENTATIVE, DADFAILED, DEPRECATED, TEMPORARY = 0x40, 0x08, 0x20, 0x01


def message(kind: int, body: bytes) -> bytes:
    """A message of the kernel, padded."""
    whole = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    return whole + b"\0" * (-len(whole) % 4)


def address_message(
    *attributes: bytes, kind: int = NEWADDR, family: int = socket.AF_INET, length: int = 24, scope: int = 0
) -> bytes:
    return message(kind, struct.pack("=BBBBI", family, length, 0x80, scope, 3) + b"".join(attributes))


def link_message(kind: int, family: int, name: str = "eth0", flags: int = 1) -> bytes:
    body = struct.pack("=BxHiII", family, 1, 7, flags, 0) + attribute(IFNAME, name.encode() + b"\0")
    return message(kind, body)


def four(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, text)


def six(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


def only_address(data: bytes) -> Address:
    (event,) = decode(data)
    assert isinstance(event.what, Address)
    return event.what


def test_address() -> None:
    own = four("192.0.2.1")
    data = address_message(attribute(ADDRESS, own), attribute(LOCAL, own))
    assert list(decode(data)) == [Event(False, Address(3, 4, own, 24, 0x80, 0))]
    found = only_address(data)
    assert (found.host, found.network, found.peer, found.usable) == (
        "192.0.2.1",
        "192.0.2.0/24",
        False,
        True,
    )


def test_address_of_a_point_to_point_link_is_the_local_one() -> None:
    own, other = four("192.0.2.1"), four("198.51.100.9")
    found = only_address(address_message(attribute(ADDRESS, other), attribute(LOCAL, own)))
    assert (found.host, found.network, found.peer) == ("192.0.2.1", "192.0.2.1/32", True)


def test_ipv6_has_its_address_alone() -> None:
    data = address_message(attribute(ADDRESS, six("2001:db8::5")), family=socket.AF_INET6, length=64)
    found = only_address(data)
    assert (found.family, found.host, found.network) == (6, "2001:db8::5", "2001:db8::/64")


def test_text_is_what_nft_writes() -> None:
    found = only_address(
        address_message(attribute(ADDRESS, six("::ffff:192.0.2.1")), family=socket.AF_INET6, length=128)
    )
    assert found.host == "::ffff:192.0.2.1"


@pytest.mark.parametrize(
    ("flags", "usable", "temporary"),
    [
        (0, True, False),
        (TENTATIVE, False, False),
        (DADFAILED, False, False),
        (DEPRECATED, True, False),
        (TEMPORARY, True, True),
        (TEMPORARY | TENTATIVE, False, True),
        (0x800, True, False),  # a flag that the header has no room for
    ],
)
def test_flags(flags: int, usable: bool, temporary: bool) -> None:
    found = only_address(
        address_message(
            attribute(ADDRESS, six("2001:db8::5")),
            attribute(FLAGS, struct.pack("=I", flags)),
            family=socket.AF_INET6,
        )
    )
    assert (found.flags, found.usable, found.temporary) == (flags, usable, temporary)


def test_a_secondary_ipv4_address_is_not_temporary() -> None:
    assert not Address(1, 4, four("192.0.2.1"), 24, TEMPORARY, 0).temporary


@pytest.mark.parametrize(("scope", "usable"), [(0, True), (200, True), (253, False), (254, False)])
def test_scope(scope: int, usable: bool) -> None:
    assert only_address(address_message(attribute(LOCAL, four("192.0.2.1")), scope=scope)).usable is usable


def test_two_prefixes_with_one_host_are_two_addresses() -> None:
    own = attribute(LOCAL, four("192.0.2.1"))
    first, second = decode(address_message(own) + address_message(own, length=25))
    assert isinstance(first.what, Address)
    assert isinstance(second.what, Address)
    assert first.what.key != second.what.key


def test_links() -> None:
    data = link_message(NEWLINK, socket.AF_UNSPEC) + link_message(DELLINK, socket.AF_UNSPEC, flags=0)
    assert list(decode(data)) == [Event(False, Link(7, "eth0", 1)), Event(True, Link(7, "eth0", 0))]
    assert Link(7, "eth0", 1).up
    assert not Link(7, "eth0", 0x1002).up


@pytest.mark.parametrize("kind", [NEWLINK, DELLINK])
def test_messages_of_a_bridge_about_its_ports_are_no_links(kind: int) -> None:
    assert list(decode(link_message(kind, socket.AF_BRIDGE))) == []


def test_a_name_that_is_not_utf8() -> None:
    body = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + attribute(IFNAME, b"a\xff\0")
    (event,) = decode(message(NEWLINK, body))
    assert isinstance(event.what, Link)
    assert event.what.name.encode("utf-8", "surrogateescape") == b"a\xff"


@pytest.mark.parametrize(
    "data",
    [
        address_message(),
        address_message(attribute(LOCAL, b"abc")),
        address_message(attribute(LOCAL, six("::1"))),
        address_message(attribute(LOCAL, four("192.0.2.1")), attribute(ADDRESS, b"x")),
        address_message(attribute(LOCAL, four("192.0.2.1")), length=33),
        address_message(attribute(LOCAL, four("192.0.2.1")), family=socket.AF_BRIDGE),
        message(NEWADDR, b"abc"),
        message(NEWLINK, b"abc"),
        message(NEWLINK, struct.pack("=BxHiII", 0, 1, 7, 0, 0)),
        message(24, b"route"),
    ],
)
def test_what_makes_no_sense_is_skipped_and_what_follows_is_read(data: bytes) -> None:
    assert list(decode(data + link_message(NEWLINK, 0))) == [Event(False, Link(7, "eth0", 1))]


@given(st.binary(max_size=300))
def test_garbage_raises_nothing(data: bytes) -> None:
    list(decode(data))


@given(
    st.sampled_from([NEWLINK, DELLINK, NEWADDR, DELADDR]),
    st.sampled_from([0, 2, 7, 10]),
    st.binary(max_size=100),
    st.integers(0, 200),
)
def test_garbage_inside_a_message_is_skipped_or_makes_sense(
    kind: int, family: int, body: bytes, cut: int
) -> None:
    for event in decode(message(kind, bytes([family]) + body)[:cut]):
        if isinstance(event.what, Address):
            text = event.what.host
            assert event.what.network
            assert event.what.packed == (four(text) if event.what.family == 4 else six(text))
        else:
            assert event.what.index > 0


@given(st.lists(st.tuples(st.ip_addresses(), st.data()), max_size=8))
def test_whatever_is_sent_is_understood(given: list[tuple[object, st.DataObject]]) -> None:
    sent, wanted = b"", []
    for number, (ip, data) in enumerate(given):
        packed = getattr(ip, "packed")  # noqa: B009
        family = 4 if len(packed) == 4 else 6
        length = data.draw(st.integers(0, 8 * len(packed)))
        kind = data.draw(st.sampled_from([NEWADDR, DELADDR]))
        flags = data.draw(st.integers(0, 0xFFFFFFFF))
        body = struct.pack("=BBBBI", 2 if family == 4 else 10, length, flags & 0xFF, 0, number + 1)
        body += attribute(ADDRESS, packed) + attribute(FLAGS, struct.pack("=I", flags))
        sent += message(kind, body)
        wanted.append(Event(kind == DELADDR, Address(number + 1, family, packed, length, flags, 0)))
    assert list(decode(sent)) == wanted
