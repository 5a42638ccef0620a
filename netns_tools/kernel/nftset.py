"""nftables sets: read them as they are, change them in one transaction, show a change as a line of nft(8).

Elements and changes go through libnftables' JSON (libnftables-json(5)). What that does not
tell, or tells wrongly (nft 1.0.6: auto-merge, dynamic, the flags of a table), is asked of the
kernel itself (linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import struct
from dataclasses import dataclass, field

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.netlink import NETLINK_NETFILTER, Requester, attribute, attributes
from netns_tools.kernel.nftmonitor import FAMILIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Command = dict[str, object]

_GETTABLE = 10 << 8 | 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE
_GETSET = 10 << 8 | 10  # NFT_MSG_GETSET
_TABLE_NAME, _TABLE_FLAGS, _TABLE_HANDLE = 1, 2, 4  # NFTA_TABLE_*
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_DESC, _SET_USERDATA, _SET_HANDLE = (
    1,
    2,
    3,
    4,
    9,
    13,
    16,
)
_DESC_SIZE = 1  # NFTA_SET_DESC_SIZE
_UDATA_MERGE = 2  # NFTNL_UDATA_SET_MERGE_ELEMENTS (libnftnl/udata.h)
_SET_FLAG_NAMES = {
    0x01: "anonymous",
    0x02: "constant",
    0x04: "interval",
    0x08: "map",
    0x10: "timeout",
    0x20: "dynamic",
    0x40: "object",
    0x80: "concat",
    0x100: "expression",
}
_TABLE_FLAG_NAMES = {1: "dormant", 2: "owner", 4: "persist"}
_KEY_TYPES = {7: "ipv4_addr", 8: "ipv6_addr"}  # enum datatypes of nft; the kernel only keeps the number
_PURPOSE = "ask for the nftables of this network namespace"
_TRIES = 50


@dataclass(frozen=True, order=True)
class SetId:
    """Which set: ``inet filter wan_ips``."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


@dataclass
class LiveSet:
    """A set as it is in the kernel.

    ``type`` is ``ipv4_addr``, ``ipv6_addr`` or something else (``ipv4_addr . inet_service``,
    ``map``). ``size`` is its limit, 0 for none. ``handles`` are those of table and set: a
    set that was made anew has others. ``elements``: canonical text (``192.0.2.1``,
    ``10.0.0.0/24``, ``10.0.0.5-10.0.0.9``, ``*``) → the element as nft gave it.
    """

    id: SetId
    type: str
    flags: frozenset[str] = frozenset()
    auto_merge: bool = False
    size: int = 0
    handles: tuple[int, int] = (0, 0)
    table_flags: frozenset[str] = frozenset()
    elements: dict[str, object] = field(default_factory=dict)


