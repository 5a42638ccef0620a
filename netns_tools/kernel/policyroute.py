"""Policy routes: what comes from a prefix leaves by a gateway of its own, unless a nearer route is known.

Each one is a default route in a table of its own and two rules (ip-rule(8))::

    ip rule add pref N from SOURCE lookup main suppress_prefixlength 0
    ip rule add pref N+1 from SOURCE lookup TABLE
    ip route add default via GATEWAY table TABLE

The first rule takes every route of ``main`` but the default one, those that are made later
as well, so nothing has to be copied. Rules and routes are spoken of over raw rtnetlink: pyroute2
would double the memory of the daemon and does not ask the kernel to filter.

Ours are rules with protocol 78 in our range of preferences, and routes with protocol 78 and our
metric. Nothing else is changed or removed.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.netlink import attribute, attributes, messages
from netns_tools.kernel.netlinkbatch import BatchRequester

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.kernel.netlink import Buffer, Message

PROTOCOL = 78
"""Who made a rule or a route (RTPROT_*): netns-tools."""

PREFERENCE_FIRST = 20_000
PREFERENCE_LAST = PREFERENCE_FIRST + 2 * 128 + 1
"""Our preferences: after what people usually set by hand or by other programs, before ``main`` (32766)."""

METRIC = 20_000
"""The metric of our routes: two programs with protocol 78 can have routes in one table."""

_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE = 0x100, 0x200, 0x400
_FRA_SRC, _FRA_PRIORITY, _FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN = 2, 6, 13, 14
_FRA_TABLE, _FRA_PROTOCOL = 15, 21
_FRA_NO_SELECTORS = {
    _FRA_SRC,
    _FRA_PRIORITY,
    _FRA_SUPPRESS_PREFIXLEN,
    _FRA_TABLE,
    18,
    _FRA_PROTOCOL,
}  # 18: PAD
_FR_ACT_TO_TBL = 1
_FIB_RULE_INVERT = 0x2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_RTN_UNICAST = 1
_HEADER = struct.Struct("=BBBBBBBBI")  # struct rtmsg and struct fib_rule_hdr
_U32 = struct.Struct("=I")
_NONE = 0xFFFFFFFF

_MAIN = 254
_RESERVED = {0: "unspec", 253: "default", 254: "main", 255: "local"}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_PURPOSE = "ask for the routing rules of this network namespace"
_TRIES = 20


class Wanted(Protocol):
    """A policy route: ``source`` is a prefix, ``via`` a gateway (``fe80::1%eth0`` with its interface)."""

    @property
    def source(self) -> str: ...
    @property
    def via(self) -> str: ...
    @property
    def table(self) -> int: ...


class Rule(NamedTuple):
    """A routing rule; ``source`` with its prefix length, ``suppress`` is suppress_prefixlength 0."""

    family: int
    preference: int
    source: str
    table: int
    suppress: bool = False

    def render(self, verb: str) -> str:
        """The line of ip(8) that does this."""
        table = "main suppress_prefixlength 0" if self.suppress else str(self.table)
        word = "ip -6" if self.family == 6 else "ip"
        source = "all" if self.source.endswith("/0") else self.source
        return f"{word} rule {verb} pref {self.preference} from {source} lookup {table} protocol {PROTOCOL}"


class Route(NamedTuple):
    """A default route. ``device``: "" for the one that leads to the gateway ``via``."""

    family: int
    table: int
    via: str
    device: str = ""

    def render(self, verb: str) -> str:
        """The line of ip(8) that does this."""
        word = "ip -6" if self.family == 6 else "ip"
        device = f" dev {self.device}" if self.device else ""
        end = f"table {self.table} protocol {PROTOCOL} metric {METRIC}"
        return f"{word} route {verb} default via {self.via}{device} {end}"

    def is_by(self, other: Route) -> bool:
        """Whether it leads where ``other`` wants to."""
        return self.via == other.via and other.device in ("", self.device)


@dataclass(frozen=True)
class Observed:
    """What there is: our rules, our default routes, and those of others that come before ours.

    ``rules``: how often each is there. ``foreign``: by family and table; ``via`` is "" where there
    is no single gateway.
    """

    rules: Mapping[Rule, int]
    routes: frozenset[Route]
    foreign: Mapping[tuple[int, int], tuple[Route, ...]]


class Change(NamedTuple):
    """``verb`` is ``add``, ``replace`` or ``delete``; ``old`` is the route that is replaced."""

    verb: str
    what: Rule | Route
    old: Route | None = None

    def __str__(self) -> str:
        return self.what.render(self.verb)

    def undo(self) -> Change:
        """What takes it back."""
        if self.verb == "replace" and isinstance(self.what, Route):
            return Change("replace", self.old or self.what, self.what)
        return Change("delete" if self.verb == "add" else "add", self.what)


def rules_of(wanted: Wanted) -> tuple[Rule, Rule]:
    """The two rules of a policy route; a longer prefix comes before a shorter one."""
    network = ipaddress.ip_network(wanted.source)
    source = _prefix(network.network_address.packed, network.prefixlen, network.version)
    preference = PREFERENCE_FIRST + 2 * (network.max_prefixlen - network.prefixlen)
    return (
        Rule(network.version, preference, source, _MAIN, suppress=True),
        Rule(network.version, preference + 1, source, wanted.table),
    )


def route_of(wanted: Wanted) -> Route:
    """The default route of a policy route."""
    via, _, device = wanted.via.partition("%")
    address = ipaddress.ip_address(via)
    via = socket.inet_ntop(_FAMILIES[address.version], address.packed)  # as the kernel's are shown
    return Route(address.version, wanted.table, via, device)


def plan(wanted: Iterable[Wanted], observed: Observed) -> list[Change]:
    """What makes the policy routes those that are wanted, in an order in which no packet is lost.

    Rules are there before their route and go after it, so that a route of ours is always found by
    its rule, even if we are interrupted. Raises ``NetnsToolsError`` for what cannot be done.
    """
    rules: set[Rule] = set()
    routes: dict[tuple[int, int], Route] = {}
    for one in wanted:
        route = route_of(one)
        _check(one, route, routes, observed)
        routes[route.family, route.table] = route
        rules.update(rules_of(one))

    own = {(route.family, route.table): route for route in observed.routes}
    changes = [Change("add", rule) for rule in sorted(rules - observed.rules.keys())]
    gone = []
    for place, route in sorted(routes.items()):
        there = own.pop(place, None)
        if any(other.is_by(route) for other in observed.foreign.get(place, ())):
            gone += [Change("delete", there)] if there else []
        elif there is None:
            changes.append(Change("add", route))
        elif not there.is_by(route):
            changes.append(Change("replace", route, there))
    changes += gone
    changes += [Change("delete", route) for _, route in sorted(own.items())]
    for rule, count in sorted(observed.rules.items()):
        changes += [Change("delete", rule)] * (count - 1 if rule in rules else count)
    return changes


def _check(one: Wanted, route: Route, routes: Mapping[tuple[int, int], Route], observed: Observed) -> None:
    if one.table in _RESERVED or not 0 < one.table < 1 << 32:
        name = _RESERVED.get(one.table)
        what = f"{one.table} ({name})" if name else str(one.table)
        raise NetnsToolsError(
            f"policy route from {one.source}: table {what} cannot be used",
            hint="take a number of your own, 1 to 252 or 256 to 4294967295",
        )
    place = (route.family, route.table)
    other = routes.get(place, route)
    if other != route:
        raise NetnsToolsError(
            f"policy route from {one.source}: table {one.table} would need two gateways,"
            f" {other.via} and {route.via}",
            hint="a table has one default route: take another table for one of them",
        )
    foreign = observed.foreign.get(place, ())
    if foreign and not any(default.is_by(route) for default in foreign):
        shown = foreign[0].via or "no single gateway"
        raise NetnsToolsError(
            f"policy route from {one.source}: table {one.table} has a default route of somebody else already"
            f" ({shown})",
            hint=f"take another table, or look at it: ip -{route.family} route show table {one.table}",
        )


def apply(changes: Iterable[Change], *, keep_going: bool = False) -> list[NetnsToolsError]:
    """Make the changes in this thread's network namespace.

    If one fails the others are taken back and ``NetnsToolsError`` is raised. With ``keep_going``
    the rest is done all the same, and what failed is returned.
    """
    done: list[Change] = []
    errors = []
    with BatchRequester(socket.NETLINK_ROUTE, "change the routing rules of this network namespace") as kernel:
        for change in changes:
            code = _run(kernel, change)
            if code == 0:
                done.append(change)
            elif change.verb != "delete" or code not in (errno.ENOENT, errno.ESRCH, errno.ENODEV):
                errors.append(_failure(change, code))
                if not keep_going:
                    for one in reversed(done):
                        _run(kernel, one.undo())
                    raise errors[0]
    return errors


def _failure(change: Change, code: int) -> NetnsToolsError:
    hint = ""
    if code == errno.EPERM:
        hint = "it needs CAP_NET_ADMIN: run it as root"
    elif isinstance(change.what, Route) and code == errno.EEXIST:
        hint = f"somebody else was faster: ip -{change.what.family} route show table {change.what.table}"
    elif isinstance(change.what, Route):
        hint = (
            f"the gateway must be in the subnet of an interface that is up: ip route get {change.what.via}"
            if not change.what.via.startswith("fe80:")
            else "a link-local gateway needs its interface, which must be up: fe80::1%eth0"
        )
    return NetnsToolsError(f"cannot do: {change}: {os.strerror(code)}", hint=hint)


def _run(kernel: BatchRequester, change: Change) -> int:
    """Run one change; its errno."""
    what = change.what
    if isinstance(what, Rule):
        kind, flags = (_RTM_DELRULE, 0) if change.verb == "delete" else (_RTM_NEWRULE, _NLM_F_CREATE)
        return kernel.run([(kind, flags, _encode_rule(what))])[0]
    try:
        body = _encode_route(what)
    except OSError:
        return errno.ENODEV  # if_nametoindex gives no number of it
    if change.verb == "delete":
        return kernel.run([(_RTM_DELROUTE, 0, body)])[0]
    flags = _NLM_F_CREATE | (_NLM_F_REPLACE if change.verb == "replace" else _NLM_F_EXCL)
    return kernel.run([(_RTM_NEWROUTE, flags, body)])[0]


def _encode_rule(rule: Rule) -> bytes:
    network = ipaddress.ip_network(rule.source)
    header = _HEADER.pack(
        _FAMILIES[rule.family], 0, network.prefixlen, 0, _short(rule.table), 0, 0, _FR_ACT_TO_TBL, 0
    )
    body = header + attribute(_FRA_PRIORITY, _U32.pack(rule.preference))
    body += attribute(_FRA_TABLE, _U32.pack(rule.table)) + attribute(_FRA_PROTOCOL, bytes([PROTOCOL]))
    if network.prefixlen:
        body += attribute(_FRA_SRC, network.network_address.packed)
    if rule.suppress:
        body += attribute(_FRA_SUPPRESS_PREFIXLEN, _U32.pack(0))
    return body


def _short(table: int) -> int:
    """A table's number in the header, which has 8 bits for it; an attribute has all of it."""
    return table if table < 256 else 0


