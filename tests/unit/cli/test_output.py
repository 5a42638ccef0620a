"""Colour is for terminals, and for nobody who has said NO_COLOR."""

from __future__ import annotations

import sys

import pytest

from netns_tools.cli import output
from netns_tools.errors import Problem

PROBLEM = Problem("error: bad", path="f", line=1, text="x", column=1, hint="error: no")


def test_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.problem_text(PROBLEM) == PROBLEM.render()
    assert output.styled("x", fg="red") == "x"


@pytest.mark.parametrize(
    ("variable", "value", "coloured"),
    [("TERM", "xterm", True), ("NO_COLOR", "", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)],
)
def test_terminal(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, coloured: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert ("\x1b[" in output.problem_text(PROBLEM)) is coloured


def test_only_the_severity_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert output.problem_text(PROBLEM).count("\x1b[0m") == 1
