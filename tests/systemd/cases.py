"""One example of each type: what is configured, and what must be true while it runs.

A new type gets its line in ``CASES`` and inherits the whole contract suite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.machine import Machine

BRIDGE_TYPE = """
summary: A bridge inside the namespace
kind: commands
config_required: false
options:
  BR_IFNAME: {kind: ifname, default: br0, help: its name}
steps:
  up_inside: ["ip link add {BR_IFNAME} type bridge"]
  down_inside: ["ip link delete {BR_IFNAME}"]
"""

BASH_TYPE = """
configure_own_up_outside() { assert_non_empty OWN_IFNAME; ip link add "$OWN_IFNAME" netns "$1" type bridge; }
configure_own_up_inside() { ip link set "$OWN_IFNAME" up; }
configure_own_down_outside() { ip -n "$1" link delete "$OWN_IFNAME"; }
"""


@dataclass
class Case:
    """A type, its files below /etc/conf.d/netns (``NAME``: the namespace), and what it brings up."""

    nstype: str
    is_up: str
    """A line for bash that succeeds while ``NAME`` runs."""
    files: dict[str, str] = field(default_factory=dict)
    edit: tuple[str, str, str] | None = None
    """A file, its new text, and a line for bash that succeeds once that is in force."""
    broken: tuple[str, str] | None = None
    """A file and a text that must be refused."""
    prepare: str = ""
    clean: str = ""

    def unit(self, name: str) -> str:
        return f"netns-{self.nstype}@{name}.service"

    def configure(self, machine: Machine, name: str) -> None:
        """Write the files and run netns-update."""
        for file, text in self.files.items():
            machine.write(f"/etc/conf.d/netns/{file.replace('NAME', name)}", text)
        machine.run("netns-update")

    def check_up(self, machine: Machine, name: str) -> None:
        """Fail unless the type is up in the namespace."""
        machine.run(self.is_up.replace("NAME", name))


VETH = "VETH_IFADDR_OUTSIDE=10.9.0.1/24\nVETH_IFADDR_INSIDE='10.9.0.2/24, 2001:db8:9::2/64'\n"
MACVLAN = "MACVLAN_PARENT_IFNAME=uplink\nMACVLAN_IFADDR=192.0.2.9/24\n"

CASES = [
    Case(
        "lo",
        "ip -n NAME link show lo | grep -q LOOPBACK,UP",
        broken=("lo-NAME.yaml", "no_such_option: 1\n"),
    ),
    Case(
        "veth",
        "ping -c1 -W2 10.9.0.2",
        {"veth-NAME.conf": VETH},
        edit=("veth-NAME.conf", VETH.replace("10.9.0.2", "10.9.0.7"), "ping -c1 -W2 10.9.0.7"),
        broken=("veth-NAME.conf", VETH.replace("10.9.0.2/24", "10.9.0.2/99")),
    ),
    Case(
        "macvlan",
        "ip -n NAME -br address show eth100 | grep -q 192.0.2.9/24",
        {"macvlan-NAME.conf": MACVLAN},
        edit=(
            "macvlan-NAME.conf",
            MACVLAN + "MACVLAN_IFNAME=other\n",
            "ip -n NAME link show other && ! ip -n NAME link show eth100",
        ),
        broken=("macvlan-NAME.conf", MACVLAN + "MACVLAN_MAC=11:22:33:44:55:66\n"),
        prepare="ip link add uplink type bridge; ip link set uplink up",
        clean="ip link delete uplink",
    ),
    Case(
        "nft",
        "ip netns exec NAME nft list table inet first",
        {"nft-NAME.rules": "table inet first { counter c { packets 3 bytes 9 }; }\n"},
        edit=(
            "nft-NAME.rules",
            "table inet second { }\n",
            "ip netns exec NAME nft list table inet second && ! ip netns exec NAME nft list table inet first",
        ),
        broken=("nft-NAME.rules", "table inet first { chain c { no such rule } }\n"),
    ),
    Case(
        "bridge",
        "ip -n NAME link show br0",
        {"bridge.yaml": BRIDGE_TYPE},
        edit=(
            "bridge-NAME.conf",
            "BR_IFNAME=br1\n",
            "ip -n NAME link show br1 && ! ip -n NAME link show br0",
        ),
        broken=("bridge-NAME.conf", "BR_IFNAME=sixteencharacters\n"),
    ),
    Case(
        "own",
        "ip -n NAME link show br7 | grep -q ,UP",
        {"own.sh": BASH_TYPE, "own-NAME.conf": "OWN_IFNAME=br7\n"},
        edit=("own-NAME.conf", "OWN_IFNAME=br8\n", "ip -n NAME link show br8"),
        broken=("own-NAME.conf", "OWN_IFNAME='br7\n"),
    ),
]

OfCase = Callable[[Case], str]
