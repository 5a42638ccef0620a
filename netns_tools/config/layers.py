"""The configuration of TYPE@NAME: its files one upon the other, checked as a whole."""

from __future__ import annotations

from netns_tools import names
from netns_tools.config import consistency, shell, trust
from netns_tools.config.nstype import DAEMON, LIST_KINDS, NsType, Option, definition_inputs, load_defaults
from netns_tools.config.option import check_value, split_words
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.bash import Shell
    from netns_tools.paths import Paths

__all__ = ["Config", "Value", "inspect_config", "load_config"]

_FIXED = ("NSTYPE", "NSNAME")
_KEEP_EMPTY = LIST_KINDS | {"ifprefix"}


class Config:
    """A checked configuration.

    ``values``: option → value, defaults filled in (their ``path`` is the definition);
    an option that is unset or empty is not in it, save an empty ``ifprefix``.
    For bash types it holds every variable instead. ``variables``: everything that
    the files set, by the name of the variable. ``inputs``: every file whose change
    must lead to a new plan, existing or not. ``volatile``: bash read one of the
    files, so the same files may give something else next time.
    """

    __slots__ = ("inputs", "name", "nstype", "values", "variables", "volatile", "warnings")

    def __init__(self, nstype: NsType, name: str) -> None:
        self.nstype = nstype
        self.name = name
        self.values: dict[str, Value] = {}
        self.variables: dict[str, Value] = {}
        self.inputs: list[str] = []
        self.warnings: list[Problem] = []
        self.volatile = False

    def text(self, option: str) -> str:
        """The value of an option; "" when it is unset."""
        value = self.values.get(option)
        return value.text if value else ""

    def items(self, option: str) -> list[list[str]]:
        """The entries of an option of a list kind, each as its words."""
        value = self.values.get(option)
        return [split_words(entry) for entry, _ in value.split()] if value else []


def load_config(nstype: NsType, name: str, paths: Paths) -> Config:
    """Read and check the configuration of ``name``. Raises ConfigError with all problems."""
    config, problems = inspect_config(nstype, name, paths)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    config.warnings = problems
    return config


def inspect_config(nstype: NsType, name: str, paths: Paths) -> tuple[Config, list[Problem]]:
    """The configuration as far as it can be read, wrong values included, and all problems.

    For checks across instances, where one error must not hide another; a start takes ``load_config``.
    Not for daemons (ConfigError): each reads its own file, by ``load_settings`` of its room.
    """
    if nstype.kind == DAEMON:
        hint = f"systemctl start netns-{nstype.name}@{name}; what it would do shows "
        hint += f"netns-{nstype.name} plan --name {name}"
        raise ConfigError([Problem(f"{nstype.name} is a daemon: it has no steps", hint=hint)])
    message = names.nsname_problem(name)
    if not message and name in names.RESERVED:
        message = f"{name!r} is reserved: it stands for the host's own namespace"
    if message:
        raise ConfigError([Problem(message)])
    loader = _Loader(nstype, name, paths)
    loader.load()
    return loader.config, loader.problems


