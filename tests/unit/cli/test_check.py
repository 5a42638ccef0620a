"""netnsctl check: everything that is wrong, at once, with its place and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Machine


def test_nothing_is_wrong(machine: Machine) -> None:
    machine.veth("a", "10.1.0")
    machine.veth("b", "10.2.0")
    result = machine.run("check")
    assert result.code == 0
    assert result.out == "2 instances checked, no problem found.\n"


def test_a_finding_shows_line_caret_and_hint(machine: Machine) -> None:
    machine.veth("a", "10.1.0")
    machine.write("veth-b.conf", 'VETH_IFADDR_OUTSIDE="10.1.0.1/24"\nVETH_IFADDR_INSIDE="10.2.0.2/24"\n')
    result = machine.run("check")
    assert result.code == 2
    conf = "/etc/conf.d/netns"
    assert (
        f"{conf}/veth-b.conf:1:22: error: address 10.1.0.1/24 is used twice: in VETH_IFADDR_OUTSIDE of veth@b"
        f" and in {conf}/veth-a.conf:1 (VETH_IFADDR_OUTSIDE of veth@a)\n"
        '    VETH_IFADDR_OUTSIDE="10.1.0.1/24"\n'
        "                         ^^^^^^^^^^^\n"
        "  hint: give each device an address of its own\n"
    ) in result.out


def test_all_problems_at_once(machine: Machine) -> None:
    """One broken file hides nothing: not the next file, and not what is wrong across files."""
    machine.veth("a", "10.1.0")
    machine.veth("b", "10.1.0", 'VETH_MAC_INSIDE="01:00:00:00:00:01"\nVETH_MUT=9000\n')
    machine.write("veth-c.conf", 'VETH_IFADDR_OUTSIDE="10.3.0.1/24\n')
    machine.write("veth-d.yaml", "veth_ifaddr_outside: [10.4.0.1\n")
    machine.write("own.yaml", "summary: [\nsteps: {}\n")
    machine.write("vet-e.conf", "")
    found = machine.messages()
    for words in (
        "veth-b.conf:1: address 10.1.0.1/24 is used twice",
        "veth-b.conf:2: address 10.1.0.2/24 is used twice",
        "veth-b.conf:3: VETH_MAC_INSIDE",
        "veth-b.conf:4: VETH_MUT is no option of veth",
        "veth-c.conf:1:",
        "veth-d.yaml:",
        "own.yaml:",
        "vet-e.conf:None: there is no type 'vet'",
    ):
        assert words in found


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("vet-demo.conf", "veth-demo.conf"),
        ("veth_demo.conf", "veth-demo.conf"),
        ("Veth-demo.conf", "veth-demo.conf"),
        ("veth-demo.yml", "veth-demo.yaml"),
        ("veth-demo", "veth-demo.conf"),
        ("defualt.conf", "default.conf"),
        ("nftt-demo.rules", "nft-demo.rules"),
        ("macvlan.demo.yaml", "macvlan-demo.yaml"),
    ],
)
def test_misspelt_file_names(machine: Machine, name: str, better: str) -> None:
    machine.write(name, "")
    found = machine.check()
    assert len(found) == 1
    assert found[0]["file"].endswith(name)
    assert found[0]["hint"] == f"did you mean {better}?"


@pytest.mark.parametrize(
    "name", ["README", "README.md", "veth-demo.conf~", ".veth-demo.conf.swp", "veth-NAME.conf.example"]
)
def test_files_that_are_not_ours_are_left_in_peace(machine: Machine, name: str) -> None:
    machine.write(name, "")
    assert machine.check() == []


def test_files_that_others_may_write(machine: Machine) -> None:
    machine.veth("a").chmod(0o666)
    machine.write("nft-a.rules", "flush ruleset\n").chmod(0o664)
    found = machine.messages()
    assert "veth-a.conf:None: refused: can be written by everybody (mode 0666)" in found
    assert "chmod go-w" in found
    assert "nft-a.rules:None: refused: can be written by its group" in found


def test_one_instance_only(machine: Machine) -> None:
    machine.veth("a", "10.1.0")
    machine.veth("b", "10.2.0", "VETH_MTU=none\n")
    assert machine.check("veth", "a") == []
    assert "VETH_MTU" in machine.messages("veth", "b")


def test_an_instance_that_cannot_be(machine: Machine) -> None:
    for words in (("veht", "a"), ("veth", "../a"), ("veth", "host")):
        result = machine.run("check", *words)
        assert result.code == 2
        assert "error:" in result.err
    assert machine.run("check", "veth").code == 2


def test_a_shared_file_is_one_finding(machine: Machine) -> None:
    machine.write("veth.conf", "VETH_MTU=none\n")
    machine.veth("a", "10.1.0")
    machine.veth("b", "10.2.0")
    found = machine.check()
    assert len(found) == 1
    assert found[0]["instances"] == ["veth@a", "veth@b"]


def test_a_layer_that_no_instance_uses_is_read_as_well(machine: Machine) -> None:
    machine.write("veth.conf", "VETH_MTU=none\n")
    assert "veth.conf:1: VETH_MTU" in machine.messages()
    machine.write("veth.conf", "VETH_MTU=1400\n")
    assert machine.check() == []


def test_nothing_is_executed_in_plain_files_or_changed(machine: Machine) -> None:
    machine.veth("a", more=f"VETH_MTU='$(touch {machine.root}/ran)'\n")
    before = sorted(machine.root.rglob("*"))
    assert "VETH_MTU" in machine.messages()
    assert sorted(machine.root.rglob("*")) == before


def test_rules_that_nft_does_not_understand(machine: Machine) -> None:
    machine.veth("a")
    machine.write(
        "nft-a.rules", "flush ruleset\ntable inet t {\n  chain c {\n    tcp dprot 22 accept\n  }\n}\n"
    )
    found = machine.check()
    assert [(one["line"], one["column"]) for one in found] == [(4, 9)]
    assert "nft: syntax error" in found[0]["message"]


def test_rules_may_name_the_devices_that_a_start_creates(machine: Machine) -> None:
    machine.veth("a")
    rules = 'table inet t {\n  chain c {\n    iif "%s" accept\n  }\n}\n'
    machine.write("nft-a.rules", rules % "ve-a1")
    assert machine.check() == []
    machine.write("nft-a.rules", rules % "ve-a7")
    found = machine.messages()
    assert "nft-a.rules:3: nft: Interface does not exist" in found
    assert "iifname" in found


def test_rules_without_flush_are_worth_a_word(machine: Machine) -> None:
    machine.write("nft-a.rules", "table inet t { }\n")
    result = machine.run("check")
    assert result.code == 0
    assert "info: no 'flush ruleset'" in result.out


def test_rules_that_nothing_loads(machine: Machine) -> None:
    machine.veth("a")
    machine.write("nft-a.rules", "flush ruleset\n")
    wants = machine.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "netns-veth@a.service").symlink_to("../netns-veth@.service")
    (machine.root / "run/netns-tools/a/nft").mkdir(parents=True)  # running is not enough
    assert "netns-nft@a is not enabled, and veth@a is" in machine.messages()
    (wants / "netns-nft@a.service").symlink_to("../netns-nft@.service")
    assert "not enabled" not in machine.messages()


def test_an_enabled_unit_without_a_type(machine: Machine) -> None:
    wants = machine.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "netns-gone@a.service").symlink_to("../netns-gone@.service")
    assert "there is no type 'gone'" in machine.messages()


def test_a_namespace_that_is_not_ours(machine: Machine) -> None:
    machine.veth("a")
    machine.write("run/netns/a", "")
    assert "a namespace a exists that netns-tools did not make" in machine.messages()
    machine.write("run/netns-tools/a/ours", "1")
    assert machine.check() == []


def test_units_that_netns_update_has_not_seen(machine: Machine) -> None:
    machine.write(
        "etc/systemd/system/netns-veth@.service", "# Generated by netns-update from nstypes/veth.yaml\n"
    )
    found = machine.messages()
    assert "unit files are out of date" in found
    assert "run: netns-update" in found


def test_real_shell_is_run_by_bash_as_at_a_start(machine: Machine) -> None:
    machine.veth("a", more="VETH_MTU=$(echo 1234)\n")
    assert machine.check() == []
    machine.veth("a", more="VETH_MTU=$(echo tiny)\n")
    assert "tiny" in machine.messages()


def test_bash_types_are_read_and_not_run(machine: Machine) -> None:
    machine.write("one.sh", f"touch {machine.root}/ran\nconfigure_one_up_inside() {{ :; }}\n")
    assert machine.check() == []
    assert not (machine.root / "ran").exists()
    machine.write("two.sh", "configure_two_up_inside() {\n  if true; then\n}\n")
    assert "two.sh:3: bash: syntax error near unexpected token" in machine.messages()
    machine.write("two.sh", "configure_tow_up_inside() { :; }\n")
    assert "no function of type two in here" in machine.messages()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("VETH_IFNAME_INSIDE=a-name-of-nineteen-", "has 19 characters; Linux allows 15"),
        ("VETH_MAC_INSIDE=01:00:5e:00:00:01", "multicast"),
        ("VETH_IFADDR_INSIDE=10.0.0.2", "10.0.0.2"),
        ("VETH_IFADR_INSIDE=10.0.0.2/24", "did you mean VETH_IFADDR_INSIDE?"),
        ("VETH_NSNAME_OUTSIDE=router", "for which no type is configured"),
        ("VETH_IFNAME='a b'", "VETH_IFNAME"),
        ("if then", "syntax error"),
    ],
)
def test_what_one_line_can_get_wrong(machine: Machine, more: str, words: str) -> None:
    machine.veth("a", more=f"{more}\n")
    found = machine.check()
    assert any(words in f"{one['message']} {one['hint']}" and one["line"] == 3 for one in found)


def test_ve_names_while_networkd_manages_them(machine: Machine) -> None:
    machine.veth("a")
    machine.write("usr/lib/systemd/network/80-container-ve.network", "[Match]\nName=ve-*\nDriver=veth\n")
    assert machine.check() == []
    wants = machine.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
    assert "systemd-networkd manages ve-a0" in machine.messages()
    machine.write("etc/systemd/network/79-netns-tools.network", "[Match]\nName=ve-*\n[Link]\nUnmanaged=yes\n")
    assert machine.check() == []
    (machine.root / "etc/systemd/network/79-netns-tools.network").unlink()
    (machine.root / "etc/systemd/network/80-container-ve.network").symlink_to("/dev/null")
    assert machine.check() == []


ADDRSET = "interfaces:\n  - name: eth0\n    nftables_zone: wan\n"


def test_daemons_are_checked_by_themselves(machine: Machine) -> None:
    machine.write("addrset-host.yaml", ADDRSET)
    machine.write("addrset-blue.yaml", ADDRSET.replace("nftables_zone", "nftables_zoen"))
    found = machine.check()
    assert [(one["file"], one["line"], one["instances"]) for one in found] == [
        ("/etc/conf.d/netns/addrset-blue.yaml", 3, ["addrset@blue"])
    ]
    assert "did you mean 'nftables_zone'?" in found[0]["hint"]
    assert machine.check("addrset", "host") == []
    # What only the daemon itself knows of its keys.
    machine.write("addrset-blue.yaml", ADDRSET + "zones:\n  wan: {set4: one, set6: one}\n")
    assert "addrset-blue.yaml:" in machine.messages("addrset", "blue")


def test_a_shared_daemon_file_without_instance_is_read_as_well(machine: Machine) -> None:
    machine.write("addrset.yaml", "interfaces: 7\n")
    assert "addrset.yaml:1:" in machine.messages()
    machine.write("addrset-host.yaml", ADDRSET)
    assert "addrset.yaml:1:" in machine.messages()
    machine.write("addrset.yaml", ADDRSET)
    assert machine.check() == []


def test_a_daemon_without_configuration(machine: Machine) -> None:
    assert "no configuration for addrset of host" in machine.messages("addrset", "host")


@pytest.mark.parametrize(
    ("name", "better"), [("addrset-blue.yml", "addrset-blue.yaml"), ("addrset-blue", "addrset-blue.yaml")]
)
def test_misspelt_file_names_of_a_daemon(machine: Machine, name: str, better: str) -> None:
    machine.write(name, ADDRSET)
    assert [one["hint"] for one in machine.check()] == [f"did you mean {better}?"]


@pytest.mark.parametrize("name", ["addrset.conf", "addrset-blue.conf"])
def test_a_daemon_has_no_shell_style_file(machine: Machine, name: str) -> None:
    machine.write(name, "X=1\n")
    assert [one["message"] for one in machine.check()] == [
        "not used: 'addrset' is a daemon, which is configured in YAML alone"
    ]


def test_a_daemon_makes_no_devices_and_no_namespace_of_the_host(machine: Machine) -> None:
    """Rules that name a device which is nowhere are wrong, with a daemon beside them too."""
    machine.write("addrset-a.yaml", ADDRSET)
    machine.write("addrset-host.yaml", ADDRSET)
    machine.write(
        "nft-a.rules", 'flush ruleset\ntable inet t {\n  chain c {\n    iif "eth7" accept\n  }\n}\n'
    )
    machine.write("run/netns/host", "")
    found = machine.check()
    assert [one["line"] for one in found] == [4]
    assert "Interface does not exist" in found[0]["message"]


def test_the_installed_example_configuration(machine: Machine) -> None:
    for path in sorted((Path(__file__).parents[3] / "etc").iterdir()):
        machine.write(path.name, path.read_text())
    assert machine.check() == []
    for name in ("veth-NAME.conf.example", "macvlan.conf", "default.conf"):
        text = (machine.conf / name).read_text()
        lines = [line.removeprefix("#") for line in text.splitlines() if not line.startswith("# ")]
        machine.write(name.replace("NAME.conf.example", "demo.conf"), "\n".join(lines) + "\n")
    machine.write("macvlan-demo.conf", 'MACVLAN_IFADDR="192.168.100.100/24"\n')
    assert machine.check() == []
    assert machine.run("plan", "nft", "demo").code == 0
