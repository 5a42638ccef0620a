"""Types that an administrator described as commands in YAML."""

from __future__ import annotations

from netns_tools.steps.plan import STEPS, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config, Value
    from netns_tools.paths import Paths

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-")


def quote(word: str) -> str:
    """Quote one word for sh, so that it stays one word whatever it holds."""
    if word and set(word) <= _PLAIN:
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def plan(config: Config, paths: Paths) -> Plan:
    """Plan each command of each step, with options put in as whole or parts of words.

    A command that names an option which is not set is left out; one that names an
    option with several entries is planned once an entry. An entry of several words
    that has a word of the command for itself becomes several words there.
    """
    result = Plan()
    for step in STEPS:
        for command in config.nstype.steps.get(step.replace("-", "_"), []):
            for line, sources in _lines(command, config):
                result.add(f"{step}.sh", line, *sources)
    return result


def _lines(command: list[str], config: Config) -> list[tuple[str, list[Value]]]:
    """The lines that one command of a definition becomes, with the values each is made of."""
    fixed = {"NSNAME": config.name, "NAME": config.name, "NSTYPE": config.nstype.name}
    used = [name for name in config.nstype.options if any("{" + name + "}" in word for word in command)]
    if any(not config.text(name) for name in used):
        return []
    sources = [config.values[name] for name in used]
    lists = [name for name in used if config.nstype.options[name].is_list]
    single = {**fixed, **{name: config.text(name) for name in used if name not in lists}}
    # With two lists in one command: every entry of the one with every entry of the other.
    combinations: list[dict[str, list[str]]] = [{}]
    for name in lists:
        combinations = [{**known, name: words} for known in combinations for words in config.items(name)]
    return [(_line(command, single, entries), sources) for entries in combinations]


def _line(command: list[str], single: dict[str, str], entries: dict[str, list[str]]) -> str:
    words: list[str] = []
    for word in command:
        if word.startswith("{") and word[1:-1] in entries and word.endswith("}"):
            words.extend(entries[word[1:-1]])
        else:
            words.append(_substitute(word, {**single, **{k: " ".join(v) for k, v in entries.items()}}))
    return " ".join(quote(word) for word in words)


def _substitute(word: str, values: dict[str, str]) -> str:
    """Replace each ``{NAME}`` once; what a value brings in is not looked at again."""
    parts: list[str] = []
    rest = word
    while True:
        before, brace, after = rest.partition("{")
        name, end, tail = after.partition("}")
        if not brace:
            return "".join([*parts, before])
        if end and name in values:
            parts += [before, values[name]]
            rest = tail
        else:
            parts += [before, brace]
            rest = after
