"""IPv4 and IPv6 addresses, without the 4 ms that importing ipaddress costs each start."""

from __future__ import annotations

_HEX = frozenset("0123456789abcdefABCDEF")
_DIGITS = frozenset("0123456789")


class Address:
    """An address: ``family`` 4 or 6, ``number`` its bits, ``prefix`` its length or -1 without one."""

    __slots__ = ("family", "number", "prefix", "text")

    def __init__(self, family: int, number: int, prefix: int, text: str) -> None:
        self.family = family
        self.number = number
        self.prefix = prefix
        self.text = text

    @property
    def bits(self) -> int:
        """Length of an address of this family."""
        return 32 if self.family == 4 else 128

    @property
    def mask(self) -> int:
        """The bits of the network; all of them without a prefix length."""
        host_bits = 0 if self.prefix < 0 else self.bits - self.prefix
        return ((1 << self.bits) - 1) >> host_bits << host_bits

    def contains(self, other: Address) -> bool:
        """Whether ``other`` is in the network of this address."""
        return self.family == other.family and (self.number ^ other.number) & self.mask == 0

    @property
    def is_multicast(self) -> bool:
        """224.0.0.0/4 (RFC 5771), ff00::/8 (RFC 4291)."""
        return self.number >> 28 == 0xE if self.family == 4 else self.number >> 120 == 0xFF

    @property
    def is_link_local(self) -> bool:
        """169.254.0.0/16, fe80::/10."""
        return self.number >> 16 == 0xA9FE if self.family == 4 else self.number >> 118 == 0x3FA


def parse(text: str) -> Address | None:
    """An address with or without ``/PREFIX``; None when it is none."""
    address, slash, prefix_text = text.partition("/")
    family = 6 if ":" in address else 4
    number = _ipv6(address) if family == 6 else _ipv4(address)
    if number is None:
        return None
    prefix = -1
    if slash:
        if not prefix_text or len(prefix_text) > 3 or not _DIGITS.issuperset(prefix_text):
            return None
        prefix = int(prefix_text)
        if prefix > (32 if family == 4 else 128) or (prefix_text[0] == "0" and prefix_text != "0"):
            return None
    return Address(family, number, prefix, text)


def render(family: int, number: int) -> str:
    """An address as text; IPv6 in full groups with the longest run of zeros left out (RFC 5952)."""
    if family == 4:
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    groups = [f"{number >> shift & 0xFFFF:x}" for shift in range(112, -1, -16)]
    best, length = -1, 1
    for start in range(8):
        end = start
        while end < 8 and groups[end] == "0":
            end += 1
        if end - start > length:
            best, length = start, end - start
    if best < 0:
        return ":".join(groups)
    return ":".join(groups[:best]) + "::" + ":".join(groups[best + length :])


def _ipv4(text: str) -> int | None:
    parts = text.split(".")
    if len(parts) != 4:
        return None
    number = 0
    for part in parts:
        # No leading zeros: some programs take them for octal.
        if not part or len(part) > 3 or not _DIGITS.issuperset(part) or (part[0] == "0" and len(part) > 1):
            return None
        if int(part) > 255:
            return None
        number = number << 8 | int(part)
    return number


def _ipv6(text: str) -> int | None:
    if len(text) > 45 or ":::" in text or text.count("::") > 1:
        return None
    head, gap, tail = text.partition("::")
    first = _groups(head, last=not gap)
    second = _groups(tail, last=True)
    if first is None or second is None:
        return None
    missing = 8 - len(first) - len(second)
    if (missing != 0 and not gap) or (gap and missing < 1):
        return None
    number = 0
    for group in [*first, *[0] * missing, *second]:
        number = number << 16 | group
    return number


def _groups(text: str, last: bool) -> list[int] | None:
    """The 16-bit groups of a part of an IPv6 address; its ``last`` part may end in an IPv4 address."""
    if not text:
        return []
    groups = []
    parts = text.split(":")
    for index, part in enumerate(parts):
        if "." in part and last and index == len(parts) - 1:
            number = _ipv4(part)
            if number is None:
                return None
            groups += [number >> 16, number & 0xFFFF]
        elif not part or len(part) > 4 or not _HEX.issuperset(part):
            return None
        else:
            groups.append(int(part, 16))
    return groups
