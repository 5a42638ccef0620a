"""Saved firewall rules: what their text and the state of their unit tell."""

from __future__ import annotations

from netns_tools.check.survey import Finding, Survey, label
from netns_tools.errors import Problem
from netns_tools.names import RESERVED, unit


def check(survey: Survey) -> list[Finding]:
    """Findings about nft-NAME.rules. ``survey.rules`` maps their paths to their texts."""
    return [*_not_flushing(survey), *_not_enabled(survey)]


def _not_flushing(survey: Survey) -> list[Finding]:
    findings = []
    for path, text in survey.rules.items():
        code = (line.partition("#")[0].split() for line in text.splitlines())
        if not any(words[:2] == ["flush", "ruleset"] for words in code):
            findings.append(
                Finding(
                    Problem(
                        "no 'flush ruleset' in here; netns-tools puts it before these rules at each start",
                        path=path,
                        severity="info",
                        hint="with it, 'nft -f' by hand replaces the rules too, instead of adding to them",
                    )
                )
            )
    return findings


def _not_enabled(survey: Survey) -> list[Finding]:
    """Namespaces whose rules are there and would not be loaded, while their links come up."""
    findings = []
    enabled = {one.key for one in survey.instances if one.enabled}
    for name in dict.fromkeys(one.name for one in survey.instances):
        path = f"{survey.conf}/nft-{name}.rules"
        others = sorted(nstype for nstype, other in enabled if other == name and nstype not in ("nft", "lo"))
        if path not in survey.rules or name in RESERVED or ("nft", name) in enabled or not others:
            continue
        links = ", ".join(label((nstype, name)) for nstype in others)
        findings.append(
            Finding(
                Problem(
                    f"these rules are not loaded at boot: netns-nft@{name} is not enabled, and {links} is",
                    path=path,
                    severity="warning",
                    hint=f"systemctl enable --now {unit('nft', name)}",
                ),
                [("nft", name)],
            )
        )
    return findings


def nft_problems(path: str, stderr: str) -> list[Problem]:
    """What ``nft -c -f`` said about a file, as problems.

    nft writes ``FILE:LINE:COLUMN[-END]: Error: TEXT``, the source line and carets; what has
    another form is kept whole. Sources: src/erec.c of nftables 1.0.6.
    """
    problems: list[Problem] = []
    lines = stderr.splitlines()
    for number, line in enumerate(lines):
        head, found, text = line.partition(": Error: ")
        if not found:
            continue
        source = lines[number + 1] if number + 1 < len(lines) else ""
        file, row, columns = _place(head)
        problems.append(
            Problem(
                f"nft: {text}",
                path=file or path,
                line=row,
                column=columns[0],
                width=columns[1],
                text=source if row else "",
                hint=_remedy(text),
            )
        )
    if not problems and stderr.strip():
        problems.append(Problem(f"nft: {' '.join(stderr.split())}", path=path))
    return problems


def _place(head: str) -> tuple[str, int, tuple[int, int]]:
    """File, line, and column with width, of ``FILE:LINE:COLUMN-END``."""
    head = head.rsplit("\n", 1)[-1]
    parts = head.rsplit(":", 2)
    if len(parts) < 3 or not parts[1].isdigit():
        return "", 0, (0, 1)
    first, _dash, last = parts[2].partition("-")
    if not first.isdigit():
        return parts[0], int(parts[1]), (0, 1)
    width = int(last) - int(first) + 1 if last.isdigit() else 1
    return parts[0], int(parts[1]), (int(first), max(1, width))


def _remedy(text: str) -> str:
    if "Interface does not exist" in text:
        return "iif and oif need the device when rules are loaded; iifname and oifname do not"
    if "Could not process rule" in text:
        return "the kernel refuses this; is something missing above it, or a feature of the kernel?"
    return ""
