"""The unit files of a type, as what the templates are filled with. Pure."""

from __future__ import annotations

from netns_tools.config.nstype import DAEMON
from netns_tools.errors import Problem
from netns_tools.names import HOST, device_group, name_unit, outside_unit, unit
from netns_tools.units.programs import BINDIR, IP
from netns_tools.units.unitfile import FIREWALL, SWEEP, mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from netns_tools.config.nstype import NsType
    from netns_tools.units.render import Context

_INSIDE_CAPABILITIES = "CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_DAC_OVERRIDE"

_CHEAP = (
    # What costs a start next to nothing. A mount namespace costs 7 to 43 ms, each system call
    # filter half a millisecond: those are for the firewall, which no one starts a hundred of.
    "NoNewPrivileges=yes",
)

_FILTERS = (
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6",
)

_OUTSIDE_HARDENING = [
    # Shell in a configuration file runs here too, so only what no configuration needs is taken away.
    "CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_PTRACE CAP_MKNOD",
    *_CHEAP,
]

_INSIDE_HARDENING = {
    "link": [f"CapabilityBoundingSet={_INSIDE_CAPABILITIES}", *_CHEAP],
    "loopback": [f"CapabilityBoundingSet={_INSIDE_CAPABILITIES}", *_CHEAP],
    "firewall": [f"CapabilityBoundingSet={_INSIDE_CAPABILITIES}", *_CHEAP, *_FILTERS],
}

_DAEMON_HARDENING = [
    # Root by its number, for what is root's own (the socket of Docker too), without root's rights.
    "CapabilityBoundingSet=CAP_NET_ADMIN",
    *_CHEAP,
    "ProtectSystem=strict",
    "ReadWritePaths=/run",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
    "IPAddressDeny=any",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
]

_DAEMON_START = {"natmap": "daemon"}
"""TYPE → the command that is the daemon, where it is not ``run``."""

_DAEMON_NEEDS: dict[str, dict[str, list[str]]] = {
    "natmap": {
        "CapabilityBoundingSet": [
            "# CAP_NET_RAW: iptables, of the legacy kind, for the one rule in Docker's chain.",
            "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW",
            "# Without CAP_CHOWN, root can give a socket to a group of its own.",
            "SupplementaryGroups=netns-natmap",
        ],
        "ReadWritePaths": ["ReadWritePaths=/run", "StateDirectory=netns-tools"],
        "ProcSubset": [
            "# No ProcSubset=pid, no ProtectKernelTunables=yes: it sets route_localnet and ip_forward."
        ],
        "ProtectKernelTunables": [],
        "RestrictAddressFamilies": [
            "# AF_INET, AF_INET6: sockets that keep host ports from other programs; nothing is sent by them.",
            "RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6",
        ],
        "SystemCallErrorNumber": ["SystemCallFilter=@chown", "SystemCallErrorNumber=EPERM"],
    }
}
"""TYPE → setting → the lines in its place, where the daemon could not do its work with it."""


def _daemon_hardening(nstype: str) -> list[str]:
    needs = _DAEMON_NEEDS.get(nstype, {})
    return [one for line in _DAEMON_HARDENING for one in needs.get(line.partition("=")[0], [line])]


def requirements(nstype: NsType) -> list[str]:
    """Types that ``nstype`` requires in its own namespace."""
    if nstype.name == FIREWALL and nstype.kind == "bash":
        # The original's own nft.sh, copied by the administrator, knows nothing of `requires`.
        return nstype.requires or ["lo"]
    return nstype.requires


