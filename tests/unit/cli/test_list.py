"""netnsctl list: configured, enabled and running instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Machine


def test_nothing_there(machine: Machine) -> None:
    result = machine.run("list")
    assert result.code == 0
    assert "No instance is configured in /etc/conf.d/netns" in result.out
    assert machine.run("list", "--json").json == []


def test_configured_enabled_and_running(machine: Machine) -> None:
    machine.veth("a")
    machine.write("veth-a.yaml", "{}\n")
    machine.write("nft-my-site.rules", "")
    wants = machine.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "netns-lo@b.service").symlink_to("../netns-lo@.service")
    (machine.root / "run/netns-tools/c/macvlan").mkdir(parents=True)
    rows = {(one["type"], one["name"]): one for one in machine.run("list", "--json").json}
    assert sorted(rows) == [("lo", "b"), ("macvlan", "c"), ("nft", "my-site"), ("veth", "a")]
    assert [name.rpartition("/")[2] for name in rows["veth", "a"]["files"]] == ["veth-a.conf", "veth-a.yaml"]
    assert rows["lo", "b"]["enabled"] is True
    assert rows["macvlan", "c"]["state"] == "active"
    assert rows["nft", "my-site"]["state"] == "inactive"
    assert rows["nft", "my-site"]["unit"] == "netns-nft@my-site.service"


def test_text(machine: Machine) -> None:
    machine.veth("a")
    assert machine.run("list").out == (
        "TYPE  NAME  STATE     BOOT  FILES\nveth  a     inactive  -     /etc/conf.d/netns/veth-a.conf\n"
    )


def test_a_broken_type_hides_no_instance(machine: Machine) -> None:
    machine.write("own.yaml", "summary: [\nsteps:\n")
    machine.veth("a")
    result = machine.run("list")
    assert "veth  a" in result.out
    assert "own.yaml" in result.err
    assert result.code == 2


def test_daemons(machine: Machine) -> None:
    """Configured, enabled, or with a control socket; of the host's own namespace too."""
    machine.write("addrset-blue.yaml", "")
    machine.write("addrset.yaml", "")
    wants = machine.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "netns-addrset@host.service").symlink_to("../netns-addrset@host.service")
    (wants / "netns-veth@host.service").symlink_to("../netns-veth@.service")
    machine.write("run/netns-tools/addrset-red.sock", "")
    machine.write("run/netns-tools/addrset-red.record", "")
    rows = {(one["type"], one["name"]): one for one in machine.run("list", "--json").json}
    assert sorted(rows) == [("addrset", "blue"), ("addrset", "host"), ("addrset", "red")]
    assert rows["addrset", "blue"]["files"] == ["/etc/conf.d/netns/addrset-blue.yaml"]
    assert rows["addrset", "host"]["enabled"] is True
    assert rows["addrset", "host"]["running"] is False
    assert rows["addrset", "red"]["running"] is True


def test_the_common_file_of_a_daemon_is_that_of_the_host(machine: Machine) -> None:
    machine.write("addrset.yaml", "")
    (row,) = machine.run("list", "--json").json
    assert row["unit"] == "netns-addrset@host.service"
    assert row["files"] == ["/etc/conf.d/netns/addrset.yaml"]
