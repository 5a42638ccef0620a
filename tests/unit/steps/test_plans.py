"""The lines of a plan, for configurations that a reader can check by eye; and properties of all of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netns_tools.config.layers import load_config
from netns_tools.config.nstype import load_nstype
from netns_tools.errors import NetnsToolsError
from netns_tools.names import device_group
from netns_tools.paths import Paths
from netns_tools.steps.plan import Plan
from netns_tools.steps.planner import plan_type
from netns_tools.steps.types.commands import quote


def planned(root: Path, nstype: str, text: str, name: str = "demo", **files: str) -> dict[str, list[str]]:
    """The plan of a configuration, without the notes on where a line comes from."""
    conf = root / "etc/conf.d/netns"
    conf.mkdir(parents=True, exist_ok=True)
    for file, content in {f"{nstype}-{name}.conf": text, **files}.items():
        (conf / file).write_text(content)
    paths = Paths(str(root))
    plan = plan_type(load_config(load_nstype(nstype, paths), name, paths), paths)
    return {file: [line.partition("  # ")[0] for line in lines] for file, lines in plan.files.items()}


def test_veth(tmp_path: Path) -> None:
    text = (
        'VETH_IFADDR_OUTSIDE="10.0.0.1/24, 2001:db8::1/64"\n'
        'VETH_IFADDR_INSIDE="10.0.0.2/24 broadcast +, 2001:db8::2/64"\n'
        'VETH_GATEWAY="10.0.0.1, 2001:db8::1"\nVETH_ROUTES_INSIDE="192.0.2.0/24 via 10.0.0.7 metric 5"\n'
        "VETH_MTU=1400\nVETH_MAC_INSIDE=02:00:00:00:00:02\n"
    )
    group = device_group("veth")
    assert planned(tmp_path, "veth", text) == {
        "up-outside.ip": [
            "link add name ve-demo0 mtu 1400 type veth peer name ve-demo1 netns demo"
            f" group {group} address 02:00:00:00:00:02 mtu 1400",
            "link set dev ve-demo0 alias netns-veth@demo.service",
            "link set dev ve-demo0 up",
            "address add 10.0.0.1/24 dev ve-demo0",
            "address add 2001:db8::1/64 dev ve-demo0 nodad",
        ],
        "up-inside.ip": [
            "link set dev ve-demo1 up",
            "address add 10.0.0.2/24 dev ve-demo1 broadcast +",
            "address add 2001:db8::2/64 dev ve-demo1 nodad",
            "route add 192.0.2.0/24 via 10.0.0.7 metric 5 dev ve-demo1",
            "route add default via 10.0.0.1 dev ve-demo1",
            "route add default via 2001:db8::1 dev ve-demo1",
        ],
        "group": [str(group)],
    }


def test_veth_into_another_namespace(tmp_path: Path) -> None:
    text = "VETH_NSNAME_OUTSIDE=router\nVETH_IFADDR_OUTSIDE=10.0.0.1/24\nVETH_IFADDR_INSIDE=10.0.0.2/24\n"
    plan = planned(tmp_path, "veth", text)
    assert plan["up-outside.ip"] == [
        "link add name ve-demo0 netns router type veth peer name ve-demo1 netns demo"
        f" group {device_group('veth')}"
    ]
    assert plan["peer"] == ["router"]
    assert plan["up-peer.ip"] == ["link set dev ve-demo0 up", "address add 10.0.0.1/24 dev ve-demo0"]


def test_macvlan(tmp_path: Path) -> None:
    text = "MACVLAN_IFADDR=192.0.2.9/24\nMACVLAN_MODE=source\nMACVLAN_SOURCE_MACS=02:00:00:00:00:09\n"
    default = {"default.conf": "HOST_IFNAME=eno1\nHOST_GATEWAY=192.0.2.1\n"}
    assert planned(tmp_path, "macvlan", text, **default) == {
        "up-outside.ip": [
            f"link add link eno1 name eth100 netns demo group {device_group('macvlan')}"
            " type macvlan mode source"
        ],
        "up-inside.ip": [
            "link set dev eth100 type macvlan macaddr add 02:00:00:00:00:09",
            "link set dev eth100 up",
            "address add 192.0.2.9/24 dev eth100",
            "route add default via 192.0.2.1 dev eth100",
        ],
        "group": [str(device_group("macvlan"))],
    }


def test_macvlan_without_a_gateway(tmp_path: Path) -> None:
    default = {"default.conf": "HOST_GATEWAY=192.0.2.1\n"}
    plan = planned(tmp_path, "macvlan", "MACVLAN_IFADDR=192.0.2.9/24\nMACVLAN_GATEWAY=\n", **default)
    assert not [line for line in plan["up-inside.ip"] if line.startswith("route")]


def test_firewall_replaces_in_one_transaction(tmp_path: Path) -> None:
    plan = planned(tmp_path, "nft", "NFT_AUTO_SAVE=yes\n", **{"nft-demo.rules": "table inet t { }\n"})
    rules = f"{tmp_path}/etc/conf.d/netns/nft-demo.rules"
    assert plan["up-inside.nft"] == ["flush ruleset", f'include "{rules}"']
    assert plan["down-inside.sh"] == ["netns-nft-save demo"]
    assert plan["requires"] == ["lo"]


@pytest.mark.parametrize(
    ("text", "saves"), [("yes", True), ("Yes", True), ("true", True), ("1", True), ("no", False)]
)
def test_auto_save_means_what_the_check_of_the_option_accepts(tmp_path: Path, text: str, saves: bool) -> None:
    plan = planned(tmp_path, "nft", f"NFT_AUTO_SAVE={text}\n", **{"nft-demo.rules": "table inet t { }\n"})
    assert ("down-inside.sh" in plan) == saves


def test_warnings_are_part_of_the_plan_so_that_every_start_says_them(tmp_path: Path) -> None:
    plan = planned(tmp_path, "veth", "VETH_IFADDR_OUTSIDE=10.0.0.1\nVETH_IFADDR_INSIDE=10.0.0.2/24\n")
    assert any("10.0.0.1" in line for line in plan["warnings"])


def test_every_line_says_where_it_comes_from(tmp_path: Path) -> None:
    conf = tmp_path / "etc/conf.d/netns"
    conf.mkdir(parents=True)
    (conf / "veth-demo.conf").write_text("VETH_IFADDR_OUTSIDE=10.0.0.1/24\nVETH_IFADDR_INSIDE=10.0.0.2/24\n")
    paths = Paths(str(tmp_path))
    plan = plan_type(load_config(load_nstype("veth", paths), "demo", paths), paths)
    line = next(line for line in plan.files["up-inside.ip"] if line.startswith("address"))
    assert line.endswith(f"  # {conf}/veth-demo.conf:2")


def test_a_command_never_holds_a_line_break() -> None:
    for command in ("ip link\nset", "@ up-inside.ip"):
        with pytest.raises(NetnsToolsError):
            Plan().add("up-outside.sh", command)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_quoted_word_reaches_the_program_as_it_is(words: list[str]) -> None:
    line = " ".join(["printf '%s\\0'", *map(quote, words)])
    said = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=20).stdout
    assert said == "".join(f"{word}\0" for word in words or [""]).encode()
