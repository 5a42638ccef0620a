"""The configuration of one instance: layers, defaults, and every problem at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netns_tools.config import bash
from netns_tools.config.layers import load_config
from netns_tools.config.nstype import load_nstype
from netns_tools.errors import ConfigError
from netns_tools.paths import Paths

from .conftest import Load, Refused, Write

VETH = "VETH_IFADDR_OUTSIDE=10.0.0.1/24\nVETH_IFADDR_INSIDE='10.0.0.2/24 broadcast +, 2001:db8::2/64'\n"
VXLAN = """\
summary: A VXLAN tunnel
options:
  VX_ID: {kind: text, required: true}
steps:
  up_outside: ["ip link add vx0 type vxlan id {VX_ID}"]
"""


def test_one_file(load: Load, write: Write) -> None:
    path = write("veth-demo.conf", VETH)
    config = load()
    assert config.text("VETH_IFADDR_OUTSIDE") == "10.0.0.1/24"
    assert config.items("VETH_IFADDR_INSIDE") == [["10.0.0.2/24", "broadcast", "+"], ["2001:db8::2/64"]]
    assert (config.text("VETH_MTU"), config.items("VETH_GATEWAY")) == ("", [])
    assert (config.values["VETH_IFADDR_INSIDE"].path, config.values["VETH_IFADDR_INSIDE"].line) == (path, 2)
    assert config.warnings == []
    assert not config.volatile


def test_defaults_are_filled_in(load: Load, write: Write, paths: Paths) -> None:
    write("veth-a-b.conf", VETH)
    config = load("veth", "a-b")
    assert config.text("VETH_IFNAME_INSIDE") == "ve-a-b1"
    assert config.values["VETH_IFNAME_INSIDE"].path == f"{paths.nstypes}/veth.yaml"
    assert config.text("HOST_IFNAME") == "eth0"


def test_layers_lie_upon_each_other(load: Load, write: Write) -> None:
    for stem in ("default", "veth", "veth-demo"):
        write(f"{stem}.conf", f"TRACE=$TRACE/{stem}.conf\n" + (VETH if stem == "veth" else ""))
    write("default.yaml", "veth_mtu: 1401\nhost_gateway: 10.0.0.9\n")
    write("veth.yaml", "veth_mtu: 1402\nveth_ifname: v\n")
    write(
        "veth-demo.conf", "TRACE=$TRACE/last-$VETH_MTU-$HOST_GATEWAY-$NSTYPE-$NSNAME-$NAME\nVETH_MTU=1403\n"
    )
    write("veth-demo.yaml", "veth_ifname: w\n")
    config = load()
    assert config.variables["TRACE"].text == "/default.conf/veth.conf/last-1402-10.0.0.9-veth-demo-demo"
    assert (config.text("VETH_MTU"), config.text("VETH_IFNAME_INSIDE")) == ("1403", "wdemo1")


def test_yaml_is_an_equal(load: Load, write: Write) -> None:
    write(
        "veth-demo.yaml",
        """\
veth_ifaddr_outside: 10.0.0.1/24
veth_ifaddr_inside:
  - 10.0.0.2/24 broadcast +
  - 2001:db8::2/64
