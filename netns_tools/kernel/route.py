"""By which interface this network namespace reaches an address (rtnetlink(7), RTM_GETROUTE)."""

from __future__ import annotations

import socket
import struct

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.netlink import Requester, attribute, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_RTM_GETROUTE = 26
_RTA_DST, _RTA_OIF = 1, 4
_HEADER = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_U32 = struct.Struct("=I")
_PURPOSE = "ask for a route in this network namespace"


def egress(addresses: Iterable[str]) -> dict[str, str]:
    """For each address the interface by which packets to it leave; "" when there is no route.

    Raises ``NetnsToolsError`` when the kernel cannot be asked at all.
    """
    kernel = Requester(socket.NETLINK_ROUTE, _PURPOSE)
    names: dict[int, str] = {0: ""}
    found = {}
    try:
        for address in addresses:
            index = _egress(kernel, address)
            if index not in names:
                try:
                    names[index] = socket.if_indextoname(index)
                except OSError:  # it went away meanwhile
                    names[index] = ""
            found[address] = names[index]
    finally:
        kernel.close()
    return found


def _egress(kernel: Requester, address: str) -> int:
    """The index of the interface; 0 when there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = _HEADER.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, packed)
    try:
        answer = kernel.ask(_RTM_GETROUTE, body)
    except NetnsToolsError:
        return 0  # ENETUNREACH, EHOSTUNREACH, a prohibit route
    if answer is not None:
        data, message = answer
        for kind, start, _ in attributes(data, message.start + _HEADER.size, message.end):
            if kind == _RTA_OIF:
                return int(_U32.unpack_from(data, start)[0])
    return 0
