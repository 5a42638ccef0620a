"""Addresses that are used twice, and networks of the host that overlap."""

from __future__ import annotations

import ipaddress

from netns_tools.check.places import HOST, Place, places, used_twice
from netns_tools.check.survey import Finding, Survey, at, label

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check(survey: Survey) -> list[Finding]:
    """Findings about addresses."""
    found = places(survey.configs, "addresses", normal)
    hint = "give each device an address of its own"
    return [*used_twice(found, "address", hint), *_host_address(survey, found), *_overlaps(found)]


def normal(word: str) -> str | None:
    """An address without its prefix length, in the one normal form; None when it is no address.

    Link-local addresses are None too: each link has its own fe80::/64.
    """
    try:
        address = ipaddress.ip_interface(word).ip
    except ValueError:
        return None
    return None if address.is_link_local else str(address)


def _host_address(survey: Survey, found: list[Place]) -> list[Finding]:
    """Addresses inside a namespace that default.conf says are the host's own."""
    own = {
        same: value
        for config in survey.configs.values()
        if (value := config.values.get("HOST_ADDR")) is not None
        for entry in value.text.replace("\n", ",").split(",")
        if entry.split() and (same := normal(entry.split()[0])) is not None
    }
    return [
        Finding(
            at(
                place.value,
                f"address {place.words[0]} is the host's own: {place.option} of {label(place.key)} "
                f"and HOST_ADDR in {own[place.thing].path}:{own[place.thing].line}",
                word=place.words[0],
                hint="give the namespace an address of its own",
            ),
            [place.key],
        )
        for place in found
        if place.thing in own and place.namespace != HOST
    ]


def _overlaps(found: list[Place]) -> list[Finding]:
    """Networks of different instances at the host of which one holds the other: the host has two routes."""
    nets = [
        (net, place) for place in found if place.namespace == HOST and (net := network(place)) is not None
    ]
    nets.sort(key=lambda item: (item[0].version, int(item[0].network_address), item[0].prefixlen))
    findings = []
    open_nets: list[tuple[Network, Place]] = []
    for net, place in nets:
        while open_nets and not _holds(open_nets[-1][0], net):
            open_nets.pop()
        other = next(
            (p for _n, p in reversed(open_nets) if p.key != place.key and p.thing != place.thing), None
        )
        if other is not None:
            findings.append(_overlap(net, place, other))
        open_nets.append((net, place))
    return findings


def network(place: Place) -> Network | None:
    """The network that an address brings to its device; None when it is the address alone."""
    word = place.words[0]
    if "peer" in place.words[1:-1]:
        word = place.words[place.words.index("peer") + 1]
    try:
        net = ipaddress.ip_interface(word).network
    except ValueError:
        return None
    return None if net.prefixlen == net.max_prefixlen else net


def _holds(outer: Network, inner: Network) -> bool:
    return outer.version == inner.version and int(inner.network_address) <= int(outer.broadcast_address)


def _overlap(net: Network, place: Place, other: Place) -> Finding:
    return Finding(
        at(
            place.value,
            f"network {net} of {label(place.key)} overlaps network {network(other)}: {other}",
            word=place.words[0],
            hint="the host reaches only one of them; choose networks that do not share addresses",
            severity="warning",
        ),
        [place.key, other.key],
    )
