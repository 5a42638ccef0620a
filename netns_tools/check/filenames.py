"""Files in the configuration directory that nothing reads, most often because their name is misspelt."""

from __future__ import annotations

from difflib import get_close_matches

from netns_tools.check.survey import Finding, Survey
from netns_tools.errors import Problem
from netns_tools.names import nsname_problem, nstype_problem

_SUFFIXES = ("conf", "yaml", "sh", "rules")
_IGNORED = (
    ".example",
    ".bak",
    ".orig",
    ".old",
    ".rej",
    ".md",
    ".txt",
    ".swp",
    ".dpkg-old",
    ".dpkg-dist",
    ".dpkg-new",
    ".ucf-old",
    ".ucf-dist",
    ".rpmnew",
    ".rpmsave",
)
"""Endings of files that are meant not to be read."""


def check(survey: Survey) -> list[Finding]:
    """A finding for each file that looks like configuration and is not read."""
    findings = []
    for name in survey.file_names:
        if problem := _problem(name, survey.types, survey.daemons):
            message, hint = problem
            findings.append(
                Finding(
                    Problem(
                        f"{message}, so nothing reads this file",
                        path=f"{survey.conf}/{name}",
                        hint=hint,
                        severity="warning",
                    )
                )
            )
    return findings


def _problem(name: str, types: set[str], daemons: set[str]) -> tuple[str, str] | None:
    """What is wrong with a file name, and what it should be; None when it is fine or not meant for us."""
    if name[0] == "." or name.endswith(("~", *_IGNORED)):
        return None
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    if suffix not in _SUFFIXES:
        return _bad_suffix(stem, suffix, types, daemons)
    if stem == "default" and suffix in ("conf", "yaml"):
        return None
    nstype, hyphen, nsname = stem.partition("-")
    if suffix == "sh":
        return (
            None
            if not hyphen and not nstype_problem(nstype)
            else (f"{stem!r} is no name of a type: letters, digits and '_' only", "a bash type is TYPE.sh")
        )
    if nstype not in types or (suffix == "rules" and nstype != "nft"):
        return _bad_type(stem, suffix, types if suffix != "rules" else {"nft"})
    if hyphen and (wrong := nsname_problem(nsname)):
        return wrong, f"files are named TYPE.{suffix} or TYPE-NAME.{suffix}"
    return None


def _bad_suffix(stem: str, suffix: str, types: set[str], daemons: set[str]) -> tuple[str, str] | None:
    """Only names that begin like ours are meant for us; a README is none of our business."""
    nstype = stem.partition("-")[0].lower()
    if nstype not in types | {"default"}:
        return None
    right = {"yml": "yaml", "cnf": "conf", "cfg": "conf", "rule": "rules", "nft": "rules"}.get(suffix.lower())
    right = right or next((one for one in _SUFFIXES if suffix.lower() == one), "conf")
    right = "yaml" if nstype in daemons else right
    ending = f"the ending {'.' + suffix!r}" if suffix else "a name without an ending"
    return f"{ending} means nothing here", f"did you mean {stem}.{right}?"


def _bad_type(stem: str, suffix: str, types: set[str]) -> tuple[str, str]:
    nstype, hyphen, nsname = stem.partition("-")
    known = sorted(types | {"default"}) if not hyphen else sorted(types)
    for other in known:  # veth_demo.conf, veth.demo.conf, vethdemo.conf
        rest = stem[len(other) :]
        if stem.startswith(other) and rest[:1] in ("_", ".", "@", "+") and rest[1:]:
            return f"there is no type {nstype!r}", f"did you mean {other}-{rest[1:]}.{suffix}?"
    close = get_close_matches(nstype.lower(), known, 1, 0.6)
    if close:
        return f"there is no type {nstype!r}", f"did you mean {close[0]}{hyphen}{nsname}.{suffix}?"
    return (
        f"there is no type {nstype!r}",
        f"types are: {', '.join(sorted(types))}; 'netnsctl types' lists them",
    )
