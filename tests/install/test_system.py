"""``make install``, upgrade and ``make uninstall`` on a running system."""

from __future__ import annotations

from tests.machine import Machine

MAKE = f"make -s -C {Machine.PROJECT}"

FILES = "find /etc /usr /var/cache -xdev | sort"


def start_demo(machine: Machine) -> None:
    """A running namespace: veth and the example firewall."""
    machine.write(
        "/etc/conf.d/netns/veth-demo.conf",
        "VETH_IFADDR_OUTSIDE=10.0.0.1/24\nVETH_IFADDR_INSIDE=10.0.0.2/24\n",
    )
    machine.run("netns-update --daemon-reload")
    machine.run("systemctl start netns-veth@demo netns-nft@demo")


def test_install_configs_never_overwrites(fresh: Machine) -> None:
    fresh.write("/etc/conf.d/netns/default.conf", "HOST_IFNAME=mine\n")

    fresh.run(f"{MAKE} install_configs")

    assert fresh.read("/etc/conf.d/netns/default.conf") == "HOST_IFNAME=mine\n"
    assert "nft.rules" in fresh.run("ls /etc/conf.d/netns").stdout


def test_commands_run_under_debians_python_whatever_is_on_path(fresh: Machine) -> None:
    fresh.run(f"{MAKE} install")
    fresh.write("/opt/other/python3", "#!/bin/sh\necho wrong python; exit 9\n", mode=0o755)
    fresh.write("/opt/other/click.py", "raise SystemExit('wrong click')\n")

    for command in (
        "netnsctl --version",
        "netns-update --help",
        "netns-nft-save --help",
        "netnsinit --help",
        "netns-addrset --version",
        "netns-natmap --version",
    ):
        done = fresh.run(f"cd /opt/other && PATH=/opt/other:$PATH PYTHONPATH=/opt/other {command}")
        assert "wrong" not in done.stdout + done.stderr


def test_upgrade_keeps_what_runs(fresh: Machine) -> None:
    fresh.run(f"{MAKE} install install_configs")
    start_demo(fresh)
    units = "netns-veth@demo netns-nft@demo netns-lo@demo netns_name@demo"
    state = f"ip -o link show ve-demo0; systemctl show -P InvocationID {units}"
    before = fresh.run(state).stdout

    fresh.run(f"{MAKE} install")

    assert fresh.run(state).stdout == before
    fresh.run("systemctl stop netns-veth@demo netns-nft@demo")
    fresh.wait_for("! test -e /run/netns/demo")


def test_upgrade_removes_modules_that_are_no_more(fresh: Machine) -> None:
    fresh.run(f"{MAKE} install")
    fresh.write("/usr/lib/netns-tools/netns_tools/dropped.py", "")

    fresh.run(f"{MAKE} install")

    fresh.run("! test -e /usr/lib/netns-tools/netns_tools/dropped.py")


def test_uninstall_stops_what_runs_and_leaves_only_the_configuration(fresh: Machine) -> None:
    before = set(fresh.run(FILES).stdout.splitlines())
    fresh.run(f"{MAKE} install install_configs")
    start_demo(fresh)
    fresh.run("systemctl enable netns-veth@demo")

    fresh.run(f"{MAKE} uninstall")

    assert fresh.run("ip netns list").stdout == ""
    assert fresh.run("ip -br link | grep ve-demo || true").stdout == ""
    assert fresh.run("systemctl list-units --plain --no-legend --all 'netns*@*.service'").stdout == ""
    fresh.run("test -e /etc/conf.d/netns/veth-demo.conf")
    changed = before ^ set(fresh.run(FILES).stdout.splitlines())
    assert [path for path in sorted(changed) if not path.startswith("/etc/conf.d")] == []


def test_uninstall_stops_daemons_too(fresh: Machine) -> None:
    before = set(fresh.run(FILES).stdout.splitlines())
    fresh.run(f"{MAKE} install")
    fresh.write("/etc/conf.d/netns/addrset.yaml", "interfaces:\n  - {name: eth0, nftables_zone: wan}\n")
    fresh.run("netns-update; systemctl enable --now netns-addrset@host netns-addrset@demo")
    fresh.run("test -S /run/netns-tools/addrset-host.sock -a -S /run/netns-tools/addrset-demo.sock")

    fresh.run(f"{MAKE} uninstall")

    assert fresh.run("ip netns list").stdout == ""
    assert fresh.run("systemctl list-units --plain --no-legend --all 'netns*@*.service'").stdout == ""
    assert fresh.run("pgrep -f netns-addrset", check=False).stdout == ""
    fresh.run("! test -e /run/netns-tools")
    changed = before ^ set(fresh.run(FILES).stdout.splitlines())
    assert [path for path in sorted(changed) if not path.startswith("/etc/conf.d")] == []


