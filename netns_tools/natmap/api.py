"""What a NAT mapper can be asked by HTTP: paths, the operations that they stand for, and the answers.

Bodies are JSON objects. ENTRY stands for the fields of one entry, as YAML and ``fields.FIELDS`` name
them; SECTIONS for lists of entries by their kind: ``dnat snat masquerade hairpin policy_routes
docker`` (a port mapping may be its word). Host port 0 is one that is to be chosen. All of a request
is done or nothing.

| Path | Operation | Body or query |
|---|---|---|
| GET /health | health | |
| GET /status | status | |
| GET /mappings | list_mappings | filter |
| GET /rules | list_rules | filter |
| GET /doctor | doctor | |
| POST /dnat, /snat, /masquerade, /hairpin, /policy-route | apply | ENTRY replace force dry_run |
| DELETE /dnat, /snat, /masquerade, /hairpin, /policy-route | delete | ENTRY dry_run |
| POST /mapping/{container} | apply | ENTRY of ``docker``, replace force dry_run |
| DELETE /mapping | remove | dry_run |
| DELETE /mapping/{container} | remove | port proto dry_run |
| DELETE /mapping/by-id/{id} | remove_id | dry_run |
| DELETE /mapping/{container}/{port} | remove | proto dry_run |
| PUT /remap | remap | host_ip host_port new_host_port proto replace force dry_run |
| PUT /remap/{container} | remap | host_ip host_port new_host_port proto replace force dry_run |
| POST /apply | apply | SECTIONS exact replace force dry_run |
| POST /plan | apply | SECTIONS exact replace force (dry_run is given) |
| DELETE /mappings | delete | SECTIONS dry_run |
| DELETE /clear | clear | dry_run |
| POST /save | save | |
| POST /fwd | forward | dry_run |
| POST /reload | reload | |

What an operation does and answers is said at ``Mapper``. What is refused is answered with a status
and an object with ``error`` (``host.httpmessage``): 400 for bad values and for entries of one request
that exclude each other, 404 for what is not there, 405, 409 for conflicts and busy ports, 500 for
what the machine refused.

natmap's requests mean the same here; its clients find their fields in the answers, and ours beside
them. A state file of natmap needs no path: the command ``import`` makes entries of it (``imported``)
and applies them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from netns_tools.config.keykind import FALSE_WORDS, TRUE_WORDS, shortened
from netns_tools.config.shell import PROBLEMS_MAX
from netns_tools.errors import ConfigError, Problem
from netns_tools.host.httpmessage import BAD, NO_METHOD, UNKNOWN, Refused, Request, Response
from netns_tools.natmap import words
from netns_tools.natmap.fields import FIELDS, plain, read_plain, render_entry
from netns_tools.natmap.model import (
    PORT_MAX,
    Dnat,
    Entry,
    Hairpin,
    Identity,
    Snat,
    overlaps,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Protocol

    class Mapper(Protocol):
        """Who does the operations. Each answers with an object for JSON, or raises ``NetnsToolsError``.

        ``entries``: checked, and none excludes another. ``replace``: take the place of an entry that
        is in conflict. ``force``: also where somebody listens on the port. ``dry_run``: only answer.
        What changes something answers with ``written``.
        """

        def health(self) -> dict[str, Any]:
            """``well``: whether everything wanted is in the kernel, else ``error``: why not. Cheap."""

        def status(self) -> dict[str, Any]:
            """How it goes: counts of what is desired and live, drift, the last error, sockets, Docker."""

        def list_mappings(self, filter: str) -> dict[str, Any]:
            """Everything desired, and whether it is live: ``listed``. ``filter``: part of an entry's text."""

        def list_rules(self, filter: str) -> dict[str, Any]:
            """What is in the kernel. ``rules``: a list of ``rule``."""

        def doctor(self) -> dict[str, Any]:
            """``findings``: objects with ``message``, ``where``, ``command``; none if all is well."""

        def apply(
            self, entries: tuple[Entry, ...], exact: bool, replace: bool, force: bool, dry_run: bool
        ) -> dict[str, Any]:
            """Add or update; ``exact``: and remove what commands asked for before and is not among them."""

        def delete(self, entries: tuple[Entry, ...], dry_run: bool) -> dict[str, Any]:
            """Remove these; of a port mapping its identities count and the target. Not there is fine."""

        def remove(self, container: str, port: int, proto: str, dry_run: bool) -> dict[str, Any]:
            """Remove mappings to a container, "" for all containers: that of a host port, 0 for all ports."""

        def remove_id(self, id: int, dry_run: bool) -> dict[str, Any]:
            """Remove the mapping to a container whose ``mapping_id`` this is."""

        def remap(
            self,
            container: str,
            host_ip: str,
            host_port: int,
            new_host_port: int,
            proto: str,
            replace: bool,
            force: bool,
            dry_run: bool,
        ) -> dict[str, Any]:
            """Move a host port; 0 as the new one chooses. "" as container, address, protocol: any."""

        def clear(self, dry_run: bool) -> dict[str, Any]:
            """Remove everything that commands asked for, and every trace of it."""

        def save(self) -> dict[str, Any]:
            """Write the state file now. ``path``: where it is."""

        def forward(self, dry_run: bool) -> dict[str, Any]:
            """Switch forwarding on, IPv4 and IPv6, until ``clear``."""

        def reload(self) -> dict[str, Any]:
            """Take the configuration anew; refused when it is bad, and then nothing has changed."""


