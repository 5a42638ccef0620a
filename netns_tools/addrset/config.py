"""The configuration of an address-set watcher: ``addrset-NAME.yaml`` or ``addrset.yaml``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from netns_tools import names
from netns_tools.config import daemonfile, yamlfile
from netns_tools.config.keykind import FALSE_WORDS, TRUE_WORDS, shortened, value_problem
from netns_tools.config.keys import Key, Tree, check_tree
from netns_tools.config.nstype import DAEMON, load_nstype
from netns_tools.config.shell import PROBLEMS_MAX
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

TYPE = "addrset"

DOCKER_SOCKET = "/var/run/docker.sock"
SOCKET_PATH_MAX = 107
"""Longest path of a Unix socket, in bytes: sun_path and its NUL are 108 (linux/un.h)."""

_ZONE_NAME_MAX = 250  # ZONE_ips6 must be a name for nft
_SELECTORS = ("label", "name", "network", "compose_project")
_CONTAINER_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-*?[]!")
_EXAMPLE = "interfaces:\n  - name: eth0\n    nftables_zone: wan"


@dataclass(frozen=True)
class Interface:
    """Devices by name or pattern (``fnmatch.fnmatchcase``); ``zone`` "" is none: they fill no set."""

    pattern: str
    zone: str


@dataclass(frozen=True)
class Selector:
    """Which containers are meant: all that is given must fit.

    ``label``: key and value, None for any value. ``name``: the whole name, or a
    pattern. ``network``: in this network, and only the address there counts.
    """

    label: tuple[str, str | None] | None = None
    name: str | None = None
    network: str | None = None
    compose_project: str | None = None


@dataclass(frozen=True)
class Zone:
    """A pair of sets and whose addresses are in them.

    ``own_table``: the table is ours, with the sets in it. ``networks``: prefixes
    instead of hosts. ``exclusive``: elements of others are removed. ``temporary``:
    with IPv6 privacy addresses. ``require_up``: without devices that are down.
    ``interfaces``: the patterns; ``containers``: alternatives.
    """

    name: str
    family: str
    table: str
    set4: str
    set6: str
    own_table: bool
    networks: bool
    exclusive: bool
    temporary: bool
    require_up: bool
    interfaces: tuple[str, ...]
    containers: tuple[Selector, ...]


@dataclass(frozen=True)
class Settings:
    """A checked configuration. ``docker``: path of its socket, "" when it is not used.

    ``socket_path``: a control socket beside the standard one, "" for none.
    """

    path: str
    zones: tuple[Zone, ...]
    interfaces: tuple[Interface, ...]
    docker: str
    socket_path: str
    warnings: tuple[Problem, ...] = ()


def config_path(name: str, paths: Paths) -> str:
    """The file that counts: NETNS_ADDRSET_CONFIG, else addrset-NAME.yaml, else addrset.yaml."""
    return daemonfile.find(TYPE, name, paths)


def load_settings(name: str, paths: Paths) -> Settings:
    """Read and check the configuration of NAME. Raises ConfigError with all problems."""
    message = names.nsname_problem(name)
    if message:
        raise ConfigError([Problem(message)])
    nstype = load_nstype(TYPE, paths)
    if nstype.kind != DAEMON:
        hint = f"give your type another name; {TYPE} is a daemon of netns-tools"
        raise ConfigError([Problem(f"defines a type {TYPE} of your own", path=nstype.path, hint=hint)])
    path = config_path(name, paths)
    text = daemonfile.read(path, TYPE, name, _EXAMPLE, paths)
    return parse_settings(text, path, name, nstype.keys, os.environ.get("DOCKER_HOST", ""))


def parse_settings(text: str, path: str, name: str, keys: Iterable[Key], docker_host: str = "") -> Settings:
    """The settings in ``text``, which is the file ``path``. Raises ConfigError with all problems.

    ``keys`` are those of the type; ``docker_host`` is what DOCKER_HOST says, the
    place of Docker's socket when the file names none.
    """
    tree, problems = check_tree(yamlfile.read_tree(text, path), keys, path)
    reader = _Reader(tree, path, name, docker_host, problems)
    settings = reader.settings()
    if reader.is_refused():
        raise ConfigError(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return settings


class _Reader:
    def __init__(self, tree: Tree, path: str, name: str, docker_host: str, problems: list[Problem]) -> None:
        self.tree = tree
        self.path = path
        self.name = name
        self.docker_host = docker_host
        self.problems = problems

    def settings(self) -> Settings:
        interfaces = self.interfaces()
        zones = self.zones(interfaces)
        self.check_sets(zones)
        docker = self.docker([zone for zone, _, _ in zones if zone.containers])
        socket_path = self.socket_path()
        if not self.is_refused() and not interfaces and not any(zone.containers for zone, _, _ in zones):
            shown = "\n".join(f"    {line}" for line in _EXAMPLE.splitlines())
            message = "nothing to watch: there are no interfaces, and no zone has containers"
            self.problems.append(Problem(message, path=self.path, hint=f"write for instance\n{shown}"))
        if not self.is_refused():
            self.warn_of_empty(zones, interfaces)
        return Settings(
            self.path,
            tuple(zone for zone, _, _ in zones),
            tuple(interface for interface, _ in interfaces),
            docker,
            socket_path,
            tuple(self.problems),
        )

    def is_refused(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def interfaces(self) -> list[tuple[Interface, Value]]:
        """The entries of ``interfaces``, each with the place of its zone or of itself."""
        found: dict[Interface, Value] = {}
        for item in self.tree.items("interfaces"):
            pattern, zone = item.value("name"), item.value("nftables_zone")
            if pattern is None:
                continue
            if zone is not None and not self.is_zone_name(zone):
                zone = None
            interface = Interface(pattern.text, zone.text if zone else "")
            if interface in found:
                what = f"{pattern.text!r} is listed twice" + (f" for zone {zone.text!r}" if zone else "")
                self.problems.append(pattern.problem(what, hint="remove one of them", severity="warning"))
            else:
                found[interface] = zone or pattern
        return list(found.items())

    def is_zone_name(self, place: Value) -> bool:
        message, hint = value_problem(Key("zones.*", "word"), place.text)
        if not message and len(place.text) > _ZONE_NAME_MAX:
            message = f"the zone name {shortened(place.text)!r} has more than {_ZONE_NAME_MAX} characters"
        if message:
            self.problems.append(place.problem(f"zone: {message}", hint=hint))
        return not message

    # Zones

    def zones(self, interfaces: list[tuple[Interface, Value]]) -> list[tuple[Zone, Value, Tree]]:
        """The zones of ``zones:``, then those that only interfaces name, with defaults."""
        patterns: dict[str, list[str]] = {}
        trees: dict[str, tuple[Value, Tree]] = {}
        for place, tree in self.tree.children("zones"):
            if self.is_zone_name(place):
                trees[place.text] = place, tree
        for interface, place in interfaces:
            if interface.zone:
                patterns.setdefault(interface.zone, []).append(interface.pattern)
                trees.setdefault(interface.zone, (place, self.tree.nothing_given("zones", place)))
        return [
            (self.zone(name, tree, tuple(patterns.get(name, ()))), place, tree)
            for name, (place, tree) in trees.items()
        ]

    def zone(self, name: str, tree: Tree, interfaces: tuple[str, ...]) -> Zone:
        family, table = tree.text("family"), tree.text("table")
        ours = ("inet", f"netns_{TYPE}_{self.name}")
        own_table = self.tree.flag("own_table")
        if own_table and not tree.value("family") and not tree.value("table"):
            family, table = ours
        return Zone(
            name=name,
            family=family,
            table=table,
            set4=tree.text("set4") or f"{name}_ips",
            set6=tree.text("set6") or f"{name}_ips6",
            own_table=own_table and (family, table) == ours,
            networks=tree.flag("networks"),
            exclusive=tree.flag("exclusive"),
            temporary=tree.flag("temporary"),
            require_up=tree.flag("require_up"),
            interfaces=interfaces,
            containers=self.selectors(tree),
        )

    def check_sets(self, zones: list[tuple[Zone, Value, Tree]]) -> None:
        """No set has two owners: each would remove what the other puts in."""
        taken: dict[tuple[str, str, str], str] = {}
        for zone, place, tree in zones:
            if zone.set4 == zone.set6:
                at = tree.value("set6") or tree.value("set4") or place
                message = f"zone {zone.name!r}: set4 and set6 are both {zone.set4!r}"
                self.problems.append(at.problem(message, hint="a set holds addresses of one family"))
                continue
            for key, chosen in (("set4", zone.set4), ("set6", zone.set6)):
                other = taken.setdefault((zone.family, zone.table, chosen), zone.name)
                if other == zone.name:
                    continue
                message = f"zones {other!r} and {zone.name!r} both fill {zone.family} {zone.table} {chosen}"
                hint = f"choose another {key}, or one zone for the interfaces of both"
                self.problems.append((tree.value(key) or place).problem(message, hint=hint))

    def warn_of_empty(
        self, zones: list[tuple[Zone, Value, Tree]], interfaces: list[tuple[Interface, Value]]
    ) -> None:
        named = sorted({interface.zone for interface, _ in interfaces} - {""})
        empty = [(zone, place) for zone, place, _ in zones if not zone.interfaces and not zone.containers]
        for zone, place in empty[:PROBLEMS_MAX]:
            close = difflib.get_close_matches(zone.name, named, 1)
            hint = f"an interface names it by  nftables_zone: {zone.name}"
            hint += f"; is {close[0]!r} meant?" if close else ""
            message = f"zone {zone.name!r} has neither interfaces nor containers: its sets are kept empty"
            self.problems.append(place.problem(message, hint=hint, severity="warning"))

    # Containers

    def selectors(self, tree: Tree) -> tuple[Selector, ...]:
        found = []
        for item in tree.items("containers"):
            scalar = item.scalar
            if scalar is not None:
                word, equals, text = scalar.text.partition("=")
                if word not in _SELECTORS or not equals:
                    self.refuse_selector(scalar, word, equals)
                    continue
                given = {word: scalar.with_text(text)}
            else:
                given = {word: value for word in _SELECTORS if (value := item.value(word))}
                for key in item.empty():
                    # Left out silently it would choose more containers than the entry reads.
                    self.problems.append(
                        key.problem(f"containers: {key.text} has no value", hint="remove it")
                    )
                if not given and not item.empty():
                    message = "an entry of containers that chooses nothing"
                    hint = f"give it one or more of: {', '.join(_SELECTORS)}"
                    self.problems.append(item.place.problem(message, hint=hint))
                    continue
            messages = [(self.selector_problem(word, value.text), value) for word, value in given.items()]
            self.problems += [
                value.problem(f"containers: {message}", hint=hint)
                for (message, hint), value in messages
                if message
            ]
            found.append(_selector({word: value.text for word, value in given.items()}))
        return tuple(found)

    def refuse_selector(self, place: Value, word: str, equals: str) -> None:
        close = difflib.get_close_matches(word[:40], _SELECTORS, 1)
        hint = "write label=KEY, label=KEY=VALUE, name=NAME, network=NAME or compose_project=NAME"
        if equals and close:
            hint = f"did you mean {close[0]}=?"
        message = f"containers: {shortened(place.text)!r} does not say what to choose by"
        self.problems.append(place.problem(message, hint=hint))

    @staticmethod
    def selector_problem(word: str, text: str) -> tuple[str, str]:
        shown = shortened(text)
        if not text or (word == "label" and text.startswith("=")):
            return f"{word}= has nothing behind it", f"for all that have some {word}, leave it out"
        if word != "name":
            return "", ""
        if text.startswith("/"):
            return f"{shown!r} is no name of a container", f"write it without '/': name={shown.lstrip('/')}"
        if not _CONTAINER_NAME.issuperset(text):
            hint = "letters, digits and '_.-'; * ? [ ] make a pattern; one entry a name"
            return f"{shown!r} is no name of a container", hint
        if "[" in text and "]" not in text[text.rindex("[") + 2 :]:
            return f"the pattern {shown!r} has a '[' that is never closed", ""
        return "", ""

    # Docker, and the second control socket

    def docker(self, users: list[Zone]) -> str:
        """The path of Docker's socket when it is used, as ``docker:`` says or a zone needs it."""
        value, mapping = self.tree.value("docker"), self.tree.mapping("docker")
        if mapping is not None:
            value = mapping.value("socket")
        elif value is not None and value.text.lower() in FALSE_WORDS:
            if users:
                message = f"docker: {value.text}, but zone {users[0].name!r} has containers"
                hint = "remove this line, or the containers of the zone"
                self.problems.append(value.problem(message, hint=hint))
            return ""
        elif value is not None and value.text.lower() in TRUE_WORDS:
            value = None
        elif value is None and not users:
            return ""
        if value is None:
            return self.default_docker()
        path, message = _unix_socket(value.text)
        if message:
            hint = f"write  docker: {DOCKER_SOCKET}  or wherever its socket is; docker: yes for the usual one"
            self.problems.append(value.problem(f"docker: {message}", hint=hint))
        return path

    def default_docker(self) -> str:
        path, message = _unix_socket(self.docker_host or DOCKER_SOCKET)
        if message:
            hint = f"unset DOCKER_HOST, or write  docker: {DOCKER_SOCKET}  into the file"
            self.problems.append(
                Problem(f"DOCKER_HOST of the environment: {message}", path=self.path, hint=hint)
            )
        return path

    def socket_path(self) -> str:
        value = self.tree.value("socket_path")
        if value is None:
            return ""
        path = os.path.normpath(value.text)
        if path.startswith("/var/run/"):
            path = path.removeprefix("/var")
        if path == f"/run/netns-tools/{TYPE}-{self.name}.sock":
            return ""
        message, hint = "", ""
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            message = f"a path of {len(os.fsencode(path))} bytes; a socket's has {SOCKET_PATH_MAX} at most"
        elif value.text.endswith("/"):
            message = f"{value.text!r} is a directory"
            hint = f"write  {path.rstrip('/')}/{TYPE}.sock"
        elif path.startswith(f"/run/netns-tools/{TYPE}-"):
            message = f"{value.text!r} is a name that netns-{TYPE} uses itself"
            hint = f"choose another, such as /run/{TYPE}.sock"
        elif not path.startswith("/run/"):
            warning = f"socket_path: netns-{TYPE}@{self.name}.service may write below /run only"
            self.problems.append(
                value.problem(warning, hint=f"write  /run/{os.path.basename(path)}", severity="warning")
            )
        if message:
            self.problems.append(value.problem(f"socket_path: {message}", hint=hint))
        return path


def _selector(given: dict[str, str]) -> Selector:
    key, equals, wanted = given.get("label", "").partition("=")
    return Selector(
        label=(key, wanted if equals else None) if key else None,
        name=given.get("name"),
        network=given.get("network"),
        compose_project=given.get("compose_project"),
    )


def _unix_socket(text: str) -> tuple[str, str]:
    """The path in ``/PATH`` or ``unix:///PATH``, and what is wrong with it."""
    path = text.removeprefix("unix://")
    if "://" in path:
        return "", f"{shortened(text)!r} is no Unix socket of this machine"
    if not path.startswith("/") or path.endswith("/"):
        return "", f"{shortened(text)!r} is not the absolute path of a socket"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        return "", f"{shortened(text)!r} is longer than the {SOCKET_PATH_MAX} bytes of a socket's path"
    return path, ""
