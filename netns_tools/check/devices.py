"""Device names: two instances claim one, the host has it already, or does not have one that is needed."""

from __future__ import annotations

from itertools import pairwise

from netns_tools.check.places import HOST, Place, places, used_twice
from netns_tools.check.survey import Finding, Survey, at, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config


def check(survey: Survey) -> list[Finding]:
    """Findings about devices."""
    created = created_devices(survey)
    return [*_twice(created), *_foreign(survey, created), *_parents(survey, created)]


def created_devices(survey: Survey) -> list[Place]:
    """Every device that a start creates, with the namespace in which it does."""
    found = []
    for place in places(survey.configs, "ifname"):
        config = survey.configs[place.key]
        if place.option in config.nstype.needs_devices:
            continue
        if config.nstype.kind == "commands":
            namespace = _commands_namespace(config, place.option)
            if namespace is None:
                continue
            place.namespace = namespace
        found.append(place)
    return found


def _commands_namespace(config: Config, option: str) -> str | None:
    """Where commands of an administrator's type run ``ip link add`` with this device name; None: nowhere."""
    for step, namespace in (("up_outside", HOST), ("up_inside", config.name)):
        for words in config.nstype.steps.get(step, []):
            named = [word for before, word in pairwise(words) if before in ("add", "name", "dev")]
            if words[:1] == ["ip"] and "add" in words[1:3] and f"{{{option}}}" in named:
                return namespace
    return None


def _twice(created: list[Place]) -> list[Finding]:
    findings = []
    for namespace in dict.fromkeys(place.namespace for place in created):
        here = [place for place in created if place.namespace == namespace]
        where = "on the host" if namespace == HOST else f"in namespace {namespace}"
        findings += used_twice(here, f"device name ({where})", "give each device a name of its own there")
    return findings


def _foreign(survey: Survey, created: list[Place]) -> list[Finding]:
    """Names on the host that something else uses already: the start will fail and leave that device alone."""
    idle = {one.key for one in survey.instances if not one.running and one.state in ("inactive", "failed")}
    devices = survey.machine.devices or set()
    return [
        Finding(
            at(
                place.value,
                f"a device {place.thing} exists on this host already, and {label(place.key)} is not running",
                hint=f"choose another {place.option}, or remove the device: ip link delete {place.thing}",
                severity="warning",
            ),
            [place.key],
        )
        for place in created
        if place.namespace == HOST and place.thing in devices and place.key in idle
    ]


def _parents(survey: Survey, created: list[Place]) -> list[Finding]:
    """Devices of the host that an instance needs and the host does not have."""
    devices = survey.machine.devices
    if devices is None:
        return []
    coming = {place.thing for place in created if place.namespace == HOST}
    findings = []
    for key, config in survey.configs.items():
        for option in config.nstype.needs_devices:
            name = config.text(option)
            if not name or name in devices or name in coming:
                continue
            known = ", ".join(sorted(devices - {"lo"})) or "none but lo"
            findings.append(
                Finding(
                    at(
                        config.values.get(option),
                        f"{label(key)} needs device {name} ({option}), which does not exist on this machine",
                        hint=f"devices are: {known}; set {option} in {config.nstype.name}-{config.name}.conf",
                        severity="warning",
                    ),
                    [key],
                )
            )
    return findings