class _Loader:
    def __init__(self, nstype: NsType, name: str, paths: Paths) -> None:
        self.nstype = nstype
        self.name = name
        self.paths = paths
        self.config = Config(nstype, name)
        self.problems: list[Problem] = []
        self.texts = {"NSTYPE": nstype.name, "NSNAME": name, "NAME": name}
        self.found: list[str] = []
        self.layers_broken = False
        self.shell: Shell | None = None
        self.options: dict[str, Option] = {}

    def load(self) -> None:
        config, paths = self.config, self.paths
        layers = paths.layers(self.nstype.name, self.name)
        config.inputs = list(dict.fromkeys([*layers, *definition_inputs(self.nstype.name, paths)]))
        self.options = {**load_defaults(paths), **self.nstype.options}
        self.problems += trust.check_directories(paths.conf, paths)
        if self.problems:
            return
        for path in layers:
            if path != self.nstype.path:
                self.load_layer(path)
        if self.nstype.config_required and not any("/default." not in path for path in self.found):
            self.missing_configuration()
        self.resolve()

    def load_layer(self, path: str) -> None:
        try:
            data = trust.read_file(path, self.paths)
            if data is None:
                return
            self.found.append(path)
            text = shell.decode(data, path)
            if path.endswith(".yaml"):
                self.load_yaml(path, text)
            else:
                self.load_shell(path, text)
        except ConfigError as error:
            if path not in self.found:
                self.found.append(path)  # it is there, whatever is wrong with it
            self.layers_broken = True
            self.problems += error.problems

    # Shell-style files

    def load_shell(self, path: str, text: str) -> None:
        try:
            values = shell.evaluate(text, path, self.texts)
        except shell.RealShell:
            if self.nstype.kind == "bash":
                return  # the script's own bash reads it, after the script
            values = self.run_bash(path, text)
        for name, value in values.items():
            if name in _FIXED and value.text != self.texts[name]:
                self.problems.append(value.problem(f"{name} is set by netns-tools and cannot be changed"))
                continue
            self.check_name(name, value)
            self.set(name, value)

    def run_bash(self, path: str, text: str) -> dict[str, Value]:
        from netns_tools.config import bash

        self.config.volatile = True
        if self.shell is None:
            self.shell = bash.Shell()
        values = bash.evaluate(path, text, self.texts, self.shell)
        for name in self.shell.unset.difference(_FIXED):
            del self.texts[name]
            self.config.variables.pop(name, None)
        for name in self.shell.arrays:
            if name in values and name in self.options:
                hint = "write one value; separate entries by commas"
                self.problems.append(values[name].problem(f"{name} is an array", hint=hint))
        return values

    def set(self, name: str, value: Value) -> None:
        self.texts[name] = value.text
        self.config.variables[name] = value

    def check_name(self, name: str, value: Value) -> None:
        """Warn about a name that looks like an option of this type but is none."""
        if name in self.options or (name in self.texts and name not in self.config.variables):
            return
        upper = name.upper()
        if not upper.startswith(f"{self.nstype.name.upper()}_") or not self.nstype.options:
            return
        hint = _suggest(upper, list(self.nstype.options), f"netnsctl types {self.nstype.name}")
        place = Value("", value.path, value.line, value.column, value.source)
        start = value.source.find(name)
        if start >= 0:
            place.column, place.width = start + 1, len(name)
        message = f"{name} is no option of {self.nstype.name}; misspelt?"
        self.problems.append(place.problem(message, hint=hint, severity="warning"))

    # YAML

    def load_yaml(self, path: str, text: str) -> None:
        from netns_tools.config import yamlfile

        values, problems = yamlfile.flat_values(yamlfile.read_tree(text, path))
        self.problems += problems
        self.layers_broken = self.layers_broken or bool(problems)
        for key, (place, value) in values.items():
            name = key.upper()
            if self.nstype.kind == "bash":
                if shell.is_name(name) and not shell.is_shell_own(name) and name not in self.texts:
                    self.set(name, value)
                elif name not in self.config.variables:
                    self.problems.append(place.problem(f"{key!r} cannot be the name of a variable"))
                else:
                    self.set(name, value)
            elif name in self.options:
                if key != key.lower():
                    self.problems.append(place.problem(f"unknown key {key!r}", hint=f"write {key.lower()}"))
                elif value.entries is not None and not self.options[name].is_list:
                    self.problems.append(value.problem(f"{key} takes one value, not a list"))
                else:
                    self.set(name, value)
            else:
                self.unknown_key(path, key, place)

    def unknown_key(self, path: str, key: str, place: Value) -> None:
        known = [option.lower() for option in self.options]
        if path == f"{self.paths.conf}/default.yaml":
            # The lowest layer may set options of every type.
            from netns_tools.config.nstype import load_nstypes

            try:
                types = load_nstypes(self.paths)
            except ConfigError:
                types = {}
            every = {option.lower() for nstype in types.values() for option in nstype.options}
            if key in every or any(nstype.kind == "bash" for nstype in types.values()):
                return
            known += sorted(every)
        hint = _suggest(key, known, f"netnsctl types {self.nstype.name}")
        self.problems.append(place.problem(f"unknown key {key!r}", hint=hint))

    # Options

    def missing_configuration(self) -> None:
        self.layers_broken = True
        conf, nstype = self.paths.conf, self.nstype.name
        own = f"{nstype}-{self.name}.conf"
        message = f"no configuration for {nstype}@{self.name}: neither {own} nor {nstype}.conf"
        hint = f"create {conf}/{own} (or .yaml), or {conf}/{nstype}.conf for all names; "
        hint += f"`netnsctl types {nstype}` shows an example to paste"
        self.problems.append(Problem(message, path=conf, hint=hint))

    def resolve(self) -> None:
        """Fill ``config.values``: what the files say, then defaults; and check every one."""
        config = self.config
        if self.nstype.kind == "bash":
            config.values = dict(config.variables)
            return
        broken: set[str] = set()
        for name, option in self.options.items():
            value = self.value_of(name, ())
            if value is None or (value.text == "" and option.kind != "ifprefix"):
                if option.required and not self.layers_broken:
                    self.missing_option(option, value)
                continue
            config.values[name] = value
            own = name in self.nstype.options
            problems = check_value(option, value)
            if not own:
                # HOST_ADDR and the like are mostly material for other values.
                problems = [problem for problem in problems if problem.severity == "error"]
            if any(problem.severity == "error" for problem in problems):
                broken.add(name)
            if name not in config.variables:
                self.explain_default(option, value, problems)
            self.problems += problems
        self.problems += consistency.check(config, broken)

    def value_of(self, name: str, asked: tuple[str, ...]) -> Value | None:
        """The value of an option: from the files, else its default with ``${...}`` filled in."""
        option = self.options.get(name)
        value = self.config.variables.get(name)
        if value is not None and (value.text or option is None or option.kind in _KEEP_EMPTY):
            return value
        if option is None or option.default is None or name in asked:
            return None
        own = name in self.nstype.options
        path = self.nstype.path if own else f"{self.paths.nstypes}/default.yaml"
        text, source = self.expand(option.default, (*asked, name))
        if source is not None:
            return Value(
                text, source.path, source.line, source.column, source.source, source.width, source.entries
            )
        return Value(text, path, option.line, 0, "")

    def expand(self, default: str, asked: tuple[str, ...]) -> tuple[str, Value | None]:
        """A default with ``${VAR}`` filled in, and the value itself when it is just one ``${VAR}``."""
        pieces = default.split("${")
        text = [pieces[0]]
        source = None
        for piece in pieces[1:]:
            variable, _, rest = piece.partition("}")
            value = self.value_of(variable, asked)
            text.append(value.text if value else self.texts.get(variable, ""))
            text.append(rest)
            if value and default == f"${{{variable}}}":
                source = value
        return "".join(text), source

    def explain_default(self, option: Option, value: Value, problems: list[Problem]) -> None:
        """Say for a default that does not fit which options to set instead."""
        default = option.default or ""
        prefixes = [
            other
            for other, candidate in self.options.items()
            if candidate.kind == "ifprefix" and f"${{{other}}}" in default
        ]
        for problem in problems:
            hint = f"set {option.name}"
            if prefixes and option.kind == "ifname":
                hint += f", or a shorter {prefixes[0]} (now {self.config.text(prefixes[0])!r})"
            hint += f" in {self.paths.conf}/{self.nstype.name}-{self.name}.conf; it is made of {default!r}"
            problem.hint = f"{problem.hint}; {hint}" if problem.hint and not prefixes else hint

    def missing_option(self, option: Option, value: Value | None) -> None:
        conf = f"{self.paths.conf}/{self.nstype.name}-{self.name}.conf"
        path = self.found[-1] if self.found else conf
        yaml = path.endswith(".yaml")
        line = (
            f"{option.name.lower()}: {option.example}"
            if yaml
            else f"{option.name}={trust.quote(option.example)}"
        )
        hint = f"add a line like  {line}" if option.example else f"set {option.name}"
        if value is not None and value.line:
            self.problems.append(value.problem(f"{option.name} is required but empty", hint=hint))
        else:
            self.problems.append(Problem(f"{option.name} is required but not set", path=path, hint=hint))


def _suggest(word: str, known: list[str], command: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else f"`{command}` lists the options"
