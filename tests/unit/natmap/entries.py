"""Entries of every kind, as hypothesis draws them, and the keys of the type."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import strategies as st

from netns_tools.config.nstype import load_nstype
from netns_tools.natmap.model import (
    Dnat,
    Entry,
    Hairpin,
    Masquerade,
    PolicyRoute,
    Ports,
    Snat,
)
from netns_tools.paths import Paths

_NATMAP = load_nstype("natmap", Paths())
KEYS = _NATMAP.keys
EXAMPLE = _NATMAP.example

PROTOS = st.sampled_from(["tcp", "udp"])
INTERFACES = st.sampled_from(["eth0", "ppp0", "br-lan", "wg_1"])
CONTAINERS = st.sampled_from(["web", "db.1", "0123456789ab"])


def addresses(family: int) -> st.SearchStrategy[str]:
    """Addresses of hosts: neither loopback nor link-local nor multicast."""
    if family == 4:
        return st.integers(10 << 24, (11 << 24) - 1).map(lambda number: str(IPv4Address(number)))
    return st.integers(0x2001 << 112, (0x2002 << 112) - 1).map(lambda number: str(IPv6Address(number)))


@st.composite
def networks(draw: st.DrawFn, family: int) -> str:
    length = draw(st.integers(8, 32 if family == 4 else 128))
    return str(ip_network(f"{draw(addresses(family))}/{length}", strict=False))


@st.composite
def network_lists(draw: st.DrawFn, family: int) -> tuple[str, ...]:
    """Prefixes of which none is in another, sorted by their numbers."""
    found = [ip_network(text) for text in draw(st.lists(networks(family), max_size=4, unique=True))]
    widest = [one for one in found if not any(one != other and one.subnet_of(other) for other in found)]  # type: ignore[arg-type]
    return tuple(str(one) for one in sorted(widest, key=lambda one: int(one.network_address)))


@st.composite
def ports(draw: st.DrawFn, highest: int = 65535) -> Ports:
    count = draw(st.integers(1, min(highest, 40)))
    first = draw(st.integers(1, highest - count + 1))
    to = draw(st.just(first) | st.integers(1, 65535 - count + 1))
    return Ports(first, first + count - 1, to)


@st.composite
def dnats(draw: st.DrawFn) -> Dnat:
    """Any mapping but one of a host port that is to be chosen."""
    family = draw(st.sampled_from([4, 6]))
    has_host, has_iface = draw(st.booleans()), draw(st.booleans())
    container = draw(st.just("") | CONTAINERS)
    target = draw(addresses(family))
    return Dnat(
        proto=draw(PROTOS),
        host=draw(addresses(family)) if has_host else "",
        iface=draw(INTERFACES) if has_iface else "",
        ports=draw(ports()),
        target=draw(st.sampled_from(["", target])) if container else target,
        family=family,
        masquerade=draw(st.booleans()),
        allow_from=draw(network_lists(family)),
        container=container,
    )


@st.composite
def crowded_dnats(draw: st.DrawFn) -> Dnat:
    """Mappings of few ports, so that they often meet."""
    shift = draw(st.sampled_from([100, 200]))
    return Dnat(
        proto=draw(PROTOS),
        host=draw(st.sampled_from(["", "10.0.0.1"])),
        iface=draw(st.sampled_from(["", "eth0"])),
        ports=draw(ports(highest=30).map(lambda some: Ports(some.first, some.last, some.first + shift))),
        target=draw(st.sampled_from(["10.1.0.1", "10.1.0.2"])),
        family=4,
        masquerade=draw(st.booleans()),
        allow_from=draw(st.sampled_from([(), ("192.0.2.0/24",)])),
    )


@st.composite
def others(draw: st.DrawFn) -> Entry:
    """Entries of the other kinds."""
    family = draw(st.sampled_from([4, 6]))
    source, address, iface = draw(networks(family)), draw(addresses(family)), draw(INTERFACES)
    exclude = draw(network_lists(family))
    hairpin = Hairpin(
        address, draw(addresses(family)), draw(PROTOS), draw(ports()), draw(st.just("") | networks(family))
    )
    table = draw(st.integers(1, 252) | st.integers(256, (1 << 32) - 1))
    entries: list[Entry] = [
        Snat(source, iface, address, exclude),
        Masquerade(source, iface, exclude),
        hairpin,
        PolicyRoute(source, address, table),
    ]
    return draw(st.sampled_from(entries))