@dataclass(frozen=True)
class Operation:
    """An operation of ``Mapper`` with all its arguments."""

    name: str
    arguments: dict[str, Any]

    def do(self, mapper: Mapper) -> dict[str, Any]:
        """Have it done."""
        found: dict[str, Any] = getattr(mapper, self.name)(**self.arguments)
        return found

    def names_containers(self) -> bool:
        """Whether it matters which containers there are now."""
        entries = self.arguments.get("entries", ())
        return bool(self.arguments.get("container")) or any(
            isinstance(entry, Dnat) and entry.container for entry in entries
        )


@dataclass(frozen=True)
class Route:
    """A method and path, the operation behind it, and from where its arguments come.

    ``path``: words, or arguments in braces. ``kind``: the body has the fields of such an entry;
    ``*`` lists of entries by kind. ``options``: arguments in the body or the query. ``given``:
    arguments that this path stands for.
    """

    method: str
    path: str
    operation: str
    kind: str = ""
    options: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)


# Values of arguments


class _Wrong(Exception):
    """A value that is none of its kind: what is wrong with it."""


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in TRUE_WORDS + FALSE_WORDS:
        return value.lower() in TRUE_WORDS
    raise _Wrong("neither true nor false")


def _number(value: object, least: int, most: int) -> int:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal()) or len(text) > 20:
        raise _Wrong("no number")
    if not least <= int(text) <= most:
        raise _Wrong(f"not between {least} and {most}")
    return int(text)


def _port(value: object) -> int:
    return _number(value, 1, PORT_MAX)


def _port_or_any(value: object) -> int:
    return _number(value, 0, PORT_MAX)


def _id(value: object) -> int:
    return _number(value, 0, (1 << 32) - 1)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("no text")
    return value


def _container(value: object) -> str:
    """Any text: it is looked up among the containers that there are."""
    return _text(value).removeprefix("/")  # as Docker's API has it


def _host(value: object) -> str:
    """An address; "" for any, as which 0.0.0.0 and :: count too."""
    found = words.parse_host(_text(value))
    return found.text if found.number else ""


def _proto(value: object) -> str:
    return words.parse_proto(_text(value))


_NONE = object()  # has to be given

_ARGUMENTS: dict[str, tuple[Callable[[object], object], object]] = {
    "filter": (_text, ""),
    "container": (_container, ""),
    "id": (_id, _NONE),
    "port": (_port, 0),
    "proto": (_proto, ""),
    "host_ip": (_host, ""),
    "host_port": (_port, _NONE),
    "new_host_port": (_port_or_any, _NONE),
    "exact": (_flag, False),
    "replace": (_flag, False),
    "force": (_flag, False),
    "dry_run": (_flag, False),
}
"""Argument → what makes it of a value, and its default."""

# Paths

_DRY = ("dry_run",)
_ADD = ("replace", "force", "dry_run")
_REMAP = ("host_ip", "host_port", "new_host_port", "proto", *_ADD)
_KINDS = {
    "/dnat": "dnat",
    "/snat": "snat",
    "/masquerade": "masquerade",
    "/hairpin": "hairpin",
    "/policy-route": "policy_routes",
}

