"""What a daemon put into which sets, for the next one: a file below /run, written ahead of each change.

A set is known by the kernel's handles of its table and itself, so that a set which somebody made
anew under the old name is not taken for the one that we filled. A line is a set with its handles
and elements, and a full stop, without which it is a piece of a line and counts for nothing; later
lines of a set add to it. That an element is listed which has long been taken out does no harm:
what counts is in the set as well.
"""

from __future__ import annotations

import contextlib
import os

from netns_tools.addrset import ranges
from netns_tools.host.lock import make_directory
from netns_tools.kernel.nftset import SetId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netns_tools.kernel.nftset import LiveSet
    from netns_tools.paths import Paths

    Handles = tuple[int, int]

_HEAD = "# netns-tools: elements that netns-addrset put into sets"

_GROWTH_MAX = 1 << 18  # bytes that are added to the file before it is written anew


def record_path(name: str, paths: Paths) -> str:
    """The record of the daemon of NAME."""
    return f"{paths.run}/addrset-{name}.record"


class Record:
    """SetId → (handles, elements). ``namespace`` tells network namespaces apart (netns.cookie())."""

    def __init__(self, path: str, namespace: int) -> None:
        self.path = path
        self._head = f"{_HEAD}; namespace {namespace}"
        self._sets: dict[SetId, tuple[Handles, frozenset[str]]] = {}
        self._listed: dict[SetId, Handles] = {}  # what the file has
        self._growth = 0

    def load(self) -> None:
        """Read the file; one of another namespace, or a broken one, counts as none."""
        try:
            with open(self.path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError):
            return
        if lines[:1] != [self._head]:
            return
        for id, handles, elements in filter(None, map(_parse, lines[1:])):
            known = self._sets.get(id)
            if known is not None and known[0] == handles:
                elements |= known[1]
            self._sets[id] = (handles, elements)

    def sets(self) -> list[SetId]:
        """The sets that are known."""
        return list(self._sets)

    def owned(self, id: SetId, live: LiveSet | None) -> frozenset[str] | None:
        """What we put into a set as it is now; None when it is none that we filled."""
        handles, elements = self._sets.get(id, (None, frozenset()))
        return elements if live is not None and live.handles == handles else None

    def put(self, id: SetId, handles: Handles, elements: frozenset[str]) -> None:
        """What is ours in a set; ``save`` writes it down."""
        self._sets[id] = (handles, elements)

    def forget(self, id: SetId) -> None:
        """A set is none of ours any more."""
        self._sets.pop(id, None)

    def add(self, id: SetId, handles: Handles, elements: Iterable[str]) -> None:
        """Write down at once what is about to be put into a set. Raises ``OSError``.

        Only a line is added to the file: a set may have 10,000 elements of which one changes.
        """
        if self._listed.get(id) != handles:
            self.save()
            self._listed[id] = handles
        text = _line(id, handles, elements)
        try:
            if not os.path.exists(self.path):
                self.save()
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            self._listed = {}  # the file may end with a piece of a line: nothing may follow that
            raise
        self._growth += len(text)

    def save(self, *, always: bool = True) -> None:
        """Write the file anew; without ``always`` only if sets came or went, or it has grown long.

        It lies in memory, so nothing is flushed to a disk. Raises ``OSError``.
        """
        listed = {id: handles for id, (handles, _) in self._sets.items()}
        if not always and listed == self._listed and self._growth < _GROWTH_MAX:
            return
        make_directory(os.path.dirname(self.path))
        temporary = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(self._head + "\n")
            file.writelines(_line(id, handles, elements) for id, (handles, elements) in self._sets.items())
        os.rename(temporary, self.path)
        self._listed = listed
        self._growth = 0

    def remove(self) -> None:
        """Remove the file."""
        self._sets = {}
        self._listed = {}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def _line(id: SetId, handles: Handles, elements: Iterable[str]) -> str:
    return f"{id} {handles[0]} {handles[1]} {' '.join(elements)} .\n"


def _parse(line: str) -> tuple[SetId, Handles, frozenset[str]] | None:
    words = line.split()
    if len(words) < 6 or words[-1] != "." or not (words[3].isdecimal() and words[4].isdecimal()):
        return None
    try:
        for text in words[5:-1]:
            ranges.parse(text)
        return SetId(*words[:3]), (int(words[3]), int(words[4])), frozenset(words[5:-1])
    except ValueError:
        return None
