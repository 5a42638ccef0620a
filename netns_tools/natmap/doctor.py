"""Why a mapping does not pass: what is in the way, where that is, and the command that mends it.

``observe`` looks at the machine, ``examine`` judges what was seen and is pure, ``run`` does both. Only
what surely keeps packets from their target is a finding. Where that depends on the client (a firewall
that lets some addresses in) it is somebody's decision, and not a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from netns_tools.errors import NetnsToolsError
from netns_tools.host import containers as inventory
from netns_tools.kernel import foreign, listener, policyroute, sysctl
from netns_tools.kernel.foreign import Way
from netns_tools.kernel.nattable import OwnTable
from netns_tools.natmap.fields import render_entry
from netns_tools.natmap.model import Desired, Dnat, Hairpin, Masquerade, PolicyRoute, Snat
from netns_tools.natmap.passage import Firewalls, Packet
from netns_tools.natmap.table import FAMILY, MARK, SKELETON, TABLE, Observed, content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from netns_tools.host.docker import Container
    from netns_tools.kernel.filterrules import Table
    from netns_tools.kernel.foreign import Link, Route, Uplink
    from netns_tools.kernel.listener import Listener
    from netns_tools.kernel.nattable import Content
    from netns_tools.natmap.model import Entry
    from netns_tools.natmap.passage import Block

_OUTSIDE = {
    4: ("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1"),
    6: ("2001:db8:ffff::1", "2001:db8:7fff::1", "3fff:ffff::1"),
}
"""Addresses of documentation, for somebody far away: one to which only a default route leads is taken."""

_IPTABLES_MARK = f"-m connmark --mark {MARK:#x}/{MARK:#x}"
_FIREWALLD = "/etc/firewalld/firewalld.conf"


@dataclass(frozen=True)
class Finding:
    """One thing in the way. ``where``: the table and chain, the setting, the listener. ``command``: what
    mends it, "" when no one command does. ``entry``: the (first) mapping that it keeps from passing."""

    message: str
    where: str = ""
    command: str = ""
    entry: str = ""

    def as_dict(self) -> dict[str, object]:
        """The finding for ``--json``."""
        return {
            "message": self.message,
            "where": self.where or None,
            "command": self.command or None,
            "entry": self.entry or None,
        }


class Owner(NamedTuple):
    """Whose a socket is; ``service`` of systemd is "" for none."""

    process: str
    pid: int
    service: str


@dataclass(frozen=True)
class Look:
    """What was seen of the machine.

    ``tables``: firewalls of others. ``routes``: how targets and clients are reached. ``refused``: ways
    that rp_filter closes. ``owners``: of sockets, by inode; ``ours``: those that only keep a port free.
    ``live``: the elements of our table, None if it is not there or was changed by others. ``ports``:
    targets and the port of a bridge behind which they are. ``route_changes``: what policy routes lack.
    ``containers``: those that run, None if nobody knows.
    """

    tables: tuple[Table, ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict)
    uplinks: Mapping[int, tuple[Uplink, ...]] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    refused: Collection[Way] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    listeners: tuple[Listener, ...] = ()
    owners: Mapping[int, Owner] = field(default_factory=dict)
    ours: Collection[int] = ()
    live: Content | None = None
    ports: Mapping[str, str] = field(default_factory=dict)
    route_changes: tuple[str, ...] = ()
    route_error: str = ""
    containers: tuple[Container, ...] | None = None
    strict_firewalld: bool = False


class _Cause(NamedTuple):
    message: str
    where: str
    command: str


def run(
    desired: Desired,
    containers: tuple[Container, ...] | None,
    inodes: Collection[int] = (),
    name: str = "host",
    table: OwnTable | None = None,
) -> list[Finding]:
    """Look at the network namespace that we are in, NAME, and judge. Raises ``NetnsToolsError``.

    ``containers``: those that run; None when Docker was not asked. ``inodes``: of our own sockets.
    ``table``: who has one gives it; libnftables ends a process that opens it anew with more than
    1,024 descriptors.
    """
    return examine(desired, observe(desired, containers, inodes, table), name)


# Looking


def observe(
    desired: Desired,
    containers: tuple[Container, ...] | None,
    inodes: Collection[int] = (),
    table: OwnTable | None = None,
) -> Look:
    """What there is to see of the machine that matters to these. Raises ``NetnsToolsError``."""
    if not len(desired):
        return Look()
    links = foreign.observe_links()
    uplinks = {family: tuple(foreign.observe_uplinks(family)) for family in (4, 6)}
    targets = {entry.target for entry in desired.dnat} | {entry.target for entry in desired.hairpin}
    clients = {address for some in _OUTSIDE.values() for address in some}
    clients |= {_first(prefix) for entry in desired.dnat for prefix in entry.allow_from}
    clients |= {_first(entry.lan) for entry in desired.hairpin if entry.lan}
    listeners = tuple(listener.observe_listeners())
    try:
        changes = policyroute.plan(
            desired.policy_routes, policyroute.observe({entry.table for entry in desired.policy_routes})
        )
        problem = ""
    except NetnsToolsError as error:
        changes, problem = [], error.message
    look = Look(
        tables=tuple(foreign.observe_tables((FAMILY, TABLE))),
        links=links,
        uplinks=uplinks,
        routes=foreign.observe_routes(sorted((targets | clients) - {""})),
        settings=foreign.observe_settings(links),
        listeners=listeners,
        ours=inodes,
        live=_live(table or OwnTable(SKELETON)),
        route_changes=tuple(map(str, changes)),
        route_error=problem,
        containers=containers,
        strict_firewalld=foreign.is_strict_firewalld(),
    )
    ways = {way for entry in desired.dnat for way in _ways(entry, look)}
    shadowed = {found.inode for _, found in _shadowed(desired, look)}
    seen: dict[str, object] = {
        "refused": foreign.refused_ways(sorted(ways)),
        "owners": {
            inode: Owner(process.name, process.pid, foreign.service_of(process.pid))
            for inode, process in listener.processes(shadowed).items()
        },
        "ports": dict(_bridge_ports(desired, look)),
    }
    return Look(**{**vars(look), **seen})


def _live(table: OwnTable) -> Content | None:
    found = table.read()
    return found.content if found is not None and found.whole else None


def _bridge_ports(desired: Desired, look: Look) -> Iterator[tuple[str, str]]:
    bridges = {link.master for link in look.links.values() if link.hairpin is not None}
    for target in {entry.target for entry in desired.hairpin}:
        route = look.routes.get(target)
        if route and route.device in bridges and (port := foreign.bridge_port(target, route.device)):
            yield target, port


def _first(prefix: str) -> str:
    """The first address of a prefix that can be somebody's."""
    network = ip_network(prefix)
    return str(network[1] if network.num_addresses > 2 else network[0])