def _encode_route(route: Route) -> bytes:
    """The request's body. Raises ``OSError`` when there is no such device."""
    header = _HEADER.pack(
        _FAMILIES[route.family], 0, 0, 0, _short(route.table), PROTOCOL, 0,
        _RTN_UNICAST, 0,
    )  # fmt: skip
    body = header + attribute(_RTA_TABLE, _U32.pack(route.table))
    body += attribute(_RTA_GATEWAY, ipaddress.ip_address(route.via).packed)
    body += attribute(_RTA_PRIORITY, _U32.pack(METRIC))
    if route.device:
        body += attribute(_RTA_OIF, _U32.pack(socket.if_nametoindex(route.device)))
    return body


def observe(tables: Iterable[int] = ()) -> Observed:
    """What there is in this thread's network namespace; ``tables`` are those that are wanted.

    Raises ``NetnsToolsError``.
    """
    wanted = {table for table in tables if table not in _RESERVED and 0 < table < 1 << 32}
    for _ in range(_TRIES):
        with BatchRequester(socket.NETLINK_ROUTE, _PURPOSE) as kernel:
            found = _observe(kernel, wanted)
            if found is not None:
                return found
    raise NetnsToolsError(f"cannot {_PURPOSE}: they change all the time", hint="try again")


def _observe(kernel: BatchRequester, tables: Iterable[int]) -> Observed | None:
    """One look; None when something changed meanwhile, so that the dump may lack some."""
    rules: dict[Rule, int] = {}
    routes: set[Route] = set()
    foreign: dict[tuple[int, int], tuple[Route, ...]] = {}
    for family, number in _FAMILIES.items():
        for data, interrupted in kernel.dump(_RTM_GETRULE, _HEADER.pack(number, *[0] * 8)):
            if interrupted:
                return None
            for rule in decode_rules(data, family):
                rules[rule] = rules.get(rule, 0) + 1
        requests = [_HEADER.pack(number, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)]
        for table in tables:
            header = _HEADER.pack(number, *[0] * 8)
            requests.append(header + attribute(_RTA_TABLE, _U32.pack(table)))
        for body in requests:
            for data, interrupted in kernel.dump(_RTM_GETROUTE, body):
                if interrupted:
                    return None
                for route, own in decode_defaults(data, family):
                    if own:
                        routes.add(route)
                    else:
                        place = (family, route.table)
                        foreign[place] = tuple(sorted({*foreign.get(place, ()), route}))
    return Observed(rules, frozenset(routes), foreign)