def test_uninstall_takes_out_mappings_too(fresh: Machine) -> None:
    """With and without a daemon; what was asked for stays, as the configuration does."""
    fresh.run(f"{MAKE} install")
    fresh.run("ip link add br0 type bridge && ip address add 10.9.0.1/24 dev br0 && ip link set br0 up")
    look = "nft list ruleset; ip rule; sysctl net.ipv4.ip_forward net.ipv4.conf.br0.route_localnet"
    before = fresh.run(look).stdout
    fresh.write("/etc/conf.d/netns/natmap-host.yaml", "dnat: ['8081:10.9.0.9:80']\n")
    fresh.run("systemctl start netns-natmap@host")
    fresh.run(
        "netns-natmap dnat 8080:10.9.0.9:80; netns-natmap policy-route --src-ip 10.9.0.9 --via 10.9.0.5"
    )
    fresh.run("netns-natmap fwd")
    fresh.run("ip netns add gone; netns-natmap --name gone dnat 1:10.9.0.9:1; ip netns delete gone")
    assert fresh.run(look).stdout != before

    assert "gone" not in fresh.run(f"{MAKE} uninstall").stderr

    assert fresh.run(look).stdout == before
    assert "8080:10.9.0.9:80" in fresh.read("/var/lib/netns-tools/natmap-host.json")
    fresh.run("! test -e /run/netns-tools && ip link delete br0")


def test_uninstall_removes_nothing_while_an_instance_cannot_stop(fresh: Machine) -> None:
    fresh.run(f"{MAKE} install install_configs")
    start_demo(fresh)
    fresh.write("/etc/systemd/system/netns-veth@demo.service.d/keep.conf", "[Unit]\nRefuseManualStop=yes\n")
    fresh.run("systemctl daemon-reload")

    done = fresh.run(f"{MAKE} uninstall", check=False)

    assert done.returncode != 0
    assert "nothing has been removed" in done.stderr
    fresh.run("ip -n demo -br address | grep 10.0.0.2 && test -x /usr/sbin/netns-update")


def test_directories_of_ones_own(fresh: Machine) -> None:
    fresh.run(f"{MAKE} install install_configs LIBDIR=/usr/local/lib BINDIR=/usr/local/sbin")
    start_demo(fresh)

    assert "10.0.0.2/24" in fresh.run("ip -n demo -br address").stdout
    fresh.run("! ls /usr/sbin/netns* /usr/lib/netns-tools 2>/dev/null")

    fresh.run(f"{MAKE} uninstall LIBDIR=/usr/local/lib BINDIR=/usr/local/sbin")
    fresh.run("! ls /usr/local/sbin/netns* /usr/local/lib/netns-tools /usr/local/lib/systemd 2>/dev/null")


def test_missing_packages_that_apt_cannot_bring_are_named(fresh: Machine) -> None:
    fresh.run("dpkg --purge --force-depends python3-click python3-jinja2")
    fresh.run("apt-get clean && rm -rf /etc/apt/sources.list /etc/apt/sources.list.d /var/lib/apt/lists")

    done = fresh.run(f"{MAKE} install", check=False)

    assert done.returncode != 0
    assert "missing: python3-click python3-jinja2" in done.stderr
    fresh.run("! ls /usr/sbin/netns* 2>/dev/null")


def test_a_broken_configuration_does_not_stop_an_install(fresh: Machine) -> None:
    fresh.write("/etc/conf.d/netns/veth-demo.conf", "VETH_IFADDR_OUTSIDE=(\n")

    done = fresh.run(f"{MAKE} install")

    assert "/etc/conf.d/netns/veth-demo.conf:1" in done.stderr
    assert "netns-update has found problems" in done.stderr


def test_a_libdir_that_systemd_does_not_search_is_pointed_out(fresh: Machine) -> None:
    said = fresh.run(f"{MAKE} install LIBDIR=/opt/x 2>&1").stdout
    link = next(line for line in said.splitlines() if "systemctl link" in line).partition("them: ")[2]
    assert fresh.run("systemctl start netns-lo@demo", check=False).returncode != 0
    fresh.run(f"{link}; systemctl start netns-lo@demo")
    assert "systemctl link" not in fresh.run(f"{MAKE} install 2>&1").stdout