# Judging


def examine(desired: Desired, look: Look, name: str = "host") -> list[Finding]:
    """What is in the way; the same cause for many entries is one finding. Pure."""
    if not len(desired):
        return []
    judge = _Judge(look, name)
    found: dict[_Cause, list[Entry]] = {}
    for entry in desired:
        for cause in judge.causes(entry):
            found.setdefault(cause, []).append(entry)
    for entry, cause in judge.shadowing(desired):
        found.setdefault(cause, []).append(entry)
    return [_finding(cause, entries) for cause, entries in found.items()]


def _finding(cause: _Cause, entries: list[Entry]) -> Finding:
    more = len(entries) - 1
    message = f"{cause.message} (and so for {more} more)" if more else cause.message
    return Finding(message, cause.where, cause.command, render_entry(entries[0]))


class _Judge:
    """Knows what was seen, and which commands work in namespace ``name``."""

    def __init__(self, look: Look, name: str) -> None:
        self._look = look
        self._inside = "" if name == "host" else f"ip netns exec {name} "
        self._natmap = "netns-natmap" if name == "host" else f"netns-natmap --name {name}"
        self._walls = Firewalls(look.tables)
        self._near: dict[str, list[Link]] = {}
        self._networks = [
            (link, [ip_network(f"{address}/{length}", strict=False) for address, length in link.addresses])
            for link in look.links.values()
        ]
        self._has_docker_user = {
            (table.program, table.name)
            for table in look.tables
            if table.program and "DOCKER-USER" in table.chains
        }

    def causes(self, entry: Entry) -> Iterator[_Cause]:
        """What keeps an entry from doing what it is for."""
        match entry:
            case Dnat():
                yield from self._of_mapping(entry)
            case Hairpin():
                yield from self._of_hairpin(entry)
            case Snat() | Masquerade():
                yield from self._link(entry.iface)
                yield from self._missing_table()
                yield from self._forwarding(ip_network(entry.source).version, ())
            case _:
                yield from self._policy_route(entry)

    def _of_mapping(self, entry: Dnat) -> Iterator[_Cause]:
        if not entry.target:
            yield self._container(entry)
            return
        if not entry.ports.first:
            return
        yield from self._elements(entry)
        yield from self._link(entry.iface)
        yield from self._route(entry.target)
        route = self._look.routes.get(entry.target)
        if route is None or route.error:
            return
        if route.local:
            yield from self._nobody_listens(entry)
        else:
            entrances = _entrances(entry, self._look)
            yield from self._forwarding(entry.family, entrances)
            yield from self._spoofed(entry, route)
            yield from self._loopback(entry, route)
        yield from self._firewalls(entry, route)

    def _of_hairpin(self, entry: Hairpin) -> Iterator[_Cause]:
        yield from self._missing_table()
        yield from self._route(entry.target)
        route = self._look.routes.get(entry.target)
        if route is None or route.error or route.local:
            return
        family = _family(entry.target)
        yield from self._forwarding(family, ())
        port = self._look.links.get(self._look.ports.get(entry.target, ""))
        if port is not None and port.hairpin is False:
            yield _Cause(
                f"{entry.target} cannot reach itself: its bridge does not send back what came in by a port",
                f"port {port.name} of bridge {port.master}: hairpin off",
                f"{self._inside}ip link set dev {port.name} type bridge_slave hairpin on",
            )
        client = self._look.routes.get(_first(entry.lan)) if entry.lan else route
        iif = client.device if client else ""
        packet = self._packet(family, entry, iif, route.device, (entry.lan,) if entry.lan else ())
        yield from (self._blocked(block, packet) for block in self._walls.blocks(packet))

    # our own

    def _missing_table(self) -> Iterator[_Cause]:
        if self._look.live is None:
            yield _Cause(
                "our own table is not there, or somebody has changed it",
                f"table {SKELETON.where}",
                f"{self._natmap} reload",
            )

    def _elements(self, entry: Dnat) -> Iterator[_Cause]:
        yield from self._missing_table()
        if self._look.live is None:
            return
        for name, elements in content(Desired.of([entry]), Observed()).items():
            there = self._look.live.get(name, {})
            if any(there.get(key) != data for key, data in elements.items()):
                yield _Cause(
                    "the mapping is not in our table as it should be",
                    f"table {SKELETON.where}",
                    f"{self._natmap} reload",
                )
                return

    def _policy_route(self, entry: PolicyRoute) -> Iterator[_Cause]:
        if self._look.route_error:
            yield _Cause(self._look.route_error, "routing rules", "")
        rules = policyroute.rules_of(entry)
        lacking = {
            "a routing rule is missing": [rule.render("add") for rule in rules],
            "a route is missing": [policyroute.route_of(entry).render(verb) for verb in ("add", "replace")],
        }
        for message, commands in lacking.items():
            for command in commands:
                if command in self._look.route_changes:
                    yield _Cause(message, f"routing table {entry.table}", self._inside + command)

    # containers, targets, links

    def _container(self, entry: Dnat) -> _Cause:
        name = entry.container
        if self._look.containers is None:
            return _Cause(
                f"the address of container {name} is not known: Docker could not be asked",
                "Docker",
                "systemctl start docker",
            )
        running = {one.id: one for one in self._look.containers if one.running}
        found = inventory.find(name, running)
        if found is None:
            return _Cause(f"container {name} does not run", f"container {name}", f"docker start {name}")
        if found.network_mode in ("host", "none"):
            message = f"container {name} has no address of its own: its network is {found.network_mode!r}"
            return _Cause(message, f"container {name}", "")
        message = f"container {name} has no IPv{entry.family} address"
        return _Cause(message, f"container {name}", "")

    def _route(self, target: str) -> Iterator[_Cause]:
        """What is wrong with the way to a target."""
        route = self._look.routes.get(target)
        links = self._links_to(target)
        lost = route is None or route.error or route.device in _uplinks(self._look, _family(target))
        if lost and links and not any(link.up for link in links):
            for link in links:
                message = f"nothing gets to {target}: {link.name}, which leads there, is down"
                yield _Cause(message, f"link {link.name}", f"{self._inside}ip link set {link.name} up")
        elif route is None or route.error:
            reason = f" ({route.error})" if route else ""
            yield _Cause(f"there is no route to {target}{reason}", "routes", "")
        elif not route.local:
            yield from self._carrier(route.device)

    def _links_to(self, target: str) -> list[Link]:
        """The links in whose subnets an address is, up or down."""
        if target not in self._near:
            address = ip_address(target)
            self._near[target] = [
                link for link, networks in self._networks if any(address in network for network in networks)
            ]
        return self._near[target]

    def _link(self, name: str) -> Iterator[_Cause]:
        if not name:
            return
        link = self._look.links.get(name)
        if link is None:
            yield _Cause(f"there is no interface {name}", f"link {name}", "")
        elif not link.up:
            yield _Cause(f"interface {name} is down", f"link {name}", f"{self._inside}ip link set {name} up")

    def _carrier(self, device: str) -> Iterator[_Cause]:
        link = self._look.links.get(device)
        if link is not None and link.up and not link.carrier:
            yield _Cause(f"nothing is attached to {device}", f"link {device}: no carrier", "")

    def _nobody_listens(self, entry: Dnat) -> Iterator[_Cause]:
        for port in (entry.ports.to, entry.ports.to + entry.ports.count - 1):
            if not any(
                (one.proto, one.family, one.port) == (entry.proto, entry.family, port)
                and one.address in ("", entry.target)
                for one in self._look.listeners
            ):
                where = f"{entry.proto} {entry.target} port {port}"
                yield _Cause("the target is this host, and nobody listens there", where, "")
                return

    # settings

    def _forwarding(self, family: int, entrances: Iterable[str]) -> Iterator[_Cause]:
        settings = self._look.settings
        key = sysctl.FORWARD[family]
        if settings.get(key) == "0":
            message = f"IPv{family} packets are not passed on: forwarding is off"
            yield _Cause(message, f"sysctl {_shown(key)} = 0", f"{self._natmap} fwd")
            return
        keys = [f"net/ipv4/conf/{name}/forwarding" for name in entrances] if family == 4 else []
        if keys and all(settings.get(key) == "0" for key in keys):
            for key in keys:
                name = key.split("/")[3]
                message = f"what comes in by {name} is not passed on: forwarding is off there"
                yield _Cause(message, f"sysctl {_shown(key)} = 0", f"{self._inside}sysctl -w {_shown(key)}=1")

    def _spoofed(self, entry: Dnat, route: Route) -> Iterator[_Cause]:
        ways = [way for way in _ways(entry, self._look) if self._is_strict(way.iif)]
        if not ways or not all(way in self._look.refused for way in ways):
            return
        for way in ways:
            key = f"net/ipv4/conf/{way.iif}/rp_filter"
            strict = key if self._look.settings.get(key) == "1" else "net/ipv4/conf/all/rp_filter"
            back = self._look.routes.get(way.source)
            message = f"what comes in by {way.iif} is taken for spoofed, as answers would leave by "
            message += f"{back.device if back and back.device else 'another interface'}: rp_filter is strict"
            yield _Cause(
                message,
                f"sysctl {_shown(strict)} = {self._look.settings.get(strict, '1')}",
                self._policy_route_of(entry.target, way.iif) or f"{self._inside}sysctl -w {_shown(key)}=2",
            )

    def _policy_route_of(self, target: str, device: str) -> str:
        """The command that lets a target answer by a link; "" where that has no gateway.

        Without one answers would leave by the other link, where they are none that anybody waits for.
        """
        for uplink in self._look.uplinks.get(4, ()):
            if uplink.device == device and uplink.via:
                table = f" --table {uplink.table}" if uplink.table.isdecimal() else ""
                return f"{self._natmap} policy-route --src-ip {target} --via {uplink.via}{table}"
        return ""

    def _is_strict(self, interface: str) -> bool:
        """Whether rp_filter is 1 there: the greater one of this and that of all counts."""
        keys = (f"net/ipv4/conf/{name}/rp_filter" for name in ("all", interface))
        return max(self._look.settings.get(key, "0") for key in keys) == "1"

    def _loopback(self, entry: Dnat, route: Route) -> Iterator[_Cause]:
        """Connections of this host to 127.0.0.1 leave by the target's link."""
        is_meant = entry.host.startswith("127.") or (not entry.host and entry.iface in ("", "lo"))
        if entry.family != 4 or not is_meant or route.device in ("", "lo"):
            return
        key = sysctl.route_localnet(route.device)
        if self._look.settings.get(key) == "0" == self._look.settings.get(sysctl.route_localnet("all")):
            yield _Cause(
                "this host itself cannot use the mapping by 127.0.0.1",
                f"sysctl {_shown(key)} = 0",
                f"{self._natmap} reload",
            )

    # firewalls

    def _firewalls(self, entry: Dnat, route: Route) -> Iterator[_Cause]:
        sources = tuple(prefix for prefix in entry.allow_from if ip_network(prefix).version == entry.family)
        found: list[list[_Cause]] = []
        for iif in _entrances(entry, self._look) or ("",):
            packet = self._packet(entry.family, entry, iif, route.device, sources)
            there = [self._blocked(block, packet) for block in self._walls.blocks(packet, route.local)]
            if not there:
                return  # one way in is enough
            found.append(there)
        for causes in found:
            yield from causes

    def _packet(
        self, family: int, entry: Dnat | Hairpin, iif: str, oif: str, sources: tuple[str, ...]
    ) -> Packet:
        ports = entry.ports
        return Packet(
            family,
            entry.proto,
            iif,
            oif,
            sources,
            entry.host,
            _range(ports.first, ports.count),
            entry.target,
            _range(ports.to, ports.count),
            not self._walls.sets_marks,
        )

    def _blocked(self, block: Block, packet: Packet) -> _Cause:
        table, base = block.table, block.base
        where = (
            f"{table.program}, table {table.name}" if table.program else f"table {table.family} {table.name}"
        )
        where += f", chain {block.chain.name}"
        where += f": {block.rule.text}" if block.rule else f" (policy {block.how})"
        note, command = self._remedy(block, packet.at(base))
        message = {
            "translate": "another table translates these connections before ours does",
            "notrack": "these connections are not tracked, so they are not translated",
            "reject": f"a firewall rejects what comes by mappings ({base.hook})",
        }.get(block.how, f"a firewall drops what comes by mappings ({base.hook})")
        return _Cause(f"{message}{note}", where, command)

    def _remedy(self, block: Block, packet: Packet) -> tuple[str, str]:
        """Something to know, and the command that lets our packets pass this chain."""
        table, base = block.table, block.base
        if table.program:
            return "", self._inside + _iptables_command(
                table, base.name, packet, (table.program, table.name) in self._has_docker_user
            )
        if table.name == "firewalld" and self._look.strict_firewalld:
            edit = f"sed -i 's/^ *StrictForwardPorts *=.*/StrictForwardPorts=no/' {_FIREWALLD}"
            return (
                f": StrictForwardPorts=yes in {_FIREWALLD} refuses what firewalld has not translated itself",
                f"{edit} && firewall-cmd --reload",
            )
        if table.owned:
            return "; only the program that made that table can change it", ""
        note = ""
        if table.name == "docker-bridges":
            note = (
                f"; for good, let Docker accept our mark: dockerd --bridge-accept-fwmark={MARK:#x}/{MARK:#x}"
            )
        match = f"ct mark and {MARK:#010x} == {MARK:#010x}" if packet.translated else _nft_match(packet)
        return note, f"{self._inside}nft insert rule {table.family} {table.name} {base.name} {match} accept"

    # listeners

    def shadowing(self, desired: Desired) -> Iterator[tuple[Dnat, _Cause]]:
        """Listeners that get nothing any more."""
        for entry, one in _shadowed(desired, self._look):
            owner = self._look.owners.get(one.inode)
            who = f"{owner.process} (pid {owner.pid})" if owner else "a program"
            message = f"{who} listens on this port and gets nothing: the mapping takes it"
            yield entry, _Cause(message, f"listener {one}", _stop(owner, one))


