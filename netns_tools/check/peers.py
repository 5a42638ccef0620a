"""Instances that name another namespace: is there one, and is the cable described only once?"""

from __future__ import annotations

from difflib import get_close_matches

from netns_tools.check.survey import Finding, Survey, at, label


def check(survey: Survey) -> list[Finding]:
    """Findings about namespaces that an instance needs."""
    known = {one.name for one in survey.instances}
    named = {
        (key, config.text(option)): option
        for key, config in survey.configs.items()
        for option in config.nstype.needs_namespaces
        if config.text(option)
    }
    findings = []
    for (key, other), option in named.items():
        value = survey.configs[key].values[option]
        back = (key[0], other)
        if other == key[1]:
            continue  # refused where it is loaded
        if other not in known:
            close = get_close_matches(other, known - {key[1]}, 1)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else f"configure something for it too; it will hold nothing but the end of {label(key)}"
            )
            text = f"{option} of {label(key)} names {other!r}, for which no type is configured"
            findings.append(Finding(at(value, text, word=other, hint=hint, severity="warning"), [key]))
        elif (back, key[1]) in named and key < back:
            there = survey.configs[back].values[named[back, key[1]]]
            text = f"{label(key)} and {label(back)} name each other: here and in {there.path}:{there.line}"
            hint = "one description makes both ends; remove the other one, unless you want two cables"
            findings.append(Finding(at(value, text, word=other, hint=hint, severity="warning"), [key, back]))
    return findings
