"""The systemd lane runs on every release, and each of its tests leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.machine import RELEASES, Machine, MachineError

# What is there of ours or of a test: units (failed ones too), namespaces, devices, plans of what runs.
_SHOW_LEFTOVERS = """
systemctl list-units --plain --no-legend --state=active,activating,deactivating,reloading,failed \
    'netns*@*.service' | cut -d' ' -f1
ls -d /run/netns/* /run/netns-tools/* 2>/dev/null
ip -o link | awk -F': ' '{sub("@.*", "", $2); print "device " $2}'
true
"""

_SCRUB = """
systemctl stop --job-mode=replace-irreversibly 'netns*@*.service'
systemctl reset-failed 'netns*@*.service'
for namespace in $(ip netns | cut -d' ' -f1); do
    ip netns pids "$namespace" | xargs -r kill -9
    ip netns delete "$namespace"
done
rm -rf /run/netns-tools/*
"""

_FORGET_CONFIGURATION = """
find /etc/systemd/system -path '*.wants/netns-*@*.service' -delete
rm -rf /etc/conf.d/netns /etc/netns /usr/share/systemd-netns
mkdir -p /etc/conf.d/netns
netns-update --daemon-reload
"""


@pytest.fixture(scope="session", params=list(RELEASES))
def machine(boot: Callable[[str], Machine], request: pytest.FixtureRequest) -> Machine:
    """A booted machine with the project installed, one for each release."""
    return boot(request.param)


@pytest.fixture(autouse=True)
def nothing_left(machine: Machine) -> Iterator[None]:
    """Stop what the test left running, then fail it unless all that it made is gone.

    A test that makes something by hand (a device, a namespace) removes it by hand.
    Configuration is removed here. What stays nevertheless is removed by force, for the
    sake of the next test.
    """
    before = _leftovers(machine)
    yield
    machine.run("systemctl stop 'netns-*@*.service'; systemctl reset-failed 'netns*@*.service'", check=False)
    after: set[str] = set()

    def nothing() -> bool:
        after.clear()
        after.update(_leftovers(machine) - before)
        return not after

    try:
        machine.wait_until(nothing)
    except MachineError:
        machine.run(_SCRUB, check=False)
        pytest.fail(f"left behind: {', '.join(sorted(after))}")
    finally:
        machine.run(_FORGET_CONFIGURATION, check=False)


def _leftovers(machine: Machine) -> set[str]:
    return set(machine.run(_SHOW_LEFTOVERS).stdout.splitlines())
