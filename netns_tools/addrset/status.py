"""The state of a daemon as JSON, as a table for people, and as metrics. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from netns_tools.addrset.plan import ERROR, OK
from netns_tools.addrset.wanted import links_of, matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netns_tools.addrset.config import Settings
    from netns_tools.addrset.engine import Engine, SetState
    from netns_tools.host.docker import Container, DockerWatch


@dataclass(frozen=True)
class Process:
    """What a status tells of the process itself. Times are seconds since the epoch."""

    name: str
    pid: int
    started: float
    reload_error: str
    sockets: dict[str, str]
    overruns: int


def status_of(
    process: Process, settings: Settings, engine: Engine, docker: DockerWatch | None
) -> dict[str, Any]:
    """Everything, for ``status --json``: desired and actual elements of each set, and the last error."""
    sets = [_set_status(state, engine) for state in engine.states.values()]
    errors = [one for one in sets if one["state"] == ERROR]
    troubled = any((errors, process.reload_error, engine.record_error, *process.sockets.values()))
    troubled = troubled or (docker is not None and not docker.connected)
    return {
        "name": process.name,
        "state": "degraded" if troubled else "ok",
        "pid": process.pid,
        "started": _when(process.started),
        "config": settings.path,
        "reload_error": process.reload_error or None,
        "last_change": _when(engine.last_change),
        "last_error": engine.last_error or None,
        "record_error": engine.record_error or None,
        "sets": sets,
        "interfaces": _interfaces(settings, engine),
        "docker": _docker_status(settings.docker, docker),
        "sockets": {path: error or "listening" for path, error in process.sockets.items()},
        "counters": {
            "transactions": engine.applies,
            "errors": engine.errors,
            "foreign_changes": engine.foreign_changes,
            "overruns": process.overruns,
        },
    }


def _set_status(state: SetState, engine: Engine) -> dict[str, Any]:
    target = state.target
    live = engine.live.get(target.id)
    return {
        "zone": target.zone.name,
        "family": target.id.family,
        "table": target.id.table,
        "set": target.id.name,
        "state": state.state,
        "since": _when(state.since),
        "error": state.error or None,
        "hint": state.hint or None,
        "desired": sorted(state.desired),
        "actual": sorted(live.elements) if live is not None else None,
    }


def _interfaces(settings: Settings, engine: Engine) -> list[dict[str, Any]]:
    links = engine.observed.links
    patterns = tuple(interface.pattern for interface in settings.interfaces)
    zones: dict[int, list[str]] = {index: [] for index, link in links.items() if matches(patterns, link.name)}
    for zone in settings.zones:
        for index in links_of(zone, engine.observed):
            zones[index].append(zone.name)
    return [
        {
            "name": links[index].name,
            "zones": names,
            "up": links[index].up,
            "addresses": sorted(
                address
                for family in (4, 6)
                for address in engine.observed.hosts(index, family, temporary=True)
            ),
        }
        for index, names in sorted(zones.items())
    ]


def _docker_status(socket: str, docker: DockerWatch | None) -> dict[str, Any] | None:
    if docker is None:
        return None
    return {
        "socket": socket,
        "connected": docker.connected,
        "error": docker.error or None,
        "containers": None if docker.containers is None else [_container(one) for one in docker.containers],
    }


def _container(one: Container) -> dict[str, Any]:
    addresses = {network: [text for text in (v4, v6) if text] for network, v4, v6 in one.networks}
    return {"id": one.id[:12], "name": one.name, "network_mode": one.network_mode, "addresses": addresses}


def summary_of(engine: Engine, docker: DockerWatch | None) -> str:
    """The state in a line, for ``systemctl status``."""
    states = [state.state for state in engine.states.values()]
    good = states.count(OK)
    parts = [f"{good} set{'' if good == 1 else 's'} kept true"]
    if waiting := len(states) - good - states.count(ERROR):
        parts.append(f"{waiting} waiting")
    if failed := states.count(ERROR):
        parts.append(f"{failed} failed")
    if docker is not None and not docker.connected:
        parts.append("Docker does not answer")
    return ", ".join(parts)


def describe(status: dict[str, Any]) -> list[str]:
    """The status as lines for a person."""
    lines = [
        f"netns-addrset@{status['name']}: {status['state']}, process {status['pid']}, {status['config']}"
    ]
    if status["reload_error"]:
        lines += ["the last reload was refused:", *_indented(status["reload_error"])]
    if status["record_error"]:
        lines.append(f"  what is ours in the sets is not written down: {status['record_error']}")
    for one in status["sets"]:
        lines.append(f"  {one['zone']}: {one['family']} {one['table']} {one['set']}: {one['state']}")
        if one["error"]:
            lines += _indented(one["error"])
        if one["hint"]:
            lines += _indented(f"hint: {one['hint']}")
        lines += _indented(_some(one["actual"]) if one["actual"] is not None else "")
        if one["actual"] is not None and one["state"] != OK:
            lines += _indented(f"should hold: {_some(one['desired'])}")
    for one in status["interfaces"]:
        zones, addresses = ", ".join(one["zones"]) or "no zone", " ".join(one["addresses"])
        lines.append(f"  {one['name']} ({zones}){'' if one['up'] else ', down'}: {addresses or 'no address'}")
    docker = status["docker"]
    if docker is not None:
        known = docker["containers"]
        count = f"{len(known)} containers" if known is not None else "containers unknown"
        lines.append(f"  {docker['error'] or 'connected to Docker at ' + docker['socket']}; {count}")
    lines += [f"  {path}: {text}" for path, text in status["sockets"].items() if text != "listening"]
    return lines


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


def _some(elements: list[str], most: int = 20) -> str:
    if not elements:
        return "(empty)"
    more = f" ... ({len(elements)} elements)" if len(elements) > most else ""
    return " ".join(elements[:most]) + more


def metrics_of(process: Process, engine: Engine, docker: DockerWatch | None) -> str:
    """Metrics in the text format of Prometheus."""
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, values: list[tuple[str, float]]) -> None:
        lines.append(f"# HELP netns_addrset_{name} {text}")
        lines.append(f"# TYPE netns_addrset_{name} {kind}")
        lines.extend(f"netns_addrset_{name}{labels} {value:.15g}" for labels, value in values)

    sets = [(_labels(state), state, engine.live.get(id)) for id, state in engine.states.items()]
    metric("set_ok", "gauge", "Whether the set is kept true.", [(ls, s.state == OK) for ls, s, _ in sets])
    metric(
        "set_elements",
        "gauge",
        "Elements that the set holds.",
        [(labels, len(live.elements)) for labels, _, live in sets if live is not None],
    )
    metric(
        "set_desired", "gauge", "Elements that it should hold.", [(ls, len(s.desired)) for ls, s, _ in sets]
    )
    for name, text, value in (
        ("transactions_total", "Changes applied.", engine.applies),
        ("errors_total", "Changes that failed.", engine.errors),
        ("foreign_changes_total", "Changes by others that concerned our sets.", engine.foreign_changes),
        ("overruns_total", "Times that the kernel dropped messages and all was read anew.", process.overruns),
    ):
        metric(name, "counter", text, [("", value)])
    metric("last_change_timestamp_seconds", "gauge", "When a set was changed.", [("", engine.last_change)])
    metric("start_timestamp_seconds", "gauge", "When the daemon was started.", [("", process.started)])
    if docker is not None:
        metric("docker_connected", "gauge", "Whether Docker answers.", [("", docker.connected)])
    return "\n".join(lines) + "\n"


def _labels(state: SetState) -> str:
    target = state.target
    # Names are words of nft: neither quotes nor backslashes are in them.
    zone = target.zone.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{zone="{zone}",family="{target.id.family}",table="{target.id.table}",set="{target.id.name}"}}'


def _when(seconds: float) -> str | None:
    if not seconds:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
