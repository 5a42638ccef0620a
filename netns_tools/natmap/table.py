"""What is wanted of a NAT mapper → its nftables table, and the changes of elements that lead there. Pure.

A mapping is one element of a map, so a packet finds it in constant time, however many there are. Four
scopes are asked one after the other: the address that a connection came to and the interface it came in
by (``addrif``), the address alone (``addr``), the interface alone (``if``), any local address (``any``).
What this host itself sends came in by no interface. Each scope has, for IPv4 and IPv6:

``addr4``               a port → an address and a port
``addr4_ranges``        ports → an address; the port stays what it is
``addr4_masq``          mappings that are to be masqueraded; ``addr4_masq_ranges`` those of several ports
``addr4_limited``       mappings for some clients only, which are in ``addr4_clients``

A range that goes to other ports has an element a port: nft cannot calculate with ports.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from ipaddress import collapse_addresses, ip_address, ip_network
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from netns_tools.kernel.nattable import Chain, Change, Content, Data, Key, SetType, Skeleton, render
from netns_tools.natmap.model import difference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from ipaddress import IPv4Network, IPv6Network
    from typing import TypeVar

    from netns_tools.natmap.model import Desired, Dnat, Entry, Hairpin, Masquerade, Snat

    Network = IPv4Network | IPv6Network
    Element = tuple[str, Key, Data]  # set, key, data
    V = TypeVar("V")

FAMILY, TABLE = "inet", "netns_natmap"

MARK = 0x00400000
"""The bit of the connection mark that says that we have translated it; of the packet mark in forward."""

_MASQUERADE_MARK = 0x00800000
_CLEAR = 0xFFFFFFFF ^ MARK ^ _MASQUERADE_MARK

_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}
_IP = {4: "ip", 6: "ip6"}
_PORT = ("inet_proto", "inet_service")
_SCOPES = {"addrif": "{ip} daddr . iifname . ", "addr": "{ip} daddr . ", "if": "iifname . ", "any": ""}


class Observed(NamedTuple):
    """What of the machine the table depends on.

    ``subnets``: for targets of hairpins without a lan, the prefix of the network that they are in.
    ``loopback``: interfaces by which 127.0.0.1 leaves, because we have set route_localnet there.
    """

    subnets: Mapping[str, str] = {}
    loopback: frozenset[str] = frozenset()


# The skeleton


def _sets() -> Iterator[tuple[str, SetType]]:
    yield "loopback", SetType(("ifname",))
    for family, address in _ADDRESS.items():
        heads = {"addrif": (address, "ifname"), "addr": (address,), "if": ("ifname",), "any": ()}
        for scope, head in heads.items():
            name, key = f"{scope}{family}", (*head, *_PORT)
            yield name, SetType(key, (address, "inet_service"))
            yield f"{name}_ranges", SetType(key, (address,), interval=True)
            yield f"{name}_masq", SetType(key)
            yield f"{name}_masq_ranges", SetType(key, interval=True)
            yield f"{name}_limited", SetType(key, interval=True)
            yield f"{name}_clients", SetType((*key, address), interval=True)
        key = (address, *_PORT, address)
        yield f"hairpin{family}", SetType(key, (address, "inet_service"), interval=True)
        yield f"hairpin{family}_ranges", SetType(key, (address,), interval=True)
        yield f"self{family}", SetType((address, address))
        yield f"unchanged{family}", SetType((address, "ifname", address), interval=True)
        yield f"snat{family}", SetType((address, "ifname"), (address,), interval=True)
        yield f"masquerade{family}", SetType((address, "ifname"), interval=True)


def _chains() -> Iterator[tuple[str, Chain]]:
    # With route_localnet the neighbours on that link could speak to 127.0.0.1 too, and as it.
    yield (
        "guard",
        Chain(
            (
                "iifname @loopback ip daddr 127.0.0.0/8 drop",
                "iifname @loopback ip saddr 127.0.0.0/8 drop",
            ),
            "filter hook prerouting",
            -300,
        ),
    )
    # The first NAT chain that translates wins: before iptables and Docker (-100) and firewalld (-90).
    yield "prerouting", Chain(("jump lookup",), "nat hook prerouting", -105)
    yield "output", Chain(("jump lookup",), "nat hook output", -105)
    # The mark has to be there before the translation, which ends the evaluation.
    yield (
        "lookup",
        Chain(
            (
                "meta l4proto != { tcp, udp } return",
                f"ct mark set ct mark and {_CLEAR:#010x} or {MARK:#010x}",
                "meta nfproto ipv4 jump lookup4",
                "meta nfproto ipv6 jump lookup6",
                f"ct mark set ct mark and {_CLEAR:#010x}",
            )
        ),
    )
    for family, ip in _IP.items():
        key = f"{ip} daddr . meta l4proto . th dport . {ip} saddr"
        yield (
            f"lookup{family}",
            Chain(
                (
                    f"ct mark set ct mark or {_MASQUERADE_MARK:#010x}",
                    f"meta l4proto {{ tcp, udp }} dnat {ip} to {key} map @hairpin{family}",
                    f"dnat {ip} to {key} map @hairpin{family}_ranges",
                    f"ct mark set ct mark and {0xFFFFFFFF ^ _MASQUERADE_MARK:#010x}",
                    f"jump addrif{family}",
                    f"jump addr{family}",
                    "fib daddr type != local return",  # what only passes through is never captured
                    f"jump if{family}",
                    f"jump any{family}",
                )
            ),
        )
        for scope, head in _SCOPES.items():
            yield f"{scope}{family}", _scope_chain(f"{scope}{family}", head.format(ip=ip), ip)
    yield (
        "postrouting",
        Chain(
            (
                f"ct mark and {MARK | _MASQUERADE_MARK:#010x} == {MARK | _MASQUERADE_MARK:#010x} "
                "ct status dnat masquerade",
                f"ct mark and {MARK:#010x} != 0 ct status dnat jump returning",
                *(
                    rule
                    for family, ip in _IP.items()
                    for rule in (
                        f"{ip} saddr . oifname . {ip} daddr @unchanged{family} return",
                        f"snat {ip} to {ip} saddr . oifname map @snat{family}",
                        f"{ip} saddr . oifname @masquerade{family} masquerade",
                    )
                ),
            ),
            "nat hook postrouting",
            95,
        ),
    )
    # Sources that the target cannot answer by way of us: its own address, and 127.0.0.1.
    yield (
        "returning",
        Chain(
            (
                "ip saddr . ip daddr @self4 masquerade",
                "ip6 saddr . ip6 daddr @self6 masquerade",
                "ip saddr 127.0.0.0/8 masquerade",
            )
        ),
    )
    # For forward policies of others: our accept would not overrule their drop, but they can match this.
    yield (
        "forward",
        Chain(
            (f"ct mark and {MARK:#010x} != 0 meta mark set meta mark or {MARK:#010x}",),
            "filter hook forward",
            -5,
        ),
    )


def _scope_chain(name: str, head: str, ip: str) -> Chain:
    key = f"{head}meta l4proto . th dport"
    masquerade = f"ct mark set ct mark or {_MASQUERADE_MARK:#010x}"
    return Chain(
        (
            f"{key} @{name}_limited {key} . {ip} saddr != @{name}_clients return",
            f"{key} @{name}_masq {masquerade}",
            f"{key} @{name}_masq_ranges {masquerade}",
            f"dnat {ip} to {key} map @{name}",
            f"dnat {ip} to {key} map @{name}_ranges",
        )
    )


def _skeleton() -> Skeleton:
    sets = dict(_sets())
    # Chains are declared before the rules that jump to them: nft reads a table in two passes.
    made = Skeleton(FAMILY, TABLE, "", sets, dict(_chains()))
    version = zlib.crc32(render(made, {}).encode())
    return Skeleton(FAMILY, TABLE, f"netns-natmap {version:08x}", made.sets, made.chains)


SKELETON = _skeleton()
"""The table without elements. Its comment names its content, so that another version replaces it."""


# Elements


def content(desired: Desired, observed: Observed) -> Content:
    """The elements of the table. A mapping without a target has none; policy routes are none of its."""
    found: Content = defaultdict(dict)
    for entry in desired.dnat:
        for name, key, data in _dnat_elements(entry):
            found[name][key] = data
        if entry.target:
            found[f"self{entry.family}"][entry.target, entry.target] = ()
    for name, key, data in _other_elements(desired, observed):
        found[name][key] = data
    return dict(found)


def _dnat_elements(entry: Dnat) -> Iterator[Element]:
    """The elements that are this mapping's alone."""
    if not entry.target or not entry.ports.first:
        return
    name, head = _scope(entry)
    ports, proto = entry.ports, entry.proto
    if ports.count == 1:
        yield name, (*head, proto, str(ports.first)), (entry.target, str(ports.to))
    elif not ports.shift:
        yield f"{name}_ranges", (*head, proto, f"{ports.first}-{ports.last}"), (entry.target,)
    else:
        for port in range(ports.first, ports.last + 1):
            yield name, (*head, proto, str(port)), (entry.target, str(port + ports.shift))
    key = (*head, proto, str(ports.first) if ports.count == 1 else f"{ports.first}-{ports.last}")
    if entry.masquerade:
        yield f"{name}_masq" if ports.count == 1 else f"{name}_masq_ranges", key, ()
    if entry.allow_from:
        yield f"{name}_limited", key, ()
        for client in _collapse(entry.allow_from, entry.family):
            yield f"{name}_clients", (*key, client), ()


