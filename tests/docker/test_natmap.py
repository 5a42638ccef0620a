"""netns-natmap and a real dockerd: mappings follow their containers, through Docker's forward policy."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.conftest import IMAGE, Docker
from tests.kernel.natmapdaemon import Namespace, Natmap, soon

GATE = "198.51.100.1"
CLIENT = "198.51.100.10"
GATE6 = "2001:db8:1::1"

pytestmark = pytest.mark.skipif(shutil.which("iptables-nft") is None, reason="iptables is not installed")


class Net:
    """Docker's host with a client beside it, and a netns-natmap there; their files are in ``top``."""

    def __init__(self, docker: Docker, top: str) -> None:
        self.docker = docker
        self.here = Namespace(docker.inside())
        self._servers: list[Namespace] = []
        self._holder = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig=KILL",
                "unshare",
                "--net",
                "sh",
                "-c",
                "echo ready; exec sleep infinity",
            ],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        pid = str(self._holder.pid)
        self.client = Namespace(["nsenter", "-t", pid, "--net", "--"])
        self.here.run(
            *("ip", "-batch", "-"),
            input=f"""
                link add wan0 type veth peer name eth0 netns {pid}
                addr add {GATE}/24 dev wan0
                addr add {GATE6}/64 dev wan0 nodad
                link set wan0 up
            """,
        )
        self.client.run(
            *("ip", "-batch", "-"),
            input=f"""
                addr add {CLIENT}/24 dev eth0
                addr add 2001:db8:1::10/64 dev eth0 nodad
                link set eth0 up
                route add default via {GATE}
                route add ::/0 via {GATE6}
            """,
        )
        self.nat = Natmap(self.here.spawn, top, "--root", top, docker=f"unix://{docker.socket}")

    def close(self) -> None:
        self.nat.close()
        for one in (self.client, self.here, *self._servers):
            one.close()
        self._holder.kill()
        self._holder.communicate()
        self.docker.clean()
        # What a killed dockerd left of a container would answer for the address that another one gets.
        left = json.loads(self.here.run("ip", "-json", "link", "show", "type", "veth"))
        for link in left:
            self.here.run("ip", "link", "delete", link["ifname"], check=False)
        self.here.run("nft", "delete", "table", "inet", "netns_natmap", check=False)
        for _, program in VARIANTS:
            if RULE in self.here.run(program, "-w", "10", "-S", check=False):
                self.here.run(program, "-w", "10", "-D", *RULE.split()[1:], check=False)

    def web(self, name: str, *options: str, port: int = 80) -> str:
        """A container that answers with its name; its address."""
        self.docker.run(name, *options)
        return self.answer(name, port)

    def answer(self, name: str, port: int = 80) -> str:
        """Have a running container answer with its name, on TCP and UDP; its address."""
        pid = self.docker.cli("inspect", "--format={{.State.Pid}}", name)
        # By Docker's own /proc; a program that entered its process namespace would outlive its kill.
        inside = Namespace(["nsenter", f"--net=/proc/{self.docker._first}/root/proc/{pid}/ns/net", "--"])
        for proto in ("tcp", "udp"):
            self._servers.append(inside)
            inside.serve(port, name, proto)
        (address,) = {one for one in self.docker.addresses(name) if ":" not in one}
        return address

    def reach(self, port: int, proto: str = "tcp", address: str = GATE) -> str:
        return self.client.reach(address, port, proto, 5.0)

    def first(self, port: int) -> str:
        """Who answers."""
        return self.reach(port).split()[0]

    def rules(self, program: str = "iptables-nft") -> list[str]:
        """Docker's chain."""
        said = self.here.run(program, "-w", "10", "-S", "DOCKER-USER", check=False)
        return said.splitlines()


RULE = "-A DOCKER-USER -m connmark --mark 0x400000/0x400000 -m comment --comment netns-natmap -j ACCEPT"
VARIANTS = (("4", "iptables-nft"), ("6", "ip6tables-nft"))


@pytest.fixture
def net(docker: Docker) -> Iterator[Net]:
    with tempfile.TemporaryDirectory(prefix="netns-natmap-") as top:
        made = Net(docker, top)
        yield made
        made.close()


@pytest.fixture
def nat(net: Net, tmp_path: Path) -> Natmap:
    net.nat.start(tmp_path / "log")
    return net.nat


def add(nat: Natmap, container: str, word: str, **more: object) -> Any:
    """What ``docker add`` asks for."""
    return nat.do("POST", f"/mapping/{container}", {"map": word, **more})


# Operations act before they return


