"""Rules of firewalls, as far as it can be told what they do with a packet: those of nftables
(libnftables-json(5)) and those of iptables (what iptables-save(8) prints).

What is not understood is there as a test of something unknown, so that nobody takes it for sure.
"""

from __future__ import annotations

import ipaddress
import shlex
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

INTERFACES = ("iif", "oif")
ADDRESSES = ("saddr", "daddr", "odaddr")
PORTS = ("sport", "dport", "odport")
MARKS = ("mark", "ctmark")
UNKNOWN = "?"
"""The field of a test that cannot be decided."""

_END = ("accept", "drop", "reject", "return", "queue", "translate", "notrack")


class Verdict(NamedTuple):
    """What becomes of a packet: one of accept, drop, reject, return, queue, translate, notrack,
    or jump and goto with their chain."""

    kind: str
    chain: str = ""


@dataclass(frozen=True, eq=False)
class Test:
    """Whether fields of a packet have one of some values.

    ``fields``: ``iif oif saddr daddr sport dport proto family state status direction mark ctmark``,
    ``odaddr`` and ``odport`` (as the connection came), or ``?``. ``values``: one text a field:
    ``10.0.0.0/8``, ``80-90``, ``wan*``. ``mask``: what is looked at of a mark.
    """

    __test__ = False  # for pytest: it is none of its own

    fields: tuple[str, ...]
    values: tuple[tuple[str, ...], ...] = ()
    negated: bool = False
    mask: int = 0xFFFFFFFF

    @cached_property
    def spans(self) -> Spans:
        """The values of the only field, an address or a port, as numbers."""
        return Spans.of(self.fields[0], (value[0] for value in self.values))


class Spans(NamedTuple):
    """Numbers: ``firsts[n]`` to ``lasts[n]``, sorted and apart. IPv6 addresses are above all of IPv4."""

    firsts: tuple[int, ...]
    lasts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, values: Iterable[str]) -> Spans:
        """Raises ``ValueError`` for what is no address or port."""
        pairs = sorted(_span(name, value) for value in values)
        merged: list[tuple[int, int]] = []
        for first, last in pairs:
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        return cls(tuple(first for first, _ in merged), tuple(last for _, last in merged))

    def holds(self, other: Spans) -> bool | None:
        """Whether all of ``other`` is in here, or nothing; None for a part of it."""
        answers = {self._holds(first, last) for first, last in zip(other.firsts, other.lasts, strict=True)}
        return answers.pop() if len(answers) == 1 else None

    def _holds(self, first: int, last: int) -> bool | None:
        at = bisect_right(self.firsts, last) - 1
        if at < 0 or self.lasts[at] < first:
            return False
        return True if self.firsts[at] <= first and last <= self.lasts[at] else None


_IPV6 = 1 << 128


def _span(name: str, value: str) -> tuple[int, int]:
    first, dash, last = value.partition("-")
    if name not in ADDRESSES:
        return int(first, 0), int(last, 0) if dash else int(first, 0)
    if dash:
        return _number(first), _number(last)
    network = ipaddress.ip_network(value, strict=False)
    offset = _IPV6 if network.version == 6 else 0
    return int(network.network_address) + offset, int(network.broadcast_address) + offset


def _number(text: str) -> int:
    address = ipaddress.ip_address(text)
    return int(address) + (_IPV6 if address.version == 6 else 0)


@dataclass(frozen=True, eq=False)
class Rule:
    """``verdict`` for packets that pass all ``tests``, or that of the first of ``cases`` (a verdict map)
    that fits. None and no fitting case: on to the next rule. ``sets``: marks that it changes.
    ``text``: as people know it."""

    tests: tuple[Test, ...]
    verdict: Verdict | None = None
    cases: tuple[tuple[Test, Verdict], ...] = ()
    sets: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, eq=False)