def _scope(entry: Dnat) -> tuple[str, Key]:
    """The map of a mapping, and with what its keys begin."""
    scope = ("addr" if entry.host else "") + ("if" if entry.iface else "")
    return f"{scope or 'any'}{entry.family}", tuple(filter(None, (entry.host, entry.iface)))


def _other_elements(desired: Desired, observed: Observed) -> Iterator[Element]:
    """The elements of all but port mappings; of prefixes in one another the longest one counts."""
    for interface in sorted(observed.loopback):
        yield "loopback", (interface,), ()
    for _, element in _owned_elements(desired, observed):
        yield element


def shares(desired: Desired, observed: Observed) -> dict[Entry, Content]:
    """Which elements are there for which entry: of all but port mappings, others may have a part."""
    found: dict[Entry, Content] = defaultdict(dict)
    for entry, (name, key, data) in _owned_elements(desired, observed):
        found[entry].setdefault(name, {})[key] = data
    return dict(found)


def _owned_elements(desired: Desired, observed: Observed) -> Iterator[tuple[Entry, Element]]:
    yield from _hairpin_elements(desired.hairpin, observed.subnets)
    yield from _source_elements((*desired.snat, *desired.masquerade))


def _hairpin_elements(
    hairpins: Iterable[Hairpin], subnets: Mapping[str, str]
) -> Iterator[tuple[Entry, Element]]:
    groups: dict[tuple[str, str], list[Hairpin]] = defaultdict(list)
    for hairpin in hairpins:
        groups[hairpin.host, hairpin.proto].append(hairpin)
    for group in groups.values():
        # Ports that not all of them have are cut apart, so that elements never overlap.
        cuts = sorted({cut for one in group for cut in (one.ports.first, one.ports.last + 1)})
        for first, following in pairwise(cuts):
            here = [one for one in group if one.ports.first <= first <= one.ports.last]
            clients: dict[Network, Hairpin] = {}
            for one in here:
                lan = one.lan or subnets.get(one.target)
                for prefix in (lan, one.target) if lan else (one.target,):
                    clients.setdefault(ip_network(prefix), one)
            for network, one in _disjoint(clients):
                for element in _hairpin_piece(one, first, following - 1, network):
                    yield one, element


