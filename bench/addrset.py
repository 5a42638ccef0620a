#!/usr/bin/python3
"""Measure netns-addrset: how soon a set follows an address, and what it costs; as root.

    make bench-addrset                                   about a minute
    /usr/bin/python3 bench/addrset.py --changes 1000

Everything happens in a network namespace made for it. The alternative in the same run is the
shell loop that people write, one nft a line of ``ip monitor``; only ratios mean something on
another machine. Times are from the request that changes an address to the element in the set.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netns_tools.kernel.netlink import attribute, request
from netns_tools.kernel.nftmonitor import NftMonitor

REPOSITORY = Path(__file__).resolve().parent.parent
RULES = """
flush ruleset
table inet filter {
    set wan_ips { type ipv4_addr; }
    set wan_ips6 { type ipv6_addr; }
}
"""
CONFIG = "interfaces: [{name: wan0, nftables_zone: wan}]\n"
LOOP = """
ip -o -4 monitor address dev wan0 | while read -r first rest; do
    set -- $first $rest
    case $* in
    Deleted*) verb=delete ;;
    *) verb=add ;;
    esac
    address=$(expr "$*" : '.*inet \\([0-9.]*\\)/')
    nft $verb element inet filter wan_ips "{ $address }"
done
"""
RTM_NEWADDR, RTM_DELADDR = 20, 21
CREATE = 0x400 | 0x200 | 0x4  # NLM_F_CREATE, NLM_F_EXCL, NLM_F_ACK


class Changer:
    """Adds and removes addresses of wan0 by netlink itself: a program would take too long."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.socket.bind((0, 0))
        self.index = socket.if_nametoindex("wan0")

    def change(self, kind: int, number: int) -> None:
        packed = (0x0A000000 + number).to_bytes(4, "big")
        body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, self.index)
        body += attribute(2, packed) + attribute(1, packed)
        self.socket.send(request(kind, CREATE if kind == RTM_NEWADDR else 0x4, body))
        error = struct.unpack_from("=i", self.socket.recv(4096), 16)[0]
        assert error == 0, os.strerror(-error)


def latencies(changes: int) -> list[float]:
    """Milliseconds from a request to the element, of additions and removals in turn, each by itself."""
    changer, monitor = Changer(), NftMonitor()
    found = []
    for number in range(changes):
        kind = RTM_DELADDR if number % 2 else RTM_NEWADDR
        monitor.read()
        began = time.perf_counter()
        changer.change(kind, 1 + number // 2)
        while not monitor.read().generations:
            ready, _, _ = select.select([monitor], [], [], 5)
            assert ready, "the set does not follow"
        found.append((time.perf_counter() - began) * 1000)
        time.sleep(0.03)  # each change by itself: bursts are gathered
    monitor.close()
    return found


@contextmanager
def watcher(directory: str) -> Iterator[subprocess.Popen[bytes]]:
    """Our daemon."""
    config = f"{directory}/addrset.yaml"
    Path(config).write_text(CONFIG)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NETNS_ADDRSET_CONFIG": config}
    command = ["/usr/bin/python3", "-m", "netns_tools.cli.addrset", "--root", directory]
    daemon = subprocess.Popen([*command, "run"], env=environment, stderr=subprocess.DEVNULL)
    try:
        while subprocess.run(
            [*command, "ping"], env=environment, capture_output=True, check=False
        ).returncode:
            assert daemon.poll() is None, "the daemon has ended"
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait()


@contextmanager
def loop(_directory: str) -> Iterator[subprocess.Popen[bytes]]:
    """The shell loop."""
    shell = subprocess.Popen(["sh", "-c", LOOP], start_new_session=True)
    try:
        time.sleep(1)
        yield shell
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_time(pid: int) -> float:
    """The same in milliseconds, as the scheduler has it: finer than a clock tick."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def fresh() -> None:
    """Empty sets, and a link without addresses."""
    subprocess.run(["nft", "-f", "-"], input=RULES.encode(), check=True)
    subprocess.run(["ip", "address", "flush", "dev", "wan0", "scope", "global"], check=True)


def held() -> int:
    """How many elements the set has."""
    listed = subprocess.run(
        ["nft", "-j", "list", "set", "inet", "filter", "wan_ips"], capture_output=True, check=True
    )
    found = next(item["set"] for item in json.loads(listed.stdout)["nftables"] if "set" in item)
    return len(found.get("elem", []))


def wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def measure(changes: int, idle: float) -> dict[str, float]:
    """All figures, in a namespace with the link wan0."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, subject, count in (("loop", loop, min(changes, 100)), ("ours", watcher, changes)):
            fresh()
            with subject(directory):
                times = sorted(latencies(count))
            figures[f"{name} p50 ms"] = statistics.median(times)
            figures[f"{name} p99 ms"] = times[int(len(times) * 0.99)]
        fresh()
        with watcher(directory) as daemon:
            figures["memory MiB"] = memory(daemon.pid)
            before = cpu_seconds(daemon.pid)
            time.sleep(idle)
            figures["idle processor %"] = (cpu_seconds(daemon.pid) - before) / idle * 100
            batch = "".join(f"address add 10.1.{n // 250}.{n % 250}/32 dev wan0\n" for n in range(10_000))
            began = time.monotonic()
            subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
            wait(lambda: held() == 10_000)
            figures["10,000 additions s"] = time.monotonic() - began
            time.sleep(1)
            before = run_time(daemon.pid)
            figures["p50 ms into 10,000"] = statistics.median(latencies(100))
            figures["work ms into 10,000"] = (run_time(daemon.pid) - before) / 100
            figures["memory MiB with 10,000"] = memory(daemon.pid)
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure netns-addrset.")
    parser.add_argument("--changes", type=int, default=400, help="changes of an address, default 400")
    parser.add_argument("--idle", type=float, default=20, help="seconds of doing nothing, default 20")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        setup = "ip link add wan0 type veth peer name far0 && ip link set wan0 up && ip link set far0 up && "
        words = [sys.executable, __file__, *sys.argv[1:], "--inside"]
        return subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", setup + 'exec "$@"', "sh", *words], check=False
        ).returncode
    figures = measure(options.changes, options.idle)
    for name, figure in figures.items():
        print(f"{name:24} {figure:8.2f}")
    print(f"{'ratio of p50 to the loop':24} {figures['ours p50 ms'] / figures['loop p50 ms']:8.2f}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
