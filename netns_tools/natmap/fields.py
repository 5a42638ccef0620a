"""Entries by their fields, as the options of the commands, the bodies of requests and YAML name them.

One reading for all three: ``read_fields`` collects problems with places, ``read_plain`` takes plain
values and raises. The names are natmap's, and those that it has not in its manner.
"""

from __future__ import annotations

from typing import TypeVar

from netns_tools import names
from netns_tools.config.address import Address
from netns_tools.config.keykind import FALSE_WORDS, TRUE_WORDS, is_true, shortened
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, Problem
from netns_tools.natmap import words
from netns_tools.natmap.model import (
    PROTOCOLS,
    TABLE_DEFAULT,
    Dnat,
    Entry,
    Hairpin,
    Masquerade,
    PolicyRoute,
    Ports,
    Snat,
)
from netns_tools.natmap.words import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIELDS: dict[str, tuple[str, ...]] = {
    "dnat": (
        "map",
        "ext_ip",
        "int_ip",
        "proto",
        "ports",
        "ext_if",
        "masquerade",
        "no_masquerade",
        "allow_from",
    ),
    "snat": ("int_ip", "ext_if", "ext_ip", "exclude"),
    "masquerade": ("int_ip", "ext_if", "exclude"),
    "hairpin": ("ext_ip", "int_ip", "proto", "ports", "lan_cidr"),
    "policy_routes": ("src_ip", "via", "table"),
    "docker": (
        *("container", "map", "host_ip", "host_port", "container_port", "target_ip", "proto"),
        *("ext_if", "masquerade", "no_masquerade", "allow_from"),
    ),
}
"""Kind of entry → its fields. ``map`` is the mapping as a word, in place of those that it holds."""

_WORD_FIELDS = ("host_ip", "host_port", "container_port", "target_ip", "proto")
_TABLE_MAX = (1 << 32) - 1
_KERNEL_TABLES = {0: "unspec", 253: "default", 254: "main", 255: "local"}  # linux/rtnetlink.h
_CONTAINER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")

T = TypeVar("T")


def read_fields(
    kind: str, given: Mapping[str, Value], place: Value, *, free: bool = False, whole: bool = True
) -> tuple[list[Entry], list[Problem]]:
    """The entries that some fields of one of ``FIELDS`` stand for, and what is wrong with them.

    ``place`` is that of the whole, for what is missing; it is not told unless ``whole``: something
    that is wrong by its form has been left out already. ``free``: host port 0 is accepted.
    """
    reader = _Reader(given, place, free, whole)
    found = reader.read(kind)
    return ([] if reader.problems else found), reader.problems


def read_plain(kind: str, given: Mapping[str, object], *, free: bool = False) -> list[Entry]:
    """The entries for plain values: texts, numbers, booleans, lists of texts; None is not given.

    Raises ConfigError with all problems, unknown names among them.
    """
    problems = []
    values = {}
    for name, value in given.items():
        if name not in FIELDS[kind]:
            hint = f"known here are: {', '.join(FIELDS[kind])}"
            problems.append(Problem(f"unknown field {shortened(name)!r}", hint=hint))
        elif isinstance(value, (list, tuple)) and all(map(_is_single, value)):
            entries = [Value(_text(item)) for item in value]
            values[name] = Value(", ".join(entry.text for entry in entries), entries=entries)
        elif _is_single(value):
            values[name] = Value(_text(value))
        elif value is not None:
            problems.append(Problem(f"{name} must be a single value or a list of such"))
    found, wrong = read_fields(kind, values, Value(""), free=free, whole=not problems)
    if problems or wrong:
        raise ConfigError(problems + wrong)
    return found


def _is_single(value: object) -> bool:
    return isinstance(value, (str, int))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


