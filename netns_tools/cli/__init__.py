"""Commands: parse, call, print. Nothing is decided here."""

from __future__ import annotations

import sys

try:
    import click as _click  # noqa: F401 -- without it no command can even say what is wrong
except ModuleNotFoundError as error:
    if error.name != "click":
        raise
    sys.exit("error: the Python package click is missing\n  hint: apt install python3-click")
