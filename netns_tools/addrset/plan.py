"""What a set should hold and what it holds → nft commands. Pure.

A set with intervals is written anew as a whole, in one transaction: pieces of merged ranges cannot
be deleted. In all others single elements come and go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netns_tools.addrset import ranges
from netns_tools.kernel import nftset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.addrset.wanted import Target, Wanted
    from netns_tools.kernel.nftset import LiveSet, SetId

    Command = dict[str, object]

OK, WAITING, ERROR = "ok", "waiting", "error"

_NOTHING: frozenset[str] = frozenset()

_ALL = "*"
"""The element for everything that no other one matches; never one of ours."""


@dataclass(frozen=True)
class SetPlan:
    """What is to be done to one set.

    ``owned``: the elements that are ours when it is done. ``written``: all elements, where the set
    is written anew; None where single ones come and go.
    """

    id: SetId
    state: str
    error: str = ""
    hint: str = ""
    commands: list[Command] = field(default_factory=list)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    owned: frozenset[str] = _NOTHING
    written: dict[str, object] | None = None


def lines(plan: SetPlan) -> list[str]:
    """The plan as lines of nft(8).

    What stands in the commands only so that a deletion cannot fail is left out.
    """
    shown = []
    for position, command in enumerate(plan.commands):
        following = plan.commands[position + 1 : position + 2]
        if not following or command.get("add", {}) != following[0].get("delete"):
            shown.append(nftset.render(command))
    return shown


def plan_set(target: Target, wanted: Wanted, live: LiveSet | None, known: frozenset[str] | None) -> SetPlan:
    """The plan for a set of the configuration.

    ``known``: what we put there before; None for a set that we never filled.
    """
    owned = known or _NOTHING
    if live is None:
        return _plan_missing(target, wanted)
    error, hint = refusal(target, live)
    if error:
        if target.zone.own_table and known is not None:
            return _plan_anew(target, wanted)
        return SetPlan(target.id, ERROR, error, hint, owned=owned)
    if "interval" in live.flags:
        return _plan_interval(target, wanted, live, owned)
    return _plan_hash(target, wanted, live, owned)


def plan_departure(live: LiveSet, owned: frozenset[str]) -> SetPlan:
    """The plan for a set that has left the configuration: what we put there goes, all else stays."""
    mine = tuple(sorted(owned & live.elements.keys()))
    if "interval" not in live.flags:
        commands = nftset.delete_elements(live.id, mine) if mine else []
        return SetPlan(live.id, OK, commands=commands, removed=mine)
    family = 6 if live.type.startswith("ipv6") else 4
    actual, ours = _ranges(live.elements), ranges.merge(map(ranges.parse, owned))
    left = ranges.subtract(actual, ours)
    if left == actual:
        return SetPlan(live.id, OK)
    written = _foreign(live, ours, left, family)
    return SetPlan(
        live.id, OK, commands=_rewrite(live.id, written), removed=tuple(sorted(owned)), written=written
    )


def refusal(target: Target, live: LiveSet) -> tuple[str, str]:
    """Why a set cannot be filled, and what to do; empty when it can."""
    zone = target.zone
    if live.table_flags & {"owner"}:
        return (
            f"table {zone.family} {zone.table} belongs to another program (flags owner)",
            "only that program may change it: choose another table for this zone, or own_table: true",
        )
    if live.type != target.type:
        return (
            f"it holds elements of type {live.type}; {target.type} is needed",
            f"declare it with  type {target.type}  or choose another set (set{target.family}:)",
        )
    if "timeout" in live.flags:
        return (
            "its elements time out (flags timeout), and to add one again does not renew it",
            "declare the set without timeout",
        )
    if "constant" in live.flags:
        return "it is constant while a rule uses it (flags constant)", "declare the set without that flag"
    if zone.networks and "interval" not in live.flags:
        return (
            "networks: true puts prefixes into it, and it has no 'flags interval'",
            "declare the set with  flags interval  or take networks: true out",
        )
    return "", ""


def _plan_missing(target: Target, wanted: Wanted) -> SetPlan:
    if not target.zone.own_table:
        return SetPlan(target.id, WAITING, "the set does not exist (yet)")
    flags = ["interval"] if target.zone.networks else []
    texts = _texts(wanted, target)
    return SetPlan(
        target.id,
        OK,
        commands=[
            nftset.add_table(target.id.family, target.id.table),
            nftset.add_set(target.id, target.type, flags),
            *([nftset.add_elements(target.id, texts)] if texts else []),
        ],
        added=tuple(texts),
        owned=frozenset(texts),
    )


def _plan_anew(target: Target, wanted: Wanted) -> SetPlan:
    """A set of our own table that was made for another configuration."""
    made = _plan_missing(target, wanted)
    commands = [nftset.delete_set(target.id), *made.commands]
    return SetPlan(target.id, OK, commands=commands, added=made.added, owned=made.owned)


def _plan_hash(target: Target, wanted: Wanted, live: LiveSet, owned: frozenset[str]) -> SetPlan:
    keep = wanted.elements
    if not wanted.complete:
        keep |= owned.intersection(live.elements)
    add = keep.difference(live.elements)
    if target.zone.exclusive:
        # 10,000 elements are not looked at one by one when the count says that nothing is too much.
        even = len(live.elements) + len(add) == len(keep)
        remove = () if even else tuple(sorted(live.elements.keys() - keep))
        after = keep
    else:
        remove = tuple(sorted(owned.intersection(live.elements) - keep))
        after = (owned & keep).intersection(live.elements) | add
    commands = [nftset.add_elements(target.id, sorted(add))] if add else []
    commands += nftset.delete_elements(target.id, remove) if remove else []
    return SetPlan(target.id, OK, commands=commands, added=tuple(sorted(add)), removed=remove, owned=after)


def _plan_interval(target: Target, wanted: Wanted, live: LiveSet, owned: frozenset[str]) -> SetPlan:
    actual = _ranges(live.elements)
    ours = ranges.merge(map(ranges.parse, owned))
    want = [ranges.parse(text) for text in wanted.elements]
    if not wanted.complete:
        want += ours
    whole = ranges.merge(want)
    foreign = [] if target.zone.exclusive else ranges.subtract(actual, ours)
    mine = ranges.subtract(whole, foreign)
    texts = ranges.texts(mine, target.family)
    if ranges.merge([*mine, *foreign]) == actual and not (target.zone.exclusive and _ALL in live.elements):
        return SetPlan(target.id, OK, owned=frozenset(texts))
    written = {} if target.zone.exclusive else _foreign(live, ours, foreign, target.family)
    written.update((text, text) for text in texts)
    return SetPlan(
        target.id,
        OK,
        commands=_rewrite(target.id, written),
        added=tuple(sorted(written.keys() - live.elements.keys())),
        removed=tuple(sorted(live.elements.keys() - written.keys())),
        owned=frozenset(texts),
        written=written,
    )


def _foreign(
    live: LiveSet, ours: list[ranges.Range], left: list[ranges.Range], family: int
) -> dict[str, object]:
    """Elements of others, as they are (with their comments) unless a part of one is ours."""
    kept = {
        text: raw
        for text, raw in live.elements.items()
        if text == _ALL or ranges.subtract([ranges.parse(text)], ours) == [ranges.parse(text)]
    }
    rest = ranges.subtract(left, _ranges(kept))
    return {**kept, **{text: text for text in ranges.texts(rest, family)}}


def _rewrite(id: SetId, elements: dict[str, object]) -> list[Command]:
    """Empty a set and fill it, which is one step for packets."""
    add = [nftset.add_raw_elements(id, list(elements.items()))] if elements else []
    return [nftset.flush_set(id), *add]


def _ranges(elements: dict[str, object]) -> list[ranges.Range]:
    return ranges.merge(ranges.parse(text) for text in elements if text != _ALL)


def _texts(wanted: Wanted, target: Target) -> list[str]:
    """Elements for a new set of our own."""
    if not target.zone.networks:
        return sorted(wanted.elements)
    return ranges.texts(ranges.merge(map(ranges.parse, wanted.elements)), target.family)