def test_operations_act_before_they_return(net: Net, nat: Natmap) -> None:
    for number in range(3):
        address = net.web(f"web{number}")
        said = add(nat, f"web{number}", f"{8080 + number}:80")
        assert f"{address}:80" in [entry["request"]["container_addr"] for entry in said["entries"]]
        assert net.reach(8080 + number) == f"web{number} {CLIENT}"
    nat.do("PUT", "/remap/web0", {"host_port": 8080, "new_host_port": 9090})
    assert net.reach(9090) == f"web0 {CLIENT}"
    assert net.reach(8080) == "refused"
    nat.do("DELETE", "/mapping/web1/8081")
    assert net.reach(8081) == "refused"
    assert nat.ask("DELETE", "/mapping/web1/8081")[0] == 404
    add(nat, "web2", "5353:80/udp")
    assert net.reach(5353, "udp") == f"web2 {CLIENT}"
    assert net.reach(8082) == f"web2 {CLIENT}"
    assert nat.mapping("web2", 8082) == "live"


def test_commands(net: Net, nat: Natmap) -> None:
    """The same with netns-natmap itself, with the daemon and without it."""
    net.web("web")

    def say(*words: str) -> str:
        return net.here.run(*nat.command(*words), env=nat.environment, cwd="/")

    for _ in ("with the daemon", "without it"):
        say("docker", "add", "web", "8888:80")
        assert net.reach(8888) == f"web {CLIENT}"
        say("docker", "remap", "web", "8888:9999")
        assert net.reach(9999) == f"web {CLIENT}"
        assert net.reach(8888) == "refused"
        say("docker", "rm", "web", "9999")
        assert net.reach(9999) == "refused"
        if nat.process is not None:
            nat.stop()


def test_a_container_by_its_id_and_one_that_comes_later(net: Net, nat: Natmap) -> None:
    identity = net.docker.run("web")
    net.answer("web")
    add(nat, identity[:12], "8080:80")
    assert net.reach(8080) == f"web {CLIENT}"
    add(nat, "later", "8081:80")
    assert nat.mapping("later", 8081) == "waiting"
    assert net.reach(8081) == "refused"
    net.web("later")
    soon(lambda: net.reach(8081), f"later {CLIENT}")


# What happens to containers


def test_discovery_at_the_start(net: Net, tmp_path: Path) -> None:
    net.web("web")
    net.nat.start(tmp_path / "log")
    add(net.nat, "web", "8080:80")
    net.nat.stop()
    address = net.docker.addresses("web")
    net.docker.cli("stop", "web")
    net.docker.run("taker")  # gets the address that is free now
    net.docker.cli("start", "web")
    assert net.docker.addresses("web") != address
    net.answer("web")
    net.nat.start(tmp_path / "log")
    soon(lambda: net.first(8080), "web")


def test_a_restart_with_another_address(net: Net, nat: Natmap) -> None:
    before = net.web("web")
    add(nat, "web", "8080:80")
    add(nat, "web", "8080:80/udp")
    datagrams = net.client.datagrams(GATE, 8080)
    assert datagrams.again() == "web"
    net.docker.cli("stop", "web")
    soon(lambda: net.reach(8080), "refused")
    assert set(nat.states().values()) == {"waiting"}
    assert net.web("taker") == before
    net.docker.cli("start", "web")
    assert net.answer("web") != before
    soon(lambda: net.reach(8080), f"web {CLIENT}")
    assert datagrams.again() == "web"


def test_a_signal_changes_nothing(net: Net, nat: Natmap) -> None:
    command = "trap : HUP; echo up; while :; do sleep 1; done"
    net.docker.cli("run", "--detach", "--name=web", "--stop-signal=KILL", IMAGE, "sh", "-c", command)
    soon(lambda: net.docker.cli("logs", "web"), "up")
    net.answer("web")
    add(nat, "web", "8080:80")
    talk = net.client.talk(GATE, 8080)
    connects = net.client.connects(GATE, 8080)
    for _ in range(3):
        net.docker.cli("kill", "--signal=HUP", "web")
    net.docker.run("other")  # its events come after those
    add(nat, "other", "8081:80")
    assert connects.end() == ""
    assert talk.again() == "x"
    assert (nat.mapping("web", 8080), nat.mapping("other", 8081)) == ("live", "live")


def test_paused_stopped_and_made_anew(net: Net, nat: Natmap) -> None:
    net.web("web")
    add(nat, "web", "8080:80")
    net.docker.cli("pause", "web")
    net.docker.cli("unpause", "web")
    assert net.reach(8080) == f"web {CLIENT}"
    net.docker.kill_container("web")
    soon(lambda: nat.mapping("web", 8080), "waiting")
    net.docker.cli("start", "web")
    net.answer("web")
    soon(lambda: net.reach(8080), f"web {CLIENT}")
    net.docker.cli("rm", "--force", "web")
    soon(lambda: net.reach(8080), "refused")
    net.docker.run("taker")
    net.web("web")
    soon(lambda: net.reach(8080), f"web {CLIENT}")


def test_another_network(net: Net, nat: Natmap) -> None:
    net.docker.cli("network", "create", "front")
    net.web("web")
    add(nat, "web", "8080:80")
    net.docker.cli("network", "disconnect", "bridge", "web")
    soon(lambda: net.reach(8080), "refused")
    net.docker.cli("network", "connect", "front", "web")
    soon(lambda: net.reach(8080), f"web {CLIENT}")


