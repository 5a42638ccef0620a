"""What every type inherits: start, start again, restart, edit, enable, fail, be killed, stop, nothing left.

That nothing is left after each test is asserted by the fixture ``nothing_left``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine import Machine
from tests.systemd.cases import CASES, Case


@pytest.fixture(params=CASES, ids=lambda case: case.nstype)
def case(request: pytest.FixtureRequest, machine: Machine, nothing_left: None) -> Iterator[Case]:
    """Each type in turn, with what it needs on the host."""
    machine.run(request.param.prepare or "true")
    yield request.param
    machine.run(f"systemctl stop 'netns-*@*.service'; {request.param.clean or 'true'}", check=False)


def gone(machine: Machine, name: str) -> None:
    """Wait until the namespace is gone: StopWhenUnneeded= acts after ``systemctl stop`` returned."""
    machine.wait_for(f"! ip netns | grep -qx {name} && ! systemctl is-active -q netns_name@{name}")


def test_start_brings_it_up_and_a_second_start_changes_nothing(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    machine.run(f"systemctl start {case.unit('demo')}")
    case.check_up(machine, "demo")
    show = f"systemctl show -pActiveEnterTimestampMonotonic {case.unit('demo')}"
    before = machine.run(show).stdout
    machine.run(f"systemctl start {case.unit('demo')}")
    assert machine.run(show).stdout == before
    machine.run(f"systemctl stop {case.unit('demo')}")
    gone(machine, "demo")


def test_restart_keeps_the_namespace_and_applies_an_edit(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    machine.run(f"systemctl start {case.unit('demo')}")
    inode = machine.run("stat -c %i /run/netns/demo").stdout
    machine.run(f"systemctl restart {case.unit('demo')}")
    case.check_up(machine, "demo")
    assert machine.run("stat -c %i /run/netns/demo").stdout == inode
    if case.edit:
        file, text, in_force = case.edit
        machine.write(f"/etc/conf.d/netns/{file.replace('NAME', 'demo')}", text)
        machine.run(f"systemctl restart {case.unit('demo')}")
        machine.run(in_force.replace("NAME", "demo"))
    machine.run(f"systemctl stop {case.unit('demo')}")
    gone(machine, "demo")


def test_ten_starts_in_a_row(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    for _ in range(10):
        machine.run(f"systemctl start {case.unit('demo')}")
        machine.run(f"systemctl stop {case.unit('demo')}")
    gone(machine, "demo")


def test_a_name_with_hyphens(machine: Machine, case: Case) -> None:
    case.configure(machine, "a-b-c")
    machine.run(f"systemctl start {case.unit('a-b-c')}")
    case.check_up(machine, "a-b-c")


def test_enable_and_disable(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    machine.run(f"systemctl enable {case.unit('demo')}")
    assert machine.run(f"systemctl is-enabled {case.unit('demo')}").stdout == "enabled\n"
    machine.run(f"test -L /etc/systemd/system/multi-user.target.wants/{case.unit('demo')}")
    machine.run(f"systemctl disable {case.unit('demo')}")


def test_broken_configuration_fails_with_its_place_and_leaves_nothing(machine: Machine, case: Case) -> None:
    assert case.broken is not None
    case.configure(machine, "demo")
    file, text = case.broken[0].replace("NAME", "demo"), case.broken[1]
    machine.write(f"/etc/conf.d/netns/{file}", text)
    assert machine.run(f"systemctl start {case.unit('demo')}", check=False).returncode != 0
    gone(machine, "demo")
    log = machine.journal(f"netns_outside-{case.nstype}@demo") + machine.journal(case.unit("demo"))
    assert f"/etc/conf.d/netns/{file}" in log
    assert "Traceback" not in log


def test_a_file_that_others_may_write_is_refused(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    machine.write("/etc/conf.d/netns/default.conf", "HOST_IFNAME=eth0\n", mode=0o666)
    assert machine.run(f"systemctl start {case.unit('demo')}", check=False).returncode != 0
    gone(machine, "demo")
    log = machine.journal(f"netns_outside-{case.nstype}@demo")
    assert "/etc/conf.d/netns/default.conf" in log
    assert "chmod" in log


def test_killed_at_any_moment_the_next_start_works(machine: Machine, case: Case) -> None:
    """Kill every process of every unit of the namespace, 3 ms later each time, in starts and in stops."""
    case.configure(machine, "demo")
    kill = "systemctl kill -s KILL 'netns*@demo.service' 2>/dev/null"
    settle = "while systemctl list-jobs --no-legend | grep -q @demo; do sleep 0.05; done"
    for milliseconds in range(0, 60, 6):
        machine.run(
            f"systemctl start --no-block {case.unit('demo')}; sleep 0.{milliseconds:03}; {kill}; {settle};"
            f"systemctl start {case.unit('demo')}"
        )
        case.check_up(machine, "demo")
        machine.run(
            f"systemctl stop --no-block {case.unit('demo')}; sleep 0.{milliseconds:03}; {kill}; {settle};"
            f"systemctl start {case.unit('demo')}"
        )
        case.check_up(machine, "demo")
    machine.run(
        f"systemctl stop {case.unit('demo')}; systemctl reset-failed 'netns*@demo.service'", check=False
    )
    gone(machine, "demo")


def test_a_namespace_of_somebody_else_is_untouched(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    machine.run("ip netns add demo; ip -n demo link add theirs type bridge")
    try:
        assert machine.run(f"systemctl start {case.unit('demo')}", check=False).returncode != 0
        assert "exists already" in machine.journal("netns_name@demo")
        machine.run("ip -n demo link show theirs")
    finally:
        machine.run("ip netns delete demo")


def test_the_stop_succeeds_when_everything_vanished(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    machine.run(f"systemctl start {case.unit('demo')}")
    machine.run("ip netns delete demo")
    machine.run(f"systemctl stop {case.unit('demo')}")
    machine.wait_for("! systemctl is-active -q netns_name@demo")
    assert machine.run("systemctl list-units --failed --no-legend 'netns*@demo.service'").stdout == ""
    machine.run(f"systemctl start {case.unit('demo')}")
    case.check_up(machine, "demo")


def test_another_unit_can_require_it(machine: Machine, case: Case) -> None:
    case.configure(machine, "demo")
    machine.write(
        "/etc/systemd/system/user-of-demo.service",
        f"[Unit]\nRequires={case.unit('demo')}\nAfter={case.unit('demo')}\n"
        "[Service]\nNetworkNamespacePath=/run/netns/demo\nExecStart=/bin/sleep 1000\n",
    )
    machine.run("systemctl daemon-reload; systemctl start user-of-demo")
    case.check_up(machine, "demo")
    machine.run(
        "systemctl stop user-of-demo; rm /etc/systemd/system/user-of-demo.service; systemctl daemon-reload"
    )
