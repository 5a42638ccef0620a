"""From a checked configuration to its plan: finds the module of the type."""

from __future__ import annotations

from netns_tools.errors import NetnsToolsError
from netns_tools.names import device_group, nstype_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netns_tools.config.layers import Config
    from netns_tools.paths import Paths
    from netns_tools.steps.plan import Plan


def plan_type(config: Config, paths: Paths) -> Plan:
    """Return the plan for a checked configuration.

    Raises ``ConfigError`` for what only a plan can find, such as a missing rules file.
    """
    kind = config.nstype.kind
    plan = _planner(kind, config.nstype.name)(config, paths)
    if kind == "link":
        plan.note("group", str(device_group(config.nstype.name)))
    elif kind not in ("loopback", "firewall"):
        plan.note("gated")
    if config.nstype.requires:
        plan.note("requires", *config.nstype.requires)
    if config.warnings:
        plan.note(
            "warnings", *(line for warning in config.warnings for line in warning.render().splitlines())
        )
    return plan


def _planner(kind: str, nstype: str) -> Callable[[Config, Paths], Plan]:
    """Find the planner: the administrator's kinds share one, every shipped type has its own.

    Only the one that is needed is imported; a start pays for no other.
    """
    module = kind if kind in ("commands", "bash") else nstype
    problem = nstype_problem(module)
    try:
        if not problem:
            found = __import__(f"netns_tools.steps.types.{module}", fromlist=["plan"])
            planner: Callable[[Config, Paths], Plan] = found.plan
            return planner
    except ModuleNotFoundError:
        problem = f"type {nstype!r} says kind {kind!r}, and there is no planner of its name"
    raise NetnsToolsError(
        problem, hint="a type of your own has 'kind: commands' and its commands under 'steps:'"
    )
