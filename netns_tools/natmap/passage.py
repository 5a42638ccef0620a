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
    from collections.abc import Generator, Iterable, Iterator

    from netns_tools.kernel.filterrules import Chain, Rule, Table, Test, Verdict

_OURS = -105  # the priority of our NAT chains
_TRACKED = -200  # from here on a packet has a connection (NF_IP_PRI_CONNTRACK)
_FORWARD_MARK = -5  # that of our chain which marks packets
_DEPTH = 32  # as nft itself allows
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

    @cached_property
    def spans(self) -> dict[str, Spans | None]:
        """Addresses and ports as numbers."""
        daddr, dport = (self.target, self.port) if self.translated else (self.original, self.original_port)
        texts = {
            "saddr": self.sources,
            "daddr": (daddr,) if daddr else (),
            "odaddr": (self.original,) if self.original else (),
            "dport": (dport,),
            "odport": (self.original_port,),
        }
        return {name: Spans.of(name, some) if some else None for name, some in texts.items()}

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


def sets_marks(tables: Iterable[Table]) -> bool:
    """Whether anybody else sets marks, so that their other bits are not known."""
    return any(rule.sets for table in tables for chain in table.chains.values() for rule in chain.rules)


def blocks(tables: Iterable[Table], packet: Packet, local: bool = False) -> Iterator[Block]:
    """What surely keeps a packet from its mapping: at most one a base chain.

    ``local``: the target is this host itself.
    """
    hooks = (
        ("ingress", "prerouting", "input") if local else ("ingress", "prerouting", "forward", "postrouting")
    )
    for table in tables:
        if not _concerns(table, packet.family) or not table.can_block:
            continue
        for base in table.chains.values():
            if base.hook not in hooks or not _is_asked(base, packet):
                continue
            ends = set(_ends(table, base, packet.at(base)))
            if ends and all(end.how in ("drop", "reject", "notrack", "translate") for end in ends):
                yield min(ends, key=lambda end: end.rule.text if end.rule else "")


def _concerns(table: Table, family: int) -> bool:
    return table.family in ("inet", "netdev", "ip" if family == 4 else "ip6")


def _is_asked(base: Chain, packet: Packet) -> bool:
    if base.kind == "nat":  # the first one that translates wins
        return base.hook == "prerouting" and base.priority < _OURS
    if base.hook == "ingress":
        return base.device in (packet.iif, "")
    return base.kind in ("filter", "route")


def _ends(table: Table, base: Chain, packet: Packet) -> Iterator[Block]:
    """All that can become of a packet in a base chain."""
    undecided = yield from _walk(table, base, base, packet, 0)
    if undecided:
        yield Block(base.policy, table, base, base, None)


def _walk(
    table: Table, base: Chain, chain: Chain, packet: Packet, depth: int
) -> Generator[Block, None, bool]:
    """What can become of it in a chain. Returns whether it can get out of it undecided."""
    if depth > _DEPTH:
        yield Block("accept", table, base, chain, None)
        return False
    can_leave = False
    for rule in chain.rules:
        for verdict, is_sure in _verdicts(rule, packet):
            after = yield from _follow(verdict, table, base, chain, rule, packet, depth)
            can_leave = can_leave or after == "leave"
            if is_sure and after != "next":
                return can_leave
    return True


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


def _follow(
    verdict: Verdict, table: Table, base: Chain, chain: Chain, rule: Rule, packet: Packet, depth: int
) -> Generator[Block, None, str]:
    """What can become of it by a verdict. Returns ``end``, ``leave`` (this chain) or ``next``."""
    if verdict.kind == "return":
        return "leave"
    if verdict.kind not in ("jump", "goto"):
        yield Block(verdict.kind, table, base, chain, rule)
        return "end"
    there = table.chains.get(verdict.chain)
    if there is None:
        yield Block("accept", table, base, chain, rule)
        return "next"
    passed = yield from _walk(table, base, there, packet, depth + 1)
    if not passed:
        return "end"
    return "next" if verdict.kind == "jump" else "leave"


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