def decode_rules(data: Buffer, family: int) -> Iterator[Rule]:
    """Our rules of a family in a datagram."""
    for message in messages(data):
        if message.kind == _RTM_NEWRULE and message.end - message.start >= _HEADER.size:
            rule = _decode_rule(data, message, family)
            if rule is not None:
                yield rule


def _decode_rule(data: Buffer, message: Message, family: int) -> Rule | None:
    number, destination_length, length, tos, table, _, _, action, flags = _HEADER.unpack_from(
        data, message.start
    )
    found = _values(data, message)
    if _u32(found, _FRA_SUPPRESS_IFGROUP, _NONE) == _NONE:
        found.pop(_FRA_SUPPRESS_IFGROUP, None)
    preference = _u32(found, _FRA_PRIORITY, 0)
    if (
        number != _FAMILIES[family]
        or action != _FR_ACT_TO_TBL
        or destination_length
        or tos
        or flags & _FIB_RULE_INVERT
        or found.get(_FRA_PROTOCOL) != bytes([PROTOCOL])
        or not PREFERENCE_FIRST <= preference <= PREFERENCE_LAST
        or found.keys() - _FRA_NO_SELECTORS
    ):
        return None
    source = _prefix(found.get(_FRA_SRC, b""), length, family)
    suppress = _u32(found, _FRA_SUPPRESS_PREFIXLEN, _NONE)
    table = _u32(found, _FRA_TABLE, table)
    if not source or suppress not in (0, _NONE):
        return None
    return Rule(family, preference, source, table, suppress == 0)


