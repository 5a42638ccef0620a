"""A configuration value and the place that it comes from."""

from __future__ import annotations

from netns_tools.errors import Problem


class Value:
    """The text of one variable or option, with its place.

    ``line`` and ``column`` count from 1, 0 is unknown; ``source`` is the whole
    source line. ``entries`` are the items of a YAML list, each with its own
    place; None for everything else.
    """

    __slots__ = ("column", "entries", "line", "path", "source", "text", "width")

    def __init__(
        self,
        text: str,
        path: str = "",
        line: int = 0,
        column: int = 0,
        source: str = "",
        width: int = 1,
        entries: list[Value] | None = None,
    ) -> None:
        self.text = text
        self.path = path
        self.line = line
        self.column = column
        self.source = source
        self.width = width
        self.entries = entries

    def problem(self, message: str, *, part: str = "", hint: str = "", severity: str = "error") -> Problem:
        """A problem with this value; the caret goes under ``part`` where the line shows it literally."""
        column, width = self.column, self.width
        if part and column:
            found = self.source.find(part, column - 1)
            if found >= 0:
                column, width = found + 1, len(part)
        shown = column <= len(self.source) + 1  # else the line is kept only up to a place before it
        return Problem(
            message,
            path=self.path,
            line=self.line,
            column=column,
            width=width,
            text=self.source if shown else "",
            hint=hint,
            severity=severity,
        )

    def with_text(self, text: str) -> Value:
        """The same place with another text."""
        return Value(text, self.path, self.line, self.column, self.source, self.width)

    def split(self) -> list[tuple[str, Value]]:
        """The entries of a list: separated by commas or newlines, or the items of a YAML list."""
        if self.entries is not None:
            return [pair for entry in self.entries for pair in entry.split()]
        parts = self.text.replace("\n", ",").split(",")
        return [(part, self) for part in map(_strip, parts) if part]

    def __repr__(self) -> str:
        return f"Value({self.text!r}, {self.path}:{self.line}:{self.column})"


def _strip(text: str) -> str:
    return text.strip(" \t")