def _stop(owner: Owner | None, one: Listener) -> str:
    if owner is None:
        return ""
    if owner.process == "docker-proxy":
        return f"docker ps --filter publish={one.port}/{one.proto}"  # its container is to give the port up
    if owner.pid == 1:
        return "systemctl list-sockets"
    return f"systemctl stop {owner.service}" if owner.service else f"kill {owner.pid}"


def _shadowed(desired: Desired, look: Look) -> Iterator[tuple[Dnat, Listener]]:
    """Listeners that a mapping leaves nothing to, and the mapping.

    One that some clients still reach, or by other addresses, is not in the way of anything.
    """
    by_place = {
        listener.Place(entry.proto, entry.family, entry.host, entry.iface, port): entry
        for entry in desired.dnat
        if entry.target and entry.ports.first and not entry.allow_from
        for port in range(entry.ports.first, entry.ports.last + 1)
    }
    for place, one in listener.in_the_way(look.listeners, by_place, look.ours):
        if (not place.host or place.host == one.address) and place.interface in ("", one.interface):
            yield by_place[place], one


# Ways in


def _entrances(entry: Dnat, look: Look) -> tuple[str, ...]:
    """The interfaces by which the clients of a mapping come, as far as can be told; () for unknown."""
    if entry.iface:
        return (entry.iface,)
    target = look.routes.get(entry.target)
    device = target.device if target else ""
    clients = [look.routes.get(_first(prefix)) for prefix in entry.allow_from]
    if entry.allow_from:
        return tuple(dict.fromkeys(one.device for one in clients if one and one.device))
    owners = [
        link.name
        for link in look.links.values()
        if not link.loopback and any(address == entry.host for address, _ in link.addresses)
    ]
    if owners and owners != [device]:
        return tuple(owners)
    uplinks = tuple(name for name in _uplinks(look, entry.family) if name != device)
    return uplinks or tuple(
        link.name
        for link in look.links.values()
        if link.up and not link.loopback and link.name != device and _has_family(link, entry.family)
    )


