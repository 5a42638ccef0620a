"""Reads and checks a type definition in YAML; only used when the cache of types does not have it."""

from __future__ import annotations

from netns_tools import names
from netns_tools.config import shell, yamlfile
from netns_tools.config.nstype import DAEMON
from netns_tools.config.yamlfile import Node
from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    Fields = tuple[str, str, str | None, bool, tuple[str, ...], str, str, int]
    """What Option is made of, in the order of its parameters."""
    Steps = dict[str, list[list[str]]]
    KeyFields = tuple[str, str, tuple[str, ...], str | None, bool, str, str, int, int]
    """What keys.Key is made of, in the order of its parameters."""
    Plain = (
        tuple[
            str, str, list[Fields], list[str], list[str], list[str], bool, Steps, list[KeyFields], str,
        ]
        | None
    )  # fmt: skip
    """summary, kind, options, needs_namespaces, needs_devices, requires, config_required, steps,
    keys, example."""

KINDS = ("link", "loopback", "firewall", "commands", "daemon")
OPTION_KINDS = (
    "ifname", "ifprefix", "nsname", "mac", "macs", "addresses", "gateways", "routes",
    "mtu", "choice", "bool", "text",
)  # fmt: skip
STEPS = ("up_outside", "up_inside", "down_inside", "down_outside")
PLACEHOLDERS = ("NSNAME", "NSTYPE")
"""Words that are always known in defaults and steps."""

_TYPE_KEYS = ("summary", "kind", "options", "needs", "requires", "config_required", "steps")
_DAEMON_KEYS = ("summary", "kind", "keys", "example")
_OPTION_KEYS = ("kind", "default", "required", "choices", "example", "help")
_YES = ("yes", "true", "1", "on")
_NO = ("no", "false", "0", "off")


