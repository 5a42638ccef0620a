"""The state file of natmap, whose place we take: what it says, and what of it cannot be taken.

natmap is lab-ops' NAT mapper over iptables; its file has lists of static rules (``dnats``, ``snats``,
``hairpins``, ``policy_routes``) and the port mappings of each container (``mapping``). What its
daemon answers to ``GET /mappings`` has them too, as ``docker``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from netns_tools.config.keykind import shortened
from netns_tools.errors import ConfigError, NetnsToolsError, Problem
from netns_tools.natmap.fields import read_plain, render_entry
from netns_tools.natmap.model import Desired, Dnat, Entry
from netns_tools.natmap.words import Refused, parse_target

_STATIC = {"dnats": "dnat", "snats": "snat", "hairpins": "hairpin", "policy_routes": "policy_routes"}
_CONTAINERS = ("mapping", "docker")
_WITHOUT_MEANING = ("next_id", "version")
_TAKEN = {
    "dnat": ("ext_ip", "int_ip", "proto", "ports", "ext_if"),
    "snat": ("int_ip", "ext_if", "ext_ip"),
    "hairpin": ("ext_ip", "int_ip", "proto", "ports", "lan_cidr"),
    "policy_routes": ("src_ip", "via", "table"),
}

Json = dict[str, object]


def import_natmap(text: str, path: str) -> tuple[Desired, list[Problem]]:
    """What natmap's file says, and a warning for each thing that is not taken over.

    Raises NetnsToolsError when it is no such file.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NetnsToolsError(f"{path} is no JSON: {error}", hint="natmap's is state.json") from None
    if not isinstance(tree, dict) or not tree.keys() & {*_STATIC, *_CONTAINERS}:
        hint = f"natmap's has {', '.join([*_STATIC, _CONTAINERS[0]])}"
        raise NetnsToolsError(f"{path} is no state of natmap", hint=hint)
    desired = Desired()
    problems = []
    for name, value in tree.items():
        if name not in _STATIC and name not in _CONTAINERS:
            if name not in _WITHOUT_MEANING:
                problems.append(_not_taken(path, shortened(repr(name)), "it is not known"))
            continue
        read = _reader(name)
        for number, row in enumerate(_rows(value), 1):
            what = f"{name}, entry {number}"
            try:
                found = Desired.of(read(row))
            except (_Odd, ConfigError) as error:
                reason = f"{error}: {shortened(json.dumps(row, ensure_ascii=False))}"
                problems.append(_not_taken(path, what, reason))
                continue
            conflicts = desired.conflicts(found)
            if conflicts:
                reason = (
                    f"'{render_entry(conflicts[0].new)}' conflicts with '{render_entry(conflicts[0].old)}'"
                )
                problems.append(_not_taken(path, what, reason))
            else:
                desired = desired.merge(found)
    return desired, problems


class _Odd(Exception):
    """A part of natmap's file that is not as expected."""


def _not_taken(path: str, what: str, reason: str) -> Problem:
    return Problem(f"{what} is not taken over: {reason}", path=path, severity="warning")


def _rows(value: object) -> Iterator[object]:
    """The entries of a list, or of all lists of a mapping from containers."""
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        for rows in value.values():
            yield from rows if isinstance(rows, list) else [rows]
    elif value is not None:
        yield value


def _reader(name: str) -> Callable[[object], list[Entry]]:
    if name in _CONTAINERS:
        return _read_container
    return lambda row: _read_static(_STATIC[name], row)


def _read_static(kind: str, row: object) -> list[Entry]:
    given = {name: value for name, value in _as_object(row).items() if name in _TAKEN[kind]}
    if isinstance(given.get("ports"), str):
        given["ports"] = str(given["ports"]).replace(":", "-")  # a range of iptables
    return read_plain(kind, given)


def _read_container(row: object) -> list[Entry]:
    """A mapping of natmap: ``request`` with socket addresses, and the container by name and id."""
    given = _as_object(row)
    request = _as_object(given.get("request", given))
    container = given.get("container_name") or given.get("container_id")
    host, target, proto = (request.get(name) for name in ("host_addr", "container_addr", "proto"))
    if not all(isinstance(text, str) for text in (container, host, target, proto)):
        raise _Odd("container_name, host_addr, container_addr or proto is missing")
    address, _, port = str(target).rpartition(":")
    try:
        known = parse_target(address.strip("[]"))
    except Refused as refused:
        raise _Odd(refused.message) from None
    entries = read_plain("docker", {"container": container, "map": f"{host}:{port}/{proto}"})
    dnats = [entry for entry in entries if isinstance(entry, Dnat)]
    if any(dnat.family != known.family for dnat in dnats):
        raise _Odd("it leads from one family of addresses to the other")
    return [replace(dnat, target=known.text) for dnat in dnats]


def _as_object(row: object) -> Json:
    if not isinstance(row, dict):
        raise _Odd("it is no object")
    return row
