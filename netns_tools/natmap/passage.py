"""What firewalls do with the first packet of a mapped connection. Pure.

A test of a rule is passed, not passed, or it depends: on the client, on something that is not
understood. Only what holds whatever it depends on is said to be blocked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from netns_tools.kernel.filterrules import ADDRESSES, INTERFACES, MARKS, PORTS, UNKNOWN, Spans
from netns_tools.natmap.table import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netns_tools.kernel.filterrules import Chain, Rule, Table, Test, Verdict

_OURS = -105  # the priority of our NAT chains
_TRACKED = -200  # from here on a packet has a connection (NF_IP_PRI_CONNTRACK)
_FORWARD_MARK = -5  # that of our chain which marks packets
_TRANSLATED = frozenset({"dnat"})
_STATE = frozenset({"new"})
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection; "" and () where it is not known.

    Addresses are texts or prefixes, ports ``80`` or ``9000-9099``. ``original`` and ``original_port``
    are those before the translation, ``target`` and ``port`` those after it. ``marks_are_ours``: nobody
    else sets marks, so all other bits are 0. ``hook`` and ``priority``: where the packet is.
    """

    family: int
    proto: str
    iif: str
    oif: str
    sources: tuple[str, ...]
    original: str
    original_port: str
    target: str
    port: str
    marks_are_ours: bool = True
    hook: str = "forward"
    priority: int = 0

    def at(self, chain: Chain) -> Packet:
        """The packet as this chain sees it."""
        return replace(self, hook=chain.hook, priority=chain.priority)

    @property
    def translated(self) -> bool:
        """Whether our table has seen it already."""
        return self.hook not in ("ingress", "prerouting") or (
            self.hook == "prerouting" and self.priority > _OURS
        )

    @property
    def routed(self) -> bool:
        """Whether it is known where it goes."""
        return self.hook in ("forward", "postrouting")

    def given(self, name: str) -> object:
        """What a field is made of: equal for packets that have the same there."""
        match name:
            case "saddr":
                return self.sources
            case "daddr":
                return self.target if self.translated else self.original
            case "dport":
                return self.port if self.translated else self.original_port
            case "odaddr":
                return self.original
            case "odport":
                return self.original_port
        return (self.mark(name), self.marks_are_ours) if name in MARKS else self.text(name)

    @cached_property
    def spans(self) -> dict[str, Spans | None]:
        """Addresses and ports as numbers."""
        found: dict[str, Spans | None] = {}
        for name in ("saddr", "daddr", "odaddr", "dport", "odport"):
            given = self.given(name)
            texts = given if isinstance(given, tuple) else (given,) if given else ()
            found[name] = Spans.of(name, texts) if texts else None
        return found

    def text(self, name: str) -> str | frozenset[str] | None:
        """A field that is no number; None when it is not known."""
        match name:
            case "iif":
                return self.iif or None
            case "oif":
                return (self.oif or None) if self.routed else None
            case "proto":
                return self.proto
            case "family":
                return str(self.family)
            case "nfproto":
                return f"ipv{self.family}"
            case "state":
                # iptables has dnat as a state too
                return (_STATE | (_TRANSLATED if self.translated else _NONE)) if self._tracked else None
            case "status":
                return (_TRANSLATED if self.translated else _NONE) if self._tracked else None
            case "direction":
                return "original" if self._tracked else None
        return None

    @property
    def _tracked(self) -> bool:
        return self.hook not in ("ingress", "prerouting") or (
            self.hook == "prerouting" and self.priority > _TRACKED
        )

    def mark(self, name: str) -> int:
        """The bits of a mark that are set."""
        if name == "ctmark":
            return MARK if self.translated else 0
        after = self.hook == "postrouting" or (self.hook == "forward" and self.priority > _FORWARD_MARK)
        return MARK if after else 0


class Block(NamedTuple):
    """``how``: drop, reject, notrack or translate; by a rule of ``chain``, or (None) by its policy."""

    how: str
    table: Table
    base: Chain
    chain: Chain
    rule: Rule | None


