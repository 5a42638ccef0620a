"""What stands in ``natmap-NAME.yaml`` or ``natmap.yaml``, or in a file that ``apply`` is given."""

from __future__ import annotations

import os
from collections.abc import Iterable

from netns_tools import names
from netns_tools.config import daemonfile, shell, trust, yamlfile
from netns_tools.config.keys import Key, Tree, check_tree
from netns_tools.config.nstype import DAEMON, load_nstype
from netns_tools.config.shell import PROBLEMS_MAX
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, Problem
from netns_tools.natmap.fields import read_fields, render_entry
from netns_tools.natmap.model import Desired, Entry, overlaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

TYPE = "natmap"

_EXAMPLE = "dnat:\n  - 8080:10.0.0.10:80"


def config_path(name: str, paths: Paths) -> str:
    """The file that counts: NETNS_NATMAP_CONFIG, else natmap-NAME.yaml, else natmap.yaml."""
    return daemonfile.find(TYPE, name, paths)


def load_desired(name: str, paths: Paths) -> Desired:
    """What the file of NAME declares; nothing when there is no file. Raises ConfigError with all problems."""
    path = config_path(name, paths)
    if not os.path.lexists(path) and path in daemonfile.candidates(TYPE, name, paths):
        return Desired()
    keys = load_keys(name, paths)
    return parse(daemonfile.read(path, TYPE, name, _EXAMPLE, paths), path, keys)


def load_given(path: str, name: str, paths: Paths) -> Desired:
    """What the file declares that somebody names in a command; so it may be theirs, wherever it is.

    Raises ConfigError with all problems.
    """
    keys = load_keys(name, paths)
    try:
        with open(path, "rb") as file:
            data = file.read(trust.SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", path=path)]) from None
    if len(data) > trust.SIZE_MAX:
        message = f"has more than {trust.SIZE_MAX} bytes, which a configuration file may have"
        raise ConfigError([Problem(message, path=path)])
    return parse(shell.decode(data, path), path, keys)


def load_keys(name: str, paths: Paths) -> Iterable[Key]:
    """The keys of the type. Raises ConfigError: NAME is none, the type is somebody else's."""
    if message := names.nsname_problem(name):
        raise ConfigError([Problem(message)])
    nstype = load_nstype(TYPE, paths)
    if nstype.kind != DAEMON:
        hint = f"give your type another name; {TYPE} is a daemon of netns-tools"
        raise ConfigError([Problem(f"defines a type {TYPE} of your own", path=nstype.path, hint=hint)])
    return nstype.keys


def parse(text: str, path: str, keys: Iterable[Key]) -> Desired:
    """What ``text``, the file ``path``, declares. Raises ConfigError with all problems."""
    keys = list(keys)
    tree, problems = check_tree(yamlfile.read_tree(text, path), keys, path)
    reader = _Reader(tree, keys, problems)
    reader.read()
    reader.check_overlaps()
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return Desired.of(entry for entry, _ in reader.found)


class _Reader:
    def __init__(self, tree: Tree, keys: list[Key], problems: list[Problem]) -> None:
        self.tree = tree
        self.fields = _fields(keys)
        self.problems = problems
        self.found: list[tuple[Entry, Value]] = []

    def is_full(self) -> bool:
        return len(self.problems) >= PROBLEMS_MAX

    def read(self) -> None:
        whole = not self.problems
        for kind, fields in self.fields.items():
            for item in self.tree.items(kind):
                if self.is_full():
                    return
                given = {"map": item.scalar} if item.scalar else _given(item, fields)
                entries, problems = read_fields(kind, given, item.place, whole=whole)
                self.problems += problems
                self.found += [(entry, item.place) for entry in entries]

    def check_overlaps(self) -> None:
        """No two entries for one port, source or route: neither a conflict nor a repetition."""
        places = {id(entry): place for entry, place in self.found}
        told = set()
        for conflict in overlaps(entry for entry, _ in self.found):
            old, new = places[id(conflict.old)], places[id(conflict.new)]
            if (id(old), id(new)) in told or self.is_full():
                continue
            told.add((id(old), id(new)))  # one mapping to a container is an entry a family
            what = "repeats" if conflict.is_duplicate else "conflicts with"
            where = f"line {old.line}" if old.line != new.line else "the same line"
            message = f"'{render_entry(conflict.new)}' {what} '{render_entry(conflict.old)}' in {where}"
            self.problems.append(new.problem(message, hint="keep one of the two"))


def _fields(keys: list[Key]) -> dict[str, list[str]]:
    """Kind of entry → the fields of it that are declared as keys."""
    found: dict[str, list[str]] = {}
    for key in keys:
        kind, _, name = key.path.partition("[]")
        fields = found.setdefault(kind, [])
        if name and not name.endswith("[]"):
            fields.append(name.removeprefix("."))
    return found


def _given(item: Tree, fields: list[str]) -> dict[str, Value]:
    """What is given of some fields of an entry, lists as values with entries."""
    found = {}
    for name in fields:
        value, entries = item.value(name), item.values(name)
        if entries:
            value = entries[0].with_text(", ".join(entry.text for entry in entries))
            value.entries = entries
        if value:
            found[name] = value
    return found
