"""Collect what ``netnsctl check`` reports: load everything, look at the machine, ask every check."""

from __future__ import annotations

import os

from netns_tools.check import check_survey
from netns_tools.check.devices import created_devices
from netns_tools.check.rules import nft_problems
from netns_tools.check.survey import Finding, Instance, Key, Survey
from netns_tools.cli.daemons import daemon_problems
from netns_tools.cli.instances import Known, check_names
from netns_tools.cli.machine import add_states, observe_machine, unit_states
from netns_tools.config.layers import inspect_config
from netns_tools.config.trust import check_directories, check_file
from netns_tools.errors import ConfigError, NetnsToolsError, Problem
from netns_tools.steps.planner import plan_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netns_tools.paths import Paths
    from netns_tools.units.plan import Change

_ORDER = {"error": 0, "warning": 1, "info": 2}


def collect(paths: Paths, only: Key | None = None) -> tuple[list[Key], list[Finding]]:
    """The instances that were checked, and all findings by file and line; with ``only``, about that one.

    Raises ConfigError when ``only`` cannot be an instance at all.
    """
    known = Known(paths)
    if only is not None:
        _require(only, known, paths)
    states = unit_states(paths)
    instances = add_states(known.instances, states)
    types = set(known.types) | known.broken
    survey = Survey(paths.conf, types, _listing(paths.conf), instances, daemons=known.daemons)
    survey.machine = observe_machine(paths, states)
    findings = [Finding(problem) for problem in check_directories(paths.conf, paths)]
    findings += _load(survey, known, paths)
    findings += _scripts(known)
    findings += _load_rules(survey, paths)
    findings += check_survey(survey)
    findings += _try_rules(survey)
    findings += _unused_layers(survey, known, paths)
    findings += _stale_units(survey, paths)
    findings += _of_discovery(known, findings)
    if only is not None:
        files = {*paths.layers(*only), known.types[only[0]].path if only[0] in known.types else ""}
        findings = [
            one for one in findings if only in one.keys or (not one.keys and one.problem.path in files)
        ]
    keys = [one.key for one in instances if only in (None, one.key)]
    return keys, _sorted(_merged(findings))


def _require(only: Key, known: Known, paths: Paths) -> None:
    """Refuse what cannot be an instance; one that nothing mentions yet is looked at all the same."""
    check_names(*only, daemon=only[0] in known.daemons)
    if only[0] not in known.types:
        from netns_tools.config.nstype import load_nstype

        load_nstype(only[0], paths)  # says what is wrong with this TYPE, and which there are
    if all(one.key != only for one in known.instances):
        known.instances.append(Instance(*only))


