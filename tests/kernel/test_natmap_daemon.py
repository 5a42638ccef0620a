"""The daemon of the NAT mapper, with real packets: whatever happens to it or to its table."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_tools.host.httpclient import request
from tests.kernel.conftest import FakeHost
from tests.kernel.natmapdaemon import Namespace, Natmap, soon

GATE = "198.51.100.1"
SERVER = "10.77.1.10"
PEER = "10.77.2.10"
BACK = 1.0
"""Seconds within which a table that somebody removed is back."""


class Net:
    """A host with the namespaces client, server and peer, and a netns-natmap on it."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        host.run("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        inside = ["nsenter", "-t", str(host._process.pid), "--net", "--mount", "--root"]
        self.here = Namespace(inside)
        self.client = self._add(inside, "client", GATE, "198.51.100.10")
        self.server = self._add(inside, "server", "10.77.1.1", SERVER)
        self.peer = self._add(inside, "peer", "10.77.2.1", PEER)
        self.nat = Natmap(host.spawn, f"/proc/{host._process.pid}/root")

    def _add(self, inside: list[str], name: str, gate: str, address: str) -> Namespace:
        ip = ("ip", "-batch", "-")
        lines = [
            f"netns add {name}",
            f"link add {name}0 type veth peer name eth0 netns {name}",
            f"addr add {gate}/24 dev {name}0",
            f"link set {name}0 up",
        ]
        self.host.run(*ip, input="\n".join(lines))
        made = Namespace([*inside, "ip", "netns", "exec", name])
        lines = ["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"]
        made.run(*ip, input="\n".join([*lines, f"route add default via {gate}"]))
        return made

    def close(self) -> None:
        for one in (self.nat, self.client, self.server, self.peer, self.here):
            one.close()

    def nft(self, *words: str) -> str:
        return self.host.run("nft", *words).stdout

    def table(self) -> str:
        """Our table as nft lists it, "" without one."""
        return self.host.run("nft", "list", "table", "inet", "netns_natmap", check=False).stdout


@pytest.fixture
def net(host: FakeHost) -> Iterator[Net]:
    made = Net(host)
    yield made
    made.close()


@pytest.fixture
def nat(net: Net, tmp_path: Path) -> Natmap:
    """A daemon that maps tcp and udp 8080 to the server."""
    net.server.serve(80, "server")
    net.server.serve(80, "server", "udp")
    net.nat.start(tmp_path / "log")
    net.nat.add(f"8080:{SERVER}:80", f"8080:{SERVER}:80/udp")
    assert net.client.reach(GATE, 8080) == "server 198.51.100.10"
    return net.nat


# Its table


def test_a_flush_is_mended(net: Net, nat: Natmap) -> None:
    before = net.table()
    talk = net.client.talk(GATE, 8080)
    for _ in range(5):
        net.nft("flush", "ruleset")
        assert soon(net.table, before) < BACK
        assert net.client.reach(GATE, 8080) == "server 198.51.100.10"
    assert talk.again() == "x"


def test_whatever_others_do_to_the_table_is_mended(net: Net, nat: Natmap) -> None:
    before = net.table()
    for words in (
        ("delete element inet netns_natmap any4 { tcp . 8080 }",),
        ("add element inet netns_natmap any4 { tcp . 9999 : 192.0.2.1 . 1 }",),
        ("delete table inet netns_natmap",),
        ("flush table inet netns_natmap",),
        ("flush map inet netns_natmap any4",),
        ("flush chain inet netns_natmap lookup",),
        ("insert rule inet netns_natmap lookup return",),
        ("add chain inet netns_natmap other",),
    ):
        net.nft(*words)
        assert soon(net.table, before) < BACK, words
        assert net.client.reach(GATE, 8080) == "server 198.51.100.10"
    assert nat.do("GET", "/mappings")["drift"] is False


def test_a_look_just_then_does_not_hide_it(net: Net, nat: Natmap) -> None:
    """Whoever reads the news of the kernel first, a request or the loop: it is acted upon."""
    before = net.table()
    for _ in range(10):
        net.nft("flush", "ruleset")
        nat.ask("GET", "/mappings")
        assert soon(net.table, before) < BACK


def test_other_rules_of_others_are_left_alone(net: Net, nat: Natmap) -> None:
    net.host.run(
        "nft", "-f", "-", input="table inet other { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; }"
    )
    net.host.run("nft", "delete", "table", "inet", "netns_natmap")
    soon(lambda: "8080" in net.table(), True)
    assert "192.0.2.1" in net.nft("list", "set", "inet", "other", "s")


# Its end and its beginning


