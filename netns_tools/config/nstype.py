"""Type definitions: ``nstypes/*.yaml``, the administrator's own in YAML or bash, and a fast cache of them.

Which definition counts, best first: ``TYPE.sh`` of the configuration directory,
``TYPE.yaml`` there with a top-level ``steps:``, the shipped ``nstypes/TYPE.yaml``,
``TYPE.sh`` of systemd-netns's directory. Where the shipped one is a daemon,
``TYPE.yaml`` is the daemon's configuration and never a definition.
"""

from __future__ import annotations

import os

from netns_tools import __version__, names
from netns_tools.config import trust
from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.definition import KeyFields, Plain
    from netns_tools.config.keys import Key
    from netns_tools.paths import Paths

LIST_KINDS = frozenset(("addresses", "gateways", "routes", "macs"))
"""Option kinds that hold several entries."""

_CACHE_MAGIC = f"netns-tools {__version__} types 2\n".encode()

DAEMON = "daemon"
"""The kind of the types that run all the time inside a namespace, with a configuration of keys."""


class Option:
    """One option of a type; ``default`` may hold ``${VAR}``, None is no default.

    ``line`` is the line of the default in the definition.
    """

    __slots__ = ("choices", "default", "example", "help", "kind", "line", "name", "required")

    def __init__(
        self,
        name: str,
        kind: str,
        default: str | None = None,
        required: bool = False,
        choices: tuple[str, ...] = (),
        example: str = "",
        help: str = "",
        line: int = 0,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.required = required
        self.choices = choices
        self.example = example
        self.help = help
        self.line = line

    @property
    def is_list(self) -> bool:
        """Whether the value is a list of entries."""
        return self.kind in LIST_KINDS


class NsType:
    """A type. ``steps``: the commands of kind ``commands``, each a list of words.

    ``keys``: what may stand in the configuration of a daemon, and ``example`` one of
    them as text; ``options`` are of all other types. ``cached`` tells that no YAML
    was read for it.
    """

    __slots__ = (
        "cached", "config_required", "example", "key_fields", "kind", "name", "needs_devices",
        "needs_namespaces", "options", "path", "requires", "steps", "summary",
    )  # fmt: skip

    def __init__(self, name: str, kind: str, path: str, summary: str = "") -> None:
        self.name = name
        self.kind = kind
        self.path = path
        self.summary = summary
        self.options: dict[str, Option] = {}
        self.needs_namespaces: list[str] = []
        self.needs_devices: list[str] = []
        self.requires: list[str] = []
        self.config_required = True
        self.steps: dict[str, list[list[str]]] = {}
        self.key_fields: list[KeyFields] = []
        self.example = ""
        self.cached = False

    @property
    def keys(self) -> list[Key]:
        """The keys, made when somebody asks: netns-update and starts do not."""
        from netns_tools.config.keys import Key

        return [Key(*fields) for fields in self.key_fields]


def load_nstype(nstype: str, paths: Paths) -> NsType:
    """The definition of one type. Raises ConfigError when it is unknown or broken."""
    message = names.nstype_problem(nstype)
    if message:
        raise ConfigError([Problem(message)])
    found = _find(nstype, paths, _read_cache(paths))
    if found is None:
        raise ConfigError([_unknown(nstype, paths)])
    return found


def load_nstypes(paths: Paths) -> dict[str, NsType]:
    """Every type, by name in alphabetical order. Raises ConfigError with all problems of all definitions."""
    cache = _read_cache(paths)
    problems: list[Problem] = []
    types = {}
    for nstype in sorted(_candidates(paths)):
        try:
            found = _find(nstype, paths, cache)
        except ConfigError as error:
            problems += error.problems
            continue
        if found:
            types[nstype] = found
    if problems:
        raise ConfigError(problems)
    return types


def load_defaults(paths: Paths) -> dict[str, Option]:
    """The options that every type knows."""
    path = defaults_path(paths)
    return _build("default", path, _load_plain("default", path, None, _read_cache(paths))[0]).options


def defaults_path(paths: Paths) -> str:
    """The definition of the options that every type knows."""
    return f"{paths.nstypes}/default.yaml"


def definition_inputs(nstype: str, paths: Paths) -> list[str]:
    """Every file that decides how TYPE is defined, whether it exists or not."""
    return [
        f"{paths.conf}/{nstype}.sh",
        f"{paths.conf}/{nstype}.yaml",
        f"{paths.nstypes}/{nstype}.yaml",
        f"{paths.legacy_types}/{nstype}.sh",
        defaults_path(paths),
    ]


def _find(nstype: str, paths: Paths, cache: dict[str, tuple[Stamp, Plain]]) -> NsType | None:
    own_bash, own_yaml, shipped, legacy_bash, _ = definition_inputs(nstype, paths)
    if os.path.lexists(own_bash):
        return _bash_type(nstype, own_bash, paths)
    if os.path.lexists(own_yaml):
        data = trust.read_file(own_yaml, paths)
        # Mostly it is a layer: without this word it cannot be a definition, and YAML is slow to read.
        if data and b"steps" in data and not _is_daemon(nstype, shipped, cache):
            plain, cached = _load_plain(nstype, own_yaml, data, cache)
            if plain is not None:
                problems = trust.check_directories(paths.conf, paths)
                if problems:
                    raise ConfigError(problems)
                return _build(nstype, own_yaml, plain, cached)
    if os.path.exists(shipped):
        plain, cached = _load_plain(nstype, shipped, None, cache)
        return _build(nstype, shipped, plain, cached)
    if os.path.lexists(legacy_bash):
        return _bash_type(nstype, legacy_bash, paths)
    return None


def _is_daemon(nstype: str, shipped: str, cache: dict[str, tuple[Stamp, Plain]]) -> bool:
    plain = _load_plain(nstype, shipped, None, cache)[0] if os.path.exists(shipped) else None
    return plain is not None and plain[1] == DAEMON


def _bash_type(nstype: str, path: str, paths: Paths) -> NsType:
    problems = trust.check_directories(path.rpartition("/")[0], paths)
    data = b""
    try:
        data = trust.read_file(path, paths) or b""
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    found = NsType(nstype, "bash", path, "Defined by a bash script")
    for line in data.splitlines():
        name, _, value = line.strip().partition(b"=")
        if name == b"NO_CONFIG_REQUIRED":
            found.config_required = value.strip(b"\"' ") in (b"", b"0")
    found.cached = True
    return found


def _candidates(paths: Paths) -> set[str]:
    """Names that may be types: of shipped definitions, TYPE.sh, and TYPE.yaml with steps."""
    found = set()
    for directory, suffixes in (
        (paths.nstypes, (".yaml",)),
        (paths.conf, (".sh", ".yaml")),
        (paths.legacy_types, (".sh",)),
    ):
        try:
            entries = os.listdir(directory)
        except OSError:
            continue
        for entry in entries:
            stem, dot, suffix = entry.rpartition(".")
            if dot + suffix in suffixes and not names.nstype_problem(stem):
                found.add(stem)
    return found


def _unknown(nstype: str, paths: Paths) -> Problem:
    import difflib

    known = sorted(_candidates(paths))
    close = difflib.get_close_matches(nstype, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    hint += f"there are: {', '.join(known)}; a type of your own is {paths.conf}/{nstype}.yaml or {nstype}.sh"
    return Problem(f"no type {nstype!r}", hint=hint)


def _build(nstype: str, path: str, plain: Plain, cached: bool = True) -> NsType:
    """A type from the plain data of a definition (see definition.Plain)."""
    assert plain is not None
    (
        summary,
        kind,
        options,
        needs_namespaces,
        needs_devices,
        requires,
        config_required,
        steps,
        keys,
        example,
    ) = plain
    found = NsType(nstype, kind, path, summary)
    found.options = {fields[0]: Option(*fields) for fields in options}
    found.needs_namespaces = list(needs_namespaces)
    found.needs_devices = list(needs_devices)
    found.requires = list(requires)
    found.config_required = config_required
    found.steps = {step: [list(words) for words in commands] for step, commands in steps.items()}
    found.key_fields = keys
    found.example = example
    found.cached = cached
    return found


# The cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    Stamp = tuple[int, int, int]


def cache_path(paths: Paths) -> str:
    """The cache of type definitions; marshal data differ between versions of Python."""
    import sys

    return f"{paths.cache}/types.{sys.implementation.cache_tag}"


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def _load_plain(
    nstype: str, path: str, data: bytes | None, cache: dict[str, tuple[Stamp, Plain]]
) -> tuple[Plain, bool]:
    """The definition in ``path`` and whether it comes from the cache; None: it is a layer."""
    try:
        stamp = _stamp(path)
        cached = cache.get(path)
        if isinstance(cached, tuple) and cached[0] == stamp:
            return cached[1], True
        if data is None:
            with open(path, "rb", buffering=0) as file:
                data = file.read()
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", path=path)]) from None
    from netns_tools.config import definition

    return definition.read(nstype, path, data), False


def _read_cache(paths: Paths) -> dict[str, tuple[Stamp, Plain]]:
    """The cache: definition file → (its stamp, its data); empty when it is missing, foreign or broken."""
    import marshal
    from binascii import crc32

    try:
        with open(cache_path(paths), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                return {}
            data = file.read()
        start = len(_CACHE_MAGIC) + 8
        if data[:start] != _CACHE_MAGIC + b"%08x" % crc32(data[start:]):
            return {}
        cache = marshal.loads(data[start:])
        return cache if isinstance(cache, dict) else {}
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def write_cache(paths: Paths) -> None:
    """Write the cache anew if it lacks something; nothing happens when that is not possible.

    For netns-update and for a cold start that had to read YAML.
    """
    import marshal
    from binascii import crc32

    old = _read_cache(paths)
    new: dict[str, tuple[Stamp, Plain]] = {}
    for nstype in [*sorted(_candidates(paths)), "default"]:
        for path in definition_inputs(nstype, paths)[1:3]:
            try:
                stamp = _stamp(path)
                data = None if path.startswith(f"{paths.nstypes}/") else trust.read_file(path, paths)
                if data is None or b"steps" in data:
                    new[path] = (stamp, _load_plain(nstype, path, data, old)[0])
            except (OSError, ConfigError):
                continue
    if new == old:
        return
    content = marshal.dumps(new)
    path = cache_path(paths)
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(paths.cache, 0o755, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with open(descriptor, "wb") as file:
                file.write(_CACHE_MAGIC + b"%08x" % crc32(content) + content)
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
    except OSError:
        return
