"""The state file: what commands asked for, as JSON with an entry a line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from netns_tools.config.keykind import shortened
from netns_tools.errors import ConfigError, NetnsToolsError
from netns_tools.natmap.fields import plain, read_plain, render_entry
from netns_tools.natmap.model import PORT_MAX, Desired, Dnat, Entry, Ports, common_ends, overlaps
from netns_tools.natmap.words import Refused, parse_target, parse_unicast, render_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

VERSION = 1

_SECTIONS = ("dnat", "docker", "snat", "masquerade", "hairpin", "policy_routes")
_NAMES = {"version", *_SECTIONS}

_encode = json.JSONEncoder(ensure_ascii=False).encode


def state_path(name: str, paths: Paths) -> str:
    """The state file of NAME."""
    return f"{paths.root}/var/lib/netns-tools/natmap-{name}.json"


class StateWriter:
    """Renders the state file; what has not changed since the last time is not rendered again."""

    def __init__(self) -> None:
        self._dnat: tuple[Dnat, ...] = ()
        self._lines: list[tuple[str, str]] = []  # section and line of each of those

    def text(self, desired: Desired) -> str:
        """The state file for what is desired."""
        start, end = common_ends(self._dnat, desired.dnat)
        middle = desired.dnat[start : len(desired.dnat) - end]
        self._lines[start : len(self._lines) - end] = map(_section_and_line, middle)
        self._dnat = desired.dnat
        rows: dict[str, list[str]] = {section: [] for section in _SECTIONS}
        for section in ("dnat", "docker"):
            rows[section] = [line for here, line in self._lines if here == section]
        others: list[Entry] = [*desired.snat, *desired.masquerade, *desired.hairpin, *desired.policy_routes]
        for entry in others:
            section, line = _section_and_line(entry)
            rows[section].append(line)
        sections = [f'"{section}": [{_listed(row)}]' for section, row in rows.items()]
        return f'{{\n"version": {VERSION},\n' + ",\n".join(sections) + "\n}\n"


def _section_and_line(entry: Entry) -> tuple[str, str]:
    if (
        isinstance(entry, Dnat)
        and not (entry.container or entry.iface or entry.masquerade or entry.allow_from)
        and entry.ports.count == 1
    ):  # what most of thousands look like: the same as below, in a tenth of the time
        host, target = (f"[{text}]" if ":" in text else text for text in (entry.host, entry.target))
        word = f"{entry.ports.first}:{target}:{entry.ports.to}/{entry.proto}"
        return "dnat", f'{{"map": "{host}:{word}"}}' if host else f'{{"map": "{word}"}}'
    return plain(entry)[0], _encode(_row(entry))


def _listed(rows: list[str]) -> str:
    return "".join(["\n", ",\n".join(rows), "\n"]) if rows else ""


def _row(entry: Entry) -> dict[str, object]:
    """An entry as it stands in the file; of a container's mapping the address that it had last, too."""
    row = plain(entry)[1]
    if isinstance(entry, Dnat) and entry.container and entry.target:
        row["address"] = entry.target
    return row


def parse_state(text: str, path: str) -> Desired:
    """What the state file ``path`` says.

    Raises NetnsToolsError when a single thing in it is not as we write it: nothing is made up, and
    nothing is left out that would be gone with the next change.
    """
    try:
        tree = json.loads(text, object_pairs_hook=_object)
        return _read_state(tree)
    except (_Broken, RecursionError, ValueError) as error:
        raise corrupt(path, str(error)) from None


def corrupt(path: str, reason: str) -> NetnsToolsError:
    """A state file that is not believed."""
    hint = "nothing was changed; mend the file, or move it away to begin with none of its mappings"
    return NetnsToolsError(f"{path}: the state file is corrupt: {reason}", hint=hint)


class _Broken(Exception):
    """Something in a state file is not as we write it."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Broken("a name is given twice in one object")
    return found


def _read_state(tree: object) -> Desired:
    if not isinstance(tree, dict):
        raise _Broken("it is no JSON object")
    if type(tree.get("version")) is not int or tree["version"] != VERSION:
        raise _Broken(f"version is {shortened(repr(tree.get('version')))}, known is {VERSION}")
    if tree.keys() != _NAMES:
        odd = sorted(tree.keys() ^ _NAMES)
        raise _Broken(f"{shortened(repr(odd[0]))} is {'missing' if odd[0] in _NAMES else 'unknown'}")
    entries: list[Entry] = []
    simple = _Simple()
    for section in _SECTIONS:
        rows = tree[section]
        if not isinstance(rows, list):
            raise _Broken(f"{section} is no list")
        for number, row in enumerate(rows, 1):
            try:
                entries.append(simple.read(row) or _read_row(section, row))
            except (_Broken, Refused) as error:
                raise _Broken(f"{section}, entry {number}: {error}") from None
    twice = overlaps(entries)
    if twice:
        old, new = render_entry(twice[0].old), render_entry(twice[0].new)
        raise _Broken(f"only one of these can be: '{old}', '{new}'")
    return Desired.of(entries)


class _Simple:
    """Reads rows of the kind that there are thousands of: one port, to an address, and nothing else.

    What it reads is what ``_read_row`` makes of it, in a tenth of the time; all else is left to that.
    """

    _ADDRESS = r"[0-9.]+|\[[0-9a-f:.]+\]"
    _PORT = "[1-9][0-9]{0,4}"
    _FORM = re.compile(f"(?:({_ADDRESS}):)?({_PORT}):({_ADDRESS}):({_PORT})/(tcp|udp)")

    def __init__(self) -> None:
        self._families: dict[str, int] = {}  # of addresses as they stand in a word, 0 for what is none

    def read(self, row: object) -> Dnat | None:
        """The mapping, or None."""
        word = row.get("map") if isinstance(row, dict) and len(row) == 1 else None
        form = self._FORM.fullmatch(word) if isinstance(word, str) else None
        if form is None:
            return None
        host, first, target, to, proto = form.groups("")
        ports, family = Ports(int(first), int(first), int(to)), self._family(target)
        if not family or max(ports.first, ports.to) > PORT_MAX or (host and self._family(host) != family):
            return None
        if family == 6:
            host, target = host[1:-1], target[1:-1]
        return Dnat(proto, host, "", ports, target, family)

    def _family(self, text: str) -> int:
        """4 or 6 for an address that may be that of a server, written as we write it; else 0."""
        if text not in self._families:
            try:
                found = parse_target(text.strip("[]"))
            except Refused:
                self._families[text] = 0
            else:
                self._families[text] = found.family if render_address(found.text) == text else 0
        return self._families[text]


def _read_row(section: str, row: object) -> Entry:
    if not isinstance(row, dict):
        raise _Broken("it is no object")
    given = dict(row)
    target = given.pop("address", "") if section == "docker" else ""
    try:
        entries = read_plain(section, given)
    except ConfigError as error:
        raise _Broken(error.message) from None
    if len(entries) != 1:
        raise _Broken("it is not one entry")
    entry = entries[0]
    if isinstance(entry, Dnat) and isinstance(target, str) and target:
        address = parse_unicast(target)
        if address.family != entry.family:
            raise _Broken(f"{target} is not IPv{entry.family}")
        entry = replace(entry, target=address.text)
    if _row(entry) != row:
        raise _Broken(f"it is not written as {_encode(_row(entry))}")
    return entry