veth_mac_inside: 02:00:00:00:00:01
""",
    )
    config = load()
    assert config.items("VETH_IFADDR_INSIDE") == [["10.0.0.2/24", "broadcast", "+"], ["2001:db8::2/64"]]
    assert config.text("VETH_MAC_INSIDE") == "02:00:00:00:00:01"


def test_yaml_values_are_literal(refused: Refused, write: Write) -> None:
    write("veth-demo.yaml", "veth_ifaddr_inside: ${HOST_ADDR}\nveth_ifaddr_outside: $(reboot)\n")
    told = refused()
    assert "veth-demo.yaml:1:21: error: VETH_IFADDR_INSIDE: '$' is not allowed in '${HOST_ADDR}'" in told
    assert "veth-demo.yaml:2:22: error: VETH_IFADDR_OUTSIDE: '$' is not allowed in '$(reboot)'" in told


def test_empty_means_unset_but_for_prefix_and_lists(load: Load, write: Write) -> None:
    write("default.conf", "HOST_GATEWAY=192.0.2.1\n")
    write("macvlan.conf", "MACVLAN_IFADDR=192.0.2.2/24\nMACVLAN_IFNAME=\nMACVLAN_MODE=\n")
    config = load("macvlan")
    assert config.items("MACVLAN_GATEWAY") == [["192.0.2.1"]]
    assert (config.text("MACVLAN_IFNAME"), config.text("MACVLAN_MODE")) == ("eth100", "bridge")
    write("macvlan-demo.conf", "MACVLAN_GATEWAY=\n")
    assert load("macvlan").items("MACVLAN_GATEWAY") == []
    write("veth.conf", VETH + "VETH_IFNAME=\n")
    assert load().text("VETH_IFNAME_INSIDE") == "demo1"


def test_real_shell_is_read_by_bash(load: Load, write: Write) -> None:
    write("default.conf", 'addr() { echo "10.0.$1.$2/24"; }\n')
    write("veth.conf", "VETH_IFNAME=w-\n")
    write(
        "veth-demo.conf",
        "VETH_IFADDR_OUTSIDE=$(addr 1 1)\nVETH_IFADDR_INSIDE=$(addr 1 2)\nunset VETH_IFNAME\n",
    )
    config = load()
    assert config.text("VETH_IFADDR_INSIDE") == "10.0.1.2/24"
    assert config.values["VETH_IFADDR_INSIDE"].line == 2
    assert config.text("VETH_IFNAME") == "ve-"
    assert config.volatile


def test_plain_files_never_start_bash(load: Load, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bash, "_run", None)
    write("veth.conf", VETH + 'X="${HOST_IFNAME:-eth9}.${NAME}"\n')
    assert load().variables["X"].text == "eth9.demo"


def test_an_array_is_refused(refused: Refused, write: Write) -> None:
    write("veth.conf", VETH + "VETH_IFADDR_INSIDE=(10.0.0.2/24 10.0.0.3/24)\n")
    assert "veth.conf:3:20: error: VETH_IFADDR_INSIDE is an array" in refused()


def test_all_problems_of_all_files_at_once(refused: Refused, write: Write) -> None:
    write("default.conf", "HOST_IFNAME = eth0\n")
    write("veth.yaml", "veth_mtu: 60\nveth_mut: 1500\n")
    write("veth-demo.conf", "VETH_IFADDR_OUTSIDE=10.0.0.1/33\nVETH_MAC_INSIDE=01:00:5e:00:00:01\n")
    told = refused()
    places = [line.split(" ")[0] for line in told.splitlines() if not line.startswith(" ")]
    assert places == [
        "default.conf:1:13:", "veth.yaml:2:1:", "veth-demo.conf:1:21:", "veth.yaml:1:11:",
        "veth-demo.conf:2:17:",
    ]  # fmt: skip
    assert "did you mean veth_mtu?" in told


def test_required_options(refused: Refused, write: Write) -> None:
    write("veth.conf", "VETH_IFADDR_INSIDE=\n")
    told = refused()
    assert "veth.conf: error: VETH_IFADDR_OUTSIDE is required but not set" in told
    assert "hint: add a line like  VETH_IFADDR_OUTSIDE='10.0.0.1/24, 2001:db8::1/64'" in told
    assert "veth.conf:1:20: error: VETH_IFADDR_INSIDE is required but empty" in told


def test_the_lines_that_hints_give_can_be_pasted(load: Load, refused: Refused, write: Write) -> None:
    write("veth.conf", "")
    lines = [line.split("like  ")[1] for line in refused().splitlines() if "like  " in line]
    write("veth.conf", "\n".join(lines))
    assert load().warnings == []


def test_no_configuration_at_all(refused: Refused, paths: Paths, load: Load, write: Write) -> None:
    write("default.conf", "HOST_IFNAME=eth0\n")
    told = refused()
    assert "no configuration for veth@demo: neither veth-demo.conf nor veth.conf" in told
    assert "`netnsctl types veth`" in told
    assert "required" not in told
    assert load("lo").values.keys() == load("nft").values.keys() - {"NFT_AUTO_SAVE", "NFT_STOP"}
    os.unlink(f"{paths.conf}/default.conf")
    os.rmdir(paths.conf)
    load("lo")
    assert "no configuration" in refused()


def test_misspelt_options_are_a_warning(load: Load, write: Write) -> None:
    write("veth.conf", VETH + "VETH_GATWAY=10.0.0.1\nveth_mtu=1400\nMY_HELPER=1\nVETHX=1\n")
    assert [problem.render().partition(": ")[2] for problem in load().warnings] == [
        "warning: VETH_GATWAY is no option of veth; misspelt?\n"
        "    VETH_GATWAY=10.0.0.1\n"
        "    ^^^^^^^^^^^\n"
        "  hint: did you mean VETH_GATEWAY?",
        "warning: veth_mtu is no option of veth; misspelt?\n"
        "    veth_mtu=1400\n"
        "    ^^^^^^^^\n"
        "  hint: did you mean VETH_MTU?",
    ]


def test_names_of_devices_that_are_too_long(refused: Refused, write: Write) -> None:
    write("veth.conf", VETH + "VETH_IFNAME=veth-\n")
    told = refused("veth", "averylongname")
    assert "VETH_IFNAME_INSIDE: device name 'veth-averylongname1' has 19 characters; Linux allows 15" in told
    assert "set VETH_IFNAME_INSIDE, or a shorter VETH_IFNAME (now 'veth-') in veth-averylongname.conf" in told


@pytest.mark.parametrize("name", ["host", "", "a/b", "a b", "-x", "..", "x" * 65, "a\n", "$(reboot)"])
def test_names_that_are_refused(refused: Refused, write: Write, name: str) -> None:
    write("veth.conf", VETH)
    assert refused("veth", name)


def test_a_default_that_comes_from_another_option_blames_that_one(refused: Refused, write: Write) -> None:
    write("default.conf", "HOST_IFNAME=not/a/device\n")
    write("macvlan.conf", "MACVLAN_IFADDR=10.0.0.1/24\n")
    assert "default.conf:1:13: error: MACVLAN_PARENT_IFNAME: 'not/a/device' is no device name" in refused(
        "macvlan"
    )


def test_nsname_cannot_be_changed(refused: Refused, write: Write) -> None:
    write("veth.conf", VETH + "NSNAME=other\n")
    assert "veth.conf:3:8: error: NSNAME is set by netns-tools" in refused()


@pytest.mark.parametrize(
    "name", ["default.conf", "veth.conf", "veth.yaml", "veth-demo.conf", "veth-demo.yaml"]
)
def test_a_file_that_others_can_write_is_refused(refused: Refused, write: Write, name: str) -> None:
    write("veth.conf", VETH)
    path = write(name, Path(write("copy", VETH)).read_text() if name == "veth.conf" else "")
    os.chmod(path, 0o666)
    assert f"{name}: error: refused: can be written by everybody (mode 0666)" in refused()


def test_a_directory_that_others_can_write_is_refused(refused: Refused, write: Write, paths: Paths) -> None:
    write("veth.conf", VETH)
    os.chmod(paths.conf, 0o777)
    assert f"{paths.conf}: error: refused: can be written by everybody" in refused()


def test_unknown_keys_of_default_yaml_may_belong_to_other_types(
    load: Load, refused: Refused, write: Write
) -> None:
    write("veth.conf", VETH)
    write("default.yaml", "macvlan_mode: vepa\n")
    assert load().warnings == []
    write("default.yaml", "macvlan_mod: vepa\n")
    assert "did you mean macvlan_mode?" in refused()


def test_yaml_keys_are_in_lower_case(refused: Refused, write: Write) -> None:
    write("veth.conf", VETH)
    write("veth.yaml", "VETH_MTU: 1400\nveth_ifname: [a]\n")
    told = refused()
    assert "veth.yaml:1:1: error: unknown key 'VETH_MTU'" in told
    assert "hint: write veth_mtu" in told
    assert "veth_ifname takes one value, not a list" in told


def test_a_definition_in_yaml_is_no_layer(load: Load, write: Write) -> None:
    write("vx.yaml", VXLAN)
    write("vx-demo.yaml", "vx_id: 42\n")
    assert load("vx").text("VX_ID") == "42"


def test_bash_types_have_every_variable(load: Load, write: Write) -> None:
    write("tun.sh", "configure_tun_up_inside() { :; }\n")
    write("tun.conf", "A=1\nB=$A\n")
    write("tun-demo.yaml", "anything: 2\na: 3\n")
    write("tun-demo.conf", "C=$(touch pwned)\n")  # left to the bash of the script
    config = load("tun")
    assert {name: value.text for name, value in config.values.items()} == {
        "A": "3",
        "B": "1",
        "ANYTHING": "2",
    }
    assert not os.path.exists("pwned")


def test_inputs_are_all_that_matters(load: Load, write: Write, paths: Paths) -> None:
    write("veth.conf", VETH)
    assert load().inputs == [
        *(f"{paths.conf}/{name}" for name in ("default.conf", "default.yaml", "veth.conf", "veth.yaml")),
        *(f"{paths.conf}/{name}" for name in ("veth-demo.conf", "veth-demo.yaml", "veth.sh")),
        f"{paths.nstypes}/veth.yaml",
        f"{paths.legacy_types}/veth.sh",
        f"{paths.nstypes}/default.yaml",
    ]


def test_no_value_is_ever_executed(load: Load, refused: Refused, write: Write, tmp_path: Path) -> None:
    proof = tmp_path / "pwned"
    evil = f"$(touch {proof})`touch {proof}`;touch {proof}"
    write("default.conf", f"X='{evil}'\n")
    write("veth.conf", VETH + 'Y="$X" Z=${X:-$X} VETH_MTU=${X}\n')
    write("veth-demo.conf", 'W=$(printf %s "$X")\nV=$X\n')  # through bash as well
    assert "VETH_MTU" in refused()
    write("veth.conf", VETH + 'Y="$X" Z=${X:-$X}\n')
    config = load()
    assert {config.variables[name].text for name in "VWXYZ"} == {evil}
    assert not proof.exists()


CONF = st.lists(
    st.sampled_from(
        [
            "VETH_MTU=",
            "VETH_IFADDR_INSIDE=",
            "10.0.0.2/24",
            "1500",
            "'",
            '"',
            "${",
            "}",
            "NAME",
            "\n",
            " ",
            "=",
            "#",
            "\\",
            "\0",
            "\r\n",
            "é",
            "$X",
            ",",
            "NSNAME=",
            "01:00:00:00:00:00",
            "VETH_MAC_INSIDE=",
        ]
    ),
    max_size=12,
).map("".join)
YAML = st.lists(
    st.sampled_from(
        [
            "veth_mtu: ",
            "veth_gateway: ",
            "- ",
            "[",
            "]",
            "{",
            "10.0.0.1",
            ", ",
            "'",
            "\n",
            "  ",
            "&a ",
            "*a",
            "!x ",
            "\t",
            "x: ",
            "~",
            "|",
            "steps: ",
            "veth_mac_inside: ",
        ]
    ),
    max_size=12,
).map("".join)


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(conf=CONF, yaml=YAML, kind=st.sampled_from(["veth", "macvlan", "nft"]))
def test_no_files_raise_anything_but_config_error(
    conf: str, yaml: str, kind: str, paths: Paths, write: Write
) -> None:
    write("veth-demo.conf", conf)
    write("veth.yaml", yaml)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bash, "_run", lambda *_: ([("end", "0", "", "")], "", False))
        try:
            load_config(load_nstype(kind, paths), "demo", paths)
        except ConfigError as error:
            text = error.render()
            assert text
