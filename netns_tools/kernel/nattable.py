"""A table of our own in nftables: declared as a whole, changed element by element, read as it is.

It is declared as text of nft(8), because libnftables-json(5) of nft 1.0.6 cannot declare maps whose data
is a concatenation; changes of elements are JSON. Both are one transaction. What is in the table is asked
of the kernel itself (linux/netfilter/nf_tables.h): libnftables would take ten times as long.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.netlink import NETLINK_NETFILTER, Requester, attribute, attributes, messages
from netns_tools.kernel.nftmonitor import FAMILIES
from netns_tools.kernel.nftset import Nft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from netns_tools.kernel.netlink import Buffer, Message

    Command = dict[str, object]

Key = tuple[str, ...]
"""The fields of an element: ``("192.0.2.1", "tcp", "9000-9099")``, or ``("*",)`` for all that is left."""

Data = tuple[str, ...]
"""What a map has for a key, field by field; ``()`` in a set."""

Content = dict[str, dict[Key, Data]]
"""The elements of a table, by set. Sets without elements may be left out."""


class SetType(NamedTuple):
    """The types of a set's fields, of a map's data, and whether fields may be ranges."""

    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    interval: bool = False


class Chain(NamedTuple):
    """A chain: its rules, and for one that the kernel calls, ``nat hook prerouting`` and the priority."""

    rules: tuple[str, ...]
    hook: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Skeleton:
    """A table without its elements. ``comment`` tells it from older ones."""

    family: str
    table: str
    comment: str
    sets: Mapping[str, SetType]
    chains: Mapping[str, Chain]

    @property
    def where(self) -> str:
        return f"{self.family} {self.table}"


@dataclass
class LiveTable:
    """A table as it is in the kernel.

    ``whole``: it is what the skeleton says, and nobody has touched its sets, chains and rules since
    it was made. Only then there is ``content``, without sets that have no elements.
    """

    comment: str
    flags: frozenset[str]
    whole: bool = False
    content: Content = field(default_factory=dict)


class Change(NamedTuple):
    """Elements of one set that come (``add``) or go (``delete``)."""

    verb: str
    set: str
    elements: list[tuple[Key, Data]]


# Text


def render(skeleton: Skeleton, content: Content) -> str:
    """The text that puts the table in the place of whatever has its name, as one transaction."""
    sets = [_declaration(name, type, content.get(name, {})) for name, type in skeleton.sets.items()]
    chains = [
        "\n".join(
            [
                f"  chain {name} {{",
                *([f"    type {chain.hook} priority {chain.priority};"] if chain.hook else []),
                *(f"    {rule}" for rule in chain.rules),
                "  }",
            ]
        )
        for name, chain in skeleton.chains.items()
    ]
    body = "\n".join([f'  comment "{skeleton.comment}"', *sets, *chains])
    return f"{_removal(skeleton)}table {skeleton.where} {{\n{body}\n}}\n"


def _removal(skeleton: Skeleton) -> str:
    """The text that removes a table. To delete what is not there would fail: it is added before."""
    return f"add table {skeleton.where}\ndelete table {skeleton.where}\n"


def _understudy(skeleton: Skeleton) -> Skeleton:
    """The same table by another name, which the kernel asks right after ours."""
    chains = {name: chain._replace(priority=chain.priority + 1) for name, chain in skeleton.chains.items()}
    return replace(skeleton, table=f"{skeleton.table}_next", chains=chains)


def _declaration(name: str, type: SetType, elements: dict[Key, Data]) -> str:
    kind = "map" if type.data else "set"
    types = " . ".join(type.key) + (" : " + " . ".join(type.data) if type.data else "")
    flags = " flags interval;" if type.interval else ""
    inside = ", ".join(_element_texts(type, elements.items()))
    filled = f" elements = {{ {inside} }};" if inside else ""
    return f"  {kind} {name} {{ type {types};{flags}{filled} }}"


def lines(skeleton: Skeleton, changes: Iterable[Change]) -> list[str]:
    """Changes as lines of nft(8)."""
    return [
        f"{change.verb} element {skeleton.where} {change.set} "
        f"{{ {', '.join(_element_texts(skeleton.sets[change.set], change.elements))} }}"
        for change in changes
    ]


def _element_texts(type: SetType, elements: Iterable[tuple[Key, Data]]) -> Iterator[str]:
    named = "ifname" in type.key
    for key, data in elements:
        if named and key != ("*",):  # a name may be a word of nft
            key = tuple(
                f'"{text}"' if kind == "ifname" else text for kind, text in zip(type.key, key, strict=True)
            )
        yield " . ".join(key) + (" : " + " . ".join(data) if data else "")


# JSON


def commands(skeleton: Skeleton, changes: Iterable[Change]) -> list[Command]:
    """Changes as libnftables takes them."""
    return [
        {
            change.verb: {
                "element": {
                    "family": skeleton.family,
                    "table": skeleton.table,
                    "name": change.set,
                    "elem": _elements_json(skeleton.sets[change.set], change),
                }
            }
        }
        for change in changes
    ]


def _elements_json(type: SetType, change: Change) -> list[object]:
    # What is deleted has no data: nft 1.0.6 would not find it with data.
    if type.data and change.verb == "add":
        return [[_fields_json(type.key, key), _fields_json(type.data, data)] for key, data in change.elements]
    return [_fields_json(type.key, key) for key, _data in change.elements]


def _fields_json(types: tuple[str, ...], texts: tuple[str, ...]) -> object:
    if len(texts) == 1:
        return _field_json(types[0], texts[0])
    return {"concat": [_field_json(type, text) for type, text in zip(types, texts, strict=True)]}


def _field_json(type: str, text: str) -> object:
    if type in ("ifname", "inet_proto") or text == "*":
        return text
    first, dash, last = text.partition("-")
    if dash:
        return {"range": [_value_json(type, first), _value_json(type, last)]}
    address, slash, length = text.partition("/")
    if slash:
        return {"prefix": {"addr": _value_json(type, address), "len": int(length)}}
    return _value_json(type, text)


def _value_json(type: str, text: str) -> object:
    return int(text) if type == "inet_service" else text


# The kernel's own words


_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _NEWSETELEM, _GETSETELEM, _GETGEN = (
    10 << 8 | number for number in (1, 4, 7, 10, 12, 13, 16)
)  # NFNL_SUBSYS_NFTABLES, NFT_MSG_*
_GEN_ID = 1  # NFTA_GEN_ID
_TABLE_NAME, _TABLE_FLAGS, _TABLE_USERDATA = 1, 2, 6  # NFTA_TABLE_*
_UDATA_COMMENT = 0  # NFTNL_UDATA_TABLE_COMMENT (libnftnl/udata.h)
_TABLE_FLAG_NAMES = {1: "dormant", 2: "owner", 4: "persist"}
_CHAIN_TABLE, _CHAIN_HANDLE, _CHAIN_NAME, _CHAIN_POLICY = 1, 2, 3, 5  # NFTA_CHAIN_*
_ACCEPT = 1  # NF_ACCEPT
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4  # NFTA_RULE_*
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_LEN, _SET_DATA_LEN, _SET_HANDLE = 1, 2, 3, 5, 7, 16  # NFTA_SET_*
_ANONYMOUS, _INTERVAL, _MAP = 0x01, 0x04, 0x08  # NFT_SET_*
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_ELEM_VALUES = (1, 10, 2)  # NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_DATA
_NFGENMSG = 4  # family, version, two bytes of the generation
_PURPOSE = "read our table of nftables in this network namespace"
_TRIES = 50
_PROTOCOLS = {6: "tcp", 17: "udp"}

_SIZES = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_proto": 1, "inet_service": 2, "ifname": 16}


class OwnTable:
    """Our table of the network namespace that this thread is in when this is made.

    Raises ``NetnsToolsError`` when libnftables or its binding is not installed.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self._understudy = _understudy(skeleton)
        self._nft = Nft()
        self._kernel = Requester(NETLINK_NETFILTER, _PURPOSE)
        self._family = {name: number for number, name in FAMILIES.items()}[skeleton.family]
        self._rules: list[tuple[int, bytes]] = []
        self.transactions = 0  # that we made: each one that others hear of is among them

    def read(self) -> LiveTable | None:
        """The table as it is now; None when there is no such table. Raises ``NetnsToolsError``.

        10,000 elements take 30 ms.
        """
        found = None
        for _ in range(_TRIES):
            before = self.generation()
            known = found
            try:
                found = self._read()
            except NetnsToolsError:
                if self.generation() == before:
                    raise
                continue  # a part of it went away between two questions
            # Or others change their tables all the time, and ours stays what it is.
            if self.generation() == before or (found is not None and found == known):
                return found
        raise NetnsToolsError(f"cannot read table {self.skeleton.where}: nftables changes all the time")

    def generation(self) -> int:
        """The number of the last transaction of this namespace, whoever made it."""
        answer = self._kernel.ask(_GETGEN, _header(0))
        data, message = answer if answer is not None else (b"", None)
        return _number(_values(data, message).get(_GEN_ID, b"")) if message else 0

    def install(self, content: Content) -> None:
        """Put the table, with these elements, in the place of whatever has its name. Raises ``NftError``.

        No packet finds nothing. One transaction would not do: the kernel asks the chains of one hook one
        after the other, the new one before the old one. A packet that is between them at the moment of the
        exchange has met the new one too early and the old one too late (1 % of exchanges lost a connection).
        So a second table stands in for ours meanwhile.
        """
        if self._table(self.skeleton) is None:
            self._apply_text(_removal(self._understudy) + render(self.skeleton, content))
        else:
            self._apply_text(render(self._understudy, content))
            try:
                self._apply_text(render(self.skeleton, content))
            finally:
                self._apply_text(_removal(self._understudy))
        self._rules = []

    def apply(self, changes: Iterable[Change]) -> None:
        """Change elements in one transaction.

        Raises ``NftError``, and then nothing has changed: ``missing`` and ``exists`` say that
        the table is not what the changes were made for, so read it again.
        """
        wanted = commands(self.skeleton, changes)
        if wanted:
            self._nft.apply(wanted)
            self.transactions += 1

    def remove(self) -> None:
        """Remove the table, if there is one. Raises ``NftError``."""
        self._apply_text(_removal(self.skeleton) + _removal(self._understudy))

    def _apply_text(self, text: str) -> None:
        self._nft.apply_text(text)
        self.transactions += 1

    def _read(self) -> LiveTable | None:
        values = self._table(self.skeleton)
        if values is None:
            return None
        bits = _number(values.get(_TABLE_FLAGS, b""))
        found = LiveTable(
            _comment(values.get(_TABLE_USERDATA, b"")),
            frozenset(name for bit, name in _TABLE_FLAG_NAMES.items() if bits & bit),
        )
        # An understudy that was left behind by a process that was killed goes with the next install().
        if (
            found.comment == self.skeleton.comment
            and "dormant" not in found.flags
            and self._table(self._understudy) is None
        ):
            found.whole = self._is_whole()
        if found.whole:
            read = ((name, self._elements(name, type)) for name, type in self.skeleton.sets.items())
            found.content = {name: elements for name, elements in read if elements}
        return found

    def _table(self, skeleton: Skeleton) -> dict[int, bytes] | None:
        """What the kernel tells of a table; None when there is none of that name."""
        answer = self._kernel.ask(
            _GETTABLE, _header(self._family) + attribute(_TABLE_NAME, _name(skeleton.table))
        )
        return None if answer is None else _values(*answer)

    def _is_whole(self) -> bool:
        """Whether all sets, chains and rules are those that the table was made with.

        Whatever is made gets the next handle of its table. So nothing was added or taken away if all
        is there, numbered from 1 without a gap. Changed in place can be a policy, and a rule: rules
        are compared with those that were there when this was asked first.
        """
        handles = []
        sets: dict[str, tuple[int, int, int]] = {}
        for values in self._listed(_GETSET, _SET_TABLE):
            handles.append(_number(values.get(_SET_HANDLE, b"")))
            flags = _number(values.get(_SET_FLAGS, b""))
            if not flags & _ANONYMOUS:
                sets[_text(values.get(_SET_NAME, b""))] = (
                    flags & (_INTERVAL | _MAP),
                    _number(values.get(_SET_KEY_LEN, b"")),
                    _number(values.get(_SET_DATA_LEN, b"")),
                )
        rules: dict[str, int] = {}
        for values in self._listed(_GETCHAIN, _CHAIN_TABLE):
            handles.append(_number(values.get(_CHAIN_HANDLE, b"")))
            rules[_text(values.get(_CHAIN_NAME, b""))] = 0
            if _number(values.get(_CHAIN_POLICY, b"\1")) != _ACCEPT:
                return False
        expressions = []
        for values in self._listed(_GETRULE, _RULE_TABLE):
            handles.append(_number(values.get(_RULE_HANDLE, b"")))
            expressions.append((handles[-1], values.get(_RULE_EXPRESSIONS, b"")))
            chain = _text(values.get(_RULE_CHAIN, b""))
            rules[chain] = rules.get(chain, 0) + 1
        self._rules = self._rules or expressions
        return (
            expressions == self._rules
            and sets == {name: _shape(type) for name, type in self.skeleton.sets.items()}
            and rules == {name: len(chain.rules) for name, chain in self.skeleton.chains.items()}
            and sorted(handles) == list(range(1, len(handles) + 1))
        )

    def _listed(self, kind: int, table: int) -> Iterator[dict[int, bytes]]:
        """What a dump of our table tells of each of its sets, chains or rules."""
        body = _header(self._family) + attribute(table, _name(self.skeleton.table))
        for data, _interrupted in self._kernel.dump(kind, body):
            for message in messages(data):
                if message.kind >> 8 != kind >> 8:
                    continue
                values = _values(data, message)
                # Older kernels list the chains of all tables.
                if (
                    data[message.start] == self._family
                    and _text(values.get(table, b"")) == self.skeleton.table
                ):
                    yield values

    def _elements(self, name: str, type: SetType) -> dict[Key, Data]:
        body = (
            _header(self._family)
            + attribute(_LIST_TABLE, _name(self.skeleton.table))
            + attribute(_LIST_SET, _name(name))
        )
        found: dict[Key, Data] = {}
        for data, _interrupted in self._kernel.dump(_GETSETELEM, body):
            for message in messages(data):
                if message.kind == _NEWSETELEM:
                    for kind, start, end in attributes(data, message.start + _NFGENMSG, message.end):
                        if kind == _LIST_ELEMENTS and start < end:
                            found.update(_decode(type, data, start, end))
        return found


