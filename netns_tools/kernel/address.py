"""Addresses and links as the kernel describes them (rtnetlink(7), linux/if_addr.h, linux/if_link.h)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

from netns_tools.kernel.netlink import Message, attributes, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from netns_tools.kernel.netlink import Buffer

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_NEWADDR = 20
_RTM_DELADDR = 21

_IFLA_IFNAME = 3
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8

_IFF_UP = 0x1
_IFA_F_TEMPORARY = 0x01  # on IPv4 the same bit means secondary
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_RT_SCOPE_LINK = 253

_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")
_FAMILIES = {socket.AF_INET: (4, 4), socket.AF_INET6: (6, 16)}


class Address(NamedTuple):
    """An address of a link.

    ``family`` is 4 or 6; ``packed`` the address in network byte order;
    ``peer_packed`` the other end of a point-to-point link, else ``b""``;
    ``flags`` are IFA_F_*, ``scope`` is RT_SCOPE_* (254 host, 253 link, 0 global).
    """

    ifindex: int
    family: int
    packed: bytes
    prefix_length: int
    flags: int
    scope: int
    peer_packed: bytes = b""

    @property
    def key(self) -> tuple[int, int, bytes, int, bytes]:
        """What the kernel tells addresses apart by: two with one key are the same, changed.

        IPv4 allows one address several times on a link, with other prefix lengths or
        peers (__inet_insert_ifa in net/ipv4/devinet.c). IPv6 does not, and changes the
        peer in place.
        """
        if self.family == 6:
            return self.ifindex, 6, self.packed, 0, b""
        return self.ifindex, 4, self.packed, self.prefix_length, self.peer_packed

    @property
    def peer(self) -> bool:
        """Whether the prefix is not around this address but around that of the other end."""
        return bool(self.peer_packed)

    @property
    def host(self) -> str:
        """The address as text, as nft and ip write it: ``192.0.2.1``."""
        return socket.inet_ntop(socket.AF_INET if self.family == 4 else socket.AF_INET6, self.packed)

    @property
    def network(self) -> str:
        """The prefix that the address is in: ``192.0.2.0/24``; of an address with a peer only itself."""
        bits = 8 * len(self.packed)
        if self.peer_packed:
            return f"{self.host}/{bits}"
        rest = bits - self.prefix_length
        number = int.from_bytes(self.packed, "big") >> rest << rest
        packed = number.to_bytes(len(self.packed), "big")
        return f"{self._replace(packed=packed).host}/{self.prefix_length}"

    @property
    def usable(self) -> bool:
        """Whether it can be somebody's address elsewhere: wider than the link, no duplicate, not on trial.

        A deprecated address still receives (RFC 4862, 5.5.4), so it is usable.
        """
        return self.scope < _RT_SCOPE_LINK and not self.flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED)

    @property
    def temporary(self) -> bool:
        """Whether it is an IPv6 privacy address (RFC 8981)."""
        return self.family == 6 and bool(self.flags & _IFA_F_TEMPORARY)


@dataclass(frozen=True, slots=True)
class Link:
    """A network device; ``flags`` are IFF_*."""

    index: int
    name: str
    flags: int

    @property
    def up(self) -> bool:
        """Whether an administrator has it up, with or without a carrier."""
        return bool(self.flags & _IFF_UP)


class Event(NamedTuple):
    """A link or an address that is there, new or changed, or that is gone."""

    gone: bool
    what: Link | Address


def decode(data: Buffer) -> Iterator[Event]:
    """What the messages in a datagram say about links and addresses; anything else is skipped.

    Bridges announce their ports in messages of family AF_BRIDGE; their RTM_DELLINK
    means that the device left the bridge, not that it is gone, so they are skipped too.
    """
    for message in messages(data):
        kind = message.kind
        what: Link | Address | None
        if kind in (_RTM_NEWADDR, _RTM_DELADDR):
            what = _address(data, message)
        elif kind in (_RTM_NEWLINK, _RTM_DELLINK):
            what = _link(data, message)
        else:
            continue
        if what is not None:
            yield Event(kind in (_RTM_DELADDR, _RTM_DELLINK), what)


def _link(data: Buffer, message: Message) -> Link | None:
    start = message.start
    if message.end - start < _IFINFOMSG.size:
        return None
    family, _type, index, flags, _change = _IFINFOMSG.unpack_from(data, start)
    if family != socket.AF_UNSPEC or index <= 0:
        return None
    for kind, begin, end in attributes(data, start + _IFINFOMSG.size, message.end):
        if kind == _IFLA_IFNAME:
            name = bytes(data[begin:end]).partition(b"\0")[0]
            return Link(index, name.decode("utf-8", "surrogateescape"), flags)
    return None


def _address(data: Buffer, message: Message) -> Address | None:
    start = message.start
    if message.end - start < _IFADDRMSG.size:
        return None
    family, prefix_length, flags, scope, ifindex = _IFADDRMSG.unpack_from(data, start)
    if family not in _FAMILIES or ifindex <= 0:
        return None
    version, size = _FAMILIES[family]
    local = address = b""
    for kind, begin, end in attributes(data, start + _IFADDRMSG.size, message.end):
        if kind == _IFA_LOCAL:
            local = bytes(data[begin:end])
        elif kind == _IFA_ADDRESS:
            address = bytes(data[begin:end])
        elif kind == _IFA_FLAGS and end - begin == 4:  # all 32 of them; the header has room for 8
            flags = _U32.unpack_from(data, begin)[0]
    own = local or address
    if len(own) != size or len(address) not in (0, size) or prefix_length > 8 * size:
        return None
    peer = address if address and address != own else b""
    return Address(ifindex, version, own, prefix_length, flags, scope, peer)