def test_kill_and_start(net: Net, nat: Natmap, tmp_path: Path) -> None:
    before = net.table()
    talk = net.client.talk(GATE, 8080)
    connects = net.client.connects(GATE, 8080)
    nat.stop(signal.SIGKILL)
    assert net.client.reach(GATE, 8080) == "server 198.51.100.10"
    assert net.client.reach(GATE, 8080, "udp") == "server 198.51.100.10"
    for _ in range(3):
        nat.start(tmp_path / "log")
        assert net.table() == before
        nat.stop(signal.SIGKILL)
    assert connects.end() == ""
    assert talk.again() == "x"


def test_sigterm_leaves_the_mappings(net: Net, nat: Natmap, tmp_path: Path) -> None:
    before = net.table()
    assert nat.stop() == 0
    assert net.table() == before
    assert net.client.reach(GATE, 8080) == "server 198.51.100.10"
    nat.start(tmp_path / "log", "--flush-on-stop")
    assert nat.stop() == 0
    assert net.table() == ""
    assert net.client.reach(GATE, 8080) == "refused"
    nat.start(tmp_path / "log")
    assert net.table() == before


@pytest.mark.parametrize("words", [(), ("--flush-on-stop",)])
@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe", b'{"version": 7}'])
def test_a_corrupt_state_is_refused_and_kept(
    net: Net, nat: Natmap, tmp_path: Path, text: bytes, words: tuple[str, ...]
) -> None:
    nat.stop()
    before = net.table()
    Path(nat.state).write_bytes(text)
    log = tmp_path / "again"
    nat.launch(log, *words)
    assert nat.end() == 1
    assert "natmap-host.json: the state file is corrupt" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert Path(nat.state).read_bytes() == text
    assert net.table() == before
    assert net.client.reach(GATE, 8080) == "server 198.51.100.10"


def test_clear_leaves_nothing(net: Net, nat: Natmap) -> None:
    assert net.host.run("sysctl", "-n", "net.ipv4.conf.server0.route_localnet").stdout == "1\n"
    assert net.here.reach("127.0.0.1", 8080) == "server 10.77.1.1"
    nat.do("DELETE", "/clear")
    assert net.table() == ""
    assert net.host.run("sysctl", "-n", "net.ipv4.conf.server0.route_localnet").stdout == "0\n"
    assert net.client.reach(GATE, 8080) == "refused"
    assert not os.path.exists(nat.state)


def test_one_daemon_a_name(net: Net, nat: Natmap, tmp_path: Path) -> None:
    again = Natmap(net.host.spawn, nat.top)
    log = tmp_path / "again"
    again.launch(log)
    assert again.end() != 0
    assert "runs already" in log.read_text()
    assert net.client.reach(GATE, 8080) == "server 198.51.100.10"


def test_a_configuration_that_is_taken_anew(net: Net, nat: Natmap) -> None:
    net.peer.serve(80, "peer")
    net.host.configure("natmap-host.yaml", f"dnat:\n  - 9090:{PEER}:80\n")
    nat.do("POST", "/reload")
    assert net.client.reach(GATE, 9090) == "peer 198.51.100.10"
    net.host.configure("natmap-host.yaml", f"dnat:\n  - 9091:{PEER}:80\n  - nonsense\n")
    assert nat.ask("POST", "/reload")[0] == 400
    assert net.client.reach(GATE, 9090) == "peer 198.51.100.10"
    net.host.configure("natmap-host.yaml", f"dnat:\n  - 9091:{PEER}:80\n")
    assert nat.process is not None
    nat.process.send_signal(signal.SIGHUP)
    soon(lambda: net.client.reach(GATE, 9091), "peer 198.51.100.10")
    assert net.client.reach(GATE, 9090) == "refused"
    assert net.client.reach(GATE, 8080) == "server 198.51.100.10"


# Changes


def test_udp_follows_and_tcp_stays(net: Net, nat: Natmap) -> None:
    net.peer.serve(80, "peer")
    net.peer.serve(80, "peer", "udp")
    talk, datagrams = net.client.talk(GATE, 8080), net.client.datagrams(GATE, 8080)
    assert datagrams.again() == "server"
    nat.add(f"8080:{PEER}:80", f"8080:{PEER}:80/udp", replace=True)
    assert datagrams.again() == "peer"
    assert talk.again() == "x"
    assert net.client.reach(GATE, 8080) == "peer 198.51.100.10"


def test_udp_follows_what_changed_while_nobody_looked(net: Net, nat: Natmap, tmp_path: Path) -> None:
    net.peer.serve(80, "peer", "udp")
    datagrams = net.client.datagrams(GATE, 8080)
    assert datagrams.again() == "server"
    nat.stop()
    state = Path(nat.state)
    state.write_text(state.read_text().replace(SERVER, PEER))
    nat.start(tmp_path / "log")
    assert datagrams.again() == "peer"


