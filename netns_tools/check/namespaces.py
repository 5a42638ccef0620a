"""Namespaces that have a name of ours and were made by somebody else."""

from __future__ import annotations

from netns_tools.check.survey import Finding, Survey, label
from netns_tools.errors import Problem
from netns_tools.names import RESERVED


def check(survey: Survey) -> list[Finding]:
    """Findings about namespaces on the machine."""
    foreign = survey.machine.namespaces - survey.machine.ours - set(RESERVED)
    findings = []
    for name in sorted(foreign & {one.name for one in survey.instances}):
        keys = [one.key for one in survey.instances if one.name == name]
        text = f"a namespace {name} exists that netns-tools did not make; {label(keys[0])} cannot start"
        hint = f"choose another NAME, or remove that namespace: ip netns delete {name}"
        findings.append(Finding(Problem(text, hint=hint, severity="warning"), keys))
    return findings
