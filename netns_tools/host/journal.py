"""What a daemon says while it works: lines on standard error, with the priorities of sd-daemon(3)."""

from __future__ import annotations

import os
import sys

from netns_tools.errors import visible

LINE_MAX = 600
"""Longest line, in characters; what is longer is cut, and says so."""

_PRIORITIES = {"error": "<3>", "warning": "<4>", "info": "<6>"}


class Journal:
    """Says each line once until something else is said about the same ``subject``."""

    def __init__(self) -> None:
        self._marks = bool(os.environ.get("JOURNAL_STREAM"))
        self._last: dict[str, str] = {}

    def info(self, text: str, *, subject: str = "") -> None:
        """Something has been done."""
        if self._is_news(subject, text):
            self._say("info", text)

    def warning(self, text: str, *, subject: str = "") -> None:
        """Something is not as it should be."""
        if self._is_news(subject, text):
            self._say("warning", text)

    def error(self, text: str, *, subject: str = "") -> None:
        """Something went wrong."""
        if self._is_news(subject, text):
            self._say("error", text)

    def well(self, subject: str, text: str) -> None:
        """What was wrong with ``subject`` is over; said only if it had been told that it was wrong."""
        if self._last.pop(subject, ""):
            self._say("info", text)

    def _is_news(self, subject: str, text: str) -> bool:
        if subject and self._last.get(subject) == text:
            return False
        if subject:
            self._last[subject] = text
        return True

    def _say(self, severity: str, text: str) -> None:
        prefix = _PRIORITIES[severity] if self._marks else "" if severity == "info" else f"{severity}: "
        for line in visible(text).splitlines():
            shown = line if len(line) <= LINE_MAX else f"{line[:LINE_MAX]} ... ({len(line)} characters)"
            try:
                print(f"{prefix}{shown}", file=sys.stderr, flush=True)
            except (OSError, ValueError):
                return
