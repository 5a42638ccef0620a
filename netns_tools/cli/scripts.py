"""Bash types, without running them: does bash understand the script, and does it define anything to run?"""

from __future__ import annotations

import re
import subprocess

from netns_tools.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.nstype import NsType

_STEPS = ("up_outside", "up_inside", "down_inside", "down_outside")


def script_problems(nstype: NsType) -> list[Problem]:
    """What is wrong with the script of a bash type. ``bash -n`` reads commands and runs none."""
    try:
        with open(nstype.path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
        answer = subprocess.run(
            ["bash", "-n", "--", nstype.path],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=20,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [
            Problem(f"bash cannot be asked about this script: {error}", path=nstype.path, severity="info")
        ]
    if answer.returncode:
        return [_syntax_error(nstype.path, lines, answer.stderr)]
    functions = [f"configure_{nstype.name}_{step}" for step in _STEPS]
    if not any(re.search(rf"\b{name}\b", line) for name in functions for line in lines):
        text = f"no function of type {nstype.name} in here: a start would do nothing"
        return [Problem(text, path=nstype.path, severity="warning", hint=f"define {', '.join(functions)}")]
    return []


def _syntax_error(path: str, lines: list[str], stderr: str) -> Problem:
    """bash writes ``PATH: line N: TEXT`` and then the line itself; the first one counts."""
    first = next(iter(stderr.splitlines()), "")
    found = re.fullmatch(r"(?s).*?: line (\d+): (.*)", first)
    if found is None:
        return Problem(f"bash: {' '.join(stderr.split())}", path=path)
    number = int(found[1])
    text = lines[number - 1] if 0 < number <= len(lines) else ""
    return Problem(f"bash: {found[2]}", path=path, line=number, text=text, hint=f"try it: bash -n {path}")