def test_two_commands_at_once(net: Net, nat: Natmap) -> None:
    """Each is done as a whole, none is lost, whoever of them asks the daemon or comes directly."""
    said: list[int] = []

    def add(first: int) -> None:
        for port in range(first, first + 20):
            said.append(nat.ask("POST", "/dnat", {"map": f"{port}:{SERVER}:80"})[0])

    threads = [threading.Thread(target=add, args=(first,)) for first in (10000, 11000, 12000, 13000)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert said == [200] * 80
    assert list(nat.states().values()) == ["live"] * 82
    rivals = [
        net.host.spawn(
            *nat.command("dnat", f"14000:{target}:80"),
            env=nat.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
        )
        for target in (SERVER, PEER)
    ]
    ended = [(one.communicate(timeout=60)[1], one.returncode) for one in rivals]
    assert sorted(code for _, code in ended) == [0, 1], ended


def test_hundreds_of_requests_in_a_row(net: Net, nat: Natmap) -> None:
    for number in range(150):
        nat.add(f"20000:{SERVER}:80", f"{20001 + number}:{SERVER}:80")
        nat.do("DELETE", "/dnat", {"map": f"20000:{SERVER}:80"})
    assert len(nat.states()) == 152
    assert net.client.reach(GATE, 20150) == "server 198.51.100.10"
    assert net.client.reach(GATE, 20000) == "refused"
    assert nat.process is not None
    assert len(os.listdir(f"/proc/{nat.process.pid}/fd")) < len(nat.states()) + 40


# Ports


def bind(net: Net, port: int, proto: str = "tcp", address: str = "") -> str:
    """Try to listen there: "" or why not."""
    program = (
        "import socket,sys; one = socket.socket(socket.AF_INET, "
        "socket.SOCK_STREAM if sys.argv[1] == 'tcp' else socket.SOCK_DGRAM)\n"
        "one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "try:\n one.bind((sys.argv[3], int(sys.argv[2]))); sys.argv[1] == 'tcp' and one.listen()\n"
        "except OSError as error: print(error.strerror)"
    )
    return net.here.run("python3", "-c", program, proto, str(port), address).strip()


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_a_mapped_port_is_kept_free(net: Net, nat: Natmap, proto: str) -> None:
    assert bind(net, 8080, proto) == "Address already in use"
    assert bind(net, 8080, proto, "127.0.0.1") == "Address already in use"
    nat.do("DELETE", "/dnat", {"map": f"8080:{SERVER}:80/{proto}"})
    assert bind(net, 8080, proto) == ""
    assert net.client.reach(GATE, 8080, proto) in ("refused", "Connection refused")


def test_a_port_in_use_is_refused(net: Net, nat: Natmap) -> None:
    net.here.serve(9000, "host")
    status, said = nat.ask("POST", "/dnat", {"map": f"9000:{SERVER}:80"})
    assert status == 409
    assert "listens on tcp *:9000" in said["error"]
    assert net.client.reach(GATE, 9000) == "host 198.51.100.10"
    done = net.host.run(*nat.command("dnat", f"9000:{SERVER}:80"), check=False, env=nat.environment, cwd="/")
    assert done.returncode == 1
    assert "python3" in done.stderr
    nat.add(f"9000:{SERVER}:80", force=True)
    assert net.client.reach(GATE, 9000) == "server 198.51.100.10"
    assert nat.add(f"0:{SERVER}:80")["entries"][0]["ports"] not in ("0", "8080", "9000")


def test_more_mappings_than_descriptors(net: Net, tmp_path: Path) -> None:
    """Ports beyond what a process may open are mapped, though not kept free; the daemon still answers."""
    net.server.serve(80, "server")
    limited = ["prlimit", "--nofile=400:400", "--"]
    net.nat.launch(tmp_path / "log")
    net.nat.stop(signal.SIGKILL)
    few = Natmap(lambda *words, **more: net.host.spawn(*limited, *words, **more), net.nat.top)
    try:
        few.start(tmp_path / "few")
        few.add(*(f"{port}:{SERVER}:80" for port in range(10000, 10600)))
        assert [few.ask("GET", "/health")[0] for _ in range(20)] == [200] * 20
        assert net.client.reach(GATE, 10599) == "server 198.51.100.10"
        assert "not kept free" in few.log.read_text()
    finally:
        few.close()


def test_a_doctor_with_thousands_of_ports_kept_free(net: Net, nat: Natmap) -> None:
    """libnftables ends a process that opens it with more than 1,024 descriptors."""
    nat.add(*(f"{port}:{SERVER}:80" for port in range(10000, 11500)))
    pid = nat.process.pid if nat.process is not None else 0
    assert len(os.listdir(f"/proc/{pid}/fd")) > 1500
    assert nat.ask("GET", "/doctor")[0] == 200
    assert nat.ask("GET", "/status")[1]["pid"] == pid


# Who asks, and how


def as_user(words: str, net: Net, nat: Natmap) -> subprocess.CompletedProcess[str]:
    """A command by somebody who is not root."""
    return net.host.run(
        *("setpriv", "--reuid=65534", "--regid=65534", *words.split()),
        *nat.command("ls"),
        check=False,
        env={**nat.environment, "PYTHONPATH": net.host.project_for_all()},
        cwd="/",
    )


def test_members_of_the_group_may_ask_and_nobody_else(net: Net, nat: Natmap, tmp_path: Path) -> None:
    assert nat.stop() == 0
    net.host.run("sh", "-c", "echo netns-natmap:x:4242: >>/etc/group")
    nat.start(tmp_path / "log")
    status = os.stat(nat.socket)
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o660, 0, 4242)
    done = as_user("--clear-groups", net, nat)
    assert done.returncode == 1
    assert "not allowed" in done.stderr
    assert "netns-natmap" in done.stderr
    assert "Traceback" not in done.stderr
    done = as_user("--groups=4242", net, nat)
    assert done.returncode == 0, done.stderr
    assert "8080" in done.stdout


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/dnat", {"map": f"8080:{PEER}:80"}, 409),
        ("POST", "/dnat", {"map": "0x50:nowhere:80"}, 400),
        ("POST", "/dnat", {"map": "8081:10.77.1.10:80", "colour": "red"}, 400),
        ("POST", "/dnat", ["8081:10.77.1.10:80"], 400),
        ("POST", "/dnat", None, 400),
        ("POST", "/apply", {"dnat": ["8081:10.77.1.10:80", "8081:10.77.2.10:80"]}, 400),
        ("POST", "/apply", {"dnat": ["8081:10.77.1.10:80", f"8080:{PEER}:80"]}, 409),
        ("PUT", "/remap", {"host_port": 1, "new_host_port": 2}, 404),
        ("DELETE", "/mapping/web/80", None, 404),
        ("DELETE", "/mapping/by-id/7", None, 404),
        ("GET", "/nothing", None, 404),
        ("PATCH", "/dnat", {}, 405),
    ],
)
def test_refusals(net: Net, nat: Natmap, method: str, target: str, body: object, status: int) -> None:
    before, state = net.table(), Path(nat.state).read_text()
    found, said = nat.ask(method, target, body)
    assert found == status, said
    assert isinstance(said["error"], str)
    assert said["error"]
    assert net.table() == before
    assert Path(nat.state).read_text() == state


