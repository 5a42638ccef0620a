"""A device with its own MAC address on top of a device of the host (ip-link(8), macvlan)."""

from __future__ import annotations

from netns_tools.names import device_group
from netns_tools.steps.device import plan_device
from netns_tools.steps.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.paths import Paths


def plan(config: Config, paths: Paths) -> Plan:
    """Plan the device: created in the namespace itself, so its name is never taken on the host."""
    result = Plan()
    values = config.values
    device = config.text("MACVLAN_IFNAME")
    mac = config.text("MACVLAN_MAC")
    mtu = config.text("MACVLAN_MTU")
    result.add(
        "up-outside.ip",
        f"link add link {config.text('MACVLAN_PARENT_IFNAME')} name {device} netns {config.name}"
        f" group {device_group('macvlan')}"
        + (f" address {mac}" if mac else "")
        + (f" mtu {mtu}" if mtu else "")
        + f" type macvlan mode {config.text('MACVLAN_MODE')}",
        values.get("MACVLAN_PARENT_IFNAME"),
        values.get("MACVLAN_IFNAME"),
    )
    if config.text("MACVLAN_MODE") == "source":
        for words in config.items("MACVLAN_SOURCE_MACS"):
            result.add(
                "up-inside.ip",
                f"link set dev {device} type macvlan macaddr add {words[0]}",
                values.get("MACVLAN_SOURCE_MACS"),
            )
    plan_device(
        result,
        config,
        "up-inside.ip",
        device,
        addresses="MACVLAN_IFADDR",
        routes="MACVLAN_ROUTES",
        gateways="MACVLAN_GATEWAY",
    )
    return result