def test_the_network_of_another_container(net: Net, nat: Natmap) -> None:
    net.web("db")
    net.docker.run("sidecar", "--network=container:db")
    add(nat, "sidecar", "8080:80")
    assert net.reach(8080) == f"db {CLIENT}"
    net.docker.run("bare", "--network=host")
    add(nat, "bare", "8081:80")
    assert nat.mapping("bare", 8081) == "waiting"


# What happens to Docker


def test_dockerd_is_restarted(net: Net, nat: Natmap) -> None:
    net.web("web")
    add(nat, "web", "8080:80")
    net.docker.stop_daemon()
    net.docker.start_daemon()
    soon(lambda: nat.mapping("web", 8080), "waiting")
    net.docker.cli("start", "web")
    net.answer("web")
    soon(lambda: net.reach(8080), f"web {CLIENT}")


def test_dockerd_is_killed(net: Net, nat: Natmap, tmp_path: Path) -> None:
    """Its containers go on, and so do their mappings: also when the daemon is started without Docker."""
    net.web("web")
    add(nat, "web", "8080:80")
    talk = net.client.talk(GATE, 8080)
    connects = net.client.connects(GATE, 8080)
    net.docker.kill_daemon()
    nat.stop(signal.SIGKILL)
    nat.start(tmp_path / "log")
    net.here.run("nft", "delete", "table", "inet", "netns_natmap")
    soon(lambda: net.here.run("nft", "list", "tables").count("netns_natmap"), 1)
    nat.stop()
    nat.start(tmp_path / "log")
    nat.add("9000:10.9.9.9:80")
    said = add(nat, "web", "8082:80")
    assert said["entries"][0]["request"]["container_addr"]
    assert net.reach(8082) == f"web {CLIENT}"
    assert "Docker" in nat.log.read_text()
    assert talk.again() == "x"
    connects.end()  # some failed while the table was gone: that is not told of here
    net.docker.start_daemon()  # which stops those that it finds
    soon(lambda: nat.mapping("web", 8080), "waiting", 60)


def test_a_docker_that_does_not_answer(net: Net, nat: Natmap) -> None:
    net.web("web")
    add(nat, "web", "8080:80")
    with net.docker.frozen():
        add(nat, "web", "8081:80")  # after it has waited for Docker
        assert net.reach(8081) == f"web {CLIENT}"
        assert net.reach(8080) == f"web {CLIENT}"
        soon(lambda: nat.do("GET", "/status")["docker"]["connected"], False)
    soon(lambda: nat.do("GET", "/status")["docker"], {"connected": True, "error": None, "containers": 1})


# Docker's forward policy


def test_forward_policy(net: Net, nat: Natmap) -> None:
    address = net.web("web")
    assert "-P FORWARD DROP" in net.here.run("iptables-nft", "-w", "10", "-S", "FORWARD")
    before = net.rules()
    add(nat, "web", "8080:80")
    assert net.rules().count(RULE) == 1
    assert net.reach(8080) == f"web {CLIENT}"
    assert net.reach(80, address=address) == "silence"  # nothing maps that
    add(nat, "web", "8081:80")
    assert net.rules().count(RULE) == 1
    nat.do("DELETE", "/mapping/web/8080")
    assert net.rules().count(RULE) == 1
    nat.do("DELETE", "/clear")
    assert net.rules() == before


def test_the_rule_through_a_restart_of_docker(net: Net, nat: Natmap) -> None:
    """Also when Docker makes the chain anew, after somebody has removed it."""
    nat.add("8080:172.17.0.2:80")  # to no container: then Docker itself is not asked
    assert net.rules().count(RULE) == 1
    net.docker.stop_daemon()
    net.here.run("nft", "flush", "ruleset")
    assert net.rules() == []
    soon(lambda: [*nat.states().values()], ["live"])
    net.docker.start_daemon()
    soon(lambda: net.rules().count(RULE), 1)
    assert net.web("web") == "172.17.0.2"
    assert net.reach(8080) == f"web {CLIENT}"
    net.here.run("iptables-nft", "-w", "10", "-F", "DOCKER-USER")
    soon(lambda: net.rules().count(RULE), 1)


def test_ipv6(net: Net, nat: Natmap) -> None:
    net.here.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    net.docker.cli("network", "create", "--ipv6", "--subnet=fd00:6::/64", "six")
    net.docker.run("web", "--network=six")
    before = net.rules("ip6tables-nft")
    net.answer("web")
    add(nat, "web", "8080:80")
    soon(lambda: net.reach(8080, address=GATE6), "web 2001:db8:1::10")
    assert net.reach(8080) == f"web {CLIENT}"
    assert net.rules("ip6tables-nft").count(RULE) == (1 if before else 0)


def test_stop_and_flush(net: Net, tmp_path: Path) -> None:
    before = net.rules()
    net.web("web")
    net.nat.start(tmp_path / "log", "--flush-on-stop")
    add(net.nat, "web", "8080:80")
    assert net.nat.stop() == 0
    assert net.rules() == before
    assert net.reach(8080) == "refused"
