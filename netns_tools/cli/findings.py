"""Collect what ``netnsctl check`` reports: load everything, look at the machine, ask every check."""

from __future__ import annotations

import os

from netns_tools.check import check_survey
from netns_tools.check.devices import created_devices
from netns_tools.check.rules import nft_problems
from netns_tools.check.survey import Finding, Key, Survey
from netns_tools.cli.instances import check_names, find_instances, load_types
from netns_tools.cli.machine import add_states, observe_machine
from netns_tools.config.layers import load_config
from netns_tools.config.trust import check_directories, check_file
from netns_tools.errors import ConfigError, NetnsToolsError, Problem
from netns_tools.steps.plan import plan_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netns_tools.check.survey import Instance
    from netns_tools.config.nstype import NsType
    from netns_tools.paths import Paths

_ORDER = {"error": 0, "warning": 1, "info": 2}


def collect(paths: Paths, only: Key | None = None) -> tuple[list[Key], list[Finding]]:
    """The instances that were checked, and all findings, sorted by file and line; with ``only``, about that one.

    Raises ConfigError when ``only`` cannot be an instance at all.
    """
    if only is not None:
        check_names(*only)
    types, type_problems = load_types(paths)
    if only is not None and only[0] not in types and not type_problems:
        from netns_tools.config.nstype import load_nstype

        load_nstype(only[0], paths)  # says what is wrong with this TYPE, and which there are
    instances = add_states(find_instances(paths, types), paths)
    if only is not None and all(one.key != only for one in instances):
        from netns_tools.check.survey import Instance

        instances.append(Instance(*only))
    survey = Survey(paths.conf, set(types), _listing(paths.conf), instances, machine=observe_machine(paths))
    findings = [Finding(problem) for problem in [*type_problems, *check_directories(paths.conf, paths)]]
    findings += _load(survey, types, paths)
    findings += _load_rules(survey, paths)
    findings += check_survey(survey)
    findings += _try_rules(survey)
    findings += _unused_layers(survey, types, paths)
    findings += _stale_units(paths)
    if only is not None:
        findings = [one for one in findings if only in one.keys or _concerns(one, only, types, paths)]
    keys = [one.key for one in instances if only in (None, one.key)]
    return keys, _sorted(_merged(findings))


def _listing(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _load(survey: Survey, types: dict[str, NsType], paths: Paths) -> list[Finding]:
    """Load and plan every instance into the survey; what is refused there are findings, and so are warnings."""
    findings = []
    for one in survey.instances:
        if one.nstype not in types:
            findings.append(_typeless(one))
            continue
        problems = []
        try:
            config = load_config(types[one.nstype], one.name, paths)
            survey.configs[one.key] = config
            plan_type(config, paths)
            problems = config.warnings
        except ConfigError as error:
            problems = [
                *error.problems,
                *(survey.configs[one.key].warnings if one.key in survey.configs else []),
            ]
        except NetnsToolsError as error:
            problems = [Problem(error.message, hint=error.hint)]
        findings += [Finding(problem, [one.key]) for problem in problems]
    return findings


def _typeless(one: Instance) -> Finding:
    text = f"netns-{one.nstype}@{one.name} is {'running' if one.running else one.state}, and there is no type {one.nstype!r}"
    hint = "bring its definition back, or stop and disable the unit"
    return Finding(Problem(text, hint=hint, severity="warning"), [one.key])


def _load_rules(survey: Survey, paths: Paths) -> list[Finding]:
    """Read the saved rules into the survey; those that cannot be trusted are findings."""
    findings = []
    for name in survey.file_names:
        if not (name.startswith(("nft-", "nft.")) and name.endswith(".rules")):
            continue
        path = f"{survey.conf}/{name}"
        keys = [("nft", name.removeprefix("nft-").removesuffix(".rules"))] if name != "nft.rules" else []
        problems = check_file(path, paths)
        findings += [Finding(problem, keys) for problem in problems]
        if not problems:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                survey.rules[path] = file.read()
    return findings


def _try_rules(survey: Survey) -> list[Finding]:
    """Ask nft about every rules file, in a namespace with the devices that NAME will have; as root only."""
    if os.geteuid() != 0:
        return []
    from netns_tools.cli.rules import try_rules

    created = created_devices(survey)
    findings = []
    for path in survey.rules:
        name = os.path.basename(path).removeprefix("nft-").removesuffix(".rules")
        devices = {place.thing for place in created if place.namespace == name}
        unknown = any(one.name == name and _has_unknown_devices(one, survey) for one in survey.instances)
        for problem in nft_problems(path, try_rules(path, sorted(devices))):
            if not (unknown and "Interface does not exist" in problem.message):
                findings.append(Finding(problem, [("nft", name)] if not path.endswith("/nft.rules") else []))
    return findings


def _has_unknown_devices(one: Instance, survey: Survey) -> bool:
    """Types of the administrator make devices that only they know."""
    config = survey.configs.get(one.key)
    return config is None or config.nstype.kind in ("bash", "commands")


def _unused_layers(survey: Survey, types: dict[str, NsType], paths: Paths) -> list[Finding]:
    """default.conf, TYPE.conf and the like that no instance uses yet: read them all the same.

    The name is made up, so only what is wrong in these files themselves counts.
    """
    findings = []
    used = {one.nstype for one in survey.instances}
    for nstype in types.values():
        files = [path for path in paths.layers(nstype.name, "example")[:4] if os.path.lexists(path)]
        if nstype.name in used or not (
            set(files) - {f"{paths.conf}/default.conf", f"{paths.conf}/default.yaml"}
            or (files and nstype.name == "lo")
        ):
            continue
        try:
            problems = load_config(nstype, "example", paths).warnings
        except ConfigError as error:
            problems = error.problems
        findings += [Finding(problem) for problem in problems if problem.path in files and problem.line]
    return findings


def _stale_units(paths: Paths) -> list[Finding]:
    return []


def _concerns(finding: Finding, only: Key, types: dict[str, NsType], paths: Paths) -> bool:
    """Whether a finding without instances is about a file of this one."""
    files = set(paths.layers(*only))
    if only[0] in types:
        files.add(types[only[0]].path)
    return not finding.keys and finding.problem.path in files


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
    by: Callable[[Finding], tuple[object, ...]] = lambda one: (  # noqa: E731
        one.problem.path,
        one.problem.line,
        one.problem.column,
        _ORDER.get(one.problem.severity, 3),
    )
    return sorted(findings, key=by)  # type: ignore[arg-type,return-value]
