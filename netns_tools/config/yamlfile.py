"""YAML with the place of every key, value and list item, and no surprises.

The file is read event by event, not by PyYAML's recursive composer, so that no
nesting overflows a stack; aliases are refused, so that none expands without end.
A scalar is its source text: ``yes`` stays ``yes`` and ``02:00:00:00:00:01`` is no
number of seconds. PyYAML is imported only when there is a file to read.
"""

from __future__ import annotations

from netns_tools.config.shell import PROBLEMS_MAX, SOURCE_MAX
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, NetnsToolsError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEPTH_MAX = 16
_MAPPING_HINT = "YAML lines look like  name: value"


class Node:
    """A piece of a YAML file: exactly one of ``scalar``, ``items`` and ``pairs`` is not None."""

    __slots__ = ("items", "pairs", "place", "scalar")

    def __init__(self, place: Value) -> None:
        self.place = place
        self.scalar: str | None = None
        self.items: list[Node] | None = None
        self.pairs: list[tuple[Node, Node]] | None = None

    @property
    def text(self) -> str:
        """The text of a scalar, of a key for instance; "" for everything else."""
        return self.scalar or ""

    def kind(self) -> str:
        """What this is, for messages."""
        if self.pairs is not None:
            return "a mapping"
        return "a list" if self.items is not None else "a single value"

    def get(self, key: str) -> Node | None:
        """The value of ``key`` in a mapping."""
        for name, node in self.pairs or ():
            if name.scalar == key:
                return node
        return None


def read_tree(text: str, path: str) -> Node | None:
    """The whole file; None when it is empty. Raises ConfigError with every problem of its form."""
    yaml = _import_yaml()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    lines = text.split("\n")
    builder = _Builder(path, lines)
    try:
        for event in yaml.parse(text, loader):
            builder.take(type(event).__name__, event)
            if len(builder.problems) >= PROBLEMS_MAX:
                break
    except yaml.MarkedYAMLError as error:
        raise ConfigError([*builder.problems, _syntax_problem(error, path, lines)]) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else 0
        at = text.find(chr(code)) if code else -1
        line = text.count("\n", 0, at) + 1 if at >= 0 else 0
        message = f"character U+{code:04X} is not allowed in YAML"
        raise ConfigError([*builder.problems, Problem(message, path=path, line=line)]) from None
    except yaml.YAMLError as error:
        raise ConfigError([*builder.problems, Problem(f"not YAML: {error}", path=path)]) from None
    if builder.problems:
        raise ConfigError(builder.problems)
    return builder.root


def _import_yaml() -> Any:
    """PyYAML, also for a start: netnsinit runs Python with -S, which hides the distribution's packages."""
    try:
        import yaml
    except ModuleNotFoundError:
        import site

        site.main()
        try:
            import yaml
        except ModuleNotFoundError:
            raise NetnsToolsError(
                "a YAML file is to be read, and the Python package yaml is missing",
                hint="apt install python3-yaml",
            ) from None
    return yaml


