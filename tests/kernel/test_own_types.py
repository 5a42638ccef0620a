"""Types of the administrator: commands in YAML, and bash scripts."""

from __future__ import annotations

from tests.kernel.conftest import FakeHost

BRIDGE = """
summary: A bridge inside the namespace
kind: commands
options:
  BR_IFNAME: {kind: ifname, default: br0, help: its name}
  BR_IFADDR: {kind: addresses, help: its addresses}
  BR_NOTE: {kind: text, help: its alias}
  BR_MTU: {kind: mtu, help: its MTU}
steps:
  up_outside:
    - touch /run/outside-{NSNAME}
  up_inside:
    - ip link add {BR_IFNAME} type bridge
    - ip link set {BR_IFNAME} mtu {BR_MTU}
    - ip link set {BR_IFNAME} alias {BR_NOTE}
    - ip address add {BR_IFADDR} dev {BR_IFNAME}
  down_inside:
    - ip link delete {BR_IFNAME}
  down_outside:
    - rm /run/outside-{NSNAME}
"""

SCRIPT = r"""
NO_CONFIG_REQUIRED=1
function configure_own_up_outside() {
  assert_non_empty OWN_IFNAME
  echo "$NSTYPE $NSNAME $UPDOWN $INOUT $# $1 ${2-}" >> /run/log
  ip link add "$OWN_IFNAME" netns "$1" type bridge
}
function configure_own_up_inside() { ip link set "$OWN_IFNAME" up; }
function configure_own_down_outside() { ip -n "$1" link delete "$OWN_IFNAME"; }
"""


def test_commands_with_every_kind_of_option(host: FakeHost) -> None:
    host.configure("bridge.yaml", BRIDGE)
    host.configure(
        "bridge-demo.yaml",
        "br_ifaddr: [192.0.2.1/24, '2001:db8::1/64 nodad']\nbr_note: two words; $(touch /run/pwned)\n",
    )
    host.start("bridge", "demo")
    link = host.links("demo")["br0"]
    assert link["ifalias"] == "two words; $(touch /run/pwned)"
    assert link["mtu"] == 1500
    assert host.addresses("br0", "demo") == {"192.0.2.1/24", "2001:db8::1/64"}
    assert host.run("ls", "/run/pwned", check=False).returncode != 0
    host.run("ls", "/run/outside-demo")
    host.step("bridge", "demo", "down", "inside")
    host.step("bridge", "demo", "down", "outside")
    assert set(host.links("demo")) == {"lo"}
    assert host.run("ls", "/run/outside-demo", check=False).returncode != 0


def test_a_stop_undoes_what_the_start_did_even_if_the_configuration_changed(host: FakeHost) -> None:
    host.configure("bridge.yaml", BRIDGE)
    host.configure("bridge-demo.conf", "BR_IFNAME=first\n")
    host.start("bridge", "demo")
    host.configure("bridge-demo.conf", "BR_IFNAME=second\n")
    host.step("bridge", "demo", "down", "inside")
    assert set(host.links("demo")) == {"lo"}


def test_a_failing_command_is_shown_with_its_origin(host: FakeHost) -> None:
    host.configure("bridge.yaml", BRIDGE)
    host.configure("bridge-demo.conf", f"BR_IFADDR=192.0.2.1/24\nBR_NOTE={'x' * 300}\n")
    host.name_up("demo")
    host.step("bridge", "demo", "up", "outside")
    failed = host.step("bridge", "demo", "up", "inside", check=False)
    assert failed.returncode == 1
    assert "ip link set br0 alias xxx" in failed.stderr
    assert "/etc/conf.d/netns/bridge-demo.conf:2" in failed.stderr


def test_bash_type(host: FakeHost) -> None:
    host.configure("own.sh", SCRIPT)
    host.configure("default.conf", "BASE=br\n")
    host.configure("own-demo.conf", 'OWN_IFNAME="${BASE}7"\n')
    host.name_up("demo")
    host.step("own", "demo", "up", "outside", "parameter")
    host.step("own", "demo", "up", "inside")
    assert "UP" in host.links("demo")["br7"]["flags"]
    assert host.run("cat", "/run/log").stdout == "own demo up outside 2 demo parameter\n"
    host.step("own", "demo", "down", "inside")
    host.step("own", "demo", "down", "outside")
    assert set(host.links("demo")) == {"lo"}


def test_bash_type_says_which_variable_is_missing(host: FakeHost) -> None:
    host.configure("own.sh", SCRIPT)
    host.name_up("demo")
    failed = host.step("own", "demo", "up", "outside", check=False)
    assert failed.returncode == 1
    assert "OWN_IFNAME must be set in /etc/conf.d/netns/own-demo.conf" in failed.stderr


def test_bash_type_in_the_legacy_directory_and_etc_first(host: FakeHost) -> None:
    host.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/usr/share")
    host.write(
        "/usr/share/systemd-netns/own.sh",
        "NO_CONFIG_REQUIRED=1\nconfigure_own_up_outside() { echo legacy; }\n",
    )
    host.name_up("demo")
    assert host.step("own", "demo", "up", "outside").stdout == "legacy\n"
    host.configure("own.sh", "NO_CONFIG_REQUIRED=1\nconfigure_own_up_outside() { echo etc; }\n")
    assert host.step("own", "demo", "up", "outside").stdout == "etc\n"


def test_a_bash_type_that_others_may_write_never_runs(host: FakeHost) -> None:
    host.write("/etc/conf.d/netns/own.sh", "NO_CONFIG_REQUIRED=1\ntouch /run/pwned\n", mode=0o777)
    host.name_up("demo")
    assert host.step("own", "demo", "up", "outside", check=False).returncode == 2
    assert host.run("ls", "/run/pwned", check=False).returncode != 0


def test_every_failing_line_of_a_bash_step_ends_it(host: FakeHost) -> None:
    host.configure(
        "own.sh", "NO_CONFIG_REQUIRED=1\nconfigure_own_up_outside() { false; touch /run/after; }\n"
    )
    host.name_up("demo")
    assert host.step("own", "demo", "up", "outside", check=False).returncode == 1
    assert host.run("ls", "/run/after", check=False).returncode != 0
