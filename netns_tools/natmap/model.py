"""What a NAT mapper is asked for: port mappings, source NAT, hairpins and policy routes, as plain values.

All texts in here are canonical: addresses as RFC 5952 has them, prefixes with their host bits zero.
``words`` and ``file`` make such values from what people write, ``table`` makes nftables of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

PROTOCOLS = ("tcp", "udp")

PORT_MAX = 65535

TABLE_DEFAULT = 100
"""The routing table of a policy route that names none."""


class Identity(NamedTuple):
    """What a port mapping is known by: of two mappings with one identity only one can be.

    ``scope`` is a host address (``192.0.2.1``), that on an interface only (``192.0.2.1%eth0``), an
    interface and family (``%eth0/4``) or any local address of a family (``*/4``, ``*/6``).
    """

    proto: str
    scope: str
    port: int

    def __str__(self) -> str:
        """As ss(8) has it: ``tcp 192.0.2.1:80``, ``tcp [2001:db8::1]:80``, ``tcp 192.0.2.1%eth0:80``.

        Without an address the family is told: ``udp *:53 (IPv4)``, ``tcp eth0:80 (IPv4)``.
        """
        return f"{self.proto} {_shown_scope(self.scope, str(self.port))}"


def _shown_scope(scope: str, port: str) -> str:
    if scope[0] in "*%":
        name, _, family = scope.rpartition("/")
        return f"{name.removeprefix('%')}:{port} (IPv{family})"
    host, percent, iface = scope.partition("%")
    return f"[{host}]{percent}{iface}:{port}" if ":" in host else f"{scope}:{port}"


@dataclass(frozen=True, order=True)
class Ports:
    """Host ports ``first`` to ``last``, which go to the ports from ``to`` on.

    ``first`` 0 stands for a free port that is still to be chosen; then there is but one.
    """

    first: int
    last: int
    to: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def shift(self) -> int:
        """What is added to a host port; 0 when ports stay what they are."""
        return self.to - self.first

    def within(self, first: int, last: int) -> Ports:
        """The part of these ports from ``first`` to ``last``."""
        return Ports(first, last, first + self.shift)

    def minus(self, first: int, last: int) -> list[Ports]:
        """What is left of these ports without those from ``first`` to ``last``."""
        if last < self.first or first > self.last:
            return [self]
        left = [self.within(self.first, first - 1)] if self.first < first else []
        return left + ([self.within(last + 1, self.last)] if last < self.last else [])


@dataclass(frozen=True)
class Dnat:
    """What comes to some ports of this namespace goes to ports of ``target``.

    ``host``: the address that it must have come to; "" is any local address of ``family``.
    ``iface``: the interface that it must have come in by, "" is any. With both, both are asked for.
    ``target``: "" while the container that it is taken from has no address; then nothing is in the
    table. ``family``: 4 or 6, that of ``host`` and ``target``. ``masquerade``: the target sees an
    address of ours instead of the client's. ``allow_from``: prefixes of the clients that have this
    mapping; empty is everybody. ``container``: name or id of the container that is the target.
    """

    proto: str
    host: str
    iface: str
    ports: Ports
    target: str
    family: int
    masquerade: bool = False
    allow_from: tuple[str, ...] = ()
    container: str = ""

    @property
    def scope(self) -> str:
        """The scope of its identities."""
        if self.host:
            return f"{self.host}%{self.iface}" if self.iface else self.host
        return f"%{self.iface}/{self.family}" if self.iface else f"*/{self.family}"

    def identities(self) -> Iterator[Identity]:
        """One a host port; none as long as the host port is still to be chosen."""
        if self.ports.first:
            scope = self.scope
            for port in range(self.ports.first, self.ports.last + 1):
                yield Identity(self.proto, scope, port)

    @property
    def key(self) -> tuple[str, str, int, int]:
        """By what mappings are sorted: neighbours in one scope are neighbours."""
        return self.proto, self.scope, self.ports.first, self.ports.last

    def only(self, port: int) -> Dnat:
        """The part of this for one of its host ports."""
        return replace(self, ports=self.ports.within(port, port))

    def moved(self, first: int) -> Dnat:
        """This at other host ports, those from ``first`` on."""
        return replace(self, ports=Ports(first, first + self.ports.count - 1, self.ports.to))

    @property
    def place(self) -> tuple[str, str, int]:
        """Where a connection ends up: container, else address, and the shift of the port.

        The address of a container does not count: it follows the container.
        """
        return self.container, "" if self.container else self.target, self.ports.shift

    def is_like(self, other: Dnat) -> bool:
        """Whether both do the same with a port that both have."""
        mine = self.place, self.masquerade, self.allow_from
        return mine == (other.place, other.masquerade, other.allow_from)


@dataclass(frozen=True)
class Snat:
    """What ``source`` sends out by ``iface`` gets the source ``address``, but not towards ``exclude``."""

    source: str
    iface: str
    address: str
    exclude: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Where it counts; there it excludes a masquerade."""
        return self.source, self.iface


