"""The keys of a daemon's configuration: declared in its type definition, checked, read with their defaults.

A key is named by its path: ``interfaces[].name`` is ``name`` in each mapping of the
list ``interfaces``, ``zones.*.family`` is ``family`` in each mapping of ``zones``
whatever its name, ``zones.*.containers[]`` is each entry of a list of single values.
One key may have several forms, each declared by itself: ``docker`` and
``docker.socket`` mean that either a single value or a mapping is fine.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from netns_tools.config.keykind import (
    FALSE_WORDS,
    INTEGER_MAX,
    KINDS,
    TRUE_WORDS,
    is_integer,
    is_true,
    parse_seconds,
    shortened,
    value_problem,
)
from netns_tools.config.shell import PROBLEMS_MAX
from netns_tools.config.value import Value
from netns_tools.config.yamlfile import Node
from netns_tools.errors import ConfigError, Problem

_KEY_FIELDS = ("kind", "choices", "minimum", "maximum", "default", "required", "example", "help")


class Key:
    """One entry of ``keys:``.

    ``kind`` is one of ``KINDS`` or several of them with ``|`` between; ``minimum``
    and ``maximum`` bound an integer. ``default`` None is no default.
    """

    __slots__ = ("choices", "default", "example", "help", "kind", "maximum", "minimum", "path", "required")

    def __init__(
        self,
        path: str,
        kind: str,
        choices: tuple[str, ...] = (),
        default: str | None = None,
        required: bool = False,
        example: str = "",
        help: str = "",
        minimum: int = 0,
        maximum: int = INTEGER_MAX,
    ) -> None:
        self.path = path
        self.kind = kind
        self.choices = choices
        self.default = default
        self.required = required
        self.example = example
        self.help = help
        self.minimum = minimum
        self.maximum = maximum

    def fields(self) -> tuple[str, str, tuple[str, ...], str | None, bool, str, str, int, int]:
        """What the key is made of, in the order of its parameters."""
        return (
            self.path, self.kind, self.choices, self.default, self.required,
            self.example, self.help, self.minimum, self.maximum,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Key({self.path!r}, {self.kind!r})"


class Tree:
    """A mapping of a configuration, or an entry of a list, read by the keys declared for it.

    What is not given has its default; an empty value counts as not given. What
    was refused by the check is not there either. ``place`` is where it begins.
    """

    __slots__ = ("_node", "_refused", "_rule", "place")

    def __init__(self, node: Node | None, rule: _Rule, place: Value, refused: set[int]) -> None:
        self._node = node
        self._rule = rule
        self._refused = refused  # by id(): nodes live as long as their tree
        self.place = place

    @property
    def scalar(self) -> Value | None:
        """This entry of a list when it is a single value."""
        node = self._node
        return node.place if node and node.scalar and id(node) not in self._refused else None

    def text(self, name: str) -> str:
        """A single value or its default; "" without either."""
        value = self.value(name)
        return value.text if value else self._default(name)

    def flag(self, name: str) -> bool:
        """A key of kind ``bool``."""
        return is_true(self.text(name))

    def number(self, name: str) -> int:
        """A key of kind ``integer``; 0 when it is not given and has no default."""
        return int(self.text(name) or 0)

    def seconds(self, name: str) -> float:
        """A key of kind ``seconds``; 0.0 when it is not given and has no default."""
        return parse_seconds(self.text(name)) or 0.0

    def value(self, name: str) -> Value | None:
        """A single value with its place; None when it is not given."""
        node = self._child(name)
        return node.place if node and node.scalar else None

    def mapping(self, name: str) -> Tree | None:
        """A mapping of declared keys; None when something else or nothing is given."""
        node = self._child(name)
        return (
            self._tree(node, self._rule.fields[name], node.place) if node and node.pairs is not None else None
        )

    def items(self, name: str) -> list[Tree]:
        """The entries of a list."""
        node, rule = self._child(name), self._rule.fields[name].each
        if not node or node.items is None or rule is None:
            return []
        return [self._tree(item, rule, item.place) for item in node.items if id(item) not in self._refused]

    def values(self, name: str) -> list[Value]:
        """The single values among the entries of a list."""
        return [item.scalar for item in self.items(name) if item.scalar]

    def children(self, name: str) -> list[tuple[Value, Tree]]:
        """The mappings of a key like ``zones.*``: their names, and what is in them."""
        node, rule = self._child(name), self._rule.fields[name].free
        if not node or node.pairs is None or rule is None:
            return []
        return [
            (key.place, self._tree(child, rule, key.place))
            for key, child in node.pairs
            if id(key) not in self._refused and id(child) not in self._refused
        ]

    def empty(self) -> list[Value]:
        """The keys of this mapping that are there without a value."""
        pairs = self._node.pairs or [] if self._node else []
        return [key.place for key, child in pairs if child.scalar == "" and id(key) not in self._refused]

    def nothing_given(self, name: str, place: Value) -> Tree:
        """A mapping of a key like ``zones.*`` in which everything has its default."""
        return Tree(None, self._rule.fields[name].free or _Rule(), place, self._refused)

    def _tree(self, node: Node, rule: _Rule, place: Value) -> Tree:
        return Tree(node, rule, place, self._refused)

    def _child(self, name: str) -> Node | None:
        assert name in self._rule.fields, f"{name} is not declared in keys:"
        node = self._node.get(name) if self._node else None
        return None if node is None or id(node) in self._refused else node

    def _default(self, name: str) -> str:
        key = self._rule.fields[name].key
        return key.default or "" if key else ""


class _Rule:
    """What may stand at one place: a single value, a mapping, a list."""

    __slots__ = ("each", "fields", "free", "key")

    def __init__(self) -> None:
        self.key: Key | None = None
        self.fields: dict[str, _Rule] = {}
        self.free: _Rule | None = None
        self.each: _Rule | None = None

    @property
    def is_mapping(self) -> bool:
        return bool(self.fields) or self.free is not None

    def step(self, word: str) -> _Rule:
        """The rule for a step of a path, made if need be."""
        if word == "[]":
            self.each = self.each or _Rule()
            return self.each
        if word == "*":
            self.free = self.free or _Rule()
            return self.free
        return self.fields.setdefault(word, _Rule())

    def forms(self) -> str:
        """What is expected here, for messages."""
        found = ["a single value"] if self.key else []
        found += ["a mapping"] if self.is_mapping else []
        found += ["a list"] if self.each else []
        return " or ".join(found)


# What a definition declares


def read_keys(node: Node, path: str) -> list[Key]:
    """The entries of ``keys:`` of a type definition. Raises ConfigError with all problems."""
    problems: list[Problem] = []
    if node.pairs is None:
        raise ConfigError([node.place.problem(f"keys must be a mapping, not {node.kind()}")])
    found = [_read_key(name, fields, problems) for name, fields in node.pairs]
    rules = _rules(found)
    for where, rule in _all_rules(rules, ""):
        if rule.fields and rule.free:
            problems.append(
                Problem(f"{where or 'the top level'} has both names of its own and '*'", path=path)
            )
    if problems:
        raise ConfigError(problems)
    return found


def _read_key(name: Node, node: Node, problems: list[Problem]) -> Key:
    path = name.text
    key = Key(path, "")
    if not _is_path(path):
        hint = "a path looks like  interfaces[].name  or  zones.*.family"
        problems.append(name.place.problem(f"{path!r} is no path of a key", hint=hint))
    if node.pairs is None:
        problems.append(node.place.problem(f"key {path} must be a mapping, not {node.kind()}"))
        return key
    for field, value in node.pairs:
        if field.text not in _KEY_FIELDS:
            hint = f"known are: {', '.join(_KEY_FIELDS)}"
            problems.append(field.place.problem(f"unknown key {field.text!r} in key {path}", hint=hint))
        elif field.text == "choices":
            key.choices = tuple(item.text for item in value.items or ())
        elif value.scalar is None:
            problems.append(value.place.problem(f"{field.text} must be a single value, not {value.kind()}"))
        elif field.text in ("minimum", "maximum"):
            if not is_integer(value.text):
                problems.append(value.place.problem(f"{field.text} is no number"))
                continue
            setattr(key, field.text, int(value.text))
        elif field.text == "required":
            if value.text.lower() not in TRUE_WORDS + FALSE_WORDS:
                problems.append(value.place.problem("required must be yes or no"))
            key.required = is_true(value.text)
        else:
            setattr(key, field.text, value.text)
    unknown = [kind for kind in key.kind.split("|") if kind not in KINDS]
    if unknown:
        hint = f"there are: {', '.join(KINDS)}"
        problems.append(name.place.problem(f"key {path}: no kind {unknown[0]!r}", hint=hint))
        return key
    if ("choice" in key.kind.split("|")) != bool(key.choices):
        problems.append(name.place.problem(f"key {path}: kind choice and a list of choices belong together"))
    for what, text in (("default", key.default), ("example", key.example)):
        message = value_problem(key, text)[0] if text else ""
        if message:
            problems.append(name.place.problem(f"key {path}: its {what} is wrong: {message}"))
    return key


def _is_path(path: str) -> bool:
    """Whether this is words or ``*`` with dots between, each with or without ``[]`` behind it."""
    for part in path.split("."):
        word = part.removesuffix("[]")
        if word != "*" and not (word and word.isascii() and word.replace("-", "_").isidentifier()):
            return False
    return True


def _steps(path: str) -> list[str]:
    return [
        step for part in path.split(".") for step in ([part[:-2], "[]"] if part.endswith("[]") else [part])
    ]


def _rules(keys: Iterable[Key]) -> _Rule:
    top = _Rule()
    for key in keys:
        rule = top
        for step in _steps(key.path):
            rule = rule.step(step)
        rule.key = key
    return top


def _all_rules(rule: _Rule, where: str) -> Iterator[tuple[str, _Rule]]:
    yield where, rule
    for name, child in rule.fields.items():
        yield from _all_rules(child, f"{where}.{name}" if where else name)
    if rule.free:
        yield from _all_rules(rule.free, f"{where}.*" if where else "*")
    if rule.each:
        yield from _all_rules(rule.each, f"{where}[]")


# The check of a configuration


def check_tree(root: Node | None, keys: Iterable[Key], path: str) -> tuple[Tree, list[Problem]]:
    """A configuration as its keys describe it, and everything that is wrong with it.

    ``root`` is what ``yamlfile.read_tree`` gave for the file ``path``. The tree can
    be read whatever is wrong: what was refused is as if it were not given.
    """
    rules = _rules(keys)
    checker = _Checker(rules)
    place = root.place if root else Value("", path)
    if root is None or root.scalar == "":
        checker.check_required([], rules, place, "")
        root = None
    elif root.pairs is None:
        hint = f"YAML lines look like  name: value; known names are: {', '.join(rules.fields)}"
        checker.refuse(root, f"this is {root.kind()}, not a mapping", hint)
    else:
        checker.check_mapping(root, rules, "")
    return Tree(root, rules, place, checker.refused), checker.problems


class _Checker:
    def __init__(self, rules: _Rule) -> None:
        self.rules = rules
        self.problems: list[Problem] = []
        self.refused: set[int] = set()

    def refuse(self, node: Node, message: str, hint: str = "") -> None:
        self.refused.add(id(node))
        self.tell(node.place.problem(message, hint=hint))

    def tell(self, problem: Problem) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def check(self, node: Node, rule: _Rule, where: str) -> None:
        if node.scalar == "":
            if rule.is_mapping and not rule.key:
                self.check_required([], rule, node.place, where)
        elif node.scalar is not None:
            if rule.key is None:
                self.refuse(
                    node, f"{where} must be {rule.forms()}, not a single value", _form_hint(rule, where)
                )
                return
            message, hint = value_problem(rule.key, node.scalar)
            if message:
                self.refuse(node, f"{where}: {message}", hint)
        elif node.items is not None:
            if rule.each is None:
                hint = "write one value" if rule.key else _form_hint(rule, where)
                self.refuse(node, f"{where} must be {rule.forms()}, not a list", hint)
                return
            for item in node.items:
                if item.scalar == "":
                    self.refuse(item, f"an entry of {where} is empty", "remove the lonely '-', or fill it in")
                else:
                    self.check(item, rule.each, f"{where}[]")
        elif rule.is_mapping:
            self.check_mapping(node, rule, where)
        else:
            hint = _form_hint(rule, where) if rule.each else "write one value"
            self.refuse(node, f"{where} must be {rule.forms()}, not a mapping", hint)

    def check_mapping(self, node: Node, rule: _Rule, where: str) -> None:
        pairs = node.pairs or []
        for key, child in pairs:
            known = rule.fields.get(key.text, rule.free)
            below = f"{where}.{shortened(key.text)}" if where else shortened(key.text)
            if known is None:
                full = len(self.problems) >= PROBLEMS_MAX
                hint = "" if full else self.unknown_hint(key.text, rule, where)
                self.refuse(
                    key, f"unknown key {shortened(key.text)!r}{f' in {where}' if where else ''}", hint
                )
            elif not key.text.strip() or not key.text.isprintable():
                self.refuse(key, f"{key.text!r} in {where or 'the file'} is no name", "give it a name")
            else:
                self.check(child, known, below)
        given = [key.text for key, child in pairs if child.scalar != ""]
        self.check_required(given, rule, node.place, where)

    def check_required(self, given: list[str], rule: _Rule, place: Value, where: str) -> None:
        for name, child in rule.fields.items():
            if child.key and child.key.required and name not in given:
                what = f"an entry of {where[:-2]}" if where.endswith("[]") else where or "the file"
                hint = f"add  {name}: {child.key.example}" if child.key.example else f"add  {name}: …"
                self.tell(place.problem(f"{what} has no {name!r}", hint=hint))

    def unknown_hint(self, word: str, rule: _Rule, where: str) -> str:
        """Where else the word is known; else which words there are that look like it."""
        if word == "steps" and not where:
            return "this file configures a daemon; a type of your own needs a name of its own"
        places = [
            place for place, other in _all_rules(self.rules, "") if other is not rule and word in other.fields
        ]
        if places:
            return f"{word!r} belongs to {places[0] or 'the top level of the file'}"
        close = difflib.get_close_matches(word.lower()[:40], list(rule.fields), 1)
        if close:
            return f"did you mean {close[0]!r}?"
        return f"known here are: {', '.join(rule.fields)}"


def _form_hint(rule: _Rule, where: str) -> str:
    """How a list or a mapping is written."""
    name = where.rpartition(".")[2].removesuffix("[]")
    if rule.each:
        key, inner = rule.each.key, rule.each.fields
        if key:
            return f'write  {name}: ["{key.example}"]'
        first = next((f"{field}: {child.key.example}" for field, child in inner.items() if child.key), "…")
        return f"write  {name}:  and below it lines like  - {first}"
    if rule.free:
        return f"write  {name}:  and below it, indented, a line  NAME:"
    return f"known here are: {', '.join(rule.fields)}"