class _Reader:
    def __init__(self, given: Mapping[str, Value], place: Value, free: bool, whole: bool) -> None:
        self.given = {name: value for name, value in given.items() if value.text}
        self.place = place
        self.free = free
        self.whole = whole
        self.problems: list[Problem] = []

    def read(self, kind: str) -> list[Entry]:
        match kind:
            case "dnat":
                return [*self.dnat()]
            case "docker":
                return [*self.docker()]
            case "hairpin":
                return [*self.hairpin()]
            case "policy_routes":
                return self.policy_route()
        return self.source_nat(snat=kind == "snat")

    # One field

    def refuse(self, name: str, refused: Refused, place: Value | None = None) -> None:
        place = place or self.given.get(name, self.place)
        # The mapping may be all that there is, and has no name then.
        message = refused.message if name == "map" else f"{name}: {refused.message}"
        self.problems.append(place.problem(message, part=refused.part, hint=refused.hint))

    def take(self, name: str, parse: Callable[[str], T]) -> T | None:
        """A field if it is given and right."""
        value = self.given.get(name)
        try:
            return parse(value.text) if value else None
        except Refused as refused:
            self.refuse(name, refused)
        return None

    def need(self, name: str, example: str) -> None:
        if self.whole and name not in self.given:
            hint = f"add  {name}: {example}"
            self.problems.append(self.place.problem(f"{name} is not given", hint=hint))

    def flag(self, name: str) -> bool:
        return is_true(self.take(name, _boolean) or "")

    def interface(self) -> str:
        return self.take("ext_if", _interface) or ""

    def proto(self) -> str:
        return self.take("proto", words.parse_proto) or PROTOCOLS[0]

    def networks(self, name: str, families: list[int], whose: str) -> list[Address]:
        """A list of prefixes, all of a family of ``whose``, none of them everything."""
        found = []
        for text, place in self.given[name].split() if name in self.given else ():
            try:
                network = words.parse_network(text)
                if network.family not in families:
                    message = f"{text} is IPv{network.family}, and {whose} is IPv{families[0]}"
                    raise Refused(message, part=text)
                if network.prefix == 0:
                    hint = f"leave out {name} for everybody" if name == "allow_from" else ""
                    raise Refused(f"{text} is every address", part=text, hint=hint)
                found.append(network)
            except Refused as refused:
                self.refuse(name, refused, place)
        return found

    def ports(self, *, free: bool) -> list[Ports]:
        self.need("ports", "80,443,9000-9100")
        if "ports" not in self.given:
            return []
        entries = [text for text, _ in self.given["ports"].split()]
        try:
            if not entries:
                raise Refused("there is no port in the list")
            return words.parse_port_list(entries, free=free)
        except Refused as refused:
            self.refuse("ports", refused)
        return []

    def same_family(self, one: Address | None, other: Address | None, name: str) -> None:
        try:
            if one and other:
                words.check_families(one, other)
        except Refused as refused:
            self.refuse(name, refused)

    # Entries

    def dnat(self) -> list[Dnat]:
        found = self.dnat_of_word() if "map" in self.given else self.dnat_of_fields()
        return self.with_options(found, [found[0].family] if found else [4, 6])

    def docker(self) -> list[Dnat]:
        self.need("container", "web")
        container = self.take("container", _container) or ""
        found: list[Dnat] = []
        for text, place in self.words_of_container():
            try:
                found += words.parse_container_word(text, container, free=self.free)
            except Refused as refused:
                self.refuse("map", refused, place)
        found = self.with_options(found, sorted({dnat.family for dnat in found}) or [4, 6])
        # With clients of one family only, nobody is left for the other.
        return [dnat for dnat in found if dnat.allow_from or not self.given.get("allow_from")]

    def with_options(self, found: list[Dnat], families: list[int]) -> list[Dnat]:
        """Mappings of some families with what stands beside their ports and addresses."""
        iface = self.interface()
        masquerade = self.masquerade()
        clients = self.networks("allow_from", families, "the target")
        loopback = next((dnat.host for dnat in found if dnat.host.startswith("127.")), "")
        if iface and loopback:
            message = f"what this host sends to {loopback} comes in by no interface"
            self.refuse("ext_if", Refused(message, hint=f"leave out one of the two, {loopback} or {iface}"))
        allow = {
            family: words.widest(client for client in clients if client.family == family)
            for family in families
        }
        return [
            Dnat(
                d.proto, d.host, iface, d.ports, d.target, d.family, masquerade, allow[d.family], d.container
            )
            for d in found
        ]

    def dnat_of_word(self) -> list[Dnat]:
        for name in ("ext_ip", "int_ip", "proto", "ports"):
            if name in self.given:
                self.refuse(name, Refused("the mapping says this already", hint="leave out one of the two"))
        found = self.take("map", lambda text: words.parse_word(text, free=self.free))
        return [found] if found else []

    def dnat_of_fields(self) -> list[Dnat]:
        self.need("int_ip", "10.0.0.10")
        host = self.take("ext_ip", words.parse_host)
        target = self.take("int_ip", words.parse_target)
        proto, ports = self.proto(), self.ports(free=self.free)
        self.same_family(host, target, "int_ip")
        if not target:
            return []
        name = host.text if host and host.number else ""
        return [Dnat(proto, name, "", part, target.text, target.family) for part in ports]

    def masquerade(self) -> bool:
        yes, no = self.flag("masquerade"), self.flag("no_masquerade")
        if yes and no:
            self.refuse("no_masquerade", Refused("masquerade is given too", hint="leave out one of the two"))
        return yes

    def words_of_container(self) -> list[tuple[str, Value]]:
        """The mapping words: given as such, or made of the fields of natmap's requests."""
        parts = {name: self.given[name].text for name in _WORD_FIELDS if name in self.given}
        if "map" in self.given:
            if parts:
                refused = Refused("map is given too", hint="leave out one of the two")
                self.refuse(next(iter(parts)), refused)
            return self.given["map"].split()
        if not parts:
            self.need("map", "8080:80")
            return []
        for name in ("host_port", "container_port"):
            self.need(name, "80")
        order = ("host_ip", "host_port", "target_ip", "container_port")
        word = ":".join(words.render_address(parts[name]) for name in order if name in parts)
        return [(f"{word}/{parts['proto']}" if "proto" in parts else word, self.place)]

    def hairpin(self) -> list[Hairpin]:
        self.need("ext_ip", "198.51.100.1")
        self.need("int_ip", "10.0.0.10")
        host = self.take("ext_ip", words.parse_unicast)
        target = self.take("int_ip", words.parse_target)
        proto, ports = self.proto(), self.ports(free=False)
        self.same_family(host, target, "int_ip")
        lan = self.take("lan_cidr", words.parse_network)
        if lan and target and lan.family != target.family:
            self.refuse("lan_cidr", Refused(f"{lan.text} is not of the family of {target.text}"))
        if not host or not target:
            return []
        return [Hairpin(host.text, target.text, proto, part, lan.text if lan else "") for part in ports]

    def source_nat(self, *, snat: bool) -> list[Entry]:
        self.need("int_ip", "10.0.0.0/24")
        self.need("ext_if", "eth0")
        source = self.take("int_ip", words.parse_network)
        iface = self.interface()
        families = [source.family] if source else [4, 6]
        excluded = words.widest(self.networks("exclude", families, "int_ip"))
        if not snat:
            return [Masquerade(source.text, iface, excluded)] if source else []
        self.need("ext_ip", "198.51.100.1")
        to = self.take("ext_ip", words.parse_unicast)
        if to and source and to.family != source.family:
            message = f"{to.text} is IPv{to.family}, and {source.text} is IPv{source.family}"
            self.refuse("ext_ip", Refused(message, hint="addresses are translated within one family only"))
        return [Snat(source.text, iface, to.text, excluded)] if source and to else []

    def policy_route(self) -> list[Entry]:
        self.need("src_ip", "10.0.0.5")
        self.need("via", "192.0.2.254")
        source = self.take("src_ip", words.parse_network)
        via = self.take("via", words.parse_unicast)
        table = self.take("table", _table) or TABLE_DEFAULT
        if source and via and source.family != via.family:
            message = f"{via.text} is IPv{via.family}, and {source.text} is IPv{source.family}"
            self.refuse("via", Refused(message, hint="a gateway is of the family of what it routes"))
        return [PolicyRoute(source.text, via.text, table)] if source and via else []


