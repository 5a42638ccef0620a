"""The loopback device: every namespace is born with one, down."""

from __future__ import annotations

from netns_tools.steps.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.paths import Paths


def plan(config: Config, paths: Paths) -> Plan:
    """Plan loopback: up. The kernel adds 127.0.0.1/8 and ::1/128 by itself."""
    result = Plan()
    result.add("up-inside.ip", "link set dev lo up")
    return result
