"""Checks between options of one instance, by the kinds and the last words of their names.

A type of the administrator that names its options as the shipped ones do
(``X_IFADDR_INSIDE``, ``X_GATEWAY``, ...) is checked like them.
"""

from __future__ import annotations

from netns_tools.config import address
from netns_tools.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.address import Address
    from netns_tools.config.layers import Config
    from netns_tools.config.value import Value

# Kinds of which the same value may not stand on both sides, and why.
_DIFFERENT_SIDES = {
    "ifname": "the two ends of a cable need different names",
    "mac": "two devices of one network need different MAC addresses",
    "addresses": "two devices of one network need different addresses",
}
_IPV6_MTU_MIN = 1280  # RFC 8200, 5


def check(config: Config, broken: set[str]) -> list[Problem]:
    """What does not fit together; options in ``broken`` have problems already and are left out."""
    view = _View(config, broken)
    return [
        *_check_sides(view),
        *_check_nsname(view),
        *_check_gateways(view),
        *_check_default_routes(view),
        *_check_source_macs(view),
        *_check_mtu(view),
    ]


class _View:
    """The own options of a type that are set and in order."""

    def __init__(self, config: Config, broken: set[str]) -> None:
        self.name = config.name
        self.kinds = {name: option.kind for name, option in config.nstype.options.items()}
        self.values = {
            name: value for name, value in config.values.items() if name in self.kinds and name not in broken
        }

    def of_kind(self, kind: str) -> list[tuple[str, Value]]:
        return [(name, value) for name, value in self.values.items() if self.kinds[name] == kind]

    def addresses(self, name: str) -> list[tuple[Address, str, Value]]:
        """The addresses of an option with their entries; with a peer, the network is that of the peer."""
        found = []
        for entry, place in self.values[name].split() if name in self.values else ():
            words = [word for word in entry.replace("\t", " ").split(" ") if word != "local" and word]
            parsed = address.parse(words[0]) if words else None
            if parsed:
                found.append((parsed, entry, place))
        return found


def _check_sides(view: _View) -> list[Problem]:
    """The same name, MAC or address inside and outside."""
    problems = []
    for inside, value in view.values.items():
        outside = inside.removesuffix("_INSIDE") + "_OUTSIDE"
        kind = view.kinds[inside]
        if not inside.endswith("_INSIDE") or outside not in view.values or kind not in _DIFFERENT_SIDES:
            continue
        reason = _DIFFERENT_SIDES[kind]
        if kind != "addresses":
            if value.text.lower() == view.values[outside].text.lower():
                message = f"{inside} and {outside} are both {value.text}"
                problems.append(value.problem(message, hint=reason))
            continue
        others = {(parsed.family, parsed.number) for parsed, _, _ in view.addresses(outside)}
        for parsed, entry, place in view.addresses(inside):
            if (parsed.family, parsed.number) in others:
                message = f"{parsed.text} is in {inside} and in {outside}"
                problems.append(place.problem(message, part=entry, hint=reason))
    return problems


def _check_nsname(view: _View) -> list[Problem]:
    """A namespace cannot be its own other end."""
    return [
        value.problem(f"{name} is {view.name}, the namespace itself", hint=f"leave {name} unset for the host")
        for name, value in view.of_kind("nsname")
        if value.text == view.name
    ]


def _check_gateways(view: _View) -> list[Problem]:
    """A gateway that no address of the device reaches."""
    problems = []
    for name, value in view.of_kind("gateways"):
        stem = name.removesuffix("_GATEWAY")
        own = [*view.addresses(f"{stem}_IFADDR_INSIDE"), *view.addresses(f"{stem}_IFADDR")]
        if not own:
            continue
        networks = [parsed for parsed, _, _ in own] + [
            peer for _, entry, _ in own for peer in (_peer(entry),) if peer is not None
        ]
        for entry, place in value.split():
            gateway = address.parse(entry)
            if gateway is None:
                continue
            if any(
                parsed.family == gateway.family and parsed.number == gateway.number for parsed, _, _ in own
            ):
                message = f"{name}: {entry} is an address of this device itself"
                problems.append(place.problem(message, part=entry, hint="the gateway is the other end"))
            elif not gateway.is_link_local and not any(network.contains(gateway) for network in networks):
                message = f"{name}: {entry} is in no network of the device; the kernel will refuse it"
                hint = "networks: " + ", ".join(parsed.text for parsed, _, _ in own)
                problems.append(place.problem(message, part=entry, hint=hint, severity="warning"))
    return problems


def _peer(entry: str) -> Address | None:
    words = entry.replace("\t", " ").split(" ")
    words = [word for word in words if word]
    return address.parse(words[words.index("peer") + 1]) if "peer" in words[:-1] else None


def _check_default_routes(view: _View) -> list[Problem]:
    """A gateway and a default route of the same family and metric: the kernel refuses the second."""
    problems = []
    for name, value in view.of_kind("routes"):
        stem = name.removesuffix("_INSIDE").removesuffix("_ROUTES")
        gateways = view.values.get(f"{stem}_GATEWAY")
        if name.endswith("_OUTSIDE") or gateways is None:
            continue
        families = {":" in entry for entry, _ in gateways.split()}
        for entry, place in value.split():
            words = [word for word in entry.replace("\t", " ").split(" ") if word]
            own = {"metric", "preference", "table"}.intersection(words)
            if "default" in words[:2] and not own and any(":" in word for word in words) in families:
                message = f"{name}: a second default route beside {stem}_GATEWAY"
                hint = f"give it a metric, or leave {stem}_GATEWAY empty"
                problems.append(place.problem(message, part=entry, hint=hint))
    return problems


def _check_source_macs(view: _View) -> list[Problem]:
    """Source addresses mean something in mode source only, and that mode lets nothing in without them."""
    problems = []
    for name, kind in view.kinds.items():
        mode_name = name.removesuffix("_SOURCE_MACS") + "_MODE"
        if kind != "macs" or mode_name not in view.values:
            continue
        mode, macs = view.values[mode_name], view.values.get(name)
        if macs and mode.text != "source":
            message = f"{name} has no effect in mode {mode.text}"
            problems.append(macs.problem(message, hint=f"write {mode_name}=source", severity="warning"))
        elif not macs and mode.text == "source":
            message = f"mode source lets in only what {name} names, which is empty"
            problems.append(mode.problem(message, hint=f"set {name}", severity="warning"))
    return problems


def _check_mtu(view: _View) -> list[Problem]:
    """IPv6 is switched off by the kernel on a device with an MTU below 1280."""
    if not any(
        parsed.family == 6 for name, _ in view.of_kind("addresses") for parsed, _, _ in view.addresses(name)
    ):
        return []
    return [
        value.problem(
            f"{name}: IPv6 needs an MTU of at least {_IPV6_MTU_MIN}",
            hint="write 1280 or more",
            severity="warning",
        )
        for name, value in view.of_kind("mtu")
        if int(value.text) < _IPV6_MTU_MIN
    ]