def _hairpin_piece(hairpin: Hairpin, first: int, last: int, network: Network) -> Iterator[Element]:
    host, proto, target, shift = hairpin.host, hairpin.proto, hairpin.target, hairpin.ports.shift
    name = f"hairpin{ip_address(host).version}"
    client = _text(network)
    if first < last and not shift:
        yield f"{name}_ranges", (host, proto, f"{first}-{last}", client), (target,)
        return
    for port in range(first, last + 1):
        yield name, (host, proto, str(port), client), (target, str(port + shift))


def _source_elements(entries: Iterable[Snat | Masquerade]) -> Iterator[tuple[Entry, Element]]:
    groups: dict[tuple[int, str], dict[Network, Snat | Masquerade]] = defaultdict(dict)
    for entry in entries:
        network = ip_network(entry.source)
        groups[network.version, entry.iface].setdefault(network, entry)
    for (family, iface), sources in groups.items():
        for network, entry in _disjoint(sources):
            source = _text(network)
            if address := getattr(entry, "address", ""):
                yield entry, (f"snat{family}", (source, iface), (address,))
            else:
                yield entry, (f"masquerade{family}", (source, iface), ())
            for excluded in _collapse(entry.exclude, family):
                yield entry, (f"unchanged{family}", (source, iface, excluded), ())


