"""Netlink requests that change something, many in a datagram, and dumps that the kernel filters."""

from __future__ import annotations

import errno

from netns_tools.kernel.netlink import NLMSG_ERROR, Requester, error_code, messages, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Request = tuple[int, int, bytes]
    """Message type, flags (NLM_F_*) and body."""

_NLM_F_ACK = 0x4
_SOL_NETLINK = 270
_NETLINK_GET_STRICT_CHK = 12  # rtnetlink then looks at what a request for a dump asks for (Linux 4.20)

# The answers to one datagram must fit into the socket's receive buffer (208 KiB, each counts some 800
# bytes and as much as it repeats of its request), and the datagram into its send buffer.
_REQUESTS_A_DATAGRAM = 100
_BYTES_A_DATAGRAM = 32 << 10


class BatchRequester(Requester):
    """A socket for requests that change something; made in the namespace that they are about.

    Its dumps are filtered as their requests say. Raises ``NetnsToolsError``.
    """

    def __init__(self, protocol: int, purpose: str) -> None:
        super().__init__(protocol, purpose)
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except OSError as error:
            self.close()
            self._check(error.errno or errno.EIO)

    def _check(self, code: int) -> None:
        # A dump of a table that does not exist, or of a family that is switched off, has nothing in it.
        if code not in (errno.ENOENT, errno.EAFNOSUPPORT):
            super()._check(code)

    def __enter__(self) -> BatchRequester:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, requests: Iterable[Request]) -> list[int]:
        """Run requests in their order; the errno of each, 0 for those that were done.

        Each stands for itself: one that fails does not stop those after it.
        Raises ``NetnsToolsError`` when the kernel cannot be asked.
        """
        codes: list[int] = []
        for group in _groups(requests):
            codes += self._run_group(group)
        return codes

    def _run_group(self, group: Sequence[Request]) -> list[int]:
        first = (self._sequence + 1) & 0x3FFFFFFF
        # The kernel works in order and always tells errors: when the last one is answered, all are done.
        parts = [
            request(kind, flags | (_NLM_F_ACK if n == len(group) - 1 else 0), body, first + n)
            for n, (kind, flags, body) in enumerate(group)
        ]
        self._sequence = first + len(group) - 1
        try:
            self._socket.send(b"".join(part + b"\0" * (-len(part) % 4) for part in parts))
        except OSError as error:
            self._check(error.errno or errno.EIO)
        codes = [0] * len(group)
        while True:
            data = self._receive()
            for message in messages(data):
                place = message.sequence - first
                if message.kind != NLMSG_ERROR or not 0 <= place < len(group):
                    continue
                codes[place] = error_code(data, message)
                if place == len(group) - 1:
                    return codes


def _groups(requests: Iterable[Request]) -> Iterator[list[Request]]:
    group: list[Request] = []
    size = 0
    for one in requests:
        if group and (len(group) == _REQUESTS_A_DATAGRAM or size + len(one[2]) > _BYTES_A_DATAGRAM):
            yield group
            group, size = [], 0
        group.append(one)
        size += len(one[2]) + 32
    if group:
        yield group