class Chain:
    """``hook``, ``priority``, ``kind`` (filter, nat, route), ``policy`` and ``device`` of one that the
    kernel calls; "" and 0 for others."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""
    priority: int = 0
    kind: str = ""
    policy: str = "accept"
    device: str = ""


@dataclass(frozen=True, eq=False)
class Table:
    """``family``: that of nft(8). ``program``: the iptables that it belongs to (``iptables-legacy``),
    "" for nft. ``owned``: only the program that made it can change it."""

    family: str
    name: str
    chains: Mapping[str, Chain]
    program: str = ""
    owned: bool = False

    @cached_property
    def can_block(self) -> bool:
        """Whether there is anything in it that could keep a packet from its mapping."""
        verdicts = {
            verdict.kind
            for chain in self.chains.values()
            for rule in chain.rules
            for verdict in (rule.verdict, *(verdict for _, verdict in rule.cases))
            if verdict is not None
        }
        policies = {chain.policy for chain in self.chains.values() if chain.hook}
        return bool((verdicts | policies) & {"drop", "reject", "translate", "notrack"})


# nftables


def read_nft(
    listing: Iterable[Mapping[str, Any]], texts: Mapping[int, str], owned: bool = False
) -> Table | None:
    """The table in the objects of ``nft -j list table``.

    ``texts``: its rules as text, by handle; ``owned``: see ``Table``. nft 1.0.6 has no flags in JSON.
    """
    sets: dict[str, Any] = {}
    heads: dict[str, Any] = {}
    rules: dict[str, list[Any]] = {}
    table: Mapping[str, Any] | None = None
    for item in listing:
        for kind, body in item.items():
            if kind == "table":
                table = body
            elif kind in ("set", "map"):
                sets[body["name"]] = body.get("elem", [])
            elif kind == "chain":
                heads[body["name"]] = body
            elif kind == "rule":
                rules.setdefault(body["chain"], []).append(body)
    if table is None:
        return None
    reader = _Reader(sets)
    chains = {}
    for name, head in heads.items():
        read = [reader.rule(body["expr"], texts.get(body["handle"], "")) for body in rules.get(name, ())]
        chains[name] = Chain(
            name,
            tuple(read),
            head.get("hook", ""),
            int(head.get("prio", 0)),
            head.get("type", ""),
            head.get("policy", "accept"),
            str(head.get("dev", "")),
        )
    return Table(table["family"], table["name"], chains, owned=owned)


_PASSIVE = ("counter", "log", "comment", "set", "ct helper", "secmark", "flow", "dup")
_META = {"iif": "iif", "iifname": "iif", "oif": "oif", "oifname": "oif", "l4proto": "proto", "mark": "mark"}
_PAYLOAD = {
    **{(ip, "saddr"): "saddr" for ip in ("ip", "ip6")},
    **{(ip, "daddr"): "daddr" for ip in ("ip", "ip6")},
    ("ip", "protocol"): "proto",
    ("ip6", "nexthdr"): "proto",
    **{(proto, "sport"): "sport" for proto in ("tcp", "udp", "th")},
    **{(proto, "dport"): "dport" for proto in ("tcp", "udp", "th")},
}
_CT = {"state": "state", "status": "status", "mark": "ctmark", "direction": "direction"}
_CT_ORIGINAL = {"daddr": "odaddr", "ip daddr": "odaddr", "ip6 daddr": "odaddr", "proto-dst": "odport"}
_UNSURE = Test((UNKNOWN,))


class _Reader:
    """Makes rules of expressions. ``sets``: the elements of the table's sets."""

    def __init__(self, sets: Mapping[str, Any]) -> None:
        self._sets = sets

    def rule(self, expressions: Iterable[Mapping[str, Any]], text: str) -> Rule:
        tests: list[Test] = []
        cases: tuple[tuple[Test, Verdict], ...] = ()
        sets: list[str] = []
        verdict = None
        for expression in expressions:
            kind, body = next(iter(expression.items()))
            if kind == "match":
                tests += self._match(body)
            elif kind == "vmap":
                cases, more = self._cases(body)
                tests += more
            elif kind == "mangle":
                name = _simple(body.get("key"))
                sets += [name] if name in MARKS else []
            elif (found := _verdict(kind, body)) is not None:
                verdict = found
            elif kind not in _PASSIVE:
                tests.append(_UNSURE)
        return Rule(tuple(tests), verdict, cases, tuple(sets), text)

    def _match(self, body: Mapping[str, Any]) -> list[Test]:
        op, left, right = body["op"], body["left"], body["right"]
        mask = 0xFFFFFFFF
        if isinstance(left, dict) and "&" in left and isinstance(left["&"][1], int):
            left, mask = left["&"]
        names, more = _fields(left)
        if UNKNOWN in names:
            return [*more, _UNSURE]
        values: Any = self._values(right, len(names))
        if op in ("<", ">", "<=", ">=") and isinstance(right, int):
            values = ((_compared(op, right),),)
        elif op == "in" and names[0] in MARKS and isinstance(right, int):
            return [*more, Test(names, (("0",),), negated=True, mask=mask & right)]
        elif op not in ("==", "!=", "in"):
            return [*more, _UNSURE]
        if values is None or (op != "in" and names == ("status",)):  # a connection has many of them
            return [*more, _UNSURE]
        return [*more, Test(names, values, op == "!=", mask)]

    def _cases(self, body: Mapping[str, Any]) -> tuple[tuple[tuple[Test, Verdict], ...], list[Test]]:
        names, more = _fields(body["key"])
        data = body["data"]
        pairs = self._sets.get(data[1:], []) if isinstance(data, str) else data.get("set", [])
        cases = []
        for value, body in pairs:
            kind, target = next(iter(body.items()))
            verdict = _verdict(kind, target)
            values = self._values(value, len(names))
            if value == "*":
                test = Test(())
            else:
                test = _UNSURE if values is None or UNKNOWN in names else Test(names, values)
            if verdict is not None:
                cases.append((test, verdict))
        return tuple(cases), more

    def _values(self, right: Any, width: int) -> tuple[tuple[str, ...], ...] | None:
        """The values on the right side, one text a field; None when they are not understood."""
        if isinstance(right, str) and right.startswith("@"):
            elements = self._sets.get(right[1:])
        elif isinstance(right, dict) and "set" in right:
            elements = right["set"]
            if isinstance(elements, str):  # a set in a concatenation
                elements = self._sets.get(elements.removeprefix("@"))
        elif isinstance(right, list):
            elements = right
        else:
            elements = [right]
        if elements is None:
            return None
        found = []
        for element in elements if isinstance(elements, list) else [elements]:
            if isinstance(element, dict) and "elem" in element:
                element = element["elem"].get("val")
            parts = element["concat"] if isinstance(element, dict) and "concat" in element else [element]
            texts = [_value(part) for part in parts]
            if len(texts) != width or None in texts:
                return None
            found.append(tuple(text or "" for text in texts))
        return tuple(found)


