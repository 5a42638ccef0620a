"""Hear of every change to tables, sets and elements, or rules too, of this network namespace's nftables."""

from __future__ import annotations

from typing import NamedTuple

from netns_tools.kernel.netlink import NETLINK_NETFILTER, EventSocket, Overrun, attributes, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.kernel.netlink import Buffer, Message

_NFNLGRP_NFTABLES = 7
_NFNL_SUBSYS_NFTABLES = 10
_TOLD = frozenset({0, 2, 9, 11, 12, 14})  # NFT_MSG_NEWTABLE, DELTABLE, NEWSET, DELSET, NEWSETELEM, DELSETELEM
_RULES = frozenset({3, 5, 6, 8})  # NFT_MSG_NEWCHAIN, DELCHAIN, NEWRULE, DELRULE
_NEWGEN = 15  # NFT_MSG_NEWGEN: ends the messages of a transaction
_NFGENMSG = 4  # family, version, two bytes of the generation
_NAME = 1  # NFTA_TABLE_NAME, and NFTA_*_TABLE of sets, lists of elements, chains and rules

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""NFPROTO_* (linux/netfilter.h) as nft calls them."""


class Seen(NamedTuple):
    """What has happened since the last look.

    ``tables``: family and name of each table that was made or removed, or whose sets
    or elements changed, or chains and rules where those are asked for. ``generations``:
    how many transactions. ``lost``: messages were dropped, so anything may have changed.
    """

    tables: set[tuple[str, str]]
    generations: int
    lost: bool


class NftMonitor:
    """Listens from the moment it is made; ``rules``: to chains and rules too. Raises ``NetnsToolsError``.

    The kernel queues the messages of a transaction before the request that made it
    returns (nf_tables_commit in net/netfilter/nf_tables_api.c). So between a
    ``read()`` right before ``Nft.apply()`` and one right after it, our own
    transaction is seen: one generation, or none if it changed nothing.
    """

    def __init__(self, *, rules: bool = False) -> None:
        self._told = _TOLD | _RULES if rules else _TOLD
        self._events = EventSocket(
            NETLINK_NETFILTER, 1 << (_NFNLGRP_NFTABLES - 1), "watch nftables in this network namespace"
        )

    def fileno(self) -> int:
        """The descriptor that is readable when ``read()`` has something to tell."""
        return self._events.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._events.close()

    def read(self) -> Seen:
        """Everything that is queued, without blocking."""
        seen = Seen(set(), 0, False)
        while True:
            try:
                data = self._events.receive()
            except Overrun:
                self._events.discard()
                return seen._replace(lost=True)
            if data is None:
                return seen
            seen = look(data, seen, self._told)


def look(data: Buffer, seen: Seen, told: frozenset[int] = _TOLD) -> Seen:
    """``seen`` and what a datagram adds, of messages that are to be told; its tables are changed in place."""
    generations, known, size = seen.generations, b"", 0
    for message in messages(data):
        if message.kind >> 8 != _NFNL_SUBSYS_NFTABLES:
            continue
        kind, start = message.kind & 0xFF, message.start
        if kind == _NEWGEN:
            generations += 1
        elif kind in told:
            # A transaction may have thousands of elements. Their messages begin with the same
            # bytes, family and table, so most of them are done with by comparing those.
            if size and data[start : start + size] == known:
                continue
            table, size = _table(data, message)
            known = bytes(data[start : start + size])
            if table is not None:
                seen.tables.add(table)
    return seen._replace(generations=generations)


def _table(data: Buffer, message: Message) -> tuple[tuple[str, str] | None, int]:
    """The table that a message is about, and how many bytes of the body say so."""
    start = message.start
    if message.end - start < _NFGENMSG:
        return None, 0
    for kind, begin, end in attributes(data, start + _NFGENMSG, message.end):
        if kind == _NAME:
            family = FAMILIES.get(data[start], str(data[start]))
            name = bytes(data[begin:end]).partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return (family, name), end - start
    return None, 0
