#!/usr/bin/python3
"""Measure starts, stops and netns-update against a floor, in a throwaway machine; as root.

    make bench                          everything, about three minutes
    /usr/bin/python3 bench/bench.py --rounds 9 --baseline DIR

The floor is three oneshot units with the same dependencies that run /bin/true. Floor and
subject take turns in one machine, so that a slow moment of the host hits both; a figure is
the median of its rounds, and only the ratios mean something on another machine.

``--baseline DIR``: a checkout of another implementation of netns-TYPE@NAME units, with
a ``make install`` and the same /etc/conf.d/netns files. It gets a machine of its own, and
its own floor there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.machine import Machine

FLOOR = {
    "floor_name@": "[Unit]\nStopWhenUnneeded=yes\nStartLimitIntervalSec=0\n",
    "floor_outside-veth@": "[Unit]\nRequires=floor_name@%i.service\nAfter=floor_name@%i.service\n"
    "StopWhenUnneeded=yes\nStartLimitIntervalSec=0\n",
    "floor-veth@": "[Unit]\nRequires=floor_outside-veth@%i.service\nAfter=floor_outside-veth@%i.service\n"
    "StartLimitIntervalSec=0\n",
}
SERVICE = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecStop=/bin/true\n"

# Prints nanoseconds: of a start alone, or of a start and of a stop until every namespace is gone.
TIMER = r"""
units() { for i in $(seq "$2"); do echo "$1-veth@n$i"; done; }
gone() {
    while systemctl list-units --no-legend --plain "$1_name@*" | grep -qv inactive; do sleep 0.02; done
}
one() {
    a=$(date +%s%N); systemctl start "$1-veth@n1" || exit 1; b=$(date +%s%N)
    systemctl stop "$1-veth@n1"; gone "$1"; echo $((b - a))
}
many() {
    all=$(units "$1" "$2")
    a=$(date +%s%N); systemctl start $all || exit 1; b=$(date +%s%N)
    systemctl stop $all; gone "$1"; c=$(date +%s%N); echo $((b - a)) $((c - b))
}
"""


class Subject:
    """What is measured: units named PREFIX-veth@ in a machine."""

    def __init__(self, machine: Machine, prefix: str, before: str = "") -> None:
        self.machine = machine
        self.prefix = prefix
        self.before = before
        self.one: list[float] = []
        self.starts: list[float] = []
        self.stops: list[float] = []

    def measure(self, count: int) -> None:
        """One round: seven single starts (their median counts), then ``count`` at once."""
        singles = [self._timed(f"one {self.prefix}")[0] for _ in range(7)]
        self.one.append(statistics.median(singles))
        start, stop = self._timed(f"many {self.prefix} {count}")
        self.starts.append(start)
        self.stops.append(stop)

    def _timed(self, call: str) -> list[float]:
        done = self.machine.run(f"{TIMER}\n{self.before}\n{call}", timeout=300)
        return [int(word) / 1e6 for word in done.stdout.split()]


def prepare(machine: Machine, count: int) -> None:
    """Write the floor's units and ``count`` veth instances with IPv4 and IPv6."""
    for name, unit in FLOOR.items():
        machine.write(f"/etc/systemd/system/{name}.service", unit + SERVICE)
    write_instances(machine, count)
    machine.run("systemctl daemon-reload")


def write_instances(machine: Machine, count: int, ipv6: bool = True) -> None:
    """Write ``count`` veth configurations in one go."""
    extra_out = ", 2001:db8:$i::1/64" if ipv6 else ""
    extra_in = ", 2001:db8:$i::2/64" if ipv6 else ""
    machine.run(
        f"mkdir -p /etc/conf.d/netns; for i in $(seq {count}); do a=$((i / 250)) b=$((i % 250 + 1));"
        f' printf \'VETH_IFADDR_OUTSIDE="%s"\\nVETH_IFADDR_INSIDE="%s"\\n\''
        f' "10.$a.$b.1/24{extra_out}" "10.$a.$b.2/24{extra_in}" > /etc/conf.d/netns/veth-n$i.conf; done'
    )


def install(machine: Machine) -> None:
    """Install this checkout."""
    machine.run(f"cp -r {machine.PROJECT} /root/project && make -C /root/project install", timeout=300)


