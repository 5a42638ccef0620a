"""Text for people and JSON for programs. Colour only on a terminal, and never with NO_COLOR set."""

from __future__ import annotations

import os
import sys

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from netns_tools.errors import Problem

_SEVERITY_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def colours() -> bool:
    """Whether standard output is a terminal that may be coloured (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
    """``text``, coloured where that is wanted."""
    if not text or not colours():
        return text
    return click.style(text, fg=fg, bold=bold or None, dim=dim or None)


def print_json(value: object) -> None:
    """Print ``value`` as JSON, one member a line."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; nothing is cut, so that a line can be copied."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    click.echo(styled(_table_line(head, widths), bold=True))
    for row in rows:
        click.echo(_table_line(row, widths))


def _table_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def problem_text(problem: Problem) -> str:
    """A problem as its ``render`` has it, with the severity and the hint coloured on a terminal."""
    text = problem.render()
    if not colours():
        return text
    word = f"{problem.severity}:"
    colour = _SEVERITY_COLOURS.get(problem.severity)
    head, newline, rest = text.partition("\n")
    return head.replace(word, styled(word, fg=colour, bold=True), 1) + newline + rest