def _uplinks(look: Look, family: int) -> tuple[str, ...]:
    """The links by which a default route leads, in whichever table."""
    return tuple(dict.fromkeys(uplink.device for uplink in look.uplinks.get(family, ())))


def _has_family(link: Link, family: int) -> bool:
    return any((":" in address) == (family == 6) for address, _ in link.addresses)


def _ways(entry: Dnat, look: Look) -> Iterator[Way]:
    """Ways of clients from far away, as far as they come by links that lead there.

    The kernel is asked for them as they are after the translation.
    """
    if entry.family != 4 or not entry.target or entry.allow_from:
        return
    uplinks = _uplinks(look, 4)
    entrances = _entrances(entry, look)
    client = next(
        (one for one in _OUTSIDE[4] if (route := look.routes.get(one)) and route.device in uplinks), ""
    )
    if client and all(name in uplinks for name in entrances):
        for name in entrances:
            yield Way(name, client, entry.target)


# Texts


def _iptables_command(table: Table, chain: str, packet: Packet, has_docker_user: bool) -> str:
    parts = [table.program]
    if table.name != "filter":
        parts.append(f"-t {table.name}")
    if packet.translated:
        # Docker keeps its hands off this chain, and our own rule there is known by its comment.
        if has_docker_user and chain == "FORWARD":
            parts.append(f"-I DOCKER-USER {_IPTABLES_MARK} -m comment --comment netns-natmap")
        else:
            parts.append(f"-I {chain} {_IPTABLES_MARK}")
    else:
        destination = f" -d {packet.original}" if packet.original else ""
        ports = packet.original_port.replace("-", ":")
        parts.append(f"-I {chain}{destination} -p {packet.proto} --dport {ports}")
    return " ".join([*parts, "-j ACCEPT"])


def _nft_match(packet: Packet) -> str:
    """What picks the packets of a mapping before their translation."""
    ip = "ip" if packet.family == 4 else "ip6"
    address = f"{ip} daddr {packet.original} " if packet.original else ""
    return f"{address}{packet.proto} dport {packet.original_port}"


def _range(first: int, count: int) -> str:
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


def _shown(key: str) -> str:
    """A key as sysctl(8) takes it: with slashes where an interface has dots."""
    return key if "." in key else key.replace("/", ".")


def _family(address: str) -> int:
    return 6 if ":" in address else 4