class NftError(NetnsToolsError):
    """nft refused. ``errno``: ``missing``, ``busy``, ``permission``, ``full``, ``exists`` or ``other``."""

    def __init__(self, message: str, *, errno: str = "other", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class Nft:
    """nftables of the network namespace that this thread is in when it is made.

    Raises ``NetnsToolsError`` when libnftables or its binding is not installed.
    """

    def __init__(self) -> None:
        try:
            import nftables
        except ImportError:
            raise NetnsToolsError(
                "the Python binding of nftables is not installed", hint="apt install python3-nftables"
            ) from None
        try:
            ctypes.CDLL("libnftables.so.1")  # without it the binding's half-made context prints a traceback
            self._context = nftables.Nftables()
        except OSError as error:
            raise NetnsToolsError(
                f"cannot load libnftables: {error}", hint="apt install libnftables1"
            ) from None
        self._context.set_json_output(True)
        self._context.set_handle_output(True)
        self._kernel = Requester(NETLINK_NETFILTER, _PURPOSE)

    def read(self, id: SetId) -> LiveSet | None:
        """The set as it is now; None when the table or the set does not exist.

        Raises ``NetnsToolsError`` for anything else.
        """
        missed = False
        for _ in range(_TRIES):
            table = self._table(id)
            found = self._header(id) if table else None
            if table is None or found is None:
                if missed:
                    return None
                missed = True  # maybe for a moment: the kernel looks without a lock while others commit
                continue
            found.handles = (table.handles[0], found.handles[1])
            found.table_flags = table.table_flags
            if found.type == "map":
                return found
            listed = self._list(id)
            after = self._table(id)
            # Handles of sets count from 1 in each table: the same one may be another set of a new table.
            if (
                listed is None
                or after is None
                or after.handles != table.handles
                or listed.get("handle") != found.handles[1]
            ):
                continue
            if not found.type:
                found.type = _type_text(listed.get("type"))
            found.elements = {element_text(raw): raw for raw in _listed_elements(listed)}
            return found
        raise NetnsToolsError(f"cannot read set {id}: it is made anew all the time")

    def apply(self, commands: list[Command]) -> None:
        """Run the commands as one transaction. Raises ``NftError``, and then nothing has changed."""
        if not commands:
            return
        if (text := _lossless_text(commands)) and not self._run_text(text)[0]:
            return
        code, _output, complaint = self._run({"nftables": commands})
        if code:
            raise nft_error(complaint)

    def apply_text(self, text: str) -> None:
        """Run commands of nft(8) as one transaction. Raises ``NftError``, and then nothing has changed."""
        code, complaint = self._run_text(text)
        if code:
            # Without the lines of the text that nft shows: one may hold thousands of elements.
            raise nft_error(b"\n".join(re.findall(rb"Error: .*", complaint)) or complaint)

    def table_content(self, family: str, table: str) -> list[str] | None:
        """What is in a table, as ``set wan_ips`` or ``chain input``; None when there is no such table.

        Raises ``NetnsToolsError``.
        """
        code, output, complaint = self._run(
            {"nftables": [{"list": {"table": {"family": family, "name": table}}}]}
        )
        if code:
            error = nft_error(complaint)
            if error.errno == "missing":
                return None
            raise NetnsToolsError(f"cannot read table {family} {table}: {error.message}", hint=error.hint)
        listed = json.loads(output.decode("utf-8", "replace"))["nftables"]
        kinds = ("set", "map", "chain", "flowtable", "counter", "quota", "limit")
        return [f"{kind} {entry[kind].get('name')}" for entry in listed for kind in kinds if kind in entry]

    def _run(self, root: object) -> tuple[int, bytes, bytes]:
        # As bytes: comments of others need not be UTF-8.
        code, output, complaint = self._context.cmd(json.dumps(root).encode())
        return int(code), bytes(output), bytes(complaint)

    def _run_text(self, text: str) -> tuple[int, bytes]:
        self._context.set_json_output(False)  # it says how input is read as well
        try:
            code, _output, complaint = self._context.cmd(text.encode())
            return int(code), bytes(complaint)
        finally:
            self._context.set_json_output(True)

    def _list(self, id: SetId) -> dict[str, object] | None:
        code, output, complaint = self._run(
            {"nftables": [{"list": {"set": {"family": id.family, "table": id.table, "name": id.name}}}]}
        )
        if code:
            error = nft_error(complaint)
            if error.errno == "missing":
                return None
            raise NetnsToolsError(f"cannot read set {id}: {error.message}", hint=error.hint)
        try:
            listed = json.loads(output.decode("utf-8", "replace"))["nftables"]
            return next((entry["set"] for entry in listed if "set" in entry), None)
        except (ValueError, LookupError, TypeError) as error:
            raise NetnsToolsError(f"cannot read set {id}: libnftables gave no JSON: {error}") from None

    def _table(self, id: SetId) -> LiveSet | None:
        """Handle and flags of the table."""
        found = self._ask(_GETTABLE, id, attribute(_TABLE_NAME, _name(id.table)))
        if found is None:
            return None
        return LiveSet(
            id,
            "",
            handles=(int.from_bytes(found.get(_TABLE_HANDLE, b""), "big"), 0),
            table_flags=_flags(found.get(_TABLE_FLAGS, b""), _TABLE_FLAG_NAMES),
        )

    def _header(self, id: SetId) -> LiveSet | None:
        """All but the elements."""
        body = attribute(_SET_TABLE, _name(id.table)) + attribute(_SET_NAME, _name(id.name))
        found = self._ask(_GETSET, id, body)
        if found is None:
            return None
        flags = _flags(found.get(_SET_FLAGS, b""), _SET_FLAG_NAMES)
        key_type = int.from_bytes(found.get(_SET_KEY_TYPE, b""), "big")
        description = found.get(_SET_DESC, b"")
        sizes = [
            description[a:b] for k, a, b in attributes(description, 0, len(description)) if k == _DESC_SIZE
        ]
        return LiveSet(
            id,
            "map" if flags & {"map", "object"} else _KEY_TYPES.get(key_type, ""),
            flags=flags,
            auto_merge=has_auto_merge(found.get(_SET_USERDATA, b"")),
            size=int.from_bytes(sizes[0], "big") if sizes else 0,
            handles=(0, int.from_bytes(found.get(_SET_HANDLE, b""), "big")),
        )

    def _ask(self, kind: int, id: SetId, body: bytes) -> dict[int, bytes] | None:
        """The attributes of the answer; None when there is no such thing."""
        family = _FAMILY_NUMBERS.get(id.family)
        if family is None:
            raise NetnsToolsError(f"cannot read set {id}: {id.family!r} is no family of nftables")
        answer = self._kernel.ask(kind, struct.pack("=BBH", family, 0, 0) + body)
        if answer is None:
            return None
        data, message = answer
        return {kind: data[a:b] for kind, a, b in attributes(data, message.start + 4, message.end)}


_FAMILY_NUMBERS = {name: number for number, name in FAMILIES.items()}


def add_table(family: str, table: str) -> Command:
    """Make a table, unless it is there."""
    return {"add": {"table": {"family": family, "name": table}}}


def delete_table(family: str, table: str) -> Command:
    """Remove a table with all that is in it."""
    return {"delete": {"table": {"family": family, "name": table}}}


def add_set(id: SetId, type: str, flags: Iterable[str] = ()) -> Command:
    """Make a set, unless it is there; if it is there with another type or flags, the transaction fails."""
    made: dict[str, object] = {**_where(id), "type": type}
    if listed := list(flags):
        made["flags"] = listed
    return {"add": {"set": made}}


def delete_set(id: SetId) -> Command:
    """Remove a set; fails while a rule uses it."""
    return {"delete": {"set": _where(id)}}


def flush_set(id: SetId) -> Command:
    """Remove all elements."""
    return {"flush": {"set": _where(id)}}


def add_elements(id: SetId, texts: Iterable[str]) -> Command:
    """Add elements, canonical texts; those that are there stay as they are. Raises ``ValueError``.

    Addresses must be written as numbers: nft would look other names up in the DNS.
    """
    return _elements("add", id, map(element_json, texts))


def add_raw_elements(id: SetId, elements: Iterable[tuple[str, object]]) -> Command:
    """Add elements as ``LiveSet.elements`` has them; a text beside a text counts as canonical text."""
    return _elements(
        "add", id, (element_json(raw) if isinstance(raw, str) else raw for _text, raw in elements)
    )


def delete_elements(id: SetId, texts: Iterable[str]) -> list[Command]:
    """Remove elements of a set without intervals, whether they are there or not.

    Deleting what is not there fails, and nft 1.0.6 has no ``destroy``: they are added before.
    """
    elements = [element_json(text) for text in texts]
    return [_elements("add", id, elements), _elements("delete", id, elements)]


def element_json(text: str) -> object:
    """An element of a canonical text. Raises ``ValueError`` for anything but numeric addresses."""
    if text == "*":
        return text
    first, dash, last = text.partition("-")
    if dash:
        return {"range": [_numeric(first), _numeric(last)]}
    address, slash, length = text.partition("/")
    if not slash:
        return _numeric(text)
    if not (length.isascii() and length.isdigit()):
        raise ValueError(f"{text!r} is no prefix")
    return {"prefix": {"addr": _numeric(address), "len": int(length)}}


def element_text(raw: object) -> str:
    """The canonical text of an element as nft gave it, without its comment, counters and times."""
    if isinstance(raw, str):
        return raw
    if isinstance(raw, dict):
        if isinstance(elem := raw.get("elem"), dict):
            return element_text(elem.get("val"))
        if isinstance(prefix := raw.get("prefix"), dict):
            return f"{element_text(prefix.get('addr'))}/{prefix.get('len')}"
        if isinstance(ends := raw.get("range"), list):
            return "-".join(map(element_text, ends))
        if isinstance(parts := raw.get("concat"), list):
            return " . ".join(map(element_text, parts))
    return str(raw)


def render(command: Command) -> str:
    """The line of nft(8) that a command stands for: ``add element inet filter wan_ips { 192.0.2.1 }``."""
    verb, objects = next(iter(command.items()))
    kind = next(iter(objects)) if isinstance(objects, dict) else ""
    return " ".join([verb, kind, *map(_render_object, _objects(command))])


def _render_object(what: dict[str, object]) -> str:
    words = [str(what[key]) for key in ("family", "table", "name") if key in what]
    inside = []
    if "type" in what:
        inside.append(f"type {what['type']};")
    if isinstance(flags := what.get("flags"), list):
        inside.append(f"flags {','.join(map(str, flags))};")
    if isinstance(elements := what.get("elem"), list):
        inside.append(", ".join(map(_render_element, elements)))
    return " ".join([*words, "{", *inside, "}"]) if inside else " ".join(words)


def _render_element(raw: object) -> str:
    words = [element_text(raw)]
    elem = raw.get("elem") if isinstance(raw, dict) else None
    if isinstance(elem, dict):
        words += [f"{key} {elem[key]}s" for key in ("timeout", "expires") if key in elem]
        if isinstance(counter := elem.get("counter"), dict):
            words.append(f"counter packets {counter.get('packets')} bytes {counter.get('bytes')}")
        if "comment" in elem:
            words.append(f'comment "{elem["comment"]}"')
    return " ".join(words)


def _lossless_text(commands: list[Command]) -> str:
    """The commands as text if elements have counters, which JSON would start at 0 again (nft 1.0.6).

    Empty if there are none, or if a name or a comment could be read as something else.
    """
    objects = [what for command in commands for what in _objects(command)]
    details = [elem for what in objects for elem in _details(what)]
    if not any("counter" in elem for elem in details):
        return ""
    names = [str(what[key]) for what in objects for key in ("table", "name") if key in what]
    plain = (
        all(re.fullmatch(r"[\w./-]+", name, re.ASCII) for name in names)
        and all(elem.keys() <= {"val", "comment", "counter"} for elem in details)
        and not any(re.search(r'["\\\x00-\x1f\x7f]', str(elem.get("comment"))) for elem in details)
    )
    return "\n".join(map(render, commands)) if plain else ""


def _details(what: dict[str, object]) -> Iterator[dict[str, object]]:
    """The elements of a command that are more than an address."""
    elements = what.get("elem")
    for raw in elements if isinstance(elements, list) else []:
        if isinstance(raw, dict) and isinstance(elem := raw.get("elem"), dict):
            yield elem


def _objects(command: Command) -> Iterator[dict[str, object]]:
    """What a command is about: ``{"add": {"set": WHAT}}``."""
    for objects in command.values():
        if isinstance(objects, dict):
            yield from (what for what in objects.values() if isinstance(what, dict))


def _where(id: SetId) -> dict[str, object]:
    return {"family": id.family, "table": id.table, "name": id.name}


def _elements(verb: str, id: SetId, elements: Iterable[object]) -> Command:
    return {verb: {"element": {**_where(id), "elem": list(elements)}}}


def _numeric(text: str) -> str:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        raise ValueError(f"{text!r} is no numeric address") from None
    return text


def _listed_elements(listed: dict[str, object]) -> list[object]:
    elements = listed.get("elem", [])
    return elements if isinstance(elements, list) else []


def _type_text(given: object) -> str:
    """The type of a set as nft lists it; ``typeof`` is how newer ones list the expression it was made for."""
    if isinstance(given, list):
        return " . ".join(map(_type_text, given))
    if isinstance(given, dict) and "typeof" in given:
        return f"typeof {json.dumps(given['typeof'])}"
    return given if isinstance(given, str) else json.dumps(given)


def _name(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"


def _flags(value: bytes, names: dict[int, str]) -> frozenset[str]:
    bits = int.from_bytes(value, "big")
    return frozenset(name for bit, name in names.items() if bits & bit)


def has_auto_merge(userdata: bytes) -> bool:
    """Whether a set has auto-merge: a note of nft to itself, in pieces of type, length, value."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        value = userdata[offset + 2 : offset + 2 + length]
        if kind == _UDATA_MERGE:
            return any(value)
        offset += 2 + length
    return False


def nft_error(complaint: bytes) -> NftError:
    text = complaint.decode("utf-8", "replace")
    lines = [line.removeprefix("internal:0:0-0: ").removeprefix("Error: ") for line in text.splitlines()]
    message = "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip())) or "nft failed"
    kind = next((kind for kind, reasons in _reasons() if any(r in message for r in reasons)), "other")
    if kind == "full":  # ENFILE, which the C library has another text for
        message = "the set is full"
    return NftError(f"nft: {message}", errno=kind, hint=_HINTS.get(kind, ""))


def _reasons() -> Iterator[tuple[str, list[str]]]:
    """What the C library says for the errors that are told apart, in its language of the moment."""
    import errno

    yield "missing", [os.strerror(errno.ENOENT), "element does not exist"]
    yield "busy", [os.strerror(errno.EBUSY)]
    yield "permission", [os.strerror(errno.EPERM), os.strerror(errno.EACCES)]
    yield "full", [os.strerror(errno.ENFILE), os.strerror(errno.ENOSPC)]
    yield "exists", [os.strerror(errno.EEXIST), "interval overlaps with an existing one"]


_HINTS = {
    "permission": "it needs CAP_NET_ADMIN, and a table with the owner flag lets only its owner in",
    "full": "the set has reached its size; declare it with a larger one",
}