def _boolean(text: str) -> str:
    if text.lower() not in TRUE_WORDS + FALSE_WORDS:
        raise Refused(f"{shortened(text)!r} is neither yes nor no", part=text)
    return text


def _interface(text: str) -> str:
    if message := names.ifname_problem(text):
        raise Refused(message, part=text)
    return text


def _container(text: str) -> str:
    name = text.removeprefix("/")  # as Docker's API has it
    if not name or not _CONTAINER.issuperset(name) or name[0] in "_.-":
        hint = "letters, digits and '_.-', as docker ps shows it"
        raise Refused(f"{shortened(text)!r} is no name or id of a container", part=text, hint=hint)
    return name


def _table(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) > _TABLE_MAX:
        hint = "write its number; /etc/iproute2/rt_tables has the names"
        raise Refused(f"{shortened(text)!r} is no number of a routing table", part=text, hint=hint)
    if int(text) in _KERNEL_TABLES:
        message = f"table {int(text)} is the kernel's own ({_KERNEL_TABLES[int(text)]})"
        raise Refused(message, part=text, hint=f"take another, such as {TABLE_DEFAULT}")
    return int(text)


# The other way round


def plain(entry: Entry) -> tuple[str, dict[str, object]]:
    """The kind of an entry, and the fields of which ``read_plain`` makes it again.

    The address of a container is not among them.
    """
    match entry:
        case Dnat():
            row: dict[str, object] = {"map": words.render_word(entry)}
            row |= {"container": entry.container} if entry.container else {}
            row |= {"ext_if": entry.iface} if entry.iface else {}
            row |= {"masquerade": True} if entry.masquerade else {}
            row |= {"allow_from": [*entry.allow_from]} if entry.allow_from else {}
            return "docker" if entry.container else "dnat", row
        case Snat():
            row = {"int_ip": entry.source, "ext_if": entry.iface, "ext_ip": entry.address}
            return "snat", row | ({"exclude": [*entry.exclude]} if entry.exclude else {})
        case Masquerade():
            row = {"int_ip": entry.source, "ext_if": entry.iface}
            return "masquerade", row | ({"exclude": [*entry.exclude]} if entry.exclude else {})
        case Hairpin():
            row = {"ext_ip": entry.host, "int_ip": entry.target, "proto": entry.proto}
            row |= {"ports": words.render_ports(entry.ports)}
            return "hairpin", row | ({"lan_cidr": entry.lan} if entry.lan else {})
    return "policy_routes", {"src_ip": entry.source, "via": entry.via, "table": entry.table}


def render_entry(entry: Entry) -> str:
    """An entry as the command that makes it, without the name of the program."""
    kind, row = plain(entry)
    parts = [kind]
    if isinstance(entry, Dnat):
        container = row.pop("container", None)
        parts = [f"docker add {container}" if container else "dnat", str(row.pop("map"))]
    elif isinstance(entry, PolicyRoute):
        parts = ["policy-route"]
    for name, value in row.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            parts.append(option)
        else:
            parts += [f"{option} {item}" for item in (value if isinstance(value, list) else [value])]
    return " ".join(parts)