def _listing(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _load(survey: Survey, known: Known, paths: Paths) -> list[Finding]:
    """Read every instance into the survey, errors or not; what a start would say about it are findings."""
    findings = []
    for one in survey.instances:
        if one.nstype in known.broken:
            continue
        if one.nstype not in known.types:
            findings.append(_typeless(one))
            continue
        if one.nstype in known.daemons:
            problems = daemon_problems(one.nstype, one.name, paths)
            findings += [Finding(problem, [one.key]) for problem in problems]
            continue
        try:
            config, problems = inspect_config(known.types[one.nstype], one.name, paths)
            survey.configs[one.key] = config
            if all(problem.severity != "error" for problem in problems):
                plan_type(config, paths)
        except ConfigError as error:
            problems = [*problems, *error.problems] if one.key in survey.configs else error.problems
        except NetnsToolsError as error:
            problems = [*problems, Problem(error.message, hint=error.hint)]
        findings += [Finding(problem, [one.key]) for problem in problems]
    return findings


def _scripts(known: Known) -> list[Finding]:
    """Ask bash about the scripts of bash types."""
    from netns_tools.cli.scripts import script_problems

    scripts = (one for one in known.types.values() if one.kind == "bash")
    return [Finding(problem) for one in scripts for problem in script_problems(one)]


def _typeless(one: Instance) -> Finding:
    state = "enabled" if one.enabled and one.state == "inactive" else one.state
    text = f"netns-{one.nstype}@{one.name} is {state}, and there is no type {one.nstype!r}"
    hint = f"bring its definition back, or: systemctl disable --now netns-{one.nstype}@{one.name}"
    return Finding(Problem(text, hint=hint, severity="warning"), [one.key])


def _of_discovery(known: Known, findings: list[Finding]) -> list[Finding]:
    """Problems met while looking around that the checks did not report better, by file or by instance."""
    paths = {one.problem.path for one in findings}
    typeless = any(one.keys and one.keys[0][0] not in known.types for one in findings)
    return [
        Finding(problem)
        for problem in known.problems
        if (problem.path not in paths if problem.path else not typeless)
        or (problem.line and problem.severity == "error")
    ]


def _load_rules(survey: Survey, paths: Paths) -> list[Finding]:
    """Read the saved rules into the survey; those that cannot be trusted are findings."""
    findings = []
    for name in survey.file_names:
        if not (name.startswith(("nft-", "nft.")) and name.endswith(".rules")):
            continue
        path = f"{survey.conf}/{name}"
        problems = check_file(path, paths)
        findings += [Finding(problem, _rules_keys(path)) for problem in problems]
        if not problems:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                survey.rules[path] = file.read()
    return findings


def _rules_keys(path: str) -> list[Key]:
    """The instance whose rules are in a file; none for the default rules."""
    stem = os.path.basename(path).removesuffix(".rules")
    return [("nft", stem.removeprefix("nft-"))] if stem != "nft" else []


def _try_rules(survey: Survey) -> list[Finding]:
    """Ask nft about every rules file, in a namespace with the devices that NAME will have; as root only."""
    if os.geteuid() != 0:
        return []
    from netns_tools.kernel.nft import try_rules

    created = created_devices(survey)
    findings = []
    for path in survey.rules:
        keys = _rules_keys(path)
        name = keys[0][1] if keys else ""
        devices = {place.thing for place in created if place.namespace == name}
        unknown = any(one.name == name and _has_unknown_devices(one, survey) for one in survey.instances)
        try:
            problems = nft_problems(path, try_rules(path, sorted(devices)))
        except NetnsToolsError as error:
            problems = [Problem(error.message, path=path, severity="info")]
        for problem in problems:
            if not (unknown and "Interface does not exist" in problem.message):
                findings.append(Finding(problem, keys))
    return findings


def _has_unknown_devices(one: Instance, survey: Survey) -> bool:
    """Types of the administrator make devices that only they know."""
    if one.nstype in survey.daemons:
        return False
    config = survey.configs.get(one.key)
    return config is None or config.nstype.kind in ("bash", "commands")


def _unused_layers(survey: Survey, known: Known, paths: Paths) -> list[Finding]:
    """default.conf, TYPE.conf and the like that no instance uses yet: read them all the same.

    The name is made up, so only what is wrong in these files themselves counts.
    """
    findings = []
    used = {one.nstype for one in survey.instances}
    for nstype in known.types.values():
        if nstype.name in known.daemons:
            findings += _unused_daemon_file(nstype.name, survey, paths)
            continue
        files = [path for path in paths.layers(nstype.name, "example")[:4] if os.path.lexists(path)]
        own = [path for path in files if "/default." not in path]
        if nstype.name in used or not (own or (files and nstype.name == "veth" and not survey.instances)):
            continue
        _config, problems = inspect_config(nstype, "example", paths)
        findings += [
            Finding(problem) for problem in problems if problem.path in files and _own_fault(problem)
        ]
    return findings


def _unused_daemon_file(nstype: str, survey: Survey, paths: Paths) -> list[Finding]:
    """TYPE.yaml while every instance has a file of its own."""
    shared = f"{paths.conf}/{nstype}.yaml"
    own = {f"{nstype}-{one.name}.yaml" for one in survey.instances if one.nstype == nstype}
    if not os.path.lexists(shared) or own - set(survey.file_names):
        return []
    return [Finding(problem) for problem in daemon_problems(nstype, "example", paths)]


def _own_fault(problem: Problem) -> bool:
    """Whether the file itself is at fault, and not that an option is still to be set in TYPE-NAME.conf."""
    return bool(problem.line) or "not set" not in problem.message


def _stale_units(survey: Survey, paths: Paths) -> list[Finding]:
    """Unit files that netns-update would change. Below a root where it never ran there is nothing to compare.

    The drop-in of an instance that is not enabled is worth mentioning and no more: it is
    about the order at boot, and a start works without it.
    """
    from netns_tools.units.unitfile import owner_of
    from netns_tools.units.update import Update, Watch

    if paths.root and not any(name.startswith("netns-") for name in _listing(paths.units)):
        return []
    quiet = Watch(lambda _nstype: None, lambda _change: None, lambda _problem: None)
    try:
        changes = Update(paths, quiet, dry_run=True, clean=False, reload=False).run().changes
    except NetnsToolsError as error:
        return [
            Finding(
                Problem(f"cannot compare unit files: {error.message}", hint=error.hint, severity="warning")
            )
        ]
    enabled = {one.key for one in survey.instances if one.enabled}
    later = [
        change
        for change in changes
        if change.verb == "create" and _is_of_other(owner_of(change.file), enabled)
    ]
    now = [change for change in changes if change not in later]
    return [
        Finding(
            Problem(
                f"unit files are out of date; netns-update would {_listed(which)}",
                path=paths.units,
                severity=severity,
                hint="run: netns-update",
            ),
            [key for change in which if (key := owner_of(change.file)) and key[1]],
        )
        for which, severity in ((now, "warning"), (later, "info"))
        if which
    ]


def _is_of_other(key: Key | None, enabled: set[Key]) -> bool:
    return key is not None and key[1] != "" and key not in enabled


def _listed(changes: list[Change], most: int = 3) -> str:
    text = ", ".join(f"{change.verb} {change.file}" for change in changes[:most])
    return text if len(changes) <= most else f"{text} and change {len(changes) - most} more"


def _merged(findings: Iterable[Finding]) -> list[Finding]:
    """The same problem of a file that many instances share is one finding, about all of them."""
    merged: dict[tuple[object, ...], Finding] = {}
    for one in findings:
        problem = one.problem
        key = (problem.path, problem.line, problem.column, problem.message, problem.severity)
        known = merged.setdefault(key, Finding(problem, []))
        known.keys = list(dict.fromkeys([*known.keys, *one.keys]))
    return list(merged.values())


def _sorted(findings: list[Finding]) -> list[Finding]:
    def place(one: Finding) -> tuple[str, int, int, int]:
        problem = one.problem
        return problem.path, problem.line, problem.column, _ORDER.get(problem.severity, 3)

    return sorted(findings, key=place)