def required_by(name: str, types: Mapping[str, NsType]) -> set[str]:
    """``name`` and all that it requires, directly or not."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        if one not in seen and one in types:
            seen.add(one)
            todo.extend(requirements(types[one]))
    return seen


def check_requires(types: Mapping[str, NsType], broken: Collection[str]) -> list[Problem]:
    """Requirements that systemd could not meet: of types that are not there, and in a circle."""
    problems = []
    for nstype in types.values():
        for name in requirements(nstype):
            if name not in types and name not in broken:
                problems.append(
                    Problem(
                        f"requires type {name!r}, which there is not",
                        path=nstype.path,
                        hint=f"there are: {', '.join(sorted(types))}",
                    )
                )
            elif name in types and types[name].kind == DAEMON:
                problems.append(
                    Problem(
                        f"requires type {name!r}, which is a daemon",
                        path=nstype.path,
                        hint=f"start it beside: systemctl enable --now {unit(name, 'NAME')}",
                    )
                )
            elif nstype.name in required_by(name, types):
                problems.append(
                    Problem(
                        f"requires type {name!r}, which requires {nstype.name!r} in turn",
                        path=nstype.path,
                        hint="one of them must be started first: take one out of the other's 'requires:'",
                    )
                )
    return problems


def waits_for_firewall(nstype: NsType, types: Mapping[str, NsType]) -> str:
    """Which step comes after the firewall: ``outside``, ``inside``, or none (the firewall and what it needs).

    No link is made before the rules are loaded. Nobody knows what the administrator's own
    types do outside; they may require what the firewall requires, so only their inside step
    can wait, and rules may name their devices by index (iif): those exist by then. A daemon
    says itself what it comes after.
    """
    if nstype.kind == DAEMON or nstype.name in required_by(FIREWALL, types) | {FIREWALL}:
        return ""
    return "outside" if nstype.kind == "link" else "inside"


def inside_context(nstype: NsType, types: Mapping[str, NsType], source: str) -> Context:
    """What inside.service.j2 is filled with."""
    step = f"{BINDIR}/netnsinit {nstype.name} %i"
    after: list[str] = []
    before: list[str] = []
    if nstype.name == FIREWALL:
        # The order stands in this unit alone: in those of the links, it would make systemd load
        # the firewall's units, used or not, with each of them; a third of the time of a start.
        for name in sorted(types):
            waits = waits_for_firewall(types[name], types)
            if waits == "outside":
                before.append(outside_unit(name, "%i"))
            elif waits:
                after.append(outside_unit(name, "%i"))
                before.append(unit(name, "%i"))
    stop: list[str] = []
    stop_post: list[str] = []
    if nstype.kind == "firewall":
        stop.append(f"-{step} down inside")
        stop_post.append(f"-{step} post inside")
    elif nstype.kind == "loopback":
        stop.append(f"-{IP} link set dev lo down")
    elif nstype.kind == "link":
        # Only what carries our group goes, renamed or not; "-": it may be gone already.
        stop.append(f"-{IP} link delete group {device_group(nstype.name)}")
    elif nstype.kind in ("commands", "bash"):
        stop.append(f"-{step} down inside")
        stop_post.append(_unless_stopped(f"{step} down inside"))
    return {
        "mark": mark(source, unit(nstype.name, "NAME")),
        "kind": nstype.kind,
        "nstype": nstype.name,
        "requires": [unit(name, "%i") for name in requirements(nstype)],
        "after": after,
        "before": before,
        # A link, loopback too, is complete when its outside step is: a unit without ExecStart= costs half.
        "start": "" if nstype.kind in ("link", "loopback") else f"{step} up inside",
        "stop": stop,
        "stop_post": stop_post,
        "hardening": _INSIDE_HARDENING.get(nstype.kind, []),
    }


def outside_context(nstype: NsType, types: Mapping[str, NsType], source: str) -> Context:
    """What outside.service.j2 is filled with."""
    step = f"{BINDIR}/netnsinit {nstype.name} %i"
    stop: list[str] = []
    stop_post: list[str] = []
    if nstype.kind in ("commands", "bash"):
        stop.append(f"-{step} down outside")
        stop_post.append(_unless_stopped(f"{step} down outside"))
    if requirements(nstype):
        # Types that only this one brought up go with it.
        stop_post.append(f"-{step} post outside")
    return {
        "mark": mark(source, outside_unit(nstype.name, "NAME")),
        "kind": nstype.kind,
        "nstype": nstype.name,
        # This step notes which of them do not run yet, before they do.
        "before": [outside_unit(name, "%i") for name in requirements(nstype)],
        "start": f"{step} up outside",
        "stop": stop,
        "stop_post": stop_post,
        "hardening": [] if nstype.kind in ("commands", "bash") else _OUTSIDE_HARDENING,
    }


def daemon_context(nstype: NsType, source: str, *, host: bool) -> Context:
    """What daemon.service.j2 is filled with; ``host``: for the instance in the host's own namespace."""
    if host:
        description = f"Host network namespace: {nstype.name}"
        after = ["network-pre.target", "nftables.service"]
    else:
        description = f"Network namespace %i: {nstype.name}"
        # Its rules name the sets that a daemon fills. What a failure left is swept before the next start.
        after = [name_unit("%i"), unit(FIREWALL, "%i"), SWEEP]
    return {
        "mark": mark(source, unit(nstype.name, HOST if host else "NAME")),
        "kind": nstype.kind,
        "nstype": nstype.name,
        "description": description,
        "requires": [] if host else [name_unit("%i")],
        "after": after,
        "on_failure": [] if host else [SWEEP],
        "namespace": "" if host else "/run/netns/%i",
        "program": f"{BINDIR}/netns-{nstype.name}",
        "start": _DAEMON_START.get(nstype.name, "run"),
        "hardening": _daemon_hardening(nstype.name),
    }


def _unless_stopped(command: str) -> str:
    """An ExecStopPost= that undoes a start which failed or was killed.

    After a stop, ExecStop= has done it already and $SERVICE_RESULT is ``success``
    (systemd.exec(5)); a step is never undone twice.
    """
    program = command.split(" ", 1)[0].rpartition("/")[2]
    return f"""-/bin/sh -c '[ "$$SERVICE_RESULT" = success ] || exec "$$@"' {program} {command}"""