class _Layout(NamedTuple):
    """Where things are in an element: its size, and the offsets of its values; 0 for one it does not have."""

    size: int
    key: int
    key_end: int
    data: int


def _decode(type: SetType, data: bytes, start: int, end: int) -> Iterator[tuple[Key, Data]]:
    """The elements in a list of them (NFTA_SET_ELEM_LIST_ELEMENTS).

    Mostly they differ in nothing but the bytes of their fields, and then are taken apart all at once,
    column by column. Else those that look alike are put together first.
    """
    layout = _layout(data, start, end)
    headers = [
        where - 8 + byte for where in (layout.key, layout.key_end, layout.data) if where for byte in range(8)
    ]
    count, rest = divmod(end - start, layout.size)
    if not rest and all(
        data[start + at : end : layout.size] == data[start + at : start + at + 1] * count
        for at in (0, 1, *headers)
    ):
        yield from _columns(type, layout, data[start:end])
        return
    alike: dict[_Layout, list[bytes]] = {}
    for _kind, begin, until in attributes(data, start, end):
        layout = _layout(data, begin - 4, until)
        alike.setdefault(layout, []).append(data[begin - 4 : begin - 4 + layout.size])
    for layout, elements in alike.items():
        yield from _columns(type, layout, b"".join(elements))


