"""What a NAT mapper can be asked to do (``api.Mapper``): each operation as a whole, or not at all.

Made inside the namespace, by the daemon or by a command that holds the daemon's lock. What is
desired comes from the configuration file and from commands; those are kept in the state file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import replace

from netns_tools.errors import NetnsToolsError
from netns_tools.host import containers as inventory
from netns_tools.host.httpmessage import UNKNOWN, Refused
from netns_tools.kernel import listener
from netns_tools.natmap import api
from netns_tools.natmap.fields import render_entry
from netns_tools.natmap.file import config_path, load_desired
from netns_tools.natmap.live import Live
from netns_tools.natmap.model import Desired, Dnat, Entry, PolicyRoute, difference
from netns_tools.natmap.state import StateWriter, parse_state, state_path
from netns_tools.natmap.table import SKELETON, Observed, content, plan, shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from netns_tools.host.docker import Container
    from netns_tools.host.journal import Journal
    from netns_tools.kernel.nattable import Content
    from netns_tools.paths import Paths

_SHOWN = 5  # of a list in a message


class Mapper:
    """The NAT of one namespace. ``containers``: those that run; None as long as nobody knows them."""

    def __init__(self, name: str, paths: Paths, journal: Journal) -> None:
        self.name = name
        self.paths = paths
        self.journal = journal
        self.path = state_path(name, paths)
        self.live = Live(name, paths, journal)
        self.declared = Desired()
        self.stored = Desired()
        self.containers: tuple[Container, ...] | None = None
        self.reservations: listener.Reservations | None = None  # a daemon keeps the ports free
        self.last_error = ""
        self._addresses: dict[tuple[str, int], str] = {}
        self._writer = StateWriter()
        self._reserved: tuple[Dnat, ...] = ()

    # what is desired

    def load(self) -> None:
        """Read configuration and state. Raises ``NetnsToolsError``, and then nothing is taken over."""
        self._take(load_desired(self.name, self.paths), self._read_state())
        if self.uses_containers():
            self._addresses = _addresses((*self.stored.dnat, *self.declared.dnat), self.live.content() or {})

    def _take(self, declared: Desired, stored: Desired) -> None:
        for conflict in stored.conflicts(declared):
            self.journal.warning(
                f"{render_entry(conflict.old)!r} was asked for by a command, and {self._file()} declares "
                f"{render_entry(conflict.new)!r}: the file counts",
                subject=render_entry(conflict.old),
            )
        self.declared, self.stored = declared, stored

    def _file(self) -> str:
        return config_path(self.name, self.paths)

    def _read_state(self) -> Desired:
        try:
            with open(self.path, encoding="utf-8", opener=_open_without_waiting) as file:
                return parse_state(file.read(), self.path)
        except FileNotFoundError:
            return Desired()
        except UnicodeDecodeError as error:
            raise NetnsToolsError(
                f"{self.path}: the state file is corrupt: {error.reason}",
                hint="nothing was changed; mend the file, or move it away to begin with none of its mappings",
            ) from None
        except OSError as error:
            raise NetnsToolsError(f"cannot read the state file {self.path}: {error.strerror}") from None

    def desired(self, stored: Desired | None = None) -> Desired:
        """Everything, with the addresses that containers have now."""
        both = (self.stored if stored is None else stored).merge(self.declared)
        return self._resolved(both)

    def _resolved(self, desired: Desired) -> Desired:
        known = self.containers
        if known is None:  # each keeps the address that it had when we came
            return desired.with_targets(
                lambda entry: entry.target or self._addresses.get((entry.container, entry.family), "")
            )
        by_id = {one.id: one for one in known if one.running}
        return desired.with_targets(lambda entry: _target(entry, by_id))

    def uses_containers(self) -> bool:
        """Whether Docker has to be asked."""
        return any(entry.container for entry in (*self.declared.dnat, *self.stored.dnat))

    # changing

    def notice(self, disturbed: bool) -> None:
        """Somebody else may have changed our table: look at it before the next change."""
        if disturbed:
            self.live.forget()

    def look_at_ports(self) -> None:
        """Try again to keep the ports that somebody had, with the next change."""
        self._reserved = ()

    def withdraw(self) -> None:
        """Take everything out of the kernel, and keep in the state file what commands asked for."""
        self.live.apply(Desired(), self.desired())
        self.live.restore_sysctls()

    def reconcile(self) -> list[str]:
        """Make the kernel what is desired; the lines of what it took. Raises ``NetnsToolsError``."""
        before, now = self.live.desired, self.desired()
        try:
            done = self.live.apply(now, before)
        except NetnsToolsError as error:
            self.last_error = error.message
            raise
        self.last_error = ""
        self._reserve(now)
        return done

    def _change(
        self,
        stored: Desired,
        entries: Iterable[Entry] = (),
        *,
        before: Desired | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Take ``stored`` in the place of what commands asked for until now, in kernel and file.

        ``before``: what ``desired()`` says, from who has asked that already.
        """
        before, now = before or self.desired(), self.desired(stored)
        said = [self._shown(entry) for entry in self._resolved(Desired.of(entries))]
        if dry_run:
            return api.written(self.live.plan(now), said, done=False)
        old = self.stored
        if stored != old:
            self._keep(stored)
        try:
            changes = self.live.apply(now, before)
        except NetnsToolsError as error:
            self.last_error = error.message
            if stored != old:
                self._keep(old)
            raise
        self.stored = stored
        self.last_error = ""
        for line in changes:
            self.journal.info(line)
        self._reserve(now)
        return api.written(changes, said)

    def _keep(self, stored: Desired) -> None:
        """Have it in the state file. What is nothing needs no file, and so no space on a full disk."""
        if stored:
            self._write(stored)
            return
        try:
            _remove(self.path)
        except OSError as error:
            raise NetnsToolsError(
                f"cannot remove the state file {self.path}: {error.strerror}",
                hint="nothing has changed; run the command as root",
            ) from None

    def _write(self, stored: Desired) -> None:
        """Replace the state file in one step, on the disk before it has its name."""
        temporary = f"{self.path}.new"
        try:
            os.makedirs(os.path.dirname(self.path), 0o755, exist_ok=True)
            _remove(temporary)
            with open(temporary, "x", encoding="utf-8") as file:
                file.write(self._writer.text(stored))
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                _remove(temporary)
            raise NetnsToolsError(
                f"cannot write the state file {self.path}: {error.strerror}",
                hint="nothing has changed; free some space there, or run the command as root",
            ) from None

    def _reserve(self, now: Desired) -> None:
        """Keep the host ports of mappings from other programs."""
        if self.reservations is not None:
            gone, come = difference(self._reserved, now.dnat)
            self._reserved = now.dnat
            failed = self.reservations.change(
                {place for entry in come for place in _places(entry)},
                {place for entry in gone for place in _places(entry)},
            )
            if os.strerror(errno.EMFILE) in failed.values():
                self.journal.warning(
                    "the ports of some mappings are not kept free of other programs: too many open files; "
                    "raise LimitNOFILE= of the unit",
                    subject="ports",
                )

    # operations

    def health(self) -> dict[str, Any]:
        """See ``api.Mapper``."""
        return {"well": not self.last_error, "error": self.last_error or None}

    def status(self) -> dict[str, Any]:
        """See ``api.Mapper``."""
        listed = self.list_mappings("")
        desired = self.desired()
        return {
            "name": self.name,
            "pid": os.getpid(),
            "state": "degraded" if self.last_error or listed["drift"] else "ok",
            "config": self._file() if os.path.exists(self._file()) else None,
            "state_file": self.path,
            "declared": len(self.declared),
            "stored": len(self.stored),
            "desired": len(desired),
            "drift": listed["drift"],
            "last_error": self.last_error or None,
        }

    def list_mappings(self, filter: str) -> dict[str, Any]:
        """See ``api.Mapper``."""
        desired = self.desired()
        observed = self.live.observe(desired)
        live = self.live.content()
        unrouted = self.live.missing_routes(desired)
        shared = shares(desired, observed)
        rows = []
        for entry in desired:
            if filter and filter not in render_entry(entry):
                continue
            own = content(Desired.of([entry]), observed) if isinstance(entry, Dnat) else shared.get(entry, {})
            state = self._state(entry, live, own, unrouted)
            rows.append((entry, {"state": state, "origin": self._origin(entry), **self._names(entry)}))
        foreign = [] if filter or live is None else _foreign(live, content(desired, observed))
        return api.listed(rows, foreign)

    @staticmethod
    def _state(entry: Entry, live: Content | None, elements: Content, unrouted: set[PolicyRoute]) -> str:
        if isinstance(entry, Dnat) and not entry.target:
            return api.WAITING
        if isinstance(entry, PolicyRoute):
            return api.MISSING if entry in unrouted else api.LIVE
        here = live or {}
        for name, some in elements.items():
            there = here.get(name, {})
            if any(there.get(key) != data for key, data in some.items()):
                return api.MISSING
        return api.LIVE

    def _origin(self, entry: Entry) -> str:
        return api.FILE if self.declared.met(entry) else api.COMMAND

    def _names(self, entry: Entry) -> dict[str, object]:
        """Id and name of the container that an entry is for."""
        if not (isinstance(entry, Dnat) and entry.container):
            return {}
        found = inventory.find(entry.container, {one.id: one for one in self.containers or ()})
        return {"container_id": found.id, "container_name": found.name} if found else {}

    def _shown(self, entry: Entry) -> dict[str, object]:
        return api.shown(entry, **self._names(entry))

    def list_rules(self, filter: str) -> dict[str, Any]:
        """See ``api.Mapper``."""
        listed = self.list_mappings(filter)
        live = {
            row["command"]
            for rows in listed.values()
            if isinstance(rows, list)
            for row in rows
            if isinstance(row, dict) and row.get("state") == api.LIVE
        }
        desired = self.desired()
        dnat = [api.rule(entry) for entry in desired.dnat if render_entry(entry) in live]
        snat = [api.rule(entry) for entry in desired.snat if render_entry(entry) in live]
        hairpin = [api.rule(entry) for entry in desired.hairpin if render_entry(entry) in live]
        return {"rules": [*dnat, *snat, *hairpin]}

    def doctor(self) -> dict[str, Any]:
        """See ``api.Mapper``."""
        from netns_tools.natmap import doctor

        inodes = self.reservations.inodes if self.reservations is not None else set()
        found = doctor.run(self.desired(), self.containers, inodes, self.name, self.live.table)
        return {"findings": [finding.as_dict() for finding in found]}

    def apply(
        self, entries: tuple[Entry, ...], exact: bool, replace: bool, force: bool, dry_run: bool
    ) -> dict[str, Any]:
        """See ``api.Mapper``."""
        chosen = self._choose_ports(entries)
        wanted = Desired.of(chosen)
        before = self.desired()
        declared = self.declared.conflicts(wanted)
        if declared:
            raise Refused(
                f"{render_entry(declared[0].old)!r} is declared in {self._file()}",
                hint="change it there, then: netns-natmap reload",
            )
        if not (replace or exact):
            self._refuse_conflicts(self.stored.conflicts(wanted))
        stored = (
            self._without_declared(wanted) if exact else self.stored.merge(self._without_declared(wanted))
        )
        if not force:
            self._refuse_busy(wanted, before)
        return self._change(stored, chosen, before=before, dry_run=dry_run)

    def _without_declared(self, wanted: Desired) -> Desired:
        """What the file declares already needs no place in the state."""
        return Desired.of(entry for entry in wanted if not self.declared.met(entry))

    def _choose_ports(self, entries: tuple[Entry, ...]) -> list[Entry]:
        """The entries with a free port in the place of host port 0; both families of a container share it."""
        if not any(isinstance(entry, Dnat) and not entry.ports.first for entry in entries):
            return list(entries)
        taken = {port for entry in self.desired().dnat for port in _ports(entry)}
        given: dict[tuple[str, str, int], int] = {}
        chosen: list[Entry] = []
        for entry in entries:
            if isinstance(entry, Dnat) and not entry.ports.first:
                place = (entry.proto, entry.container or entry.target, entry.ports.to)
                if place not in given:
                    given[place] = listener.free_port(entry.proto, entry.family, entry.host, taken)
                    taken.add(given[place])
                entry = entry.moved(given[place])
            chosen.append(entry)
        return chosen

    @staticmethod
    def _refuse_conflicts(conflicts: Iterable[Any]) -> None:
        found = list(conflicts)
        if not found:
            return
        texts = [f"{render_entry(one.old)!r} excludes {render_entry(one.new)!r}" for one in found[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise Refused(
            f"there already: {'; '.join(texts)}{more}",
            hint="to take its place: --replace; to see all: netns-natmap ls",
        )

    def _refuse_busy(self, wanted: Desired, before: Desired) -> None:
        """Refuse host ports on which a program listens that would hear nothing any more."""
        places = [
            listener.Place(entry.proto, entry.family, entry.host, entry.iface, identity.port)
            for entry in wanted.dnat
            for identity in entry.identities()
            if before.find(identity) is None
        ]
        if not places:
            return
        inodes = self.reservations.inodes if self.reservations is not None else set()
        busy = listener.in_the_way(listener.observe_listeners({p.proto for p in places}), places, inodes)
        if not busy:
            return
        known = listener.processes({one.inode for _, one in busy})
        texts = sorted({f"{known.get(one.inode, 'a program')} listens on {one}" for _, one in busy})
        more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
        raise Refused(
            f"port in use: {'; '.join(texts[:_SHOWN])}{more}",
            hint="it would hear nothing any more; to map the port all the same: --force",
        )

    def delete(self, entries: tuple[Entry, ...], dry_run: bool) -> dict[str, Any]:
        """See ``api.Mapper``."""
        gone = []
        for entry in entries:
            for there in self.stored.met(entry):
                if not isinstance(entry, Dnat) or not entry.place[0] or there.place[0] == entry.place[0]:  # type: ignore[union-attr]
                    gone.append(entry)
            if self.declared.met(entry) and not self.stored.met(entry):
                raise Refused(
                    f"{render_entry(entry)!r} is declared in {self._file()}",
                    hint="remove it there, then: netns-natmap reload",
                )
        return self._change(self.stored.without(Desired.of(gone)), gone, dry_run=dry_run)

    def remove(self, container: str, port: int, proto: str, dry_run: bool) -> dict[str, Any]:
        """See ``api.Mapper``."""
        gone = [
            entry.only(port) if port else entry
            for entry in self.stored.dnat
            if entry.container
            and self._is_meant(entry, container)
            and proto in ("", entry.proto)
            and (not port or port in _ports(entry))
        ]
        if not gone and container:
            what = f"{container}, port {port}" if port else container
            raise Refused(f"no mapping to container {what}", status=UNKNOWN, hint="see: netns-natmap ls")
        return self._change(self.stored.without(Desired.of(gone)), gone, dry_run=dry_run)

    def _is_meant(self, entry: Dnat, container: str) -> bool:
        """Whether a text names the container of a mapping, in the same way or in another one."""
        if container in ("", entry.container):
            return True
        by_id = {one.id: one for one in self.containers or ()}
        one, other = inventory.find(container, by_id), inventory.find(entry.container, by_id)
        return one is not None and one is other

    def remove_id(self, id: int, dry_run: bool) -> dict[str, Any]:
        """See ``api.Mapper``."""
        found = [entry for entry in self.stored.dnat if entry.container and api.mapping_id(entry) == id]
        if len(found) != 1:
            raise Refused(f"no mapping to a container has the number {id}", status=UNKNOWN)
        return self._change(self.stored.without(Desired.of(found)), found, dry_run=dry_run)

    def remap(
        self,
        container: str,
        host_ip: str,
        host_port: int,
        new_host_port: int,
        proto: str,
        replace: bool,
        force: bool,
        dry_run: bool,
    ) -> dict[str, Any]:
        """See ``api.Mapper``."""
        found = [
            entry.only(host_port)
            for entry in self.stored.dnat
            if host_port in _ports(entry)
            and host_ip in ("", entry.host)
            and proto in ("", entry.proto)
            and (not container or (entry.container and self._is_meant(entry, container)))
        ]
        if not found and any(host_port in _ports(entry) for entry in self.declared.dnat):
            raise Refused(
                f"host port {host_port} is declared in {self._file()}",
                hint="change it there, then: netns-natmap reload",
            )
        if not found:
            raise Refused(f"no mapping of host port {host_port}", status=UNKNOWN, hint="see: netns-natmap ls")
        moved = self._choose_ports(tuple(_at(entry, new_host_port) for entry in found))
        rest = self.stored.without(Desired.of(found))
        wanted = Desired.of(moved)
        if not replace:
            self._refuse_conflicts(rest.conflicts(wanted))
        self._refuse_conflicts(self.declared.conflicts(wanted))
        stored = rest.merge(wanted)
        if not force:
            self._refuse_busy(wanted, self.desired())
        return self._change(stored, moved, dry_run=dry_run)

    def clear(self, dry_run: bool) -> dict[str, Any]:
        """See ``api.Mapper``."""
        gone = list(self.stored)
        settings = [] if self.declared else self.live.changed_sysctls()
        said = self._change(Desired(), gone, dry_run=dry_run)
        said["changes"] += settings
        if not dry_run:
            if not self.declared:
                self.live.restore_sysctls()
            self._keep(Desired())
        return said

    def save(self) -> dict[str, Any]:
        """See ``api.Mapper``."""
        self._write(self.stored)
        return {"path": self.path, "entries": len(self.stored)}

    def forward(self, dry_run: bool) -> dict[str, Any]:
        """See ``api.Mapper``."""
        keys = [] if dry_run else self.live.forward()
        return api.written([f"sysctl -w {key.replace('/', '.')}=1" for key in keys], done=not dry_run)

    def reload(self) -> dict[str, Any]:
        """See ``api.Mapper``."""
        declared = load_desired(self.name, self.paths)
        old = self.declared
        self._take(declared, self.stored)
        try:
            return api.written(self.reconcile())
        except NetnsToolsError:
            self.declared = old
            raise


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe, which is no state file either, is empty as long as nobody writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _remove(path: str) -> None:
    """Have no file there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _at(entry: Dnat, port: int) -> Dnat:
    return replace(entry, ports=replace(entry.ports, first=0, last=0)) if not port else entry.moved(port)


def _ports(entry: Dnat) -> range:
    return range(entry.ports.first, entry.ports.last + 1)


def _places(entry: Dnat) -> list[listener.Place]:
    return [
        listener.Place(entry.proto, entry.family, entry.host, entry.iface, port)
        for port in _ports(entry)
        if port
    ]


def _target(entry: Dnat, by_id: Mapping[str, Container]) -> str:
    """The address that the container of a mapping has now; "" when it does not run or has none."""
    found = inventory.find(entry.container, by_id)
    owner = inventory.network_owner(found, by_id) if found is not None else None
    addresses = [
        address
        for _, v4, v6 in (owner.networks if owner else ())
        if (address := v4 if entry.family == 4 else v6)
    ]
    return entry.target if entry.target in addresses else addresses[0] if addresses else ""


def _addresses(entries: Iterable[Dnat], live: Content) -> dict[tuple[str, int], str]:
    """Where mappings in the table lead: container and family → address."""
    found = {}
    for entry in entries:
        if not entry.container:
            continue
        anywhere = replace(entry, target="0.0.0.0" if entry.family == 4 else "::")
        for name, elements in content(Desired.of([anywhere]), Observed()).items():
            for key, data in elements.items():
                there = live.get(name, {}).get(key)
                if data and there and there[1:] == data[1:]:
                    found[entry.container, entry.family] = there[0]
    return found


def _foreign(live: Content, wanted: Content) -> list[str]:
    """Elements in our table that nobody asked for, as lines."""
    extra = [change for change in plan(live, wanted) if change.verb == "delete"]
    return [
        f"{' . '.join(key)}{' : ' + ' . '.join(data) if data else ''} in {SKELETON.where} {change.set}"
        for change in extra
        for key, data in change.elements
    ]