@dataclass(frozen=True)
class Masquerade:
    """What ``source`` sends out by ``iface`` gets that interface's address, but not towards ``exclude``."""

    source: str
    iface: str
    exclude: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Where it counts; there it excludes a source NAT."""
        return self.source, self.iface


@dataclass(frozen=True)
class Hairpin:
    """Clients of ``lan`` reach ``target`` by the address ``host``, and so does ``target`` itself.

    ``lan``: a prefix; "" is the subnet in which ``target`` is, still to be observed.
    """

    host: str
    target: str
    proto: str
    ports: Ports
    lan: str

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """By what hairpins are sorted: neighbours of one address and lan are neighbours."""
        return self.proto, self.host, self.lan, self.ports.first, self.ports.last


@dataclass(frozen=True)
class PolicyRoute:
    """What comes from ``source`` and has no route but the default one goes by ``via``, of ``table``."""

    source: str
    via: str
    table: int

    @property
    def key(self) -> tuple[str]:
        """Where it counts."""
        return (self.source,)


Entry = Dnat | Snat | Masquerade | Hairpin | PolicyRoute


class Conflict(NamedTuple):
    """Two entries of which only one can be: the one that is there, and the one that is to come."""

    old: Entry
    new: Entry

    @property
    def is_duplicate(self) -> bool:
        """Whether both do the same where they meet: no harm is done by leaving one out."""
        return _is_like(self.old, self.new)

    @property
    def is_other_target(self) -> bool:
        """Whether they lead elsewhere; else they differ in how (masquerade, clients, exclusions)."""
        return _place(self.old) != _place(self.new)


@dataclass(frozen=True)
class Desired:
    """Everything that is wanted in a namespace. All sorted: make it by ``of``, ``merge`` and ``without``.

    No two entries exclude each other, unless ``of`` was given such (``overlaps`` tells). Questions
    and changes take time by the size of what is asked or changed, not by that of the whole.
    """

    dnat: tuple[Dnat, ...] = ()
    snat: tuple[Snat, ...] = ()
    masquerade: tuple[Masquerade, ...] = ()
    hairpin: tuple[Hairpin, ...] = ()
    policy_routes: tuple[PolicyRoute, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Desired:
        """Entries in any order; those that are equal count once."""
        found: dict[str, list[Any]] = {}
        for entry in entries:
            found.setdefault(_FIELDS[type(entry)], []).append(entry)
        return cls(**{name: _sorted(some) for name, some in found.items()})

    def __iter__(self) -> Iterator[Entry]:
        yield from self.dnat
        yield from self.snat
        yield from self.masquerade
        yield from self.hairpin
        yield from self.policy_routes

    def __len__(self) -> int:
        return sum(len(getattr(self, name)) for name in _FIELDS.values())

    def find(self, identity: Identity) -> Dnat | None:
        """The mapping of a host port."""
        last = (identity.proto, identity.scope, identity.port, PORT_MAX)
        index = bisect_right(self.dnat, last, key=_key) - 1
        if index >= 0:
            found = self.dnat[index]
            if (found.proto, found.scope) == identity[:2] and identity.port <= found.ports.last:
                return found
        return None

    def met(self, entry: Entry) -> list[Entry]:
        """The entries that exclude this one, or that it repeats."""
        if isinstance(entry, Dnat):
            return [self.dnat[index] for index in _meeting(self.dnat, entry)]
        if isinstance(entry, Hairpin):
            return [self.hairpin[index] for index in _meeting(self.hairpin, entry)]
        rows: list[Sequence[Any]] = [self.policy_routes]
        if not isinstance(entry, PolicyRoute):
            rows = [self.snat, self.masquerade]
        return [row[index] for row in rows for index in _meeting(row, entry)]

    def conflicts(self, other: Desired) -> list[Conflict]:
        """Where ``other`` wants something else than this: the old is ours, the new is of ``other``."""
        pairs = (Conflict(old, new) for new in other for old in self.met(new))
        return [conflict for conflict in pairs if not conflict.is_duplicate]

    def merge(self, other: Desired) -> Desired:
        """Both together. Where they conflict ``other`` counts; what is there already stays as it is.

        So the address of a container that has a mapping already is not taken from ``other``.
        """
        new = Desired.of(entry for entry in other if not self._has(entry))
        rows = self._rows_without(new)
        for name, row in rows.items():
            for entry in getattr(new, name):
                row.insert(bisect_left(row, entry.key, key=_key), entry)
        return Desired(**{name: tuple(row) for name, row in rows.items()})

    def without(self, other: Desired) -> Desired:
        """Without the host ports, sources and interfaces that ``other`` names, whatever their targets."""
        return Desired(**{name: tuple(row) for name, row in self._rows_without(other).items()})

    def with_targets(self, targets: Callable[[Dnat], str]) -> Desired:
        """This with the addresses that containers have now; ``targets`` is asked for each mapping of one."""
        if not any(map(_container, self.dnat)):
            return self
        moved = {
            index: replace(entry, target=target)
            for index, entry in enumerate(self.dnat)
            if entry.container and (target := targets(entry)) != entry.target
        }
        if not moved:
            return self
        dnat = tuple(moved.get(index, entry) for index, entry in enumerate(self.dnat))
        return replace(self, dnat=dnat)

    def _has(self, entry: Entry) -> bool:
        """Whether one of ours does all that ``entry`` does."""
        met = self.met(entry)
        if len(met) != 1 or not _is_like(met[0], entry):
            return False
        first, last = _span(entry)
        return _span(met[0])[0] <= first and last <= _span(met[0])[1]

    def _rows_without(self, other: Desired) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = {name: list(getattr(self, name)) for name in _FIELDS.values()}
        for entry in other:
            for name in _excluding(entry):
                row = rows[name]
                for index in reversed(_meeting(row, entry)):
                    row[index : index + 1] = _cut(row[index], entry)
        return rows


def common_ends(old: Sequence[object], new: Sequence[object]) -> tuple[int, int]:
    """How many entries two rows share at their beginning, and how many at their end.

    Rows of which one was made of the other share most of them, as the same objects.
    """
    start = _common(old, new)
    return start, min(_common(old[::-1], new[::-1]), min(len(old), len(new)) - start)


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many entries two rows share at their beginning: slices are compared sooner than entries."""
    at, step, shorter = 0, 1024, min(len(one), len(other))
    while step:
        while at + step <= shorter and one[at : at + step] == other[at : at + step]:
            at += step
        step //= 4
    return at