class Firewalls:
    """The firewalls of others. What was judged once is known for all packets that do not differ in
    anything that a firewall asks for."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = [(table, _asked(table)) for table in tables]
        self._known: dict[tuple[object, ...], Block | None] = {}
        self.sets_marks = any(
            rule.sets for table, _ in self._tables for chain in table.chains.values() for rule in chain.rules
        )
        """Whether anybody else sets marks, so that their other bits are not known."""

    def blocks(self, packet: Packet, local: bool = False) -> Iterator[Block]:
        """What surely keeps a packet from its mapping: at most one a base chain.

        ``local``: the target is this host itself.
        """
        ends = ("input",) if local else ("forward", "postrouting")
        for table, asked in self._tables:
            if not _concerns(table, packet.family) or not table.can_block:
                continue
            for base in table.chains.values():
                if base.hook in ("ingress", "prerouting", *ends) and _is_asked(base, packet):
                    here = packet.at(base)
                    key = (id(base), *(here.given(name) for name in asked))
                    if key not in self._known:
                        self._known[key] = _block(table, base, here)
                    if (block := self._known[key]) is not None:
                        yield block


def _asked(table: Table) -> list[str]:
    """The fields of packets that a table asks for."""
    rules = [rule for chain in table.chains.values() for rule in chain.rules]
    tests = [test for rule in rules for test in (*rule.tests, *(test for test, _ in rule.cases))]
    return sorted({name for test in tests for name in test.fields} - {UNKNOWN})


def _block(table: Table, base: Chain, packet: Packet) -> Block | None:
    ends = _Walk(table, base, packet).ends()
    if not ends or any(end.how not in ("drop", "reject", "notrack", "translate") for end in ends):
        return None
    return min(ends, key=lambda end: end.rule.text if end.rule else "")


def _concerns(table: Table, family: int) -> bool:
    return table.family in ("inet", "netdev", "ip" if family == 4 else "ip6")


def _is_asked(base: Chain, packet: Packet) -> bool:
    if base.kind == "nat":  # the first one that translates wins
        return base.hook == "prerouting" and base.priority < _OURS
    if base.hook == "ingress":
        return base.device in (packet.iif, "")
    return base.kind in ("filter", "route")


class _Walk:
    """Everything that can become of a packet in a base chain; each chain is walked once."""

    def __init__(self, table: Table, base: Chain, packet: Packet) -> None:
        self._table = table
        self._base = base
        self._packet = packet
        self._known: dict[str, tuple[set[Block], bool]] = {}

    def ends(self) -> set[Block]:
        """All ends there are."""
        found, undecided = self._chain(self._base)
        return found | {self._end(self._base.policy, self._base, None)} if undecided else found

    def _end(self, how: str, chain: Chain, rule: Rule | None) -> Block:
        return Block(how, self._table, self._base, chain, rule)

    def _chain(self, chain: Chain) -> tuple[set[Block], bool]:
        """What can become of it in a chain, and whether it can get out of it undecided."""
        if chain.name not in self._known:
            # Nothing is said of chains that lead to themselves, which the kernel does not take.
            self._known[chain.name] = {self._end("accept", chain, None)}, True
            self._known[chain.name] = self._rules(chain)
        return self._known[chain.name]

    def _rules(self, chain: Chain) -> tuple[set[Block], bool]:
        found: set[Block] = set()
        can_leave = False
        for rule in chain.rules:
            for verdict, is_sure in _verdicts(rule, self._packet):
                ends, after = self._follow(verdict, chain, rule)
                found |= ends
                can_leave = can_leave or after == "leave"
                if is_sure and after != "next":
                    return found, can_leave
        return found, True

    def _follow(self, verdict: Verdict, chain: Chain, rule: Rule) -> tuple[set[Block], str]:
        """What can become of it by a verdict, and then: ``end``, ``leave`` (the chain) or ``next``."""
        if verdict.kind == "return":
            return set(), "leave"
        if verdict.kind not in ("jump", "goto"):
            return {self._end(verdict.kind, chain, rule)}, "end"
        there = self._table.chains.get(verdict.chain)
        if there is None:
            return {self._end("accept", chain, rule)}, "next"
        found, undecided = self._chain(there)
        if not undecided:
            return found, "end"
        return found, "next" if verdict.kind == "jump" else "leave"


def _verdicts(rule: Rule, packet: Packet) -> Iterator[tuple[Verdict, bool]]:
    """The verdicts that a rule can have for a packet, and whether it surely has that one."""
    fits = all_of(rule.tests, packet)
    if fits is False:
        return
    for test, verdict in rule.cases:
        found = passes(test, packet)
        if found is not False:
            yield verdict, bool(fits and found)
        if found:
            return
    if rule.verdict is not None:
        yield rule.verdict, bool(fits)


def all_of(tests: Iterable[Test], packet: Packet) -> bool | None:
    """Whether all tests are passed; None when it depends."""
    answer: bool | None = True
    for test in tests:
        found = passes(test, packet)
        if found is False:
            return False
        answer = answer and found
    return answer


def passes(test: Test, packet: Packet) -> bool | None:
    """Whether a test is passed; None when it depends."""
    if UNKNOWN in test.fields:
        return None
    if not test.fields:
        return True
    if len(test.fields) == 1 and test.fields[0] in (*ADDRESSES, *PORTS):
        found = _in_spans(test, packet)
    else:
        found = _any(
            _every(_is(name, value, test.mask, packet) for name, value in zip(test.fields, row, strict=True))
            for row in test.values
        )
    return found if found is None or not test.negated else not found


def _in_spans(test: Test, packet: Packet) -> bool | None:
    mine = packet.spans.get(test.fields[0])
    if mine is None:
        return None
    try:
        return test.spans.holds(mine)
    except ValueError:  # a name of a service or host
        return None


def _is(name: str, value: str, mask: int, packet: Packet) -> bool | None:
    if name in (*ADDRESSES, *PORTS):
        mine = packet.spans.get(name)
        try:
            return None if mine is None else Spans.of(name, (value,)).holds(mine)
        except ValueError:
            return None
    if name in MARKS:
        return _is_mark(name, value, mask, packet)
    known = packet.text(name)
    if known is None:
        return None
    if isinstance(known, frozenset):
        return value in known
    if name in INTERFACES and value.endswith("*"):
        return known.startswith(value[:-1])
    if name == "proto" and value.isdecimal():
        return {"tcp": "6", "udp": "17"}[known] == value
    return value == known


def _is_mark(name: str, value: str, mask: int, packet: Packet) -> bool | None:
    if not packet.marks_are_ours and mask & ~packet.mark(name):
        return None
    try:
        first, dash, last = value.partition("-")
        low = int(first, 0)
        return low <= packet.mark(name) & mask <= (int(last, 0) if dash else low)
    except ValueError:
        return None


def _every(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return False if False in found else None if None in found else True


def _any(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return True if True in found else None if None in found else False
