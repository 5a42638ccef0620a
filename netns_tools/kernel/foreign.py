"""What others have set up in this thread's network namespace, as far as it can keep packets from where
a mapping sends them: firewalls, routes, links and ports of bridges. Nothing is changed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import program, sysctl
from netns_tools.kernel.filterrules import PRIORITIES, Table, read_iptables, read_nft
from netns_tools.kernel.netlink import attribute, attributes
from netns_tools.kernel.netlinkbatch import BatchRequester
from netns_tools.kernel.ruleset import owned_tables, split_tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIREWALLD = "/etc/firewalld/firewalld.conf"
_PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}
_OLD_TABLES = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}

_RTM_GETROUTE = 26
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF = 1, 2, 3, 4
_RTN_LOCAL = 2
_HEADER = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_U32 = struct.Struct("=I")


# Firewalls


def observe_tables(own: tuple[str, str]) -> list[Table]:
    """The tables of nftables but our ``own`` (family and name), and those of both kinds of iptables.

    Raises ``NetnsToolsError``.
    """
    found: list[Table] = []
    nft_families = set()
    for family, name in _nft_tables():
        if (family, name) == own or family in ("arp", "bridge"):
            continue
        table, has_xt = _nft_table(family, name)
        if has_xt and name in PRIORITIES and _iptables("nft", family):
            nft_families.add((family, name))
        elif table is not None:
            found.append(table)
    for family in _PROGRAMS:
        names = {name for one, name in nft_families if one == family}
        found += _saved("nft", family, names)
        found += _saved("legacy", family, _old_tables(family))
    return found


def _nft_tables() -> list[tuple[str, str]]:
    listing = _json(["nft", "-j", "list", "tables"])
    return [(one["table"]["family"], one["table"]["name"]) for one in listing["nftables"] if "table" in one]


def _nft_table(family: str, name: str) -> tuple[Table | None, bool]:
    """A table; None if it is gone. And whether iptables can tell more about it."""
    try:
        listing = _json(["nft", "-j", "list", "table", family, name])["nftables"]
        text = program.output(["nft", "-s", "-a", "list", "table", family, name])
    except NetnsToolsError:
        if (family, name) in _nft_tables():
            raise
        return None, False
    texts = {int(match[2]): match[1].strip() for match in re.finditer(r"^(.*) # handle (\d+)$", text, re.M)}
    rules = [one["rule"]["expr"] for one in listing if "rule" in one]
    return read_nft(listing, texts, bool(owned_tables(split_tables(text)))), any(
        "xt" in expression for rule in rules for expression in rule
    )


def _saved(variant: str, family: str, names: Iterable[str]) -> list[Table]:
    """The tables of an iptables that have these names."""
    path = _iptables(variant, family)
    if not path:
        return []
    label = f"{_PROGRAMS[family]}-{variant}"
    found = []
    for name in sorted(names):
        found += read_iptables(program.output([path, "-t", name]), family, label)
    return found


def _iptables(variant: str, family: str) -> str:
    """The path of the iptables-save of a variant, "" for none."""
    return next(program.installed(f"{_PROGRAMS[family]}-{variant}-save"), "")


def _old_tables(family: str) -> list[str]:
    """The kernel's old tables that are in use; merely by looking, iptables would make them."""
    try:
        with open(f"/proc/thread-self/net/{_OLD_TABLES[family]}", encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def is_strict_firewalld() -> bool:
    """Whether firewalld refuses what others have translated (StrictForwardPorts of firewalld.conf(5))."""
    try:
        with open(_FIREWALLD, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return False
    values = re.findall(r"^\s*StrictForwardPorts\s*=\s*(\S+)", text, re.M)
    return bool(values) and values[-1].lower() in ("yes", "true")


# Links


@dataclass(frozen=True)
class Link:
    """A network device. ``carrier``: whether it is up and something is attached.

    ``addresses``: its own, as texts. ``master``: the bridge (or other device) that it is a port of.
    ``hairpin``: of a port of a bridge, whether it sends back what came in by it; None of others.
    """

    name: str
    up: bool
    carrier: bool
    loopback: bool
    addresses: tuple[tuple[str, int], ...]
    master: str = ""
    hairpin: bool | None = None


def observe_links() -> dict[str, Link]:
    """All links, by name. Raises ``NetnsToolsError``."""
    addresses: dict[str, list[tuple[str, int]]] = {}
    for one in _json(["ip", "-j", "address", "show"]):
        rows = one.get("addr_info", ())
        addresses[one.get("ifname", "")] = [
            (row["local"], row["prefixlen"]) for row in rows if "local" in row
        ]
    found = {}
    for one in _json(["ip", "-j", "-d", "link", "show"]):
        if "ifname" not in one:
            continue
        name, flags = one["ifname"], one.get("flags", ())
        port = one.get("linkinfo", {}).get("info_slave_data", {})
        found[name] = Link(
            name,
            "UP" in flags,
            "LOWER_UP" in flags,
            "LOOPBACK" in flags,
            tuple(addresses.get(name, ())),
            one.get("master", ""),
            port.get("hairpin"),
        )
    return found


def bridge_port(address: str, bridge: str) -> str:
    """The port of a bridge behind which an address is, as far as the bridge has seen it; else ""."""
    macs = {
        one.get("lladdr")
        for one in _json(["ip", "-j", "neighbour", "show", "to", address, "dev", bridge])
        if "lladdr" in one
    }
    for one in _json(["bridge", "-j", "fdb", "show", "br", bridge]) if macs else ():
        if one.get("mac") in macs and "permanent" not in (one.get("state"),):
            return str(one.get("ifname", ""))
    return ""


# Routes


class Route(NamedTuple):
    """How an address is reached: by ``device``, or it is this host's own (``local``), or ``error``."""

    device: str = ""
    local: bool = False
    error: str = ""


class Way(NamedTuple):
    """A packet that comes in by a link, from ``source`` to ``target``."""

    iif: str
    source: str
    target: str


def observe_routes(targets: Iterable[str]) -> dict[str, Route]:
    """How addresses are reached. Raises ``NetnsToolsError``."""
    found = {}
    with BatchRequester(socket.NETLINK_ROUTE, "ask for routes in this network namespace") as kernel:
        for target in targets:
            body = _request(target)
            code = kernel.run([(_RTM_GETROUTE, 0, body)])[0]
            if code:
                found[target] = Route(error=os.strerror(code))
                continue
            with contextlib.suppress(NetnsToolsError):  # it changed just now
                if (answer := kernel.ask(_RTM_GETROUTE, body)) is not None:
                    data, message = answer
                    fields = {
                        kind: data[start:end]
                        for kind, start, end in attributes(data, message.start + _HEADER.size, message.end)
                    }
                    kind = _HEADER.unpack_from(data, message.start)[7]
                    found[target] = Route(_device(fields.get(_RTA_OIF, b"")), kind == _RTN_LOCAL)
    return found


def refused_ways(ways: Iterable[Way]) -> set[Way]:
    """Those of them that the kernel takes for spoofed, because the answer would leave by another link.

    IPv4 only (rp_filter in Documentation/networking/ip-sysctl.rst). Raises ``NetnsToolsError``.
    """
    refused = set()
    with BatchRequester(socket.NETLINK_ROUTE, "ask for routes in this network namespace") as kernel:
        for way in ways:
            try:
                index = socket.if_nametoindex(way.iif)
            except OSError:
                continue
            code = kernel.run([(_RTM_GETROUTE, 0, _request(way.target, way.source, index))])[0]
            if code in (errno.EXDEV, errno.EINVAL):  # Linux 6.14 and later say only that it is refused
                refused.add(way)
    return refused


class Uplink(NamedTuple):
    """A default route. ``table``: "" for the main one; ``via``: "" without a gateway."""

    device: str
    via: str
    table: str


def observe_uplinks(family: int) -> list[Uplink]:
    """The default routes of all tables; of one table first the one that is used."""
    rows = _json(["ip", "-j", f"-{family}", "route", "show", "table", "all", "exact", "default"])
    rows.sort(key=lambda row: ("table" in row, row.get("metric", 0)))
    found = [
        Uplink(hop.get("dev", ""), hop.get("gateway", ""), str(row.get("table", "")))
        for row in rows
        for hop in (row, *row.get("nexthops", ()))
    ]
    return [uplink for uplink in found if uplink.device not in ("", "lo")]


def _request(target: str, source: str = "", iif: int = 0) -> bytes:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    packed = socket.inet_pton(family, target)
    bits = 8 * len(packed)
    body = _HEADER.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, packed)
    if source:
        body += attribute(_RTA_SRC, socket.inet_pton(family, source))
    return body + (attribute(_RTA_IIF, _U32.pack(iif)) if iif else b"")


def _device(value: bytes) -> str:
    try:
        return socket.if_indextoname(_U32.unpack(value)[0])
    except (OSError, struct.error):
        return ""


# Settings


def observe_settings(interfaces: Iterable[str]) -> Mapping[str, str]:
    """Settings of the network that matter to mappings, as ``sysctl`` knows them, by their key."""
    keys = [*sysctl.FORWARD.values()]
    for interface in ("all", *interfaces):
        conf = f"net/ipv4/conf/{interface}"
        keys += [f"{conf}/forwarding", f"{conf}/rp_filter", f"{conf}/route_localnet"]
    return {key: value for key in keys if (value := sysctl.read(key)) is not None}


def service_of(pid: int) -> str:
    """The systemd service that a process belongs to; "" for none."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            found = re.findall(r"/([^/\n]+\.service)$", file.read(), re.M)
    except OSError:
        return ""
    return found[-1] if found else ""


def _json(command: Sequence[str]) -> Any:
    text = program.output(command)
    try:
        return json.loads(text) if text.strip() else []
    except ValueError:
        raise NetnsToolsError(f"{' '.join(command)}: its answer is no JSON") from None