ROUTES = (
    Route("GET", "/health", "health"),
    Route("GET", "/status", "status"),
    Route("GET", "/mappings", "list_mappings", options=("filter",)),
    Route("GET", "/rules", "list_rules", options=("filter",)),
    Route("GET", "/doctor", "doctor"),
    *(Route("POST", path, "apply", kind, _ADD, {"exact": False}) for path, kind in _KINDS.items()),
    *(Route("DELETE", path, "delete", kind, _DRY) for path, kind in _KINDS.items()),
    Route("POST", "/mapping/{container}", "apply", "docker", _ADD, {"exact": False}),
    Route("DELETE", "/mapping", "remove", "", _DRY, {"container": "", "port": 0, "proto": ""}),
    Route("DELETE", "/mapping/{container}", "remove", "", ("port", "proto", *_DRY)),
    Route("DELETE", "/mapping/by-id/{id}", "remove_id", "", _DRY),
    Route("DELETE", "/mapping/{container}/{port}", "remove", "", ("proto", *_DRY)),
    Route("PUT", "/remap", "remap", "", _REMAP, {"container": ""}),
    Route("PUT", "/remap/{container}", "remap", "", _REMAP),
    Route("POST", "/apply", "apply", "*", ("exact", *_ADD)),
    Route("POST", "/plan", "apply", "*", ("exact", "replace", "force"), {"dry_run": True}),
    Route("DELETE", "/mappings", "delete", "*", _DRY),
    Route("DELETE", "/clear", "clear", "", _DRY),
    Route("POST", "/save", "save"),
    Route("POST", "/fwd", "forward", "", _DRY),
    Route("POST", "/reload", "reload"),
)
"""Of two that fit, the first counts."""

_ALIASES = {"preserve_src_ip": "no_masquerade"}  # as a later natmap has it


def read_request(method: str, path: tuple[str, ...], query: Mapping[str, str], body: object) -> Operation:
    """The operation that a request stands for.

    ``path``: decoded words. ``body``: what its JSON says, None without one. Raises ``Refused`` (no such
    path or method) and ``ConfigError`` with all problems.
    """
    route, given = _find(method, path)
    if body is not None and not isinstance(body, dict):
        raise Refused(
            "the body of the request is no JSON object", status=BAD, hint='it looks like {"name": …}'
        )
    values: dict[str, object] = dict(body or {})
    problems = [_twice(name) for name in {*query, *given} & values.keys() | query.keys() & given.keys()]
    values |= query
    arguments = dict(route.given)
    for name in (*given, *route.options):
        _take(name, (given if name in given else values).pop(name, None), arguments, problems)
    free = route.operation == "apply"
    if route.kind == "*":
        arguments["entries"] = _read_sections(values, free, problems)
    elif route.kind:
        if "container" in arguments:
            values["container"] = arguments.pop("container")
        arguments["entries"] = _read_entry(route.kind, values, "", free, problems)
    else:
        problems += [_unknown(name, route.options) for name in values]
    if "entries" in arguments and not problems:
        problems += [_overlap(conflict.old, conflict.new) for conflict in overlaps(arguments["entries"])]
    if problems:
        raise ConfigError(problems[:PROBLEMS_MAX])
    return Operation(route.operation, arguments)


def _find(method: str, path: tuple[str, ...]) -> tuple[Route, dict[str, object]]:
    """The route, and the arguments in its path as they are there."""
    methods = []
    for route in ROUTES:
        pattern = route.path[1:].split("/")
        pairs = list(zip(pattern, path, strict=False))
        if len(pattern) != len(path) or not all(word[0] == "{" or word == given for word, given in pairs):
            continue
        if route.method == method:
            return route, {word[1:-1]: given for word, given in pairs if word[0] == "{"}
        methods.append(route.method)
    shown = shortened("/" + "/".join(path))
    if methods:
        allowed = ", ".join(dict.fromkeys(methods))
        message = f"{shown} knows no {shortened(method)}"
        raise Refused(message, status=NO_METHOD, hint=f"it knows {allowed}", headers={"Allow": allowed})
    known = ", ".join(dict.fromkeys(route.path for route in ROUTES))
    raise Refused(f"there is nothing at {shown}", status=UNKNOWN, hint=f"there is {known}")


