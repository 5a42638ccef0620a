"""MAC addresses that are used twice."""

from __future__ import annotations

from netns_tools.check.places import places, used_twice
from netns_tools.check.survey import Finding, Survey


def check(survey: Survey) -> list[Finding]:
    """Findings about MAC addresses."""
    return used_twice(
        places(survey.configs, "mac", str.lower),
        "MAC address",
        "give each device its own, or leave it out: the kernel chooses one",
    )