def test_a_batch_with_a_busy_port_changes_nothing(net: Net, nat: Natmap) -> None:
    net.here.serve(9000, "host")
    before = net.table()
    assert nat.ask("POST", "/apply", {"dnat": [f"9001:{SERVER}:80", f"9000:{SERVER}:80"]})[0] == 409
    assert net.table() == before


def test_hostile_clients_do_not_stop_it(net: Net, nat: Natmap) -> None:
    before = net.table()
    held = []
    for said in (b"", b"GET / HTTP/1.1\r\n", b"POST /dnat HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"):
        for _ in range(5):
            one = socket.socket(socket.AF_UNIX)
            one.connect(nat.socket)
            one.send(said)
            held.append(one)
    for said in (
        b"\0" * 4096,
        b"GET " + b"/" * 70_000,
        b"POST /dnat HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
            one.connect(nat.socket)
            one.sendall(said)
    bodies: list[dict[str, object]] = [{"map": "8" * 100_000}, {"dnat": [[]] * 1000}, {"map": {"map": {}}}]
    for body in bodies:
        assert nat.ask("POST", "/dnat", body)[0] == 400
    net.nft("flush", "ruleset")
    assert soon(net.table, before) < BACK
    nat.add(f"9090:{SERVER}:80")
    assert net.client.reach(GATE, 9090) == "server 198.51.100.10"
    for one in held:
        one.close()


def test_a_socket_that_somebody_removed_comes_back(net: Net, nat: Natmap) -> None:
    os.unlink(nat.socket)
    soon(lambda: request(nat.socket, "GET", "/health") is not None, True, 30)
    assert nat.states()


def test_the_mappings_of_a_namespace(net: Net, tmp_path: Path) -> None:
    """The daemon of NAME works in NAME, and nowhere else."""
    net.peer.serve(80, "peer")
    net.host.run("ip", "netns", "exec", "server", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    inner = Natmap(net.host.spawn, net.nat.top, name="server")
    try:
        inner.start(tmp_path / "log")
        inner.add(f"9090:{PEER}:80", masquerade=[{"int_ip": "0.0.0.0/0", "ext_if": "eth0"}])
        assert net.client.reach(SERVER, 9090) == f"peer {SERVER}"
        assert net.table() == ""
        net.host.run("ip", "netns", "exec", "server", "nft", "flush", "ruleset")
        soon(lambda: net.client.reach(SERVER, 9090), f"peer {SERVER}")
    finally:
        inner.close()
