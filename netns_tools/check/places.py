"""Where the configuration puts things: which address, device or MAC, in which namespace, by which line."""

from __future__ import annotations

from dataclasses import dataclass

from netns_tools.check.survey import Finding, Key, at, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netns_tools.config.layers import Config, Value

HOST = "host"
"""The host's own namespace; no namespace of ours can have this name."""


@dataclass(slots=True)
class Place:
    """One mention of a thing: an option of an instance, its value, and the namespace that it is about.

    ``words`` is the entry of a list, or the value, split into words; ``thing`` is what is
    compared, in one way of writing.
    """

    key: Key
    option: str
    value: Value
    namespace: str
    words: list[str]
    thing: str

    @property
    def source(self) -> tuple[str, int, int]:
        """File, line and column of the value."""
        return self.value.path, self.value.line, self.value.column

    def __str__(self) -> str:
        where = f"{self.value.path}:{self.value.line}" if self.value.line else self.value.path
        return f"{where} ({self.option} of {label(self.key)})"


def places(configs: dict[Key, Config], kind: str, thing: Callable[[str], str | None] = str) -> list[Place]:
    """Every entry of every option of a kind, with the first word put into one way of writing by ``thing``.

    Entries for which ``thing`` says None are left out: what is wrong is reported where it is loaded.
    """
    found = []
    for key, config in configs.items():
        for option in config.nstype.options.values():
            value = config.values.get(option.name)
            if option.kind != kind or value is None or not value.text:
                continue
            for entry, place in value.split() if option.is_list else [(value.text, value)]:
                words = [word for word in entry.split() if word != "local"]
                if words and (same := thing(words[0])) is not None:
                    found.append(Place(key, option.name, place, _namespace(config, option.name), words, same))
    return found


def outside(config: Config) -> str:
    """The namespace at the outer side of an instance: the host's, or the one that its configuration names."""
    for option in config.nstype.needs_namespaces:
        if name := config.text(option):
            return name
    return HOST


def _namespace(config: Config, option: str) -> str:
    return outside(config) if option.endswith("_OUTSIDE") else str(config.name)


def used_twice(found: Iterable[Place], what: str, hint: str, *, severity: str = "error") -> list[Finding]:
    """A finding for every further line that mentions the same thing as another one, naming both lines.

    A line that several instances share (in TYPE.conf) is one finding.
    """
    by_thing: dict[tuple[str, ...], dict[tuple[str, int, int, str], list[Place]]] = {}
    for place in found:
        lines = by_thing.setdefault((place.thing,), {})
        lines.setdefault((*place.source, place.option), []).append(place)
    findings = []
    for lines in by_thing.values():
        # A default has no line of the administrator's: what is reported is the other one.
        groups = sorted(lines.values(), key=lambda group: bool(group[0].value.source))
        first = groups[0][0]
        for group in groups:
            word = group[0].words[0]
            keys = list(dict.fromkeys(place.key for place in group))
            if len(keys) > 1:
                text = f"{what} {word} is used by {len(keys)} instances: {_some(keys)}"
                findings.append(
                    Finding(
                        at(
                            group[0].value, text, word=word, hint=_own_file(group[0], hint), severity=severity
                        ),
                        keys,
                    )
                )
            if group is not groups[0] and not _two_sides(group, first):
                text = f"{what} {word} is used twice: in {group[0].option} of {label(keys[0])} and in {first}"
                findings.append(
                    Finding(
                        at(group[0].value, text, word=word, hint=hint, severity=severity), [*keys, first.key]
                    )
                )
    return findings


def _two_sides(group: list[Place], first: Place) -> bool:
    """Whether these are the two ends of one instance, which are compared where that is loaded."""
    return _stem(group[0].option) == _stem(first.option) and all(place.key == first.key for place in group)


def _stem(option: str) -> str:
    return option.removesuffix("_INSIDE").removesuffix("_OUTSIDE")


def _own_file(place: Place, hint: str) -> str:
    return f"{hint}: set {place.option} in {place.key[0]}-NAME.conf of each"


def _some(keys: list[Key], most: int = 4) -> str:
    names = ", ".join(label(key) for key in keys[:most])
    return names if len(keys) <= most else f"{names} and {len(keys) - most} more"
