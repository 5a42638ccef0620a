"""What every lane shares: booted machines with the project installed, and no silent skips."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import settings

from tests.machine import Machine

# The machine may be busy with a booted one: how long an example takes says nothing.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

CI = os.environ.get("CI", "") not in ("", "false", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that cannot run has failed."""
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def boot() -> Iterator[Callable[[str], Machine]]:
    """Boot a release with the project installed by ``make install``; a second call gives the same machine."""
    if os.geteuid() != 0:
        pytest.skip("booting a machine needs root: sudo make check")
    machines: dict[str, Machine] = {}

    def booted(release: str) -> Machine:
        if release not in machines:
            machine = machines[release] = Machine(release)
            machine.boot()
            machine.run(["make", "-C", Machine.PROJECT, "install"])
        return machines[release]

    yield booted
    for machine in machines.values():
        machine.kill()


@pytest.fixture(scope="session")
def machine(boot: Callable[[str], Machine]) -> Machine:
    """A booted Debian 12 with the project installed."""
    return boot("debian12")
