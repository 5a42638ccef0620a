"""The drop-ins of one instance, as what the template is filled with. Pure."""

from __future__ import annotations

from netns_tools.names import name_unit, outside_unit, unit
from netns_tools.units.unitfile import FIREWALL, device_unit, mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from netns_tools.units.facts import Facts
    from netns_tools.units.render import Context

_KEPT_NOTE = "# In use by the running instance;"
_LATE_NOTE = "Not before network.target: ordered after a unit that comes after the network."
_WAITING_NOTE = (
    "BindsTo= comes with the first netns-update after the next start: what runs now may use another device."
)


class Running:
    """What the drop-in of a running instance says now, so that nothing it stands on is taken away.

    ``restarted``: the instance was started after the drop-in was written.
    """

    __slots__ = ("restarted", "text")

    def __init__(self, text: str, *, restarted: bool) -> None:
        self.text = text
        self.restarted = restarted

    def namespaces(self) -> list[str]:
        """Units of the namespaces that the running instance may be using."""
        found = []
        kept = False
        for line in self.text.splitlines():
            if line.startswith("#"):
                kept = line.startswith(_KEPT_NOTE)
            elif line.startswith("Requires=netns_name@") and not (kept and self.restarted):
                found.append(line.removeprefix("Requires="))
        return found

    def uses(self, device: str) -> bool:
        """Whether the running instance stands on this device unit for certain."""
        lines = self.text.splitlines()
        return f"BindsTo={device}" in lines or (self.restarted and f"Requires={device}" in lines)


def inside_dropin(
    nstype: str, name: str, facts: Facts, *, late: bool, waits: str, files: Sequence[str]
) -> Context:
    """What dropin.conf.j2 is filled with for ``netns-TYPE@NAME``.

    ``late``: something before it comes after the network. ``waits``: which
    step comes after the firewall. ``files``: those in /etc/netns/NAME that are to stand in for /etc.
    """
    early = facts.order == "before" and not late
    return {
        **_empty(nstype, name, facts, unit(nstype, name)),
        "notes": [_LATE_NOTE] if facts.order == "before" and late else [],
        "unit_section": "yes" if early or (waits == "inside" and facts.namespaces) else "",
        "after": [unit(FIREWALL, other) for other in facts.namespaces] if waits == "inside" else [],
        # network.target is passive: who provides network pulls it in (systemd.special(7)).
        "wants": ["network.target"] if early else [],
        "before": ["network.target"] if early else [],
        "bind_read_only": [f"/etc/netns/{name}/{file}:/etc/{file}" for file in files],
        "wanted_by": ["multi-user.target"],
    }


def daemon_dropin(nstype: str, name: str, facts: Facts) -> Context:
    """What dropin.conf.j2 is filled with for a daemon: its file, and that it may be enabled."""
    return {**_empty(nstype, name, facts, unit(nstype, name)), "wanted_by": ["multi-user.target"]}


def outside_dropin(
    nstype: str, name: str, facts: Facts, *, waits: str, udev: bool, running: Running | None
) -> Context:
    """What dropin.conf.j2 is filled with for ``netns_outside-TYPE@NAME``.

    ``udev``: systemd has device units on that machine. ``running``: see there.
    """
    names = [name_unit(other) for other in facts.namespaces]
    kept = [one for one in running.namespaces() if one not in names] if running else []
    devices = [device_unit(device) for device in facts.devices] if udev else []
    binds = [one for one in devices if running is None or running.uses(one)]
    waiting = [one for one in devices if one not in binds]
    wants, after = _order(facts.order)
    # Without udev there are no device units, and an order against what never comes costs nothing.
    after = [*after, *(device_unit(device) for device in facts.devices if device_unit(device) not in waiting)]
    firewalls = [unit(FIREWALL, other) for other in facts.namespaces]
    after += firewalls if waits == "outside" else []
    before = firewalls if waits == "inside" else []
    return {
        **_empty(nstype, name, facts, outside_unit(nstype, name)),
        "notes": [_WAITING_NOTE] if waiting else [],
        "unit_section": "yes" if names or kept or devices or after or before or wants else "",
        "requires": [*names, *waiting],
        "kept": kept,
        "binds_to": binds,
        "wants": wants,
        "after": after,
        "before": before,
    }


def says_something(context: Context) -> bool:
    """Whether the drop-in has any section; a file without one is not written."""
    return bool(context["unit_section"] or context["bind_read_only"] or context["wanted_by"])


def _order(order: str) -> tuple[list[str], list[str]]:
    """Wants= and After= of the outside step, the first thing of an instance that touches the network."""
    if order == "after":
        return [], ["network.target"]
    if order == "online":
        return ["network-online.target"], ["network-online.target"]
    return [], []


def _empty(nstype: str, name: str, facts: Facts, edited: str) -> Context:
    source = facts.sources[-1] if facts.sources else f"the defaults of type {nstype}"
    return {
        "mark": mark(source, edited),
        "sources": list(facts.sources),
        "notes": [],
        "unit_section": "",
        "requires": [],
        "kept": [],
        "binds_to": [],
        "wants": [],
        "after": [],
        "before": [],
        "bind_read_only": [],
        "wanted_by": [],
    }
