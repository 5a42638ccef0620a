"""The firewall of a namespace: exact restore, and closed whenever its rules cannot be loaded."""

from __future__ import annotations

from tests.kernel.conftest import FakeHost
from tests.kernel.test_steps import VETH

RULES = """
table inet filter {
    counter hits {
        packets 7 bytes 420
    }

    set friends {
        type ipv4_addr
        flags interval
        elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.9 }
    }

    map ports {
        type inet_service : verdict
        elements = { 22 : accept, 80 : jump web }
    }

    chain web {
        counter packets 3 bytes 180 accept
    }

    chain input {
        type filter hook input priority filter; policy drop;
        iif "lo" accept
        ip saddr @friends counter packets 1 bytes 84 accept
        tcp dport vmap @ports
        counter name "hits"
    }
}
"""


def test_a_restore_gives_the_same_rules_however_often(host: FakeHost) -> None:
    host.configure("nft-demo.rules", RULES)
    host.start("nft", "demo")
    once = host.nft("demo", "list", "ruleset")
    assert "packets 7 bytes 420" in once
    assert "192.0.2.1-192.0.2.9" in once
    host.step("nft", "demo", "up", "outside")
    host.step("nft", "demo", "up", "inside")
    assert host.nft("demo", "list", "ruleset") == once


def test_the_default_rules_count_where_no_others_are(host: FakeHost) -> None:
    host.configure("nft.rules", "table inet fallback { }\n")
    host.start("nft", "demo")
    assert "fallback" in host.nft("demo", "list", "ruleset")
    host.configure("nft-demo.rules", "table inet own { }\n")
    host.step("nft", "demo", "up", "outside")
    host.step("nft", "demo", "up", "inside")
    assert "fallback" not in host.nft("demo", "list", "ruleset")


def test_no_rules_file_at_all_is_refused(host: FakeHost) -> None:
    host.name_up("demo")
    failed = host.step("nft", "demo", "up", "outside", check=False)
    assert failed.returncode == 2
    assert "/etc/conf.d/netns/nft-demo.rules" in failed.stderr


def test_rules_that_others_may_write_are_refused(host: FakeHost) -> None:
    host.write("/etc/conf.d/netns/nft-demo.rules", RULES, mode=0o666)
    host.name_up("demo")
    failed = host.step("nft", "demo", "up", "outside", check=False)
    assert failed.returncode == 2
    assert "chmod" in failed.stderr


def test_bad_rules_close_the_namespace_and_no_link_is_made(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.configure("nft-demo.rules", "table inet filter { chain input { this is no rule } }\n")
    host.name_up("demo")
    host.step("nft", "demo", "up", "outside")
    waiting = host.step("veth", "demo", "up", "outside", check=False)
    assert waiting.returncode == 1
    failed = host.step("nft", "demo", "up", "inside", check=False)
    assert failed.returncode == 1
    assert "nft-demo.rules:1" in failed.stderr
    assert "nothing in demo is reachable" in failed.stderr
    assert "netns_blocked" in host.nft("demo", "list", "ruleset")
    link = host.step("veth", "demo", "up", "outside", check=False)
    assert link.returncode == 1
    assert "netns-nft@demo" in link.stderr
    assert set(host.links("demo")) == {"lo"}


def test_no_end_is_put_into_a_namespace_whose_firewall_is_not_loaded(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH + "VETH_NSNAME_OUTSIDE=router\n")
    host.configure("nft-router.rules", "nonsense\n")
    host.name_up("router")
    host.step("nft", "router", "up", "outside")
    host.name_up("demo")
    failed = host.step("veth", "demo", "up", "outside", check=False)
    assert failed.returncode == 1
    assert "netns-nft@router" in failed.stderr
    assert set(host.links("demo")) == set(host.links("router")) == {"lo"}


def test_a_link_waits_for_rules_that_are_being_loaded(host: FakeHost) -> None:
    """systemctl start of a link and a firewall is two requests; the second may overtake the first."""
    host.configure("veth-demo.conf", VETH)
    host.configure("nft-demo.rules", RULES)
    host.name_up("demo")
    host.step("nft", "demo", "up", "outside")
    link = host.spawn(host.netnsinit, "veth", "demo", "up", "outside", stderr=-1)
    try:
        while not host.run("pgrep", "-P", str(link.pid), "-x", "sleep", check=False).stdout:
            assert link.poll() is None, link.stderr and link.stderr.read()
        assert "ve-demo0" not in host.links()
        host.step("nft", "demo", "up", "inside")
        _, said = link.communicate(timeout=20)
        assert (link.returncode, said) == (0, "")
        assert "ve-demo0" in host.links()
    finally:
        link.kill()
        link.communicate()


def test_bad_rules_at_a_restart_close_a_namespace_that_runs(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.configure("nft-demo.rules", "table inet filter { }\n")
    host.start("veth", "demo")
    host.start("nft", "demo")
    host.run("ping", "-c1", "-W2", "10.9.0.2")
    host.configure("nft-demo.rules", "nonsense\n")
    host.step("nft", "demo", "up", "outside")
    assert host.step("nft", "demo", "up", "inside", check=False).returncode == 1
    assert host.run("ping", "-c1", "-W1", "10.9.0.2", check=False).returncode == 1


def test_good_rules_open_a_closed_namespace_again(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.configure("nft-demo.rules", "nonsense\n")
    host.name_up("demo")
    host.step("nft", "demo", "up", "outside")
    host.step("nft", "demo", "up", "inside", check=False)
    host.configure("nft-demo.rules", "table inet filter { }\n")
    host.start("nft", "demo")
    host.start("veth", "demo")
    host.run("ping", "-c1", "-W2", "10.9.0.2")
    assert "netns_blocked" not in host.nft("demo", "list", "ruleset")


def test_a_killed_load_closes_the_namespace(host: FakeHost) -> None:
    host.configure("nft-demo.rules", "table inet filter { }\n")
    host.name_up("demo")
    host.step("nft", "demo", "up", "outside")
    host.run(
        "env",
        "SERVICE_RESULT=signal",
        "ip",
        "netns",
        "exec",
        "demo",
        host.netnsinit,
        "nft",
        "demo",
        "post",
        "inside",
    )
    assert "netns_blocked" in host.nft("demo", "list", "ruleset")


def test_without_nft_every_device_goes_down(host: FakeHost) -> None:
    host.configure("veth-demo.conf", VETH)
    host.configure("nft-demo.rules", "table inet filter { }\n")
    host.start("veth", "demo")
    host.step("nft", "demo", "up", "outside")
    failed = host.run(
        "unshare",
        "-m",
        "sh",
        "-c",
        f"mount --bind /dev/null /usr/sbin/nft; ip netns exec demo {host.netnsinit} nft demo up inside",
        check=False,
    )
    assert failed.returncode == 1
    assert "UP" not in host.links("demo")["ve-demo1"]["flags"]