def _layout(data: bytes, start: int, end: int) -> _Layout:
    """The layout of the first element."""
    _kind, begin, until = next(attributes(data, start, end))
    found = {}
    for kind, first, last in attributes(data, begin, until):
        for _kind, value, _end in attributes(data, first, last) if kind in _ELEM_VALUES else ():
            found[kind] = value - start
    return _Layout((until - start + 3) & ~3, *(found.get(kind, 0) for kind in _ELEM_VALUES))


def _columns(type: SetType, layout: _Layout, elements: bytes) -> Iterator[tuple[Key, Data]]:
    """Elements of one layout, one after the other."""
    count = len(elements) // layout.size
    keys: Iterable[Key] = (("*",) for _ in range(count))  # matches whatever no other one does
    if layout.key:
        keys = zip(
            *(
                _column(kind, layout, elements, layout.key + at, (layout.key_end or layout.key) + at)
                for kind, at in _fields(type.key)
            ),
            strict=True,
        )
    values: Iterable[Data] = ((),) * count
    if layout.data:
        values = zip(
            *(
                _column(kind, layout, elements, layout.data + at, layout.data + at)
                for kind, at in _fields(type.data)
            ),
            strict=True,
        )
    return zip(keys, values, strict=True)


def _column(type: str, layout: _Layout, elements: bytes, first: int, last: int) -> list[str]:
    """The texts of one field of all elements; its bytes are at ``first`` and, of a range, at ``last``."""
    size = _SIZES[type]
    begins = [
        value for (value,) in struct.iter_unpack(f"{first}x{size}s{layout.size - first - size}x", elements)
    ]
    if first == last:
        texts = {value: _value_text(type, value) for value in set(begins)}
        return [texts[value] for value in begins]
    ends = [value for (value,) in struct.iter_unpack(f"{last}x{size}s{layout.size - last - size}x", elements)]
    pairs = list(zip(begins, ends, strict=True))
    ranges = {pair: _field_text(type, *pair) for pair in set(pairs)}
    return [ranges[pair] for pair in pairs]


