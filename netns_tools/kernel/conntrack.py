"""Forget tracked connections, so that their next packet is looked up in the NAT tables anew.

A NAT decision is made once for a connection and kept with it. That is right for TCP, and wrong
for UDP, whose "connection" lasts as long as its packets keep coming. Entries are read and deleted
by ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.netlink import NETLINK_NETFILTER, attribute, attributes, messages
from netns_tools.kernel.netlinkbatch import BatchRequester

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.kernel.netlink import Buffer

_CT_NEW = 1 << 8 | 0  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_CT_GET = 1 << 8 | 1
_CT_DELETE = 1 << 8 | 2

_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY = 1, 2
_CTA_MARK, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 8, 12, 18, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_SRC = {4: 1, 6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_CTA_IP_DST = {4: 2, 6: 4}
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_CTA_FILTER_ORIG_FLAGS = 1
_PORT_PLACE = {4: 52, 6: 76}  # in a message, after family (4), two addresses, protocol and source port
_PORT_HEADER = struct.pack("=HH", 6, _CTA_PROTO_DST_PORT)
_FILTER_PROTO_NUM, _FILTER_DST_PORT = 1 << 3, 1 << 5  # CTA_FILTER_F_CTA_PROTO_* (Linux 5.8)

_RTM_NEWROUTE = 24
_RTM_GETROUTE = 26
_RTA_DST = 1
_RTN_LOCAL = 2
_RTMSG = struct.Struct("=BBBBBBBBI")

_NESTED = 0x8000
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_PURPOSE = "change the tracked connections of this network namespace"
_ROUNDS = 3


@dataclass(frozen=True)
class Flows:
    """Connections by where their first packet went.

    ``proto``: ``tcp`` or ``udp``; ``family``: 4 or 6; ``host``: the address it was sent to, "" for
    every address that is local here; ``first`` to ``last``: the ports. Of these

    - with ``target`` only those that were translated to it, port ``first`` to ``to``, the next one
      to the next one and so on;
    - with ``sources`` (prefixes) only those that came from there;
    - with ``without_mark`` only those in whose connmark none of these bits is set.
    """

    proto: str
    family: int
    host: str
    first: int
    last: int
    target: str = ""
    to: int = 0
    sources: tuple[str, ...] = ()
    without_mark: int = 0


class Entry(NamedTuple):
    """A tracked connection: its first packet, where its answers come from, its connmark.

    Addresses are in network byte order. ``key`` is what the kernel finds it by.
    """

    source: bytes
    destination: bytes
    port: int
    answered_by: bytes
    answered_port: int
    mark: int
    key: bytes


def delete_flows(flows: Iterable[Flows]) -> int:
    """Delete the entries of these connections in this thread's network namespace; how many it were.

    Call it after the NAT tables have changed. Other entries are left alone. Raises
    ``NetnsToolsError`` when the kernel refuses.
    """
    groups: dict[tuple[int, str], list[Flows]] = {}
    for one in flows:
        groups.setdefault((one.family, one.proto), []).append(one)
    if not groups:
        return 0
    deleted = 0
    with BatchRequester(NETLINK_NETFILTER, _PURPOSE) as kernel:
        for (family, proto), some in groups.items():
            local = observe_local(family) if any(not one.host for one in some) else Local([])
            chosen = Choice(some, local)
            # A packet that was on its way through the old tables may have made an entry meanwhile.
            for _ in range(_ROUNDS):
                found = [entry for entry in _entries(kernel, family, proto, chosen.ports) if entry in chosen]
                deleted += _delete(kernel, family, found)
                if not found:
                    break
    return deleted


class Local:
    """The addresses that are delivered to this namespace, from the prefixes of its local routes."""

    def __init__(self, prefixes: Iterable[tuple[bytes, int]]) -> None:
        self._hosts: set[bytes] = set()
        self._wide: list[tuple[int, int]] = []
        for packed, length in prefixes:
            rest = 8 * len(packed) - length
            if rest:
                self._wide.append((int.from_bytes(packed, "big") >> rest, rest))
            else:
                self._hosts.add(packed)

    def __contains__(self, packed: bytes) -> bool:
        if packed in self._hosts:
            return True
        number = int.from_bytes(packed, "big")
        return any(number >> rest == network for network, rest in self._wide)


class Choice:
    """Which entries are meant by some flows of one family and protocol; ``ports`` are all of theirs."""

    def __init__(self, flows: Iterable[Flows], local: Local) -> None:
        self._local = local
        self._by_port: dict[int, list[_Prepared]] = {}
        for one in flows:
            prepared = _Prepared(
                socket.inet_pton(_FAMILIES[one.family], one.host) if one.host else b"",
                socket.inet_pton(_FAMILIES[one.family], one.target) if one.target else b"",
                one.to - one.first,
                tuple(_prefix(text) for text in one.sources),
                one.without_mark,
            )
            for port in range(one.first, one.last + 1):
                self._by_port.setdefault(port, []).append(prepared)
        self.ports: Collection[int] = self._by_port.keys()

    def __contains__(self, entry: Entry) -> bool:
        return any(self._is_meant(entry, one) for one in self._by_port.get(entry.port, ()))

    def _is_meant(self, entry: Entry, one: _Prepared) -> bool:
        if one.target and (entry.answered_by, entry.answered_port) != (one.target, entry.port + one.shift):
            return False
        if entry.mark & one.without_mark:
            return False
        if one.sources:
            number = int.from_bytes(entry.source, "big")
            if not any(number >> rest == network for network, rest in one.sources):
                return False
        return entry.destination == one.host if one.host else entry.destination in self._local


class _Prepared(NamedTuple):
    host: bytes
    target: bytes
    shift: int
    sources: tuple[tuple[int, int], ...]
    without_mark: int


def _prefix(text: str) -> tuple[int, int]:
    network = ipaddress.ip_network(text)
    rest = network.max_prefixlen - network.prefixlen
    return int(network.network_address) >> rest, rest


def observe_local(family: int) -> Local:
    """What is delivered to this thread's network namespace. Raises ``NetnsToolsError``.

    Every local route counts, as for ``fib daddr type local`` of nft: 127.0.0.0/8 and what
    ``ip route add local PREFIX dev lo`` made local as well.
    """
    body = _RTMSG.pack(_FAMILIES[family], 0, 0, 0, 0, 0, 0, _RTN_LOCAL, 0)
    prefixes = []
    with BatchRequester(socket.NETLINK_ROUTE, "ask for the local addresses of this namespace") as kernel:
        for data, _interrupted in kernel.dump(_RTM_GETROUTE, body):
            for message in messages(data):
                if message.kind == _RTM_NEWROUTE:
                    prefixes += _local_prefix(data, message.start, message.end, family)
    return Local(prefixes)


def _local_prefix(data: Buffer, start: int, end: int, family: int) -> list[tuple[bytes, int]]:
    length, kind = data[start + 1], data[start + 7]
    if kind != _RTN_LOCAL:
        return []
    packed = bytes(4 if family == 4 else 16)  # a default route has no destination
    for attribute_kind, begin, stop in attributes(data, start + _RTMSG.size, end):
        if attribute_kind == _RTA_DST:
            packed = bytes(data[begin:stop])
    return [(packed, length)]


def _entries(kernel: BatchRequester, family: int, proto: str, ports: Collection[int]) -> Iterator[Entry]:
    """The tracked connections of a family and protocol to some ports.

    The kernel goes through its whole table, which takes 13 ms with 262,144 buckets
    (net.netfilter.nf_conntrack_buckets), however few entries it has.
    """
    parts = attribute(_CTA_PROTO_NUM, bytes([_NUMBERS[proto]]))
    flags = _FILTER_PROTO_NUM
    if len(ports) == 1:
        parts += attribute(_CTA_PROTO_DST_PORT, next(iter(ports)).to_bytes(2, "big"))
        flags |= _FILTER_DST_PORT
    filters = attribute(_CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags))
    body = (
        _nfgenmsg(family)
        + attribute(_CTA_TUPLE_ORIG | _NESTED, attribute(_CTA_TUPLE_PROTO | _NESTED, parts))
        + attribute(_CTA_FILTER | _NESTED, filters)
    )
    for data, _interrupted in kernel.dump(_CT_GET, body):
        yield from decode(data, family, proto, ports)


def _nfgenmsg(family: int) -> bytes:
    return struct.pack("=BBH", _FAMILIES[family], 0, 0)


def decode(data: Buffer, family: int, proto: str, ports: Collection[int]) -> Iterator[Entry]:
    """The connections of a family and protocol to some ports in a datagram of a dump."""
    place = _PORT_PLACE[family]
    for message in messages(data):
        start = message.start
        if message.kind != _CT_NEW or message.end - start < 4:
            continue
        # Most entries are of no interest: look where the port always is before taking all apart.
        if (
            data[start + place - 4 : start + place] == _PORT_HEADER
            and int.from_bytes(data[start + place : start + place + 2], "big") not in ports
        ):
            continue
        entry = _decode_entry(data, start + 4, message.end, family, _NUMBERS[proto])
        if entry is not None and entry.port in ports:
            yield entry


def _decode_entry(data: Buffer, start: int, end: int, family: int, number: int) -> Entry | None:
    mark, key = 0, b""
    original = reply = None
    for kind, begin, stop in attributes(data, start, end):
        if kind == _CTA_TUPLE_ORIG:
            original = _decode_tuple(data, begin, stop, family, number)
        elif kind == _CTA_TUPLE_REPLY:
            reply = _decode_tuple(data, begin, stop, family, number)
        elif kind == _CTA_MARK:
            mark = int.from_bytes(data[begin:stop], "big")
        if kind in (_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE):
            # As it came, so that nothing that tells entries apart is lost: the zone of a tuple as well.
            nested = _NESTED if kind == _CTA_TUPLE_ORIG else 0
            key += attribute(kind | nested, bytes(data[begin:stop]))
    if original is None or reply is None:
        return None
    source, destination, _source_port, port = original
    answered_by, _, answered_port, _ = reply
    return Entry(source, destination, port, answered_by, answered_port, mark, key)


def _decode_tuple(
    data: Buffer, start: int, end: int, family: int, number: int
) -> tuple[bytes, bytes, int, int] | None:
    """Source, destination, and their ports; None for another family or protocol."""
    source = destination = b""
    source_port = port = -1
    for outer, outer_start, outer_end in attributes(data, start, end):
        if outer == _CTA_TUPLE_IP:
            for kind, begin, stop in attributes(data, outer_start, outer_end):
                if kind == _CTA_IP_SRC[family]:
                    source = bytes(data[begin:stop])
                elif kind == _CTA_IP_DST[family]:
                    destination = bytes(data[begin:stop])
        elif outer == _CTA_TUPLE_PROTO:
            for kind, begin, stop in attributes(data, outer_start, outer_end):
                if kind == _CTA_PROTO_NUM:
                    if data[begin:stop] != bytes([number]):
                        return None
                elif kind == _CTA_PROTO_SRC_PORT:
                    source_port = int.from_bytes(data[begin:stop], "big")
                elif kind == _CTA_PROTO_DST_PORT:
                    port = int.from_bytes(data[begin:stop], "big")
    if not source or not destination or source_port < 0 or port < 0:
        return None
    return source, destination, source_port, port


def _delete(kernel: BatchRequester, family: int, entries: list[Entry]) -> int:
    codes = kernel.run((_CT_DELETE, 0, _nfgenmsg(family) + entry.key) for entry in entries)
    for code in codes:
        if code not in (0, errno.ENOENT):  # it may have ended by itself
            reason = errno.errorcode.get(code, str(code))
            hint = "it needs CAP_NET_ADMIN: run it as root" if code == errno.EPERM else ""
            raise NetnsToolsError(f"cannot delete a tracked connection: {reason}", hint=hint)
    return codes.count(0)