def difference(old: tuple[Dnat, ...], new: tuple[Dnat, ...]) -> tuple[list[Dnat], list[Dnat]]:
    """The mappings that only one of two sorted rows has: those of the old one, those of the new one."""
    start, end = common_ends(old, new)
    gone = dict.fromkeys(old[start : len(old) - end])
    come = dict.fromkeys(new[start : len(new) - end])
    return [entry for entry in gone if entry not in come], [entry for entry in come if entry not in gone]


def overlaps(entries: Iterable[Entry]) -> list[Conflict]:
    """Pairs of these entries that exclude or repeat each other; the old one comes first in ``entries``.

    Of entries of which each excludes each, every one is in a pair, but not every pair is there.
    """
    given = [*entries]
    found = []
    widest: tuple[int, Entry] | None = None
    group: tuple[str, ...] = ()
    end = -1
    for here, (first, last), number in sorted(
        (_group(entry), _span(entry), number) for number, entry in enumerate(given)
    ):
        entry = given[number]
        if widest is None or group != here or end < first:
            widest, group, end = (number, entry), here, last
            continue
        pair = sorted([widest, (number, entry)], key=lambda pair: pair[0])
        if first or not isinstance(entry, Dnat):  # port 0 is not chosen yet
            found.append((pair[1][0], Conflict(pair[0][1], pair[1][1])))
        if end < last:
            widest, end = (number, entry), last
    return [conflict for _, conflict in sorted(found, key=lambda pair: pair[0])]


