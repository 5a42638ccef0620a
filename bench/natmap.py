#!/usr/bin/python3
"""Measure netns-natmap with thousands of mappings beside iptables and plain nft; as root.

    make bench-natmap                                    about two minutes
    /usr/bin/python3 bench/natmap.py --mappings 2000

Everything happens in network namespaces made for it: a client, a router with the mappings, a server.
The alternatives in the same run are iptables (its nft variant) with a rule a mapping, one a run and all
at once by iptables-restore, and a map of nftables that ``nft -f`` fills; only ratios mean something on
another machine. State files are on the disk, as on any machine.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
CLONE_NEWNET = 0x40000000
PUBLIC, SERVER, CLIENT = "203.0.113.1", "10.77.1.10", "198.51.100.10"
FIRST = 10_000
FEW = 10
NFT = """
table ip bench {
    map ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; %s }
    chain prerouting {
        type nat hook prerouting priority dstnat;
        dnat ip to ip daddr . meta l4proto . th dport map @ports
    }
}
"""


class Figure(NamedTuple):
    """What was measured: a name, a figure, and the most that it may be, 0 if there is no such goal."""

    name: str
    value: float
    goal: float = 0.0


def run(*command: str, given: str = "") -> float:
    """Seconds that a command takes, from its start to its end."""
    began = time.perf_counter()
    done = subprocess.run(command, input=given.encode(), capture_output=True, check=False)
    took = time.perf_counter() - began
    assert done.returncode == 0, f"{' '.join(command)[:200]}: {done.stderr.decode()}"
    return took


def usual(samples: Iterable[float]) -> float:
    """The lower quartile: what else runs on the machine makes things slower, never faster."""
    return statistics.quantiles(samples, n=4)[0]


# Namespaces


_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread is in another namespace; sockets that are made there stay there."""
    home, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", f"/run/netns/{name}"))
    try:
        assert _libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert _libc.setns(home, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(home)
        os.close(there)


def build() -> None:
    """Client and server, with the namespace that we are in between them."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{PUBLIC}/32", "dev", "lo")
    for name, address, gate in (("client", CLIENT, "198.51.100.1"), ("server", SERVER, "10.77.1.1")):
        run("ip", "netns", "add", name)
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "address", "add", f"{gate}/24", "dev", name)
        run("ip", "link", "set", name, "up")
        for words in (
            f"address add {address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {gate}",
        ):
            run("ip", "-n", name, *words.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


@contextmanager
def serving() -> Iterator[None]:
    """A server that takes connections and drops them, in a process of its own."""
    with inside("server"):
        listener = socket.create_server((SERVER, 80), backlog=4096)
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        while True:
            listener.accept()[0].close()
    listener.close()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def connects(port: int, count: int) -> list[float]:
    """Microseconds that each of so many new TCP connections takes to be established."""
    found = []
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # else the scheduler decides how long it takes
    with inside("client"):
        for _ in range(count):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                # Ends without TIME_WAIT, else the client runs out of ports.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                began = time.perf_counter()
                client.connect((PUBLIC, port))
                found.append((time.perf_counter() - began) * 1e6)
    os.sched_setaffinity(0, cores)
    return found


# The others: a rule a mapping, or an element


def rule(port: int) -> str:
    """A mapping as a rule of iptables."""
    return f"-A PREROUTING -d {PUBLIC}/32 -p tcp -m tcp --dport {port} -j DNAT --to-destination {SERVER}:80"


def restored(ports: range) -> str:
    """Mappings as iptables-restore takes them."""
    return "\n".join(["*nat", *map(rule, ports), "COMMIT", ""])


def element(port: int) -> str:
    """A mapping as an element of a map."""
    return f"{PUBLIC} . tcp . {port} : {SERVER} . 80"


def filled(ports: range) -> str:
    """A table with a map of mappings, as ``nft -f`` takes it."""
    return NFT % f"elements = {{ {', '.join(map(element, ports))} }}"


def flush() -> None:
    """Remove all rules of this namespace."""
    run("nft", "flush", "ruleset")


def measure_iptables(ports: range, rounds: int) -> Iterator[Figure]:
    """iptables with a rule a mapping; a new one by iptables, and by iptables-restore."""
    extra = range(ports.stop, ports.stop + rounds)
    run("iptables-nft", "-t", "nat", "-S")
    alone = usual(run("iptables-nft", "-t", "nat", *rule(port).split()) for port in extra)
    yield Figure("iptables, one more at none ms", alone * 1000)
    flush()
    yield Figure("iptables-restore, install s", run("iptables-nft-restore", given=restored(ports)))
    one = usual(run("iptables-nft", "-t", "nat", *rule(port).split()) for port in extra)
    yield Figure("iptables, one more ms", one * 1000)
    # Each run takes longer than the one before, in proportion to the rules there are.
    yield Figure("iptables, install s, from those", len(ports) * (alone + one) / 2)
    one = usual(
        run("iptables-nft", "-t", "nat", *rule(port).replace("-A", "-D", 1).split()) for port in extra
    )
    yield Figure("iptables, one less ms", one * 1000)
    one = usual(
        run("iptables-nft-restore", "--noflush", given=restored(range(port, port + 1))) for port in extra
    )
    yield Figure("iptables-restore, one more ms", one * 1000)
    flush()
    yield Figure("iptables-restore, after flush s", run("iptables-nft-restore", given=restored(ports)))
    flush()


def measure_nft(ports: range, rounds: int) -> Iterator[Figure]:
    """A map that nft fills."""
    yield Figure("nft -f, install s", run("nft", "-f", "-", given=filled(ports)))
    one = usual(
        run("nft", "-f", "-", given=f"add element ip bench ports {{ {element(port)} }}\n")
        for port in range(ports.stop, ports.stop + rounds)
    )
    yield Figure("nft -f, one more ms", one * 1000)
    flush()
    yield Figure("nft -f, after flush s", run("nft", "-f", "-", given=filled(ports)))
    flush()


# Ours


class Ours:
    """netns-natmap with files below ``root``."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.socket = f"{root}/run/netns-tools/natmap-host.sock"
        self.command = ["/usr/bin/python3", "-m", "netns_tools.cli.natmap", "--root", root]
        # Compiled once, as what is installed is.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ.update(PYTHONPATH=str(REPOSITORY), PYTHONPYCACHEPREFIX=f"{root}/compiled")

    def run(self, *words: str) -> float:
        """Seconds that a command takes."""
        return run(*self.command, *words)

    def apply(self, ports: range) -> float:
        """Seconds that a command takes that makes a file of mappings the whole truth."""
        path = f"{self.root}/mappings.yaml"
        Path(path).write_text("dnat:\n" + "".join(f"  - {word(port)}\n" for port in ports))
        return self.run("apply", "--exact", path)

    @contextmanager
    def daemon(self) -> Iterator[int]:
        """The daemon, ready; its process. What it has in the kernel stays there after it."""
        with open(f"{self.root}/journal", "w+") as journal:
            process = subprocess.Popen([*self.command, "daemon"], stderr=journal)
            try:
                while not self.answers():
                    assert process.poll() is None, Path(journal.name).read_text()
                    time.sleep(0.01)
                yield process.pid
            finally:
                process.terminate()
                process.wait()

    def answers(self) -> bool:
        """Whether the daemon does."""
        with suppress(OSError):
            return b" 200 " in self.exchange(None, "GET", "/health")
        return False

    def connect(self) -> socket.socket:
        """A connection to the daemon."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(60)
        client.connect(self.socket)
        return client

    def exchange(self, client: socket.socket | None, method: str, path: str, body: object = None) -> bytes:
        """What the daemon answers to a request."""
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: natmap\r\nContent-Length: {len(text)}\r\n\r\n"
        with client.dup() if client else self.connect() as used:
            used.sendall(head.encode() + text)
            said = b""
            while b"\r\n\r\n" not in said:
                said += used.recv(65536)
            head_bytes, _, rest = said.partition(b"\r\n\r\n")
            lengths = [
                line for line in head_bytes.lower().splitlines() if line.startswith(b"content-length:")
            ]
            missing = int(lengths[0].partition(b":")[2]) - len(rest)
            while missing > 0:
                part = used.recv(1 << 20)
                assert part, "the daemon has hung up"
                missing -= len(part)
        assert said.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")), said[:300]
        return said


def word(port: int) -> str:
    """A mapping as netns-natmap takes it."""
    return f"{PUBLIC}:{port}:{SERVER}:80"


def is_there(port: int) -> bool:
    """Whether nftables has a mapping of ours."""
    said = subprocess.run(
        ["nft", "get", "element", "inet", "netns_natmap", "addr4", f"{{ {PUBLIC} . tcp . {port} }}"],
        capture_output=True,
        check=False,
    )
    return said.returncode == 0


def measure_commands(ours: Ours, ports: range, rounds: int) -> Iterator[Figure]:
    """Commands that work by themselves: no daemon runs."""
    ours.run("dnat", word(FIRST))
    one = usual(ours.run("dnat", word(FIRST + number)) for number in range(1, rounds))
    yield Figure("command, one more at none ms", one * 1000)
    yield Figure("command, install s", ours.apply(ports), 1)
    extra = range(ports.stop, ports.stop + rounds)
    one = usual(ours.run("dnat", word(port)) for port in extra)
    yield Figure("command, one more ms", one * 1000, 150)
    one = usual(ours.run("dnat", word(port), "--delete") for port in extra)
    yield Figure("command, one less ms", one * 1000)
    ours.run("clear")
    flush()


def measure_daemon(ours: Ours, ports: range, rounds: int) -> Iterator[Figure]:
    """The daemon, asked by its socket and by commands."""
    with ours.daemon() as pid, ours.connect() as client:
        body = {"dnat": [word(port) for port in ports]}
        began = time.perf_counter()
        ours.exchange(client, "POST", "/apply", body)
        yield Figure("daemon, install s", time.perf_counter() - began, 1)

        def one_more(port: int) -> float:
            time.sleep(0.1)  # each by itself: the daemon looks once more after each
            began = time.perf_counter()
            ours.exchange(client, "POST", "/dnat", {"map": word(port)})
            return (time.perf_counter() - began) * 1000

        extra = range(ports.stop, ports.stop + rounds)
        yield Figure("daemon, one more ms", usual(map(one_more, extra)), 5)
        one = usual(ours.run("dnat", word(port), "--delete") for port in extra)
        yield Figure("command with daemon, one less ms", one * 1000)
        one = usual(ours.run("dnat", word(port)) for port in extra)
        yield Figure("command with daemon, one more ms", one * 1000, 150)
        times = []
        for _ in range(5):
            time.sleep(0.5)
            flush()
            began = time.perf_counter()
            while not is_there(ports[-1]):
                assert time.perf_counter() - began < 60, "the mappings do not come back"
            times.append(time.perf_counter() - began)
        yield Figure("daemon, after flush s", max(times), 1)
        yield Figure("daemon, memory MiB", memory(pid))
    ours.run("clear")
    flush()


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def measure_paths(ours: Ours, ports: range, samples: int) -> Iterator[Figure]:
    """New connections through the last one of few and of many mappings, in turn, and through the others."""
    few = ports[:FEW]
    times: dict[str, list[float]] = {name: [] for name in ("few", "many", "iptables", "nft", "none")}

    def through(name: str, port: int, count: int) -> None:
        connects(port, 20)
        times[name].append(usual(connects(port, count)))

    for _ in range(10):
        ours.apply(few)
        through("few", few[-1], samples)
        ours.apply(ports)
        through("many", ports[-1], samples)
    ours.run("clear")
    for _ in range(3):
        flush()
        run("nft", "-f", "-", given=filled(ports))
        through("nft", ports[-1], samples)
        flush()
        run("iptables-nft-restore", given=restored(ports))
        through("iptables", ports[-1], samples // 5)
    flush()
    yield Figure("connection by 10 of ours us", statistics.median(times["few"]))
    yield Figure("connection by all of ours us", statistics.median(times["many"]))
    ratio = statistics.median(b / a for a, b in zip(times["few"], times["many"], strict=True))
    yield Figure("connection, all to 10", ratio, 1.15)
    yield Figure("connection by nft -f us", statistics.median(times["nft"]))
    yield Figure("connection by iptables us", statistics.median(times["iptables"]))


def measure(mappings: int, rounds: int, samples: int, say: Callable[[Figure], None]) -> None:
    """All figures."""
    ports = range(FIRST, FIRST + mappings)
    build()
    # Beside the checkout: /tmp may be in memory, and writing the state file is a part of it.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as root, serving():
        os.makedirs(f"{root}/run/netns-tools")
        ours = Ours(root)
        parts = (
            measure_iptables(ports, rounds),
            measure_nft(ports, rounds),
            measure_commands(ours, ports, rounds),
            measure_daemon(ours, ports, rounds),
            measure_paths(ours, ports, samples),
        )
        for part in parts:
            for figure in part:
                say(figure)


RATIOS = (
    ("install: iptables to command", "iptables, install s, from those", "command, install s"),
    ("install: iptables-restore to command", "iptables-restore, install s", "command, install s"),
    ("install: nft -f to command", "nft -f, install s", "command, install s"),
    ("one more: iptables to command", "iptables, one more ms", "command, one more ms"),
    ("one more: iptables to daemon", "iptables, one more ms", "daemon, one more ms"),
    ("one more: nft -f to daemon", "nft -f, one more ms", "daemon, one more ms"),
    ("after flush: iptables-restore to daemon", "iptables-restore, after flush s", "daemon, after flush s"),
    ("connection: iptables to ours", "connection by iptables us", "connection by all of ours us"),
    ("connection: nft -f to ours", "connection by nft -f us", "connection by all of ours us"),
)


def main() -> int:
    """Measure and print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description="Measure netns-natmap.")
    parser.add_argument("--mappings", type=int, default=10_000, help="how many, default 10000")
    parser.add_argument("--rounds", type=int, default=20, help="single changes a figure, default 20")
    parser.add_argument("--samples", type=int, default=2000, help="connections a round, default 2000")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        if shutil.which("iptables-nft") is None:
            parser.error("iptables is missing: apt-get install iptables")
        # /run too: iptables has its lock there, ip the names of namespaces.
        setup = 'mount --make-rprivate / && mount -t tmpfs tmpfs /run && exec "$@"'
        words = [sys.executable, __file__, *sys.argv[1:], "--inside"]
        return subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", setup, "sh", *words], check=False
        ).returncode
    figures: dict[str, Figure] = {}

    def say(figure: Figure) -> None:
        figures[figure.name] = figure
        goal = f"   goal {figure.goal:g}" if figure.goal else ""
        missed = "   MISSED" if figure.goal and figure.value > figure.goal else ""
        print(f"{figure.name:42} {figure.value:10.2f}{goal}{missed}", flush=True)

    measure(options.mappings, options.rounds, options.samples, say)
    for name, over, under in RATIOS:
        say(Figure(f"ratio, {name}", figures[over].value / figures[under].value))
    if options.json:
        Path(options.json).write_text(
            json.dumps({f.name: f.value for f in figures.values()}, indent=2) + "\n"
        )
    return 1 if any(figure.goal and figure.value > figure.goal for figure in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
