"""Desired files and what is there → changes. Pure: nothing is read or written here."""

from __future__ import annotations

from dataclasses import dataclass, field

from netns_tools.errors import Problem
from netns_tools.names import RESERVED, unit
from netns_tools.units.unitfile import is_generated, is_legacy, is_replaceable, kind_of, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Key = tuple[str, str]


@dataclass(frozen=True)
class Entry:
    """What is at a path: ``file`` with its text, ``link`` with its target, or ``other``."""

    kind: str
    text: str = ""


@dataclass(frozen=True)
class Change:
    """One thing to do; ``verb`` is create, update or remove, ``file`` is below the unit directory."""

    verb: str
    file: str
    new: str = ""
    old: str = ""


@dataclass
class Plan:
    """What is to be done, and what could not be."""

    changes: list[Change] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Keep:
    """What stays as it is: files of types or instances whose configuration cannot be read."""

    types: frozenset[str] = frozenset()
    instances: frozenset[Key] = frozenset()

    def holds(self, key: Key) -> bool:
        """Whether files of this TYPE and NAME (empty for a unit of the type) stay."""
        return key[0] in self.types or key in self.instances


def asks_for_activity(desired: Mapping[str, str], observed: Mapping[str, Entry]) -> bool:
    """Whether the plan depends on which units systemd has active, beyond what has a plan under /run."""
    return any(_is_stale(file, entry, desired) for file, entry in observed.items()) or any(
        file in observed and _changes_hands(observed[file], text) for file, text in desired.items()
    )


def plan_update(
    desired: Mapping[str, str],
    observed: Mapping[str, Entry],
    *,
    in_use: Collection[Key] = (),
    keep: Keep = Keep(),
    directory: str = "",
) -> Plan:
    """The changes that make ``observed`` ``desired``, and warnings about what stands in the way.

    Only generated files are removed and only replaceable ones replaced. Files of an
    instance that is in use stay when nothing would take their place, or when it was
    started by steps of another kind, which alone can undo it.
    """
    plan = Plan()
    for file, text in sorted(desired.items()):
        entry = observed.get(file)
        users = _users(file, in_use)
        if entry is None:
            plan.changes.append(Change("create", file, text))
        elif entry.kind != "file" or not is_replaceable(entry.text):
            plan.warnings.append(_foreign(f"{directory}/{file}", entry))
        elif entry.text != text:
            if users and _changes_hands(entry, text):
                plan.warnings.append(_started_otherwise(f"{directory}/{file}", users))
            else:
                plan.changes.append(Change("update", file, text, entry.text))
    for file, entry in sorted(observed.items()):
        owner = owner_of(file)
        if owner is None or not _is_stale(file, entry, desired) or keep.holds(owner):
            continue
        if users := _users(file, in_use):
            plan.warnings.append(_still_used(f"{directory}/{file}", users, known=owner[1] != ""))
        else:
            plan.changes.append(Change("remove", file, old=entry.text))
    return plan


def _is_stale(file: str, entry: Entry, desired: Mapping[str, str]) -> bool:
    return file not in desired and entry.kind == "file" and is_generated(entry.text)


def _changes_hands(entry: Entry, text: str) -> bool:
    """Whether a unit of a type turns into one that starts and stops in another way."""
    if entry.kind != "file" or not kind_of(text):
        return False
    return is_legacy(entry.text) or (is_generated(entry.text) and kind_of(entry.text) != kind_of(text))


def _users(file: str, in_use: Collection[Key]) -> list[str]:
    """Units in use that a file is for."""
    owner = owner_of(file)
    if owner is None:
        return []
    if owner[1]:
        return [unit(*owner)] if owner in in_use else []
    return [unit(*key) for key in sorted(in_use) if key[0] == owner[0] and key[1] not in RESERVED]


def _foreign(path: str, entry: Entry) -> Problem:
    if entry.kind == "link":
        what = "masked" if entry.text == "/dev/null" else f"a link to {entry.text}"
        hint = "remove the link (systemctl unmask) if the generated unit is wanted"
    else:
        what = "not written by netns-update" if entry.kind == "file" else "no regular file"
        hint = "move it away if the generated one is wanted; own settings go into a drop-in (systemctl edit)"
    return Problem(f"left alone: it is {what}", path=path, hint=hint, severity="warning")


def _still_used(path: str, users: list[str], *, known: bool) -> Problem:
    why = "its configuration is gone" if known else "its type is gone"
    return Problem(
        f"kept: {why}, but {', '.join(users)} is in use",
        path=path,
        hint=f"systemctl stop {' '.join(users)}, then run netns-update again",
        severity="warning",
    )


def _started_otherwise(path: str, users: list[str]) -> Problem:
    return Problem(
        f"kept: {', '.join(users)} was started by it and must be stopped by it",
        path=path,
        hint=f"systemctl stop {' '.join(users)}, then run netns-update again",
        severity="warning",
    )