def _fields(left: Any) -> tuple[tuple[str, ...], list[Test]]:
    """The fields of the left side, and what has to be so for them to be there at all."""
    if isinstance(left, dict) and "concat" in left:
        names: list[str] = []
        more: list[Test] = []
        for part in left["concat"]:
            one, tests = _fields(part)
            names += one
            more += tests
        return tuple(names), more
    payload = left.get("payload", {}) if isinstance(left, dict) else {}
    more = []
    protocol = payload.get("protocol")
    if protocol in ("ip", "ip6"):
        more = [Test(("family",), (("4" if protocol == "ip" else "6",),))]
    elif protocol and protocol != "th":
        more = [Test(("proto",), ((protocol,),))]
    if isinstance(left, dict) and left.get("meta", {}).get("key") == "nfproto":
        return ("nfproto",), more
    return (_simple(left),), more


def _simple(left: Any) -> str:
    if not isinstance(left, dict):
        return UNKNOWN
    if "meta" in left:
        return _META.get(left["meta"].get("key"), UNKNOWN)
    if "payload" in left:
        return _PAYLOAD.get((left["payload"].get("protocol"), left["payload"].get("field")), UNKNOWN)
    if "ct" in left:
        key, way = left["ct"].get("key"), left["ct"].get("dir")
        return _CT_ORIGINAL.get(key, UNKNOWN) if way == "original" else _CT.get(key, UNKNOWN)
    return UNKNOWN


def _value(part: Any) -> str | None:
    if isinstance(part, int) and not isinstance(part, bool):
        return str(part)
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        if "prefix" in part:
            return f"{part['prefix']['addr']}/{part['prefix']['len']}"
        if "range" in part:
            return f"{part['range'][0]}-{part['range'][1]}"
    return None


def _compared(op: str, number: int) -> str:
    most = 0xFFFFFFFF
    return {
        "<": f"0-{number - 1}",
        "<=": f"0-{number}",
        ">": f"{number + 1}-{most}",
        ">=": f"{number}-{most}",
    }[op]


def _verdict(kind: str, body: Any) -> Verdict | None:
    if kind in ("jump", "goto"):
        return Verdict(kind, body["target"])
    if kind in ("dnat", "redirect"):
        return Verdict("translate")
    if kind in ("snat", "masquerade", "continue"):
        return None
    if kind in ("tproxy", "fwd", "synproxy"):
        return Verdict("queue")
    return Verdict(kind) if kind in _END else None


# iptables

