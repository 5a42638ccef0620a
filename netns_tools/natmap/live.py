"""The NAT of one network namespace as it is in the kernel, and what makes it what is wanted.

Made inside the namespace. What holds a mapping up is our table; beside it there are the rules and
routes of policy routes, one rule in Docker's chain, route_localnet for mappings of 127.0.0.1, and
tracked UDP connections that would keep their old way.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import conntrack, dockeruser, netns, policyroute, route, sysctl
from netns_tools.kernel.addresswatch import AddressWatch, Nobody
from netns_tools.kernel.nattable import OwnTable, lines
from netns_tools.natmap.model import Desired, Dnat, PolicyRoute, difference
from netns_tools.natmap.table import MARK, SKELETON, Observed, content, plan, plan_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netns_tools.host.journal import Journal
    from netns_tools.kernel.address import Address, Link
    from netns_tools.kernel.nattable import Change, Content
    from netns_tools.paths import Paths

_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


class _Prefixes(Nobody):
    """Receives what an address watch tells at once: the prefixes that this namespace is in."""

    def __init__(self) -> None:
        self.networks: list[str] = []

    def replace(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        """All addresses there are."""
        self.networks = [address.network for address in addresses if address.usable]


class Live:
    """``desired``: what the table is known to hold; None as long as that has to be looked at."""

    def __init__(self, name: str, paths: Paths, journal: Journal) -> None:
        self.journal = journal
        self.table = OwnTable(SKELETON)
        self.sysctls = sysctl.Sysctls(f"{paths.run}/natmap-{name}.sysctls", netns.cookie())
        self.desired: Desired | None = None
        self._last: Desired | None = None  # what was applied last, whatever became of it
        self._removed: list[conntrack.Flows] = []  # of UDP, by mappings that were in a table we did not know
        self._observed = Observed()
        self._passing: bool | None = None  # whether Docker's chain has our rule, if it is there; None: look
        self._egress: dict[str, str] = {}

    def forget(self) -> None:
        """Look at the table, and at the routes, again before the next change."""
        self.desired = None
        self._egress = {}

    # looking

    def observe(self, desired: Desired) -> Observed:
        """What of this machine the elements depend on."""
        subnets = {}
        without_lan = {one.target for one in desired.hairpin if not one.lan}
        if without_lan:
            prefixes = _Prefixes()
            watch = AddressWatch(prefixes)
            watch.resync()
            watch.close()
            for target in without_lan:
                fitting = [n for n in prefixes.networks if ip_address(target) in ip_network(n)]
                if fitting:
                    subnets[target] = max(fitting, key=lambda network: ip_network(network).prefixlen)
        return Observed(subnets, frozenset(self._loopback(desired)))

    def _loopback(self, desired: Desired) -> set[str]:
        """Interfaces by which connections to 127.0.0.1 leave, unless route_localnet is on there anyway."""
        entries, found = list(desired.dnat), set()
        if self.desired is not None:
            gone, come = difference(self.desired.dnat, desired.dnat)
            if not gone:  # of 10,000 mappings it is enough to look at the new one
                entries, found = come, set(self._observed.loopback)
        targets = {
            entry.target for entry in entries if entry.family == 4 and entry.target and _is_local(entry)
        }
        unknown = targets - self._egress.keys()
        if unknown:
            self._egress.update(route.egress(unknown))
        changed = self.sysctls.changed()
        for interface in {self._egress[target] for target in targets} - {"", "lo"}:
            key = sysctl.route_localnet(interface)
            if key in changed or sysctl.read(key) == "0":
                found.add(interface)
        return found

    def content(self) -> Content | None:
        """The elements of our table; None when it is not there or not whole."""
        table = self.table.read()
        return table.content if table is not None and table.whole else None

    def plan(self, desired: Desired) -> list[str]:
        """What ``apply`` would do, a line a change."""
        observed = self.observe(desired)
        found = [] if _is_empty(desired) else self._plan_table(desired, observed)
        if _is_empty(desired) and self.table.read() is not None:
            found = [f"delete table {SKELETON.where}"]
        return [*found, *map(str, self.plan_routes(desired))]

    def _plan_table(self, desired: Desired, observed: Observed) -> list[str]:
        live = self.content()
        if live is None:
            wanted = content(desired, observed)
            count = sum(map(len, wanted.values()))
            return [f"add table {SKELETON.where} ({count} elements)"]
        return lines(SKELETON, plan(live, content(desired, observed)))

    @staticmethod
    def plan_routes(desired: Desired) -> list[policyroute.Change]:
        """What policy routes need."""
        tables = {entry.table for entry in desired.policy_routes}
        return policyroute.plan(desired.policy_routes, policyroute.observe(tables))

    @staticmethod
    def missing_routes(desired: Desired) -> set[PolicyRoute]:
        """Policy routes of which a rule or the route is not there."""
        if not desired.policy_routes:
            return set()
        observed = policyroute.observe({entry.table for entry in desired.policy_routes})
        return {entry for entry in desired.policy_routes if not _is_routed(entry, observed)}

    # changing

    def apply(self, desired: Desired, before: Desired | None) -> list[str]:
        """Make everything as desired; the lines of what it took. Raises ``NetnsToolsError``.

        ``before``: what was desired until now, None if nobody knows. After an error the table and the
        policy routes are as they were. All else is done as far as it goes, and the journal says what
        did not.
        """
        observed = self.observe(desired)
        routes = self.plan_routes(desired)
        policyroute.apply(routes)
        try:
            done = self._apply_table(desired, observed)
        except NetnsToolsError:
            policyroute.apply([change.undo() for change in reversed(routes)], keep_going=True)
            raise
        self.desired = desired
        self._observed = observed
        self._follow(before, desired, observed)
        self._last = desired
        return [*map(str, routes), *done]

    def _apply_table(self, desired: Desired, observed: Observed) -> list[str]:
        self._removed = []
        if _is_empty(desired):
            if self.table.read() is None:
                return []
            self._withdraw_loopback(frozenset())
            self.table.remove()
            return [f"delete table {SKELETON.where}"]
        changes: list[Change] | None = None
        if self.desired is not None and observed == self._observed:
            changes = plan_step(self.desired, desired, observed)
            try:
                self.table.apply(changes)
                return lines(SKELETON, changes)
            except NetnsToolsError:
                pass  # it is not what we thought: look
        live = self.content()
        self._withdraw_loopback(observed.loopback)
        if live is None:
            self.table.install(content(desired, observed))
            return [f"add table {SKELETON.where}"]
        changes = plan(live, content(desired, observed))
        self.table.apply(changes)
        self._removed = [*_removed_flows(changes)]
        return lines(SKELETON, changes)

    def _withdraw_loopback(self, wanted: frozenset[str]) -> None:
        """Before the guard of an interface goes, what it guards against is switched off."""
        keys = {sysctl.route_localnet(interface) for interface in wanted}
        gone = [key for key in self.sysctls.changed() if key.endswith("/route_localnet") and key not in keys]
        if gone:
            self.sysctls.restore(gone)

    def _follow(self, before: Desired | None, now: Desired, observed: Observed) -> None:
        """What comes after the table; none of it can take the mappings back."""
        self._try("mappings of 127.0.0.1", lambda: self._open_loopback(observed))
        self._try("Docker's forward policy", lambda: self._docker_user(now))
        self._try("tracked UDP connections", lambda: self._forget_flows(before, now))

    def _try(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
            self.journal.well(what, f"{what}: done")
        except NetnsToolsError as error:
            text = f"{what}: {error.message}"
            self.journal.warning(f"{text}; {error.hint}" if error.hint else text, subject=what)

    def _open_loopback(self, observed: Observed) -> None:
        for interface in sorted(observed.loopback):
            self.sysctls.set(sysctl.route_localnet(interface), "1")

    def forget_docker_user(self) -> None:
        """Look at Docker's chain again with the next change."""
        self._passing = None

    def docker_user(self) -> None:
        """Have the rule in Docker's chain if there is such a chain by now, and something to let pass."""
        desired = self.desired
        if desired is not None:
            self._try("Docker's forward policy", lambda: self._docker_user(desired))

    def _docker_user(self, desired: Desired) -> None:
        wanted = bool(desired.dnat or desired.hairpin)
        if wanted == self._passing:
            return
        if wanted:
            dockeruser.ensure(MARK)
        else:
            dockeruser.remove()
        self._passing = wanted

    def _forget_flows(self, before: Desired | None, now: Desired) -> None:
        """UDP keeps its old way as long as its packets come: the entries of what changed go.

        If nobody knows what was there, those go that no mapping of ours has translated, and those of
        mappings that are no longer wanted, as far as the table or our memory had them.
        """
        last = before if before is not None else self._last
        gone, _ = difference(last.dnat if last is not None else (), now.dnat)
        _, come = difference(before.dnat if before is not None else (), now.dnat)
        flows = self._removed + [_flows(entry) for entry in gone if entry.target and entry.proto == "udp"]
        for entry in come:
            if entry.target and entry.proto == "udp":
                # A mapping of an address takes from one of any address what that had translated.
                closest = bool(entry.host) and before is not None
                flows.append(_flows_to(entry, without_mark=0 if closest else MARK))
        conntrack.delete_flows(flows)

    def forward(self) -> list[str]:
        """Switch forwarding on; the keys that were off."""
        return [key for key in _FORWARDING if sysctl.read(key) is not None and self.sysctls.set(key, "1")]

    def changed_sysctls(self) -> list[str]:
        """What puts all settings back as they were, a line each."""
        return [
            f"sysctl -w {key if '.' in key else key.replace('/', '.')}={before}"
            for key, (before, now) in self.sysctls.changed().items()
            if sysctl.read(key) == now
        ]

    def restore_sysctls(self) -> None:
        """Put back all settings as they were."""
        self.sysctls.restore()


