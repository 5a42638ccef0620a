"""A pair of virtual Ethernet devices: one outside, one inside the namespace (veth(4))."""

from __future__ import annotations

from netns_tools.names import device_group, unit
from netns_tools.steps.device import plan_device
from netns_tools.steps.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.paths import Paths


def plan(config: Config, paths: Paths) -> Plan:
    """Plan the pair: created down, then brought up end by end, inside last."""
    result = Plan()
    values = config.values
    outside = config.text("VETH_IFNAME_OUTSIDE")
    inside = config.text("VETH_IFNAME_INSIDE")
    other = config.text("VETH_NSNAME_OUTSIDE")
    mtu = config.text("VETH_MTU")
    end = f" mtu {mtu}" if mtu else ""
    mac_outside = config.text("VETH_MAC_OUTSIDE")
    mac_inside = config.text("VETH_MAC_INSIDE")
    result.add(
        "up-outside.ip",
        f"link add name {outside}"
        + (f" netns {other}" if other else "")
        + (f" address {mac_outside}" if mac_outside else "")
        + f"{end} type veth peer name {inside} netns {config.name} group {device_group('veth')}"
        + (f" address {mac_inside}" if mac_inside else "")
        + end,
        values.get("VETH_IFNAME_OUTSIDE"),
        values.get("VETH_IFNAME_INSIDE"),
    )
    if other:
        result.note("peer", other)
    else:
        result.add("up-outside.ip", f"link set dev {outside} alias {unit('veth', config.name)}")
    plan_device(
        result,
        config,
        "up-peer.ip" if other else "up-outside.ip",
        outside,
        addresses="VETH_IFADDR_OUTSIDE",
        routes="VETH_ROUTES_OUTSIDE",
        nodad=True,
    )
    plan_device(
        result,
        config,
        "up-inside.ip",
        inside,
        addresses="VETH_IFADDR_INSIDE",
        routes="VETH_ROUTES_INSIDE",
        gateways="VETH_GATEWAY",
        nodad=True,
    )
    return result
