"""Follow the links and addresses of the network namespace that this process is in, without losing any."""

from __future__ import annotations

import socket
import struct
from typing import Protocol

from netns_tools.kernel.address import Address, Link, decode
from netns_tools.kernel.netlink import EventSocket, Overrun, Requester, attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_GROUPS = 1 << 0 | 1 << 4 | 1 << 8  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_RTM_GETLINK = 18
_RTM_GETADDR = 22
_IFLA_EXT_MASK = 29
_RTEXT_FILTER_SKIP_STATS = 8
_PURPOSE = "watch the addresses of this network namespace"

_MESSAGES_A_CALL = 5000  # some 50 ms: then the loop has its turn
_MESSAGES_A_REPLAY = 50_000
_TRIES = 50


class Receiver(Protocol):
    """Who is told. An address of a link that is not known, or that is gone already, is possible."""

    def put_link(self, link: Link) -> None:
        """A link is new, or its name or flags have changed."""

    def drop_link(self, index: int) -> None:
        """A link is gone, and its addresses with it."""

    def put_address(self, address: Address) -> None:
        """An address is new, or what the kernel says about it has changed (same ``key``)."""

    def drop_address(self, address: Address) -> None:
        """The address with this ``key`` is gone."""

    def replace(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        """These are all; nothing that was told before counts."""


class Nobody:
    """A receiver that takes nothing: for who only asks whether something changed, or derives from it."""

    def put_link(self, link: Link) -> None:
        """See ``Receiver``."""

    def drop_link(self, index: int) -> None:
        """See ``Receiver``."""

    def put_address(self, address: Address) -> None:
        """See ``Receiver``."""

    def drop_address(self, address: Address) -> None:
        """See ``Receiver``."""

    def replace(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        """See ``Receiver``."""


class AddressWatch:
    """Listens from the moment it is made; call ``resync()`` first. Raises ``NetnsToolsError``.

    ``overruns`` counts how often the kernel dropped messages; a full dump mended it each time.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.overruns = 0
        self._receiver = receiver
        self._stale = True
        self._events = EventSocket(socket.NETLINK_ROUTE, _GROUPS, _PURPOSE)

    def fileno(self) -> int:
        """The descriptor that is readable when ``read()`` has something to do."""
        return self._events.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._events.close()

    def resync(self) -> None:
        """Hand the receiver everything there is, then what changed meanwhile.

        In a storm no dump may come out consistent. Then the receiver keeps what it
        has, the descriptor stays readable, and the next ``read()`` tries again.
        Raises ``NetnsToolsError`` when the kernel cannot be asked.
        """
        for _ in range(_TRIES):
            # What is queued is older than the dump. Read to its end, it also lets the kernel
            # queue again after an overrun.
            self._events.discard()
            found = self._dump()
            if found is None:
                continue
            self._receiver.replace(*found)
            try:
                self._replay(_MESSAGES_A_REPLAY)
            except Overrun:
                self.overruns += 1
                continue
            self._stale = False
            return
        self._stale = True

    def read(self) -> bool:
        """Hand over what is queued, without blocking; whether there was anything.

        At most some thousand messages a call; the descriptor stays readable when there are more.
        """
        if self._stale:
            self.resync()
            return True
        try:
            return self._replay(_MESSAGES_A_CALL)
        except Overrun:
            self.overruns += 1
            self.resync()
            return True

    def _replay(self, limit: int) -> bool:
        receiver, changed = self._receiver, False
        for _ in range(limit):
            data = self._events.receive()
            if data is None:
                break
            for gone, what in decode(data):
                changed = True
                if isinstance(what, Address):
                    (receiver.drop_address if gone else receiver.put_address)(what)
                elif gone:
                    receiver.drop_link(what.index)
                else:
                    receiver.put_link(what)
        return changed

    def _dump(self) -> tuple[list[Link], list[Address]] | None:
        """All links and addresses; None when they changed so that the dump may lack some."""
        links: dict[int, Link] = {}
        addresses: dict[object, Address] = {}
        no_statistics = attribute(_IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_SKIP_STATS))
        requests = [
            (_RTM_GETLINK, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0) + no_statistics),
            # One by one: a dump of both families at once is not checked for consistency as a whole.
            (_RTM_GETADDR, struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0)),
            (_RTM_GETADDR, struct.pack("=BBBBI", socket.AF_INET6, 0, 0, 0, 0)),
        ]
        for kind, body in requests:
            requester = Requester(socket.NETLINK_ROUTE, _PURPOSE)
            try:
                for data, interrupted in requester.dump(kind, body):
                    if interrupted:
                        return None
                    for _gone, what in decode(data):
                        if isinstance(what, Address):
                            addresses[what.key] = what
                        else:
                            links[what.index] = what
            finally:
                requester.close()
        return list(links.values()), list(addresses.values())