_HOOKS = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
"""The tables of iptables, and when their chains are asked (linux/netfilter_ipv4.h)."""
_TARGETS = {
    "ACCEPT": Verdict("accept"),
    "DROP": Verdict("drop"),
    "REJECT": Verdict("reject"),
    "RETURN": Verdict("return"),
    "QUEUE": Verdict("queue"),
    "NFQUEUE": Verdict("queue"),
    "DNAT": Verdict("translate"),
    "REDIRECT": Verdict("translate"),
    "NETMAP": Verdict("translate"),
    "NOTRACK": Verdict("notrack"),
    "TPROXY": Verdict("queue"),
    "SYNPROXY": Verdict("queue"),
}
_OPTIONS = {
    "-i": "iif",
    "-o": "oif",
    "-s": "saddr",
    "-d": "daddr",
    "-p": "proto",
    "--dport": "dport",
    "--sport": "sport",
    "--dports": "dport",
    "--sports": "sport",
    "--ctstate": "state",
    "--state": "state",
    "--ctstatus": "status",
    "--ctorigdst": "odaddr",
    "--ctorigdstport": "odport",
    "--mark": "mark",
}
_MODULES = ("tcp", "udp", "multiport", "conntrack", "state", "mark", "connmark", "comment")


def read_iptables(saved: str, family: str, program: str) -> list[Table]:
    """The tables in what iptables-save(8) printed; ``family`` is ip or ip6."""
    tables: list[Table] = []
    name = ""
    policies: dict[str, str] = {}
    rules: dict[str, list[Rule]] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            name, policies, rules = line[1:].strip(), {}, {}
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            policies[chain] = policy.lower()
        elif line.startswith("-A "):
            chain, rule = _iptables_rule(line, policies)
            rules.setdefault(chain, []).append(rule)
        elif line.strip() == "COMMIT" and name in PRIORITIES:
            chains = {
                chain: Chain(
                    chain,
                    tuple(rules.get(chain, ())),
                    _HOOKS.get(chain, "") if policy != "-" else "",
                    PRIORITIES[name] if policy != "-" else 0,
                    ("nat" if name == "nat" else "filter") if policy != "-" else "",
                    policy if policy != "-" else "accept",
                )
                for chain, policy in policies.items()
            }
            tables.append(Table(family, name, chains, program))
    return tables


@dataclass
class _Words:
    """What the words of a rule say so far."""

    module: str = ""
    negated: bool = False
    tests: list[Test] = field(default_factory=list)
    target: str = ""
    is_goto: bool = False
    notrack: bool = False


def _iptables_rule(line: str, chains: Iterable[str]) -> tuple[str, Rule]:
    try:
        words = shlex.split(line)
    except ValueError:  # a line break in somebody's comment
        return line.split()[1], Rule((_UNSURE,), text=line)
    said = _Words()
    rest = iter(words[2:])
    for word in rest:
        _take(word, rest, said)
    if said.target in chains:
        verdict: Verdict | None = Verdict("goto" if said.is_goto else "jump", said.target)
    elif said.target == "CT" and said.notrack:
        verdict = Verdict("notrack")
    else:
        verdict = _TARGETS.get(said.target)
    sets = {"MARK": ("mark",), "CONNMARK": ("ctmark", "mark")}.get(said.target, ())
    return words[1], Rule(tuple(said.tests), verdict, (), sets, line)


def _take(word: str, rest: Iterator[str], said: _Words) -> None:
    """One option, with what belongs to it."""
    if said.target:
        said.notrack |= word == "--notrack"  # options of the target
    elif word == "!":
        said.negated = True
        return
    elif word == "-m":
        said.module = next(rest, "")
        if said.module not in _MODULES:
            said.tests.append(_UNSURE)
    elif word in ("-j", "-g"):
        said.target, said.is_goto = next(rest, ""), word == "-g"
    elif word == "--comment":
        next(rest, "")
    elif word in _OPTIONS:
        name = "ctmark" if word == "--mark" and said.module == "connmark" else _OPTIONS[word]
        said.tests.append(_iptables_test(name, next(rest, ""), said.negated))
    else:
        said.tests.append(_UNSURE)  # also each word that belongs to it, which does no harm
    said.negated = False


def _iptables_test(name: str, value: str, negated: bool) -> Test:
    mask = 0xFFFFFFFF
    if name in MARKS:
        value, slash, bits = value.partition("/")
        mask = int(bits, 0) if slash else mask
    values = value.split(",") if name in (*PORTS, "state", "status") else [value]
    if name in PORTS:
        values = [_ports(one) for one in values]
    elif name in INTERFACES:
        values = [f"{value[:-1]}*" if value.endswith("+") else value]
    elif name in ("state", "status"):
        values = [one.lower() for one in values]
    if name == "status" and "none" in values:
        return _UNSURE
    return Test((name,), tuple((one,) for one in values), negated, mask)


def _ports(text: str) -> str:
    first, colon, last = text.partition(":")
    return f"{first or 0}-{last or 65535}" if colon else text