def _take(name: str, value: object, arguments: dict[str, object], problems: list[Problem]) -> None:
    make, default = _ARGUMENTS[name]
    if value is None or value == "":
        arguments[name] = default
        if default is _NONE:
            problems.append(Problem(f"{name} is not given"))
        return
    try:
        arguments[name] = make(value)
    except _Wrong as wrong:
        problems.append(Problem(f"{name}: {shortened(repr(value))} is {wrong}"))
    except words.Refused as refused:
        problems.append(Problem(f"{name}: {refused.message}", hint=refused.hint))


def _read_entry(
    kind: str, given: Mapping[str, object], where: str, free: bool, problems: list[Problem]
) -> tuple[Entry, ...]:
    fields = {_ALIASES.get(name, name) if kind == "dnat" else name: value for name, value in given.items()}
    if len(fields) < len(given):
        problems.append(Problem(f"{where}no_masquerade is there twice"))
    try:
        return tuple(read_plain(kind, fields, free=free))
    except ConfigError as error:
        for problem in error.problems:
            problem.message = where + problem.message
        problems += error.problems
        return ()


def _read_sections(given: Mapping[str, object], free: bool, problems: list[Problem]) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for kind, listed in given.items():
        if kind not in FIELDS:
            problems.append(_unknown(kind, FIELDS))
        elif not isinstance(listed, list):
            problems.append(Problem(f"{kind} must be a list of entries"))
        else:
            for number, item in enumerate(listed):
                if len(problems) >= PROBLEMS_MAX:
                    return ()
                fields = {"map": item} if isinstance(item, str) and kind == "dnat" else item
                where = f"{kind}[{number}]: "
                if isinstance(fields, dict):
                    entries += _read_entry(kind, fields, where, free, problems)
                else:
                    problems.append(Problem(f"{where}an entry must be an object"))
    return tuple(entries)


def _unknown(name: str, known: Iterable[str]) -> Problem:
    there = ", ".join(known)
    hint = f"known here are: {there}" if there else "nothing can be said here"
    return Problem(f"unknown field {shortened(name)!r}", hint=hint)


def _twice(name: str) -> Problem:
    return Problem(f"{name} is given twice", hint="say it in the path, in the query or in the body")


def _overlap(old: Entry, new: Entry) -> Problem:
    message = f"{render_entry(new)!r} and {render_entry(old)!r} cannot both be"
    return Problem(message, hint="keep one of the two")


def answer(mapper: Mapper, request: Request) -> Response:
    """Have a request done. Raises ``NetnsToolsError``, of which ``httpmessage.refusal`` makes an answer."""
    return respond(read_request(request.method, request.path, request.query, request.body), mapper)


def respond(operation: Operation, mapper: Mapper) -> Response:
    """Have an operation done, and answer it. Raises ``NetnsToolsError``."""
    said = operation.do(mapper)
    is_ill = operation.name == "health" and not said["well"]
    return Response(503 if is_ill else 200, said)


def request_for(operation: Operation) -> tuple[str, str, Any]:
    """Method, target and body of the request for an operation: ``read_request`` makes the same of it."""
    arguments = dict(operation.arguments)
    route = next(
        route
        for route in ROUTES
        if route.operation == operation.name
        and route.kind in ("", "*")
        and all(arguments[name] == value for name, value in route.given.items())
    )
    path = "/".join(
        quote(str(arguments.pop(word[1:-1])), safe="") if word[:1] == "{" else word
        for word in route.path.split("/")
    )
    body: dict[str, Any] = {}
    for entry in arguments.pop("entries", ()):
        kind, said = entry_fields(entry)
        body.setdefault(kind, []).append(said)
    options = {name: value for name, value in arguments.items() if value != _ARGUMENTS[name][1]}
    if route.method == "GET":
        return route.method, path + (f"?{urlencode(options)}" if options else ""), None
    return route.method, path, (body | options) or None


def entry_fields(entry: Entry) -> tuple[str, Any]:
    """Kind and fields of an entry, as short as may be: what ``read_plain`` makes this entry of."""
    kind, fields = plain(entry)
    return kind, fields["map"] if kind == "dnat" and len(fields) == 1 else fields


# Answers

_ANY = {4: "0.0.0.0", 6: "::"}