def line(what: str, subject: list[float], floor: list[float]) -> dict[str, object]:
    """A row: medians in ms, and the median of the ratios round by round."""
    ratio = statistics.median(s / f for s, f in zip(subject, floor, strict=True))
    row = {
        "what": what,
        "ms": statistics.median(subject),
        "floor_ms": statistics.median(floor),
        "ratio": ratio,
    }
    print(
        f"{what:<48} {row['ms']:9.1f} ms   floor {row['floor_ms']:8.1f} ms   ratio {ratio:5.2f}", flush=True
    )
    return row


def rows(name: str, subject: Subject, floor: Subject, count: int) -> list[dict[str, object]]:
    """The three rows of a subject."""
    return [
        line(f"{name}: one start", subject.one, floor.one),
        line(f"{name}: {count} starts at once", subject.starts, floor.starts),
        line(f"{name}: {count} stops until all is gone", subject.stops, floor.stops),
    ]


def measure_ours(release: str, rounds: int, count: int) -> list[dict[str, object]]:
    """Warm starts (plans cached by netns-update or an earlier start) and cold ones (just edited)."""
    with Machine(release) as machine:
        install(machine)
        prepare(machine, count)
        machine.run("netns-update")
        subjects = [
            Subject(machine, "floor"),
            Subject(machine, "netns"),
            Subject(machine, "netns", "rm -f /var/cache/netns-tools/*.plan"),
        ]
        for _ in range(rounds):
            for subject in subjects:
                subject.measure(count)
        failed = machine.run("systemctl list-units --failed --no-legend").stdout
        assert not failed, failed
        floor, warm, cold = subjects
        return rows("netns-tools", warm, floor, count) + rows(
            "netns-tools, plan made anew", cold, floor, count
        )


def measure_baseline(release: str, rounds: int, count: int, directory: Path) -> list[dict[str, object]]:
    """Another implementation, against the floor in its own machine."""
    with Machine(release, project=directory) as machine:
        machine.run(
            f"cp -r {machine.PROJECT} /root/other && cd /root/other && make SHELL=/bin/bash install",
            timeout=300,
        )
        prepare(machine, count)
        # One address a side and no IPv6: what every implementation understands.
        write_instances(machine, count, ipv6=False)
        machine.run("rm -f /etc/conf.d/netns/*nstest*; netns-update --daemon-reload")
        floor, subject = Subject(machine, "floor"), Subject(machine, "netns")
        for _ in range(rounds):
            for each in (floor, subject):
                each.measure(count)
        return rows("baseline", subject, floor, count)


def measure_scale(release: str) -> list[dict[str, object]]:
    """500 namespaces at once without a failure, and netns-update with 1,000 instances and nothing to do."""
    with Machine(release) as machine:
        install(machine)
        write_instances(machine, 1000)
        first = _seconds(machine, "netns-update -q")
        again = [_seconds(machine, "netns-update -q") for _ in range(5)]
        print(
            f"netns-update, 1,000 instances: first {first:.2f} s,"
            f" nothing to do {statistics.median(again):.3f} s"
        )
        units = "$(seq -f netns-veth@n%g 500)"
        started = _seconds(machine, f"systemctl start {units}")
        alive = int(machine.run("ip netns | wc -l").stdout)
        failed = machine.run("systemctl list-units --failed --no-legend | wc -l").stdout.strip()
        print(f"500 starts at once: {started:.2f} s, {alive} namespaces, {failed} failed units")
        machine.run(f"systemctl stop {units}", timeout=120)
        machine.wait_for('[ -z "$(ip netns)" ]', timeout=60)
        return [
            {"what": "netns-update, 1,000 instances, nothing to do", "ms": statistics.median(again) * 1000},
            {"what": "500 starts at once", "ms": started * 1000, "namespaces": alive, "failed": int(failed)},
        ]


def _seconds(machine: Machine, command: str) -> float:
    done = machine.run(
        f"a=$(date +%s%N); {command} >&2; s=$?; echo $(( $(date +%s%N) - a )); exit $s", timeout=300
    )
    return int(done.stdout) / 1e9


def main() -> int:
    """Run it all; print a line a figure and, with --json, write them to a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--release", default="debian12", choices=["debian12", "debian13"])
    parser.add_argument("--baseline", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    found = measure_ours(arguments.release, arguments.rounds, arguments.count)
    if arguments.baseline:
        found += measure_baseline(arguments.release, arguments.rounds, arguments.count, arguments.baseline)
    found += measure_scale(arguments.release)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