# Entries of all kinds: where one counts (its group, and a span of ports in it), and what it does there

_FIELDS: dict[type, str] = {
    Dnat: "dnat",
    Snat: "snat",
    Masquerade: "masquerade",
    Hairpin: "hairpin",
    PolicyRoute: "policy_routes",
}


_container = attrgetter("container")


def _key(entry: Entry) -> Any:  # tuples of one length in a row
    return entry.key


def _sorted(entries: list[Any]) -> tuple[Any, ...]:
    """In their order, those that are equal once."""
    keys = [entry.key for entry in entries]
    if len(set(keys)) < len(keys):  # to compare the entries themselves takes longer
        entries = [*dict.fromkeys(entries)]
        keys = [entry.key for entry in entries]
    return tuple(entries[index] for index in sorted(range(len(keys)), key=keys.__getitem__))


def _excluding(entry: Entry) -> tuple[str, ...]:
    """The fields of ``Desired`` whose entries can exclude this one."""
    return ("snat", "masquerade") if isinstance(entry, (Snat, Masquerade)) else (_FIELDS[type(entry)],)


def _group(entry: Entry) -> tuple[str, ...]:
    if isinstance(entry, Dnat):
        return "dnat", entry.proto, entry.scope
    return (
        _excluding(entry)[0],
        *map(str, entry.key[:-2] if isinstance(entry, (Dnat, Hairpin)) else entry.key),
    )


def _span(entry: Entry) -> tuple[int, int]:
    return (entry.ports.first, entry.ports.last) if isinstance(entry, (Dnat, Hairpin)) else (0, 0)


def _place(entry: Entry) -> tuple[str | int, ...]:
    match entry:
        case Dnat():
            return entry.place
        case Snat():
            return (entry.address,)
        case Masquerade():
            return ()
        case Hairpin():
            return entry.target, entry.ports.shift
    return entry.via, entry.table


def _is_like(one: Entry, other: Entry) -> bool:
    if isinstance(one, Dnat) and isinstance(other, Dnat):
        return one.is_like(other)
    if isinstance(one, Hairpin) and isinstance(other, Hairpin):
        return _place(one) == _place(other)
    return one == other


def _meeting(row: Sequence[Any], entry: Entry) -> list[int]:
    """The indexes of the entries of a sorted row that are where ``entry`` is."""
    if not isinstance(entry, (Dnat, Hairpin)):
        index = bisect_left(row, entry.key, key=_key)
        return [index] if index < len(row) and row[index].key == entry.key else []
    if not entry.ports.first:
        return []
    group = entry.key[:-2]
    index = bisect_right(row, (*group, entry.ports.last, PORT_MAX), key=_key) - 1
    found = []
    while index >= 0 and row[index].key[:-2] == group and row[index].ports.last >= entry.ports.first:
        found.append(index)
        index -= 1
    return found[::-1]


def _cut(old: Entry, new: Entry) -> list[Entry]:
    """What is left of an entry where another one takes its place."""
    if isinstance(old, (Dnat, Hairpin)) and isinstance(new, (Dnat, Hairpin)):
        return [replace(old, ports=ports) for ports in old.ports.minus(new.ports.first, new.ports.last)]
    return []
