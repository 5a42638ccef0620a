"""netns-update: types and instances → unit files, drop-ins and cached plans."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from dataclasses import dataclass, field

from netns_tools.config.nstype import DAEMON, write_cache
from netns_tools.errors import ConfigError, NetnsToolsError, Problem
from netns_tools.host import systemd
from netns_tools.names import outside_unit, unit
from netns_tools.steps import cache
from netns_tools.units import dropins, install, order, typeunits, unitfile
from netns_tools.units.discover import Found, find, find_running
from netns_tools.units.facts import NAME_FILES, Facts, facts_of, facts_of_daemon
from netns_tools.units.plan import Change, Keep, asks_for_activity, plan_update
from netns_tools.units.record import Record, path_of
from netns_tools.units.render import Renderer, fingerprint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from netns_tools.config.nstype import NsType
    from netns_tools.paths import Paths
    from netns_tools.units.plan import Entry
    from netns_tools.units.render import Context

Key = tuple[str, str]

_ACTIVE = ("active", "activating", "deactivating", "reloading")


@dataclass
class Result:
    """What was done, or with ``dry_run`` would be."""

    changes: list[Change] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    reloaded: bool = False


@dataclass(frozen=True)
class Watch:
    """Who is told while it happens."""

    checking: Callable[[str], None]
    changed: Callable[[Change], None]
    problem: Callable[[Problem], None]


class Update:
    """One run. ``clean`` wants no files at all; ``dry_run`` writes nothing."""

    def __init__(self, paths: Paths, watch: Watch, *, dry_run: bool, clean: bool, reload: bool) -> None:
        self.paths = paths
        self.watch = watch
        self.dry_run = dry_run
        self.clean = clean
        self.reload = reload
        self.live = not paths.root and systemd.is_running()
        self.result = Result()

    def run(self) -> Result:
        """Find, plan, apply. Raises ``NetnsToolsError`` when it cannot even begin, ``OSError`` likewise."""
        if self.dry_run:
            self._run()
        else:
            with install.lock(f"{self.paths.run}/update.lock"):
                self._run()
        return self.result

    def _run(self) -> None:
        found = find_running(self.paths) if self.clean else find(self.paths)
        for problem in [*found.problems, *typeunits.check_requires(found.types, found.broken)]:
            self._problem(problem)
        for nstype in found.types:
            self.watch.checking(nstype)
        if not self.dry_run and not self.clean:
            write_cache(self.paths)
        record = Record(fingerprint(self.paths.unit_templates))
        if not self.clean:
            record.load(self.paths)
        renderer = Renderer(self.paths.unit_templates, record.rendered)
        facts, broken = self._facts(found, record)
        observed = install.observe(self.paths.units)
        desired = self._desired(found, facts, renderer, observed)
        keep = Keep(frozenset(found.broken), frozenset(broken))
        # A daemon that was started by hand needs no unit; a killed one leaves its socket.
        in_use = found.running | (self._active(desired, observed) if self.live else found.serving)
        plan = plan_update(desired, observed, in_use=in_use, keep=keep, directory=self.paths.units)
        for warning in plan.warnings:
            self._problem(warning)
        self._apply(plan.changes)
        if not self.dry_run:
            self._prune_plans(set(found.instances()) | broken)
            if self.clean:
                with contextlib.suppress(OSError):
                    os.unlink(path_of(self.paths))
            else:
                record.save(self.paths, renderer.used)
        self._tell_systemd()

    # what is wanted

    def _facts(self, found: Found, record: Record) -> tuple[dict[Key, Facts], set[Key]]:
        """The facts of all instances; those whose configuration is broken are reported and come second."""
        facts: dict[Key, Facts] = {}
        broken: set[Key] = set()
        reported: set[str] = set()
        for key in found.instances():
            try:
                facts[key] = self._facts_of(found, key, record)
            except (NetnsToolsError, OSError) as error:
                broken.add(key)
                problems = _problems_of(error, key)
                if key in found.running - found.configured:
                    problems.insert(0, _lost(key))
                for problem in problems:
                    text = problem.render()
                    if text not in reported:  # a fault in a common layer is one fault
                        reported.add(text)
                        self._problem(problem)
        return facts, broken

    def _facts_of(self, found: Found, key: Key, record: Record) -> Facts:
        """Facts from the record, or from the configuration; the plan for the next start is cached then."""
        nstype, name = key
        if found.types[nstype].kind == DAEMON:
            return facts_of_daemon(nstype, name, self.paths)
        keeps_plans = not self.dry_run and not self.paths.root
        known = record.facts(nstype, name)
        if known is not None and (not keeps_plans or self._plan_head(key) == known[1]):
            return known[0]
        config, _, text = cache.make(found.types[nstype], name, self.paths)
        facts = facts_of(config, self.paths)
        if text:
            record.remember(nstype, name, facts, text)
        if keeps_plans:
            cache.store(text, nstype, name, self.paths)
        return facts

    def _plan_head(self, key: Key) -> str:
        """Inputs and stamp of the cached plan; empty when there is none of this version."""
        try:
            with open(self.paths.cached_plan(*key), encoding="utf-8") as file:
                version = file.readline()
                return file.readline() + file.readline() if version == f"{cache.VERSION}\n" else ""
        except (OSError, UnicodeDecodeError):
            return ""

    def _desired(
        self, found: Found, facts: Mapping[Key, Facts], renderer: Renderer, observed: Mapping[str, Entry]
    ) -> dict[str, str]:
        """Every file that is to be, with its text."""
        types = found.types
        desired = self._of_types(types, renderer)
        steps = {name: nstype for name, nstype in types.items() if nstype.kind != DAEMON}
        waiting = {name: typeunits.waits_for_firewall(nstype, types) for name, nstype in steps.items()}
        requires = {name: typeunits.requirements(nstype) for name, nstype in steps.items()}
        late = order.late_ones(
            {key: known for key, known in facts.items() if key[0] in steps}, requires, waiting
        )
        udev = not self.live or systemd.has_device_units()
        name_files = self._name_files()

        def add(file: str, context: Context) -> None:
            if dropins.says_something(context):
                desired[file] = renderer.render("dropin.conf.j2", context)

        for key, known in facts.items():
            if key[0] not in steps:
                add(unitfile.dropin(*key), dropins.daemon_dropin(*key, known))
                continue
            nstype, waits = types[key[0]], waiting[key[0]]
            files = name_files.get(key[1], []) if nstype.kind in ("commands", "bash") else []
            add(
                unitfile.dropin(*key),
                dropins.inside_dropin(*key, known, late=key in late, waits=waits, files=files),
            )
            file = unitfile.outside_dropin(*key)
            running = self._running(key, file, observed) if key in found.running else None
            add(file, dropins.outside_dropin(*key, known, waits=waits, udev=udev, running=running))
        return desired

    def _of_types(self, types: Mapping[str, NsType], renderer: Renderer) -> dict[str, str]:
        """The units of each type: both its steps, or the daemon in a namespace and in the host's own."""
        desired: dict[str, str] = {}
        for name, nstype in types.items():
            source = self._shown(nstype.path)
            inside, outside = unitfile.template(name), unitfile.outside_template(name)
            if nstype.kind == DAEMON:
                for file, host in ((inside, False), (unitfile.host_instance(name), True)):
                    context = typeunits.daemon_context(nstype, source, host=host)
                    desired[file] = renderer.render("daemon.service.j2", context)
            else:
                context = typeunits.inside_context(nstype, types, source)
                desired[inside] = renderer.render("inside.service.j2", context)
                context = typeunits.outside_context(nstype, types, source)
                desired[outside] = renderer.render("outside.service.j2", context)
        return desired

    def _shown(self, path: str) -> str:
        """A path as the unit should name it: of the running system, or below the program's own data."""
        if path.startswith(self.paths.data + "/"):
            return path.removeprefix(self.paths.data + "/")
        return path.removeprefix(self.paths.root)

    def _name_files(self) -> dict[str, list[str]]:
        """NAME → the files that /etc/netns/NAME has for what runs inside."""
        try:
            names = os.listdir(self.paths.etc_netns)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        base = self.paths.etc_netns
        return {name: [f for f in NAME_FILES if os.path.exists(f"{base}/{name}/{f}")] for name in names}

    def _running(self, key: Key, file: str, observed: Mapping[str, Entry]) -> dropins.Running:
        """What the drop-in of a running instance says; nothing when there is none that we wrote."""
        entry = observed.get(file)
        try:
            started = os.stat(self.paths.run_plan(*key)).st_ctime_ns
            written = os.stat(f"{self.paths.units}/{file}").st_mtime_ns
        except OSError:
            started = written = 0
        ours = entry is not None and unitfile.is_generated(entry.text)
        return dropins.Running(entry.text if entry and ours else "", restarted=started > written)

    # what is done

    def _active(self, desired: Mapping[str, str], observed: Mapping[str, Entry]) -> set[Key]:
        """Instances that systemd has active; asked only when the plan depends on it."""
        if not asks_for_activity(desired, observed):
            return set()
        names = systemd.units(("netns-*@*.service", "netns_outside-*@*.service"), _ACTIVE)
        return {key for key in map(unitfile.split_unit, names) if key}

    def _apply(self, changes: list[Change]) -> None:
        """Do the changes; a file that cannot be written does not stop the others."""
        done: Iterable[tuple[Change, OSError | None]]
        if self.dry_run:
            done = [(change, None) for change in changes]
        else:
            install.remove_temporaries(self.paths.units, [change.file for change in changes])
            done = install.apply(changes, self.paths.units)
        for change, error in done:
            if error is None:
                self.result.changes.append(change)
                self.watch.changed(change)
            else:
                self._problem(_write_problem(error, f"{self.paths.units}/{change.file}"))

    def _tell_systemd(self) -> None:
        """Reload if something changed or it was asked for; then forget failures of what is gone."""
        if self.dry_run or not self.live or not (self.reload or self.result.changes):
            return
        try:
            systemd.daemon_reload()
            self.result.reloaded = True
            patterns = _patterns(change.file for change in self.result.changes if change.verb == "remove")
            if patterns:
                failed = systemd.units(("netns*@*.service",), ("failed",))
                gone = [name for name in failed if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
                if gone:
                    systemd.reset_failed(gone)
        except NetnsToolsError as error:
            self._problem(Problem(error.message, hint=error.hint))

    def _prune_plans(self, instances: set[Key]) -> None:
        """Remove cached plans of instances that are gone."""
        with contextlib.suppress(OSError):
            for entry in os.listdir(self.paths.cache):
                name, at, nstype = entry.removesuffix(".plan").partition("@")
                if at and entry.endswith(".plan") and (nstype, name) not in instances:
                    with contextlib.suppress(OSError):
                        os.unlink(f"{self.paths.cache}/{entry}")

    def _problem(self, problem: Problem) -> None:
        self.result.problems.append(problem)
        self.watch.problem(problem)


def _patterns(files: Iterable[str]) -> list[str]:
    """Globs of the units that removed files were for."""
    patterns = []
    for file in files:
        owner = unitfile.owner_of(file)
        if owner:
            patterns += [unit(owner[0], owner[1] or "*"), outside_unit(owner[0], owner[1] or "*")]
    return patterns


def _lost(key: Key) -> Problem:
    """A running instance whose own configuration has been taken away."""
    one = unit(*key)
    return Problem(
        f"{one} is running, but has no configuration of its own any more; its units stay as they are",
        hint=f"systemctl stop {one}, then run netns-update again",
        severity="warning",
    )


def _problems_of(error: NetnsToolsError | OSError, key: Key) -> list[Problem]:
    if isinstance(error, ConfigError):
        return list(error.problems)
    if isinstance(error, OSError):
        return [Problem(f"{unit(*key)}: {error.strerror}", path=str(error.filename or ""))]
    return [Problem(f"{unit(*key)}: {error.message}", hint=error.hint)]


def _write_problem(error: OSError, path: str) -> Problem:
    return Problem(
        f"cannot be written: {error.strerror}",
        path=path,
        hint="the old file is as it was; mend the cause (free some space?), then run netns-update again",
    )
