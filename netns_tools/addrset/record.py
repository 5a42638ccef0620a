"""What a daemon put into which sets, for the next one: a file below /run, written ahead of each change.

A set is known by the kernel's handles of its table and itself, so that a set which somebody made
anew under the old name is not taken for the one that we filled.
"""

from __future__ import annotations

import os

from netns_tools.kernel.nftset import SetId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.kernel.nftset import LiveSet
    from netns_tools.paths import Paths

    Handles = tuple[int, int]

_HEAD = "# netns-tools: elements that netns-addrset put into sets"


def record_path(name: str, paths: Paths) -> str:
    """The record of the daemon of NAME."""
    return f"{paths.run}/addrset-{name}.record"


class Record:
    """SetId → (handles, elements). ``namespace`` tells network namespaces apart (netns.identity())."""

    def __init__(self, path: str, namespace: tuple[int, int]) -> None:
        self.path = path
        self._head = f"{_HEAD}; namespace {namespace[0]}:{namespace[1]}"
        self._sets: dict[SetId, tuple[Handles, frozenset[str]]] = {}
        self._written = ""

    def load(self) -> None:
        """Read the file; one of another namespace, or a broken one, counts as none."""
        try:
            with open(self.path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError):
            return
        if lines[:1] == [self._head]:
            self._sets = dict(filter(None, map(_parse, lines[1:])))

    def sets(self) -> list[SetId]:
        """The sets that are known."""
        return list(self._sets)

    def owned(self, id: SetId, live: LiveSet | None) -> frozenset[str] | None:
        """What we put into a set as it is now; None when it is none that we filled."""
        handles, elements = self._sets.get(id, (None, frozenset()))
        return elements if live is not None and live.handles == handles else None

    def put(self, id: SetId, handles: Handles, elements: frozenset[str]) -> None:
        """Remember what is ours in a set."""
        self._sets[id] = (handles, elements)

    def forget(self, id: SetId) -> None:
        """A set is none of ours any more."""
        self._sets.pop(id, None)

    def save(self) -> None:
        """Replace the file if it says something else. Raises ``OSError``.

        It lies in memory, so nothing is flushed to a disk.
        """
        lines = [self._head]
        for id, (handles, elements) in self._sets.items():
            lines.append(f"{id} {handles[0]} {handles[1]} {' '.join(elements)}")
        text = "\n".join(lines) + "\n"
        if text == self._written:
            return
        temporary = f"{self.path}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, self.path)
        self._written = text

    def remove(self) -> None:
        """Remove the file."""
        self._sets = {}
        self._written = ""
        if os.path.lexists(self.path):
            os.unlink(self.path)


def _parse(line: str) -> tuple[SetId, tuple[Handles, frozenset[str]]] | None:
    words = line.split()
    if len(words) < 5 or not (words[3].isdecimal() and words[4].isdecimal()):
        return None
    return SetId(*words[:3]), ((int(words[3]), int(words[4])), frozenset(words[5:]))