def _is_local(entry: Dnat) -> bool:
    """Whether connections to 127.0.0.1 are meant too."""
    return entry.host.startswith("127.") or (not entry.host and entry.iface in ("", "lo"))


def _is_routed(entry: PolicyRoute, observed: policyroute.Observed) -> bool:
    try:
        return all(change.verb == "delete" for change in policyroute.plan([entry], observed))
    except NetnsToolsError:
        return False  # its table is somebody else's by now


def _is_empty(desired: Desired) -> bool:
    """Whether our table would have nothing to do."""
    return not (desired.dnat or desired.snat or desired.masquerade or desired.hairpin)


def _flows(entry: Dnat) -> conntrack.Flows:
    """The tracked connections that a mapping has translated."""
    ports = entry.ports
    return conntrack.Flows("udp", entry.family, entry.host, ports.first, ports.last, entry.target, ports.to)


def _flows_to(entry: Dnat, *, without_mark: int) -> conntrack.Flows:
    """Those that a mapping would have translated, had it been there."""
    first, last = entry.ports.first, entry.ports.last
    return conntrack.Flows(
        "udp", entry.family, entry.host, first, last, sources=entry.allow_from, without_mark=without_mark
    )


def _removed_flows(changes: Iterable[Change]) -> Iterator[conntrack.Flows]:
    """The tracked connections of UDP that elements had translated before they went."""
    for change in changes:
        scope, family = change.set.removesuffix("_ranges")[:-1], change.set.removesuffix("_ranges")[-1:]
        if change.verb != "delete" or scope not in ("addr", "if", "any"):
            continue
        for key, data in change.elements:
            if key[-2] == "udp" and data:
                first, _, last = key[-1].partition("-")
                host = key[0] if scope == "addr" else ""
                to = int(data[1]) if len(data) > 1 else int(first)
                yield conntrack.Flows("udp", int(family), host, int(first), int(last or first), data[0], to)
