"""``make install``, upgrade and ``make uninstall`` on a running system."""

from __future__ import annotations

from tests.machine import Machine


def test_programs_run_after_install(machine: Machine) -> None:
    assert machine.run("netnsctl --version").stdout.startswith("netnsctl")