class _Builder:
    """Builds nodes from PyYAML's events."""

    def __init__(self, path: str, lines: list[str]) -> None:
        self.path = path
        self.lines = lines
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self.open: list[tuple[Node, list[Node]]] = []  # collections not yet ended, with their children
        self.documents = 0

    def place(self, event: Any, text: str = "") -> Value:
        mark, end = event.start_mark, event.end_mark
        source = self.lines[mark.line][:SOURCE_MAX] if mark.line < len(self.lines) else ""
        width = end.column - mark.column if end.line == mark.line else len(source) - mark.column
        return Value(text, self.path, mark.line + 1, mark.column + 1, source, max(1, width))

    def refuse(self, event: Any, message: str, hint: str = "") -> None:
        self.problems.append(self.place(event).problem(message, hint=hint))

    def take(self, kind: str, event: Any) -> None:
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            self.refuse(event, "tags are not supported", "remove the word that begins with '!'")
        if kind == "DocumentStartEvent":
            self.documents += 1
            if self.documents == 2:
                self.refuse(event, "a second YAML document", "one file holds one document")
        elif kind == "AliasEvent":
            self.refuse(event, "aliases are not supported", "write the value again")
            self.add(Node(self.place(event)))
        elif kind == "ScalarEvent":
            node = Node(self.place(event, event.value))
            node.scalar = "" if _is_null(event) else event.value
            node.place.text = node.scalar or ""
            self.add(node)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            if len(self.open) >= _DEPTH_MAX:
                self.refuse(event, "nested too deep")
                # At once: the time that libyaml takes grows with the square of the depth.
                raise ConfigError(self.problems)
            self.open.append((Node(self.place(event)), []))
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self.end(kind == "MappingEndEvent")

    def add(self, node: Node) -> None:
        if self.documents > 1:
            return
        if self.open:
            self.open[-1][1].append(node)
        else:
            self.root = node

    def end(self, mapping: bool) -> None:
        node, children = self.open.pop()
        if mapping:
            # A value that was refused leaves its key alone: zip stops there.
            node.pairs = list(zip(children[::2], children[1::2], strict=False))
            self.check_keys(node.pairs)
        else:
            node.items = children
        self.add(node)

    def check_keys(self, pairs: list[tuple[Node, Node]]) -> None:
        seen: dict[str, Node] = {}
        for key, _ in pairs:
            if key.scalar is None:
                self.problems.append(key.place.problem("a key must be a single word"))
            elif key.scalar in seen:
                first = seen[key.scalar].place.line
                message = f"{key.scalar!r} is given twice, first in line {first}"
                self.problems.append(
                    key.place.problem(message, hint="keep one of them; a list holds several values")
                )
            else:
                seen[key.scalar] = key


def _is_null(event: Any) -> bool:
    return event.style in (None, "") and event.value in ("", "~", "null", "Null", "NULL") and not event.tag


def _syntax_problem(error: Any, path: str, lines: list[str]) -> Problem:
    mark = error.problem_mark or error.context_mark
    message = str(error.problem or error.context or "not YAML")
    if not mark:
        return Problem(f"not YAML: {message}", path=path)
    source = lines[mark.line] if mark.line < len(lines) else ""
    hint = ""
    if "\t" in source[: len(source) - len(source.lstrip())] or source[mark.column : mark.column + 1] == "\t":
        hint = "YAML does not allow tabs for indentation; use blanks"
    elif "mapping values" in message:
        hint = "put a value that contains ': ' into quotes"
    elif any("=" in line and ":" not in line for line in (source, lines[0])):
        hint = _MAPPING_HINT
    return Problem(
        f"not YAML: {message}", path=path, line=mark.line + 1, column=mark.column + 1, text=source, hint=hint
    )


def flat_values(root: Node | None) -> tuple[dict[str, tuple[Value, Value]], list[Problem]]:
    """A layer: key → (place of the key, value); and what has not the form of a layer."""
    values: dict[str, tuple[Value, Value]] = {}
    problems: list[Problem] = []
    if root is None or root.scalar == "":
        return values, problems
    if root.pairs is None:
        problems.append(root.place.problem(f"this is {root.kind()}, not a mapping", hint=_MAPPING_HINT))
        return values, problems
    for key, node in root.pairs:
        value = node.place
        if node.pairs is not None:
            problems.append(value.problem(f"{key.text!r} is a mapping, not a value"))
            continue
        if node.items is not None:
            value.entries = []
            for item in node.items:
                if item.scalar is None:
                    problems.append(
                        item.place.problem(f"an entry of {key.text!r} is {item.kind()}, not a value")
                    )
                else:
                    value.entries.append(item.place)
            value.text = ", ".join(entry.text for entry in value.entries)
        values[key.text] = (key.place, value)
    return values, problems
