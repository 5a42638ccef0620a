"""What every kind of link has: it goes up, and gets addresses and routes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.steps.plan import Plan


def plan_device(
    plan: Plan,
    config: Config,
    file: str,
    device: str,
    *,
    addresses: str,
    gateways: str = "",
    routes: str = "",
    nodad: bool = False,
) -> None:
    """Plan a device that exists: up, addresses, then routes, as lines of ``file``.

    ``addresses``, ``gateways`` and ``routes`` are option names.
    ``nodad``: no duplicate address detection, so that a service can bind an IPv6
    address at once; right on a cable with two ends, wrong on a shared network.
    """
    values = config.values
    plan.add(file, f"link set dev {device} up")
    for words in config.items(addresses):
        skip_dad = nodad and ":" in words[0] and "nodad" not in words
        extra = [*words[1:], "nodad"] if skip_dad else words[1:]
        line = " ".join(["address add", words[0], "dev", device, *extra])
        plan.add(file, line, values.get(addresses))
    # Routes before gateways: a gateway may be reachable by one of them.
    for words in config.items(routes) if routes else ():
        line = " ".join(["route add", *words, *([] if "dev" in words else ["dev", device])])
        plan.add(file, line, values.get(routes))
    for words in config.items(gateways) if gateways else ():
        line = " ".join(["route add default via", words[0], "dev", device, *words[1:]])
        plan.add(file, line, values.get(gateways))