def _fields(types: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Type and offset of each field of a concatenation: each begins at a multiple of four bytes."""
    at = 0
    for type in types:
        yield type, at
        at += (_SIZES[type] + 3) & ~3


def _field_text(type: str, first: bytes, last: bytes) -> str:
    """A field as nft writes it."""
    if first == last:
        return _value_text(type, first)
    if type == "ifname":  # all names that begin so
        return _value_text(type, first) + "*"
    if type in ("ipv4_addr", "ipv6_addr"):
        differing = int.from_bytes(first, "big") ^ int.from_bytes(last, "big")
        free = differing.bit_length()
        # A prefix: its last bits are all zero in the first address, all one in the last one.
        if differing == (1 << free) - 1 and not int.from_bytes(first, "big") & differing:
            return f"{_value_text(type, first)}/{len(first) * 8 - free}"
    return f"{_value_text(type, first)}-{_value_text(type, last)}"


def _value_text(type: str, value: bytes) -> str:
    if type == "ifname":
        return value.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if type == "inet_proto":
        return _PROTOCOLS.get(value[0], str(value[0]))
    if type == "inet_service":
        return str(int.from_bytes(value, "big"))
    return socket.inet_ntop(socket.AF_INET6 if type == "ipv6_addr" else socket.AF_INET, value)


def _shape(type: SetType) -> tuple[int, int, int]:
    """What the kernel tells of a set of this type: flags, bytes of a key, bytes of its data."""
    flags = (_INTERVAL if type.interval else 0) | (_MAP if type.data else 0)
    return flags, _size(type.key), _size(type.data)


def _size(types: tuple[str, ...]) -> int:
    """Bytes of a concatenation; a single field is as long as it is."""
    return _SIZES[types[0]] if len(types) == 1 else sum((_SIZES[type] + 3) & ~3 for type in types)


def _header(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def _values(data: Buffer, message: Message) -> dict[int, bytes]:
    return {kind: bytes(data[a:b]) for kind, a, b in attributes(data, message.start + _NFGENMSG, message.end)}


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _comment(userdata: bytes) -> str:
    """The comment of a table: a note of nft to itself, in pieces of type, length, value."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _UDATA_COMMENT:
            return _text(userdata[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""
