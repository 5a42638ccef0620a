"""Write manual pages: the few man(7) macros that we need, with every text escaped."""

from __future__ import annotations

import re


class Page:
    """A manual page that grows from top to bottom; ``text()`` is the source of it."""

    def __init__(self, name: str, section: int, summary: str, version: str) -> None:
        self.name = name
        self.section = section
        self._lines = [
            f'.TH {_argument(name.upper())} {section} "" {_argument(f"netns-tools {version}")}',
            ".SH NAME",
            f"{_escaped(name)} \\- {_escaped(summary)}",
        ]

    @property
    def file(self) -> str:
        """File name: ``netnsctl.8``."""
        return f"{self.name}.{self.section}"

    def heading(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {_argument(title.upper())}")

    def subheading(self, title: str) -> None:
        """Begin a part of a section."""
        self._lines.append(f".SS {_argument(title)}")

    def paragraph(self, text: str) -> None:
        """Add a paragraph; line breaks in it do not matter."""
        self._lines += [".PP", _line(text)]

    def item(self, tag: str, *paragraphs: str) -> None:
        """Add an entry of a list: a tag in bold and what it means."""
        self._lines += [".TP", f"\\fB{_escaped(tag)}\\fR", *(_line(text) for text in paragraphs[:1])]
        for text in paragraphs[1:]:
            self._lines += [".IP", _line(text)]

    def code(self, lines: list[str]) -> None:
        """Add lines that stand as they are."""
        self._lines += [".PP", ".in +4n", ".nf", *(_guarded(_escaped(line)) for line in lines), ".fi", ".in"]

    def text(self) -> str:
        """The page's source."""
        return "\n".join(self._lines) + "\n"


def _line(text: str) -> str:
    return _guarded(re.sub(r"`([^`]*)`", r"\\fB\1\\fR", _escaped(" ".join(text.split()))))


def _escaped(text: str) -> str:
    """Backslash and minus as they are meant; a plain '-' would print as a hyphen that cannot be pasted."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return text.replace("…", "...")


def _guarded(line: str) -> str:
    """A dot or an apostrophe at the beginning would be a macro."""
    return f"\\&{line}" if line[:1] in (".", "'") else line


def _argument(text: str) -> str:
    return '"' + _escaped(text).replace('"', "\\(dq") + '"'