LIVE, MISSING, WAITING = "live", "missing", "waiting"
"""Of something desired: it is in the kernel; it is not; it has nothing that could be there, as its
container has no address."""

FILE, COMMAND = "file", "command"
"""From where something desired is: the configuration file, or commands (the state file)."""


def mapping_id(entry: Dnat) -> int:
    """The number of a mapping to a container: the same as long as its identity is the same."""
    return zlib.crc32(str(Identity(entry.proto, entry.scope, entry.ports.first)).encode())


def shown(entry: Entry, **more: object) -> dict[str, object]:
    """An entry in an answer: natmap's fields and ours, ``command`` (what makes it), and ``more``.

    For one to a container ``more`` should have ``container_id`` and ``container_name``.
    """
    command = render_entry(entry)
    if not isinstance(entry, Dnat):
        said = entry_fields(entry)[1]
        return {**said, "command": command, **more}
    host = entry.host or _ANY[entry.family]
    mine = {
        "ext_if": entry.iface or None,
        "masquerade": entry.masquerade,
        "no_masquerade": not entry.masquerade,
        "allow_from": [*entry.allow_from],
        "command": command,
    }
    if not entry.container:
        ports = words.render_ports(entry.ports)
        return {"ext_ip": host, "int_ip": entry.target, "ports": ports, "proto": entry.proto, **mine, **more}
    first, count, target = entry.ports.first, entry.ports.count, words.render_address(entry.target)
    request = {
        "host_addr": f"{words.render_address(host)}:{_ports(first, count)}",
        "container_addr": f"{target}:{_ports(entry.ports.to, count)}" if target else None,
        "proto": entry.proto,
    }
    names = {"container_id": entry.container, "container_name": entry.container, **more}
    comment = f"natmap:{names['container_id']}:{first}"
    return {"id": mapping_id(entry), "request": request, "rule_comment": comment, **mine, **names}


def _ports(first: int, count: int) -> str:
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


_LISTS = {"dnat": "dnats", "snat": "snats", "masquerade": "masquerades", "hairpin": "hairpins"}


def list_of(entry: Entry) -> str:
    """The list of ``GET /mappings`` in which an entry is: natmap's names."""
    kind, _ = entry_fields(entry)
    return _LISTS.get(kind, kind)


def listed(entries: Iterable[tuple[Entry, Mapping[str, object]]], foreign: Iterable[str]) -> dict[str, Any]:
    """The answer of ``list_mappings``.

    ``entries``: each with what is said of it beside its fields: ``state`` and ``origin``, and why it
    is not live if that is known (``reason``). ``foreign``: lines of what is live in our table and
    nobody wants. ``drift`` is true when there is such, or an entry is missing.
    """
    found: dict[str, Any] = {name: [] for name in ("docker", *_LISTS.values(), "policy_routes")}
    drift = False
    for entry, more in entries:
        found[list_of(entry)].append(shown(entry, **more))
        drift |= more.get("state") == MISSING
    extra = [*foreign]
    return {**found, "foreign": extra, "drift": drift or bool(extra)}


def rule(entry: Dnat | Snat | Hairpin) -> dict[str, object]:
    """Something live in ``GET /rules``, as natmap has it."""
    if isinstance(entry, Snat):
        return {"kind": "snat", "ext_ip": entry.address, "int_ip": entry.source, "ports": [], "proto": "tcp"}
    kind = "hairpin" if isinstance(entry, Hairpin) else "mapping" if entry.container else "dnat"
    host = entry.host or (_ANY[entry.family] if isinstance(entry, Dnat) else "")
    ports = [*range(entry.ports.first, entry.ports.last + 1)]
    return {"kind": kind, "ext_ip": host, "int_ip": entry.target, "ports": ports, "proto": entry.proto}


def written(
    changes: Iterable[str], entries: Iterable[dict[str, object]] = (), *, done: bool = True
) -> dict[str, Any]:
    """The answer of what changes something: the fields of the first entry, and all of it.

    ``changes``: a line a change, none if all was as wanted. ``entries``: those concerned, by ``shown``,
    with the ports that were chosen. ``done``: false if this was only asked for (``dry_run``).
    """
    said = [*entries]
    first = said[0] if said else {}
    return {**first, "entries": said, "changes": [*changes], "done": done}
