"""Problems as people read them: what, where, which value, what to do next.

This module is on the start path of every namespace: it imports nothing.
"""

from __future__ import annotations


class Problem:
    """One thing that is wrong, with its place in a file where there is one.

    ``line`` and ``column`` count from 1; 0 means unknown. ``text`` is the source
    line, shown with a caret under ``column`` of ``width`` characters.
    ``severity`` is ``error`` (a start is refused) or ``warning`` (a start goes on).
    """

    __slots__ = ("column", "hint", "line", "message", "path", "severity", "text", "width")

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        line: int = 0,
        column: int = 0,
        width: int = 1,
        text: str = "",
        hint: str = "",
        severity: str = "error",
    ) -> None:
        self.message = message
        self.path = path
        self.line = line
        self.column = column
        self.width = width
        self.text = text
        self.hint = hint
        self.severity = severity

    def where(self) -> str:
        """``file:line:column``, as far as known."""
        parts = [self.path]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)

    def render(self) -> str:
        """The problem as text of one to four lines, without a trailing newline."""
        head = f"{self.severity}: {visible(self.message)}"
        lines = [f"{visible(self.where())}: {head}" if self.path else head]
        if self.text:
            shown = visible(self.text.expandtabs(1))
            lines.append(f"    {shown}")
            if self.column:
                lines.append("    " + " " * (self.column - 1) + "^" * max(1, self.width))
        if self.hint:
            lines.append(f"  hint: {visible(self.hint)}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The problem for ``--json``."""
        return {
            "severity": self.severity,
            "message": self.message,
            "file": self.path or None,
            "line": self.line or None,
            "column": self.column or None,
            "hint": self.hint or None,
        }

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"Problem({self.where()!r}, {self.message!r})"


class NetnsToolsError(Exception):
    """Base of every error that this project reports to a user without a traceback."""

    exit_code = 1

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def render(self) -> str:
        """The error as a user sees it."""
        text = f"error: {visible(self.message)}"
        return f"{text}\n  hint: {visible(self.hint)}" if self.hint else text


class ConfigError(NetnsToolsError):
    """The configuration is refused; ``problems`` holds all of them, not the first one."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems

    def render(self) -> str:
        return "\n".join(problem.render() for problem in self.problems)


def visible(text: str) -> str:
    """Text that cannot steer a terminal or a log: control characters but line breaks are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