def decode_defaults(data: Buffer, family: int) -> Iterator[tuple[Route, bool]]:
    """Default routes of a family in a datagram, ours and such that come before; whether it is ours."""
    for message in messages(data):
        if message.kind != _RTM_NEWROUTE or message.end - message.start < _HEADER.size:
            continue
        number, length, source_length, tos, table, protocol, _, _, _ = _HEADER.unpack_from(
            data, message.start
        )
        if number != _FAMILIES[family] or length or source_length or tos:
            continue
        found = _values(data, message)
        gateway = found.get(_RTA_GATEWAY, b"")
        via = socket.inet_ntop(number, gateway) if len(gateway) == (4 if family == 4 else 16) else ""
        metric = _u32(found, _RTA_PRIORITY, 0)
        own = protocol == PROTOCOL and metric == METRIC
        table = _u32(found, _RTA_TABLE, table)
        if table in _RESERVED or metric > METRIC:
            continue  # ours comes before it
        yield Route(family, table, via, _device(_u32(found, _RTA_OIF, 0))), own


def _values(data: Buffer, message: Message) -> dict[int, bytes]:
    found = attributes(data, message.start + _HEADER.size, message.end)
    return {kind: bytes(data[begin:end]) for kind, begin, end in found}


def _u32(found: Mapping[int, bytes], kind: int, default: int) -> int:
    value = found.get(kind, b"")
    return int(_U32.unpack(value)[0]) if len(value) == 4 else default


def _prefix(packed: bytes, length: int, family: int) -> str:
    size = 4 if family == 4 else 16
    if len(packed) not in (0, size) or length > 8 * size:
        return ""
    return f"{socket.inet_ntop(_FAMILIES[family], packed or bytes(size))}/{length}"


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return ""  # gone since
