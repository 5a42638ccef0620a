"""A drop-in takes nothing away that a running instance stands on, and forgets it in time."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from netns_tools.paths import Paths
from netns_tools.units import dropins
from netns_tools.units.facts import Facts
from netns_tools.units.render import Renderer

ETH0 = "sys-subsystem-net-devices-eth0.device"


def outside(
    *namespaces: str, devices: tuple[str, ...] = (), running: dropins.Running | None = None, udev: bool = True
) -> str:
    """The drop-in of an outside unit."""
    facts = Facts("none", namespaces, devices, ())
    context = dropins.outside_dropin("veth", "a", facts, waits="outside", udev=udev, running=running)
    return Renderer(Paths().unit_templates, {}).render("dropin.conf.j2", context)


def needs(text: str) -> set[str]:
    return {line.partition("@")[2] for line in text.splitlines() if line.startswith("Requires=netns_name@")}


def test_the_life_of_a_namespace_that_is_no_longer_configured() -> None:
    first = outside("old")
    assert needs(first) == {"old.service"}
    # Configured anew while it runs: both are needed, however often netns-update runs.
    second = outside("new", running=dropins.Running(first, restarted=False))
    assert needs(second) == {"old.service", "new.service"}
    assert outside("new", running=dropins.Running(second, restarted=False)) == second
    # Restarted since: it was started with what the drop-in calls current.
    assert needs(outside("new", running=dropins.Running(second, restarted=True))) == {"new.service"}
    # Restarted and configured anew again before netns-update ran.
    third = outside("newer", running=dropins.Running(second, restarted=True))
    assert needs(third) == {"new.service", "newer.service"}
    # Stopped: nothing is kept.
    assert needs(outside("newer")) == {"newer.service"}


def test_a_running_instance_is_not_bound_to_a_device_that_it_may_not_use() -> None:
    assert f"BindsTo={ETH0}" in outside(devices=("eth0",))
    waiting = outside(devices=("eth0",), running=dropins.Running(outside(devices=("eth1",)), restarted=False))
    assert "BindsTo=" not in waiting.replace("# BindsTo=", "")
    assert f"Requires={ETH0}\nAfter={ETH0}\n" in waiting
    assert f"\nBindsTo={ETH0}" in outside(devices=("eth0",), running=dropins.Running(waiting, restarted=True))
    bound = outside(devices=("eth0",))
    assert outside(devices=("eth0",), running=dropins.Running(bound, restarted=False)) == bound


def test_without_udev_nothing_waits_for_a_device_unit() -> None:
    text = outside(devices=("eth0",), udev=False)
    assert "BindsTo=" not in text
    assert "Requires=" not in text


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        Renderer(Paths().unit_templates, {}).render("dropin.conf.j2", {"mark": "x"})