def read(nstype: str, path: str, data: bytes) -> Plain:
    """The definition in ``data``; None when it is no definition but a layer (no ``steps``, not shipped)."""
    root = yamlfile.read_tree(shell.decode(data, path), path)
    shipped = path.endswith(f"/nstypes/{nstype}.yaml")
    if not shipped and (root is None or root.pairs is None or root.get("steps") is None):
        return None
    reader = _Reader(path)
    if root is None or root.pairs is None:
        raise ConfigError([Problem("a type definition is a mapping", path=path)])
    kind = root.get("kind")
    if kind is not None and kind.text == DAEMON:
        plain = reader.daemon(root)
    else:
        plain = reader.definition(root, is_defaults=nstype == "default")
    if reader.problems:
        raise ConfigError(reader.problems)
    return plain


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.options: set[str] = set()

    def refuse(self, node: Node, message: str, hint: str = "", part: str = "") -> None:
        self.problems.append(node.place.problem(message, hint=hint, part=part))

    def keys(self, node: Node, known: tuple[str, ...], what: str) -> list[tuple[str, Node]]:
        """The pairs of a mapping; others than the known keys are refused."""
        if node.pairs is None:
            if node.scalar != "":
                self.refuse(node, f"{what} must be a mapping, not {node.kind()}")
            return []
        found = []
        for key, value in node.pairs:
            if known and key.text not in known:
                self.refuse(key, f"unknown key {key.text!r} in {what}", f"known are: {', '.join(known)}")
            else:
                found.append((key.text, value))
        return found

    def scalar(self, node: Node, what: str) -> str:
        if node.scalar is None:
            self.refuse(node, f"{what} must be a single value, not {node.kind()}")
        return node.text

    def truth(self, node: Node, what: str) -> bool:
        text = self.scalar(node, what).lower()
        if text not in _YES + _NO:
            self.refuse(node, f"{what} must be yes or no")
        return text in _YES

    def words(self, node: Node, what: str) -> list[tuple[str, Node]]:
        if node.items is None:
            if node.scalar != "":
                self.refuse(node, f"{what} must be a list")
            return []
        return [(self.scalar(item, f"an entry of {what}"), item) for item in node.items]

    def definition(self, root: Node, is_defaults: bool) -> Plain:
        fields = dict(
            self.keys(root, ("summary", "options") if is_defaults else _TYPE_KEYS, "a type definition")
        )
        kind = (
            self.scalar(fields["kind"], "kind")
            if "kind" in fields
            else "default"
            if is_defaults
            else "commands"
        )
        if "kind" in fields and kind not in KINDS:
            self.refuse(fields["kind"], f"no kind {kind!r}", f"there are: {', '.join(KINDS)}")
        summary = self.scalar(fields["summary"], "summary") if "summary" in fields else ""
        if not summary:
            self.refuse(root, "a type needs a summary", "add  summary: what it is, in one line")
        options = []
        if "options" in fields:
            pairs = self.keys(fields["options"], (), "options")
            self.options = {name for name, _ in pairs}
            options = [self.option(name, node) for name, node in pairs]
        needs = (
            dict(self.keys(fields["needs"], ("namespaces", "devices"), "needs")) if "needs" in fields else {}
        )
        requires = []
        for word, node in self.words(fields["requires"], "requires") if "requires" in fields else ():
            if names.nstype_problem(word):
                self.refuse(node, names.nstype_problem(word))
            requires.append(word)
        steps: Steps = {}
        if "steps" in fields:
            if kind != "commands":
                self.refuse(fields["steps"], f"a type of kind {kind!r} has no steps")
            for step, node in self.keys(fields["steps"], STEPS, "steps"):
                steps[step] = [self.command(text, item) for text, item in self.words(node, step)]
        return (
            summary,
            kind,
            options,
            self.option_names(needs.get("namespaces"), "needs.namespaces"),
            self.option_names(needs.get("devices"), "needs.devices"),
            requires,
            self.truth(fields["config_required"], "config_required") if "config_required" in fields else True,
            steps,
            [],
            "",
        )

    def daemon(self, root: Node) -> Plain:
        """A daemon has a configuration of its own form (``keys``) instead of options and steps."""
        from netns_tools.config.keys import read_keys

        fields = dict(self.keys(root, _DAEMON_KEYS, "the definition of a daemon"))
        texts = {}
        for name, what in (
            ("summary", "what it is, in one line"),
            ("example", "a configuration to begin with"),
        ):
            texts[name] = self.scalar(fields[name], name) if name in fields else ""
            if not texts[name]:
                self.refuse(root, f"a daemon needs {name!r}", f"add  {name}: {what}")
        keys = []
        if "keys" not in fields:
            self.refuse(root, "a daemon needs 'keys'", "add  keys: what may stand in its configuration")
        else:
            try:
                keys = [key.fields() for key in read_keys(fields["keys"], self.path)]
            except ConfigError as error:
                self.problems += error.problems
        return texts["summary"], DAEMON, [], [], [], [], True, {}, keys, texts["example"]

    def option_names(self, node: Node | None, what: str) -> list[str]:
        found = []
        for word, item in self.words(node, what) if node else ():
            if word not in self.options:
                self.refuse(item, f"{what}: no option {word!r} of this type")
            found.append(word)
        return found

    def option(self, name: str, node: Node) -> Fields:
        if not shell.is_name(name) or name != name.upper() or shell.is_shell_own(name):
            self.refuse(
                node, f"{name!r} cannot be an option", "an option has capital letters, digits and '_'"
            )
        if name in ("NSNAME", "NSTYPE", "NAME"):
            self.refuse(node, f"{name} is set by netns-tools, it cannot be an option")
        fields = dict(self.keys(node, _OPTION_KEYS, f"option {name}"))
        kind = self.scalar(fields["kind"], "kind") if "kind" in fields else ""
        if kind not in OPTION_KINDS:
            place = fields.get("kind", node)
            self.refuse(place, f"option {name}: no kind {kind!r}", f"there are: {', '.join(OPTION_KINDS)}")
        choices = (
            tuple(word for word, _ in self.words(fields["choices"], "choices")) if "choices" in fields else ()
        )
        if (kind == "choice") != bool(choices):
            self.refuse(node, f"option {name}: kind choice and a list of choices belong together")
        default = self.scalar(fields["default"], "default") if "default" in fields else None
        line = fields["default"].place.line if "default" in fields else node.place.line
        example = self.scalar(fields["example"], "example") if "example" in fields else ""
        help_text = self.scalar(fields["help"], "help") if "help" in fields else ""
        required = self.truth(fields["required"], "required") if "required" in fields else False
        return (name, kind, default, required, choices, example, help_text, line)

    def command(self, text: str, node: Node) -> list[str]:
        """The words of a command of a step; its ``{OPTION}`` must be known."""
        try:
            words = split_command(text)
        except ValueError as error:
            self.refuse(node, str(error))
            return []
        if not words:
            self.refuse(node, "an empty command")
        for word in words:
            for name in placeholders(word):
                if name not in self.options and name not in PLACEHOLDERS:
                    known = ", ".join([*sorted(self.options), *PLACEHOLDERS])
                    self.refuse(
                        node, f"no option {name!r} of this type", f"known are: {known}", "{" + name + "}"
                    )
        return words


def placeholders(word: str) -> list[str]:
    """The names in ``{NAME}`` of a word of a command."""
    found = []
    for piece in word.split("{")[1:]:
        name, brace, _ = piece.partition("}")
        if brace and shell.is_name(name):
            found.append(name)
    return found


def split_command(text: str) -> list[str]:
    """The words of a command by shell quoting rules, nothing expanded; ValueError for an open quote."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    pos = 0
    while pos < len(text):
        character = text[pos]
        pos += 1
        if quote:
            if character == quote:
                quote = ""
                continue
            if quote == '"' and character == "\\" and pos < len(text) and text[pos] in '"\\$`':
                character = text[pos]
                pos += 1
            assert word is not None  # begun by the opening quote
            word.append(character)
        elif character in " \t\n":
            if word is not None:
                words.append("".join(word))
            word = None
        elif character in "'\"":
            quote = character
            word = word if word is not None else []
        elif character == "\\" and pos < len(text):
            word = word if word is not None else []
            word.append(text[pos])
            pos += 1
        else:
            word = word if word is not None else []
            word.append(character)
    if quote:
        raise ValueError(f"a quote {quote} is never closed")
    if word is not None:
        words.append("".join(word))
    return words