def _disjoint(values: Mapping[Network, V]) -> Iterator[tuple[Network, V]]:
    """Pieces of prefixes that do not overlap: each address has the value of its longest prefix.

    The kernel refuses most elements that overlap others.
    """
    kept: dict[Network, V] = {}
    for network in sorted(values, key=lambda network: network.prefixlen):
        around = [one for one in kept if network.subnet_of(one)]  # type: ignore[arg-type]  # of one family
        if not around or kept[around[-1]] != values[network]:
            kept[network] = values[network]
    for network, value in kept.items():
        pieces = [network]
        for inner in kept:
            if inner != network and inner.subnet_of(network):  # type: ignore[arg-type]
                pieces = [left for piece in pieces for left in _without(piece, inner)]
        yield from ((piece, value) for piece in sorted(pieces))


def _without(network: Network, inner: Network) -> list[Network]:
    if inner.subnet_of(network):  # type: ignore[arg-type]
        return list(network.address_exclude(inner))  # type: ignore[arg-type]
    return [] if network.subnet_of(inner) else [network]  # type: ignore[arg-type]


def _collapse(prefixes: Iterable[str], family: int) -> list[str]:
    """The same addresses by as few prefixes as can be, as elements; those of the other family are none."""
    networks = [network for network in map(ip_network, prefixes) if network.version == family]
    return [_text(network) for network in collapse_addresses(networks)]  # type: ignore[type-var]


def _text(network: Network) -> str:
    """A prefix as nft lists it."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


# Changes


def plan(live: Content, wanted: Content) -> list[Change]:
    """The changes that make ``wanted`` of ``live``."""
    gone: list[Element] = []
    come: list[Element] = []
    for name in SKELETON.sets:
        old, new = live.get(name, {}), wanted.get(name, {})
        if old != new:
            gone += [(name, key, data) for key, data in old.items() if new.get(key) != data]
            come += [(name, key, data) for key, data in new.items() if old.get(key) != data]
    return _changes(gone, come)


def plan_step(old: Desired, new: Desired, observed: Observed) -> list[Change]:
    """``plan`` for a table that holds exactly ``old``: it takes time by what has changed in the mappings."""
    gone_entries, come_entries = difference(old.dnat, new.dnat)
    before = {(name, key): data for entry in gone_entries for name, key, data in _dnat_elements(entry)}
    after = {(name, key): data for entry in come_entries for name, key, data in _dnat_elements(entry)}
    before.update(_targets(gone_entries, new.dnat))
    after.update(_targets(come_entries, old.dnat))
    if (old.snat, old.masquerade, old.hairpin) != (new.snat, new.masquerade, new.hairpin):
        before.update(((name, key), data) for name, key, data in _other_elements(old, observed))
        after.update(((name, key), data) for name, key, data in _other_elements(new, observed))
    return _changes(
        [(*place, data) for place, data in before.items() if after.get(place) != data],
        [(*place, data) for place, data in after.items() if before.get(place) != data],
    )


def _targets(entries: list[Dnat], others: tuple[Dnat, ...]) -> dict[tuple[str, Key], Data]:
    """What makes targets reach themselves, unless ``others`` have the same ones."""
    targets = {entry.target: entry.family for entry in entries if entry.target}
    if targets:
        for target in targets.keys() & set(map(attrgetter("target"), others)):
            del targets[target]
    return {(f"self{family}", (target, target)): () for target, family in targets.items()}


def _changes(gone: Iterable[Element], come: Iterable[Element]) -> list[Change]:
    """All that goes comes first: what is there in its stead may overlap it."""
    found: dict[tuple[str, str], Change] = {}
    for verb, elements in (("delete", gone), ("add", come)):
        for name, key, data in elements:
            found.setdefault((verb, name), Change(verb, name, [])).elements.append((key, data))
    return list(found.values())
