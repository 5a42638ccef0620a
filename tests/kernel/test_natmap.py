"""What a NAT mapper is asked to do, with real packets: each operation as a whole, or not at all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.host.docker import Container
from netns_tools.host.httpmessage import Refused
from netns_tools.host.journal import Journal
from netns_tools.natmap import mapper as module
from netns_tools.natmap.fields import read_plain
from netns_tools.natmap.mapper import Mapper
from netns_tools.natmap.model import Desired, Entry
from netns_tools.natmap.words import parse_word
from netns_tools.paths import Paths
from tests.kernel.isolated import ip, isolated
from tests.kernel.natrig import V4, V6, Addresses, Reached, Rig, list_table, set_sysctl

FAMILIES = pytest.mark.parametrize("at", [V4, V6], ids=["v4", "v6"])


class Asked:
    """A mapper of the namespace that the test is in, asked in few words."""

    def __init__(self, root: str, declared: Desired) -> None:
        vars(module)["load_desired"] = lambda _name, _paths: declared
        self.mapper = Mapper("host", Paths(root), Journal())
        self.mapper.load()

    def add(
        self,
        *words: str | Entry,
        exact: bool = False,
        replace: bool = False,
        force: bool = False,
        dry: bool = False,
    ) -> list[str]:
        entries = tuple(parse_word(word, free=True) if isinstance(word, str) else word for word in words)
        done = self.mapper.apply(entries, exact, replace, force, dry)
        assert done["done"] is not dry
        return [str(line) for line in done["changes"]]

    def delete(self, *words: str) -> None:
        self.mapper.delete(tuple(map(parse_word, words)), False)

    def remap(self, old: int, new: int, proto: str = "") -> None:
        self.mapper.remap("", "", old, new, proto, False, False, False)

    def states(self) -> dict[str, str]:
        """Command → state."""
        listed = self.mapper.list_mappings("")
        return {
            row["command"]: row["state"]
            for rows in listed.values()
            if isinstance(rows, list)
            for row in rows
            if isinstance(row, dict)
        }


@contextmanager
def asked(*declared: str) -> Iterator[Asked]:
    """A mapper with files of its own."""
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(f"{root}/run/netns-tools")
        yield Asked(root, Desired.of(map(parse_word, declared)))


def again(one: Asked) -> Asked:
    """The next process, after this one ended in whatever way."""
    return Asked(one.mapper.paths.root, one.mapper.declared)


def entry(kind: str, **fields: object) -> Entry:
    (made,) = read_plain(kind, fields)
    return made


def word(at: Addresses, host: str, port: int = 80, target: str = "", proto: str = "tcp") -> str:
    def shown(text: str) -> str:
        return f"[{text}]" if ":" in text else text

    return f"{host}:{shown(target or at.server)}:{port}/{proto}"


@FAMILIES
@isolated
def test_add_twice_conflict_and_delete(at: Addresses) -> None:
    rig = Rig()
    rig.listen("server", 80)
    rig.listen("peer", 80)
    with asked() as nat:
        assert nat.add(word(at, "8080"))
        assert rig.reach("client", at.public, 8080) == Reached("server", 80, at.client)
        assert nat.add(word(at, "8080")) == []
        with pytest.raises(Refused, match="there already"):
            nat.add(word(at, "8081"), word(at, "8080", target=at.peer))
        assert rig.reach("client", at.public, 8081) is None  # all or nothing
        nat.add(word(at, "8080", target=at.peer), replace=True)
        assert rig.reach("client", at.public, 8080) == Reached("peer", 80, at.client)
        nat.delete(word(at, "8080", target=at.peer))
        assert rig.reach("client", at.public, 8080) is None
        assert nat.states() == {}


@isolated
def test_identity_is_protocol_address_and_port() -> None:
    rig = Rig()
    rig.listen("server", 53, "tcp")
    rig.listen("server", 53, "udp")
    with asked() as nat:
        nat.add("53:10.77.1.10:53/tcp", "53:10.77.1.10:53/udp", "80:10.77.1.10:53", "8080:10.77.1.10:53")
        nat.delete("53:10.77.1.10:53/tcp", "80:10.77.1.10:53")
        assert rig.reach("client", V4.public, 53, "udp") == Reached("server", 53, V4.client)
        assert rig.reach("client", V4.public, 53, "tcp") is None
        assert rig.reach("client", V4.public, 80) is None
        assert rig.reach("client", V4.public, 8080) == Reached("server", 53, V4.client)


@FAMILIES
@isolated
def test_udp_follows_a_change_at_once_and_tcp_stays(at: Addresses) -> None:
    rig = Rig()
    for name in ("server", "peer"):
        rig.listen(name, 80)
        rig.listen(name, 53, "udp")
    with asked() as nat:
        nat.add(word(at, "53", 53, proto="udp"), word(at, "80"))
        pair = rig.pair("client", at.public, 80)
        with rig.inside("client"):
            udp = socket.socket(socket.AF_INET6 if at.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
            udp.settimeout(10)
            udp.connect((at.public, 53))
        assert _said(rig, udp) == "server"
        nat.add(word(at, "53", 53, at.peer, "udp"), word(at, "80", target=at.peer), replace=True)
        assert _said(rig, udp) == "peer"
        assert pair.works()
        nat = again(nat)
        nat.mapper.reconcile()
        assert pair.works()
        assert rig.reach("client", at.public, 80) == Reached("peer", 80, at.client)


def _said(rig: Rig, client: socket.socket) -> str:
    client.send(b"?")
    reached = rig._answer(client, "udp")
    assert reached is not None
    return reached.server


@isolated
def test_remap() -> None:
    rig = Rig()
    rig.listen("server", 80)
    with asked() as nat:
        nat.add("8080-8083:10.77.1.10:80-83")
        nat.remap(8080, 9090)
        assert rig.reach("client", V4.public, 9090) == Reached("server", 80, V4.client)
        assert rig.reach("client", V4.public, 8080) is None
        assert nat.states() == {
            "dnat 8081-8083:10.77.1.10:81-83/tcp": "live",
            "dnat 9090:10.77.1.10:80/tcp": "live",
        }
        with pytest.raises(Refused, match="no mapping of host port 8080"):
            nat.remap(8080, 1)
        with pytest.raises(Refused, match="there already"):
            nat.remap(8081, 9090)


@isolated
def test_a_port_that_a_program_listens_on() -> None:
    Rig()
    listening = socket.create_server(("127.0.0.1", 8080))
    with asked() as nat:
        with pytest.raises(Refused, match=rf"pid {os.getpid()}\) listens on tcp 127.0.0.1:8080"):
            nat.add("8080:10.77.1.10:80", "8081:10.77.1.10:80")
        assert nat.states() == {}
        nat.add(f"{V4.public}:8080:10.77.1.10:80")  # nobody listens there
        nat.add("8080:10.77.1.10:80", force=True)
        assert len(nat.states()) == 2
    listening.close()


@isolated
def test_host_port_0_is_a_free_one() -> None:
    rig = Rig()
    rig.listen("server", 80)
    with asked() as nat:
        nat.add("0:10.77.1.10:80")
        (command,) = nat.states()
        port = int(command.removeprefix("dnat ").partition(":")[0])
        assert rig.reach("client", V4.public, port) == Reached("server", 80, V4.client)


@FAMILIES
@isolated
def test_from_the_host_itself_and_by_127_0_0_1(at: Addresses) -> None:
    rig = Rig()
    rig.listen("server", 80)
    with asked() as nat:
        nat.add(word(at, "8080"))
        reached = rig.reach("router", at.public, 8080)
        assert reached is not None
        assert reached.server == "server"
        if at.family == 4:
            reached = rig.reach("router", "127.0.0.1", 8080)
            assert reached is not None
            assert reached.server == "server"
            assert Path("/proc/sys/net/ipv4/conf/br0/route_localnet").read_text() == "1\n"
        nat.mapper.clear(False)
        assert Path("/proc/sys/net/ipv4/conf/br0/route_localnet").read_text() == "0\n"


@isolated
def test_clear_restores_everything() -> None:
    Rig()
    set_sysctl("net/ipv4/ip_forward", "0")
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout
    routing = subprocess.run(
        "ip rule; ip route show table all", shell=True, capture_output=True, check=True
    ).stdout
    with asked() as nat:
        nat.mapper.forward(False)
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
        nat.add(
            "8080:10.77.1.10:80",
            entry("snat", int_ip="10.77.1.0/24", ext_if="wan0", ext_ip=V4.public, exclude=["10.0.0.0/8"]),
            entry("policy_routes", src_ip=V4.public, via=V4.client, table="1000"),
            entry("hairpin", ext_ip=V4.public, int_ip="10.77.1.10", proto="tcp", ports="443"),
        )
        assert set(nat.states().values()) == {"live"}
        nat.mapper.clear(False)
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
        assert not os.path.exists(nat.mapper.path)
    assert subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout == rules
    now = subprocess.run(
        "ip rule; ip route show table all", shell=True, capture_output=True, check=True
    ).stdout
    assert now == routing


@isolated
def test_prefixes_in_one_another_are_live_each_by_its_part() -> None:
    """An element of the table is there for one entry; a wider entry has what narrower ones leave of it."""
    Rig()
    with asked() as nat:
        entries = [
            entry("snat", int_ip="10.77.0.0/16", ext_if="wan0", ext_ip=V4.public),
            entry("snat", int_ip="10.77.1.0/24", ext_if="wan0", ext_ip=V4.client, exclude=["10.0.0.0/8"]),
            entry("masquerade", int_ip="10.77.1.10", ext_if="wan0"),
            *(
                entry("hairpin", ext_ip=V4.public, int_ip=server, proto="tcp", ports=ports, lan_cidr=lan)
                for server, ports, lan in (
                    ("10.77.1.10", "80-90", "10.77.0.0/16"),
                    ("10.77.1.11", "85", "10.77.1.0/24"),
                )
            ),
        ]
        nat.add(*entries)
        assert list(nat.states().values()) == ["live"] * len(entries)
        lost = f'10.77.0.0/24 . "wan0" : {V4.public}'
        subprocess.run(
            ["nft", "delete", "element", "inet", "netns_natmap", "snat4", f"{{ {lost} }}"], check=True
        )
        missing = [command for command, state in nat.states().items() if state == "missing"]
        assert missing == [f"snat --int-ip 10.77.0.0/16 --ext-if wan0 --ext-ip {V4.public}"]


@isolated
def test_a_foreign_flush_is_mended() -> None:
    rig = Rig()
    rig.listen("server", 80)
    with asked() as nat:
        nat.add("8080:10.77.1.10:80")
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert set(nat.states().values()) == {"missing"}
        nat.mapper.notice(True)
        nat.mapper.reconcile()
        assert rig.reach("client", V4.public, 8080) == Reached("server", 80, V4.client)
        subprocess.run(
            ["nft", "delete", "element", "inet", "netns_natmap", "any4", "{ tcp . 8080 }"], check=True
        )
        nat.mapper.notice(True)
        nat.mapper.reconcile()
        assert set(nat.states().values()) == {"live"}


@isolated
def test_a_corrupt_state_is_refused_and_kept() -> None:
    rig = Rig()
    rig.listen("server", 80)
    with asked() as nat:
        nat.add("8080:10.77.1.10:80")
        broken = Path(nat.mapper.path).read_text()[:-9]
        Path(nat.mapper.path).write_text(broken)
        with pytest.raises(NetnsToolsError, match="corrupt"):
            again(nat)
        assert Path(nat.mapper.path).read_text() == broken
        assert rig.reach("client", V4.public, 8080) == Reached("server", 80, V4.client)


@isolated
def test_what_the_kernel_refuses_changes_nothing() -> None:
    """A policy route by a gateway that is nowhere: neither mappings nor state are changed."""
    Rig()
    with asked() as nat:
        nat.add("8080:10.77.1.10:80")
        before = Path(nat.mapper.path).read_text(), list_table("inet netns_natmap")
        with pytest.raises(NetnsToolsError):
            nat.add("8081:10.77.1.10:80", entry("policy_routes", src_ip="10.1.0.0/16", via="172.31.9.9"))
        assert (Path(nat.mapper.path).read_text(), list_table("inet netns_natmap")) == before


@isolated
def test_what_the_file_declares_is_not_for_commands() -> None:
    rig = Rig()
    rig.listen("server", 80)
    with asked("8080:10.77.1.10:80") as nat:
        nat.mapper.reconcile()
        assert rig.reach("client", V4.public, 8080) == Reached("server", 80, V4.client)
        with pytest.raises(Refused, match="is declared in"):
            nat.delete("8080:10.77.1.10:80")
        with pytest.raises(Refused, match="is declared in"):
            nat.add("8080:10.77.1.11:80", replace=True)
        with pytest.raises(Refused, match="is declared in"):
            nat.remap(8080, 8090)
        nat.add("8081:10.77.1.10:80")
        nat.add("8082:10.77.1.10:80", exact=True)
        assert sorted(nat.states()) == ["dnat 8080:10.77.1.10:80/tcp", "dnat 8082:10.77.1.10:80/tcp"]


def container(address: str, *, running: bool = True, id: str = "aa11", name: str = "web") -> Container:
    return Container(id, name, (), running, "bridge", (("bridge", address, ""),))


@isolated
def test_a_mapping_follows_its_container() -> None:
    rig = Rig()
    rig.listen("server", 80)
    rig.listen("peer", 80)
    with asked() as nat:
        nat.mapper.containers = (container(V4.server),)
        nat.mapper.apply(
            tuple(read_plain("docker", {"container": "web", "map": "0.0.0.0:8080:80"})), *[False] * 4
        )
        assert rig.reach("client", V4.public, 8080) == Reached("server", 80, V4.client)
        nat.mapper.containers = ()
        nat.mapper.reconcile()
        assert rig.reach("client", V4.public, 8080) is None
        assert list(nat.states().values()) == ["waiting"]
        nat.mapper.containers = (container(V4.peer, id="bb22"),)
        nat.mapper.reconcile()
        assert rig.reach("client", V4.public, 8080) == Reached("peer", 80, V4.client)
        nat.mapper.remove("web", 8080, "", False)
        assert nat.states() == {}
        with pytest.raises(Refused, match="no mapping to container web"):
            nat.mapper.remove("web", 8080, "", False)


@isolated
def test_policy_routes_of_similar_tables() -> None:
    Rig()
    with asked() as nat:
        nat.add(entry("policy_routes", src_ip="10.1.0.1", via=V4.client, table="100"))
        nat.add(entry("policy_routes", src_ip="10.1.0.2", via=V4.client, table="1000"))
        ip("rule add from 10.9.9.9 lookup 100 pref 5")
        nat.mapper.delete((entry("policy_routes", src_ip="10.1.0.1", via=V4.client, table="100"),), False)
        shown = subprocess.run(["ip", "rule"], capture_output=True, text=True, check=True).stdout
        assert "from 10.1.0.1" not in shown
        assert "from 10.1.0.2 lookup 1000" in shown
        assert "from 10.9.9.9 lookup 100" in shown
        assert set(nat.states().values()) == {"live"}
        ip("route delete default table 1000")
        assert set(nat.states().values()) == {"missing"}
        nat.mapper.reconcile()
        assert set(nat.states().values()) == {"live"}


@isolated
def test_a_full_disk_changes_nothing() -> None:
    rig = Rig()
    rig.listen("server", 80)
    with asked() as nat:
        directory = os.path.dirname(nat.mapper.path)
        os.makedirs(directory)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", directory], check=True)
        nat.add("8080:10.77.1.10:80")
        before = Path(nat.mapper.path).read_text()
        with pytest.raises(NetnsToolsError, match="cannot write the state file"):
            nat.add(*(f"{port}:10.77.1.10:80" for port in range(10000, 10400)))
        assert Path(nat.mapper.path).read_text() == before
        assert list(nat.states()) == ["dnat 8080:10.77.1.10:80/tcp"]
        assert os.listdir(directory) == [os.path.basename(nat.mapper.path)]
        with pytest.raises(NetnsToolsError, match="cannot write the state file"):
            nat.add("8081:10.77.1.10:80")
        nat.mapper.clear(False)  # which needs no space
        assert (os.listdir(directory), nat.states()) == ([], {})
        subprocess.run(["umount", directory], check=True)


@isolated
def test_a_state_file_is_never_written_through_a_link() -> None:
    Rig()
    with asked() as nat:
        nat.add("8080:10.77.1.10:80")
        other = Path(nat.mapper.paths.root, "precious")
        other.write_text("precious")
        os.symlink(other, f"{nat.mapper.path}.new")
        nat.add("8081:10.77.1.10:80")
        assert other.read_text() == "precious"
        assert not os.path.islink(nat.mapper.path)


@isolated
def test_a_pipe_is_no_state_file() -> None:
    """It is refused at once; nobody waits for who might write into it."""
    Rig()
    with asked() as nat:
        nat.add("8080:10.77.1.10:80")
        os.unlink(nat.mapper.path)
        os.mkfifo(nat.mapper.path)
        signal.alarm(20)
        with pytest.raises(NetnsToolsError, match="corrupt"):
            again(nat)
        signal.alarm(0)
