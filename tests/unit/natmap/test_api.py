"""Requests to a NAT mapper, read and written: natmap's own, ours, bad ones, and every route."""

from __future__ import annotations

import inspect
import json
from typing import Any
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.config.shell import PROBLEMS_MAX
from netns_tools.errors import ConfigError
from netns_tools.host.httpmessage import Peer, Refused, Request
from netns_tools.natmap import api
from netns_tools.natmap.api import (
    ROUTES,
    Operation,
    answer,
    entry_fields,
    listed,
    mapping_id,
    read_request,
    request_for,
    rule,
    shown,
    written,
)
from netns_tools.natmap.fields import FIELDS, read_plain
from netns_tools.natmap.model import (
    Dnat,
    Entry,
    Hairpin,
    Masquerade,
    PolicyRoute,
    Ports,
    Snat,
    overlaps,
)

WEB = Dnat("tcp", "192.0.2.1", "", Ports(8080, 8080, 80), "10.0.0.10", 4)
MORE = {"replace": False, "force": False, "dry_run": False}


def read(method: str, target: str, body: Any = None) -> Operation:
    path, _, query = target.partition("?")
    pairs = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
    return read_request(method, tuple(path[1:].split("/")), pairs, body)


def entries(method: str, target: str, body: Any = None) -> list[Entry]:
    return [*read(method, target, body).arguments["entries"]]


def problems(method: str, target: str, body: Any = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(method, target, body)
    return [problem.message for problem in caught.value.problems]


# What natmap's clients say


@pytest.mark.parametrize("also", [{}, {"ext_if": None}, {"no_masquerade": True}, {"preserve_src_ip": True}])
def test_natmap_dnat(also: dict[str, Any]) -> None:
    body = {"ext_ip": "192.0.2.1", "int_ip": "10.0.0.10", "ports": "8080:80", "proto": "tcp", **also}
    assert read("POST", "/dnat", body) == Operation("apply", {"entries": (WEB,), "exact": False, **MORE})
    assert read("DELETE", "/dnat", body) == Operation("delete", {"entries": (WEB,), "dry_run": False})


def test_natmap_lists_of_ports() -> None:
    body = {"ext_ip": "192.0.2.1", "int_ip": "10.0.0.10", "ports": "80,443", "proto": "TCP"}
    found = entries("POST", "/dnat", body)
    assert [entry.ports for entry in found if isinstance(entry, Dnat)] == [
        Ports(80, 80, 80),
        Ports(443, 443, 443),
    ]


@pytest.mark.parametrize(
    ("path", "body", "entry"),
    [
        (
            "/snat",
            {"int_ip": "10.0.0.5", "ext_ip": "192.0.2.1", "ext_if": "eth0"},
            Snat("10.0.0.5/32", "eth0", "192.0.2.1"),
        ),
        (
            "/masquerade",
            {"int_ip": "10.0.0.0/24", "ext_if": "eth0", "exclude": ["10.0.0.0/8"]},
            Masquerade("10.0.0.0/24", "eth0", ("10.0.0.0/8",)),
        ),
        (
            "/hairpin",
            {
                "ext_ip": "192.0.2.1",
                "int_ip": "10.0.0.5",
                "ports": "80",
                "proto": "tcp",
                "lan_cidr": "10.0.0.0/24",
            },
            Hairpin("192.0.2.1", "10.0.0.5", "tcp", Ports(80, 80, 80), "10.0.0.0/24"),
        ),
        (
            "/policy-route",
            {"src_ip": "10.0.0.5", "via": "10.0.0.1", "table": 1000},
            PolicyRoute("10.0.0.5/32", "10.0.0.1", 1000),
        ),
    ],
)
def test_natmap_other_kinds(path: str, body: dict[str, Any], entry: Entry) -> None:
    assert entries("POST", path, body) == [entry]
    assert entries("DELETE", path, body) == [entry]


def test_natmap_containers() -> None:
    body = {"host_ip": "0.0.0.0", "host_port": 8080, "container_port": 80, "target_ip": None, "proto": "tcp"}
    web = Dnat("tcp", "", "", Ports(8080, 8080, 80), "", 4, container="web")
    assert entries("POST", "/mapping/web", body) == [web]
    assert read("DELETE", "/mapping/web/8080").arguments == {
        "container": "web",
        "port": 8080,
        "proto": "",
        "dry_run": False,
    }
    assert read("DELETE", "/mapping/by-id/77") == Operation("remove_id", {"id": 77, "dry_run": False})
    moved = read("PUT", "/remap/web", {"host_port": 8080, "new_host_port": 9090})
    assert moved.name == "remap"
    assert moved.arguments == {
        "container": "web", "host_ip": "", "host_port": 8080, "new_host_port": 9090, "proto": "", **MORE,
    }  # fmt: skip


def test_natmap_target_that_is_no_container() -> None:
    body = {"host_ip": "192.0.2.1", "host_port": 8080, "container_port": 80, "target_ip": "10.0.0.10"}
    assert entries("POST", "/mapping/anything", body) == [WEB]


def test_a_port_that_is_to_be_chosen() -> None:
    [four, six] = entries("POST", "/mapping/web", {"map": "0:80"})
    assert isinstance(four, Dnat)
    assert isinstance(six, Dnat)
    assert four.ports == six.ports == Ports(0, 0, 80)
    assert read("PUT", "/remap", {"host_port": 80, "new_host_port": 0}).arguments["new_host_port"] == 0
    assert problems("DELETE", "/dnat", {"map": "0:10.0.0.10:80"})


def test_names_that_could_be_mistaken_for_paths() -> None:
    for container in ("by-id", "a/b", "..", "a?b#c", "ü"):
        operation = Operation("remove", {"container": container, "port": 80, "proto": "", "dry_run": False})
        method, target, body = request_for(operation)
        path = tuple(map(unquote, target[1:].split("/")))
        assert read_request(method, path, {}, body) == operation


@pytest.mark.parametrize("any_address", ["", None, "0.0.0.0", "::"])
def test_any_address(any_address: str | None) -> None:
    body = {"host_ip": any_address, "host_port": 80, "new_host_port": 81}
    assert read("PUT", "/remap", body).arguments["host_ip"] == ""


# Ours


def test_apply_of_everything() -> None:
    body = {
        "dnat": ["192.0.2.1:8080:10.0.0.10:80", {"map": "53:10.0.0.10:53/udp", "allow_from": ["10.0.0.0/8"]}],
        "snat": [{"int_ip": "10.0.0.0/24", "ext_if": "eth0", "ext_ip": "192.0.2.1"}],
        "docker": [{"container": "web", "map": "192.0.2.1:81:80"}],
        "exact": True,
        "force": "yes",
    }
    found = read("POST", "/apply", body)
    assert found.name == "apply"
    assert found.arguments.pop("entries") == (
        WEB,
        Dnat("udp", "", "", Ports(53, 53, 53), "10.0.0.10", 4, allow_from=("10.0.0.0/8",)),
        Snat("10.0.0.0/24", "eth0", "192.0.2.1"),
        Dnat("tcp", "192.0.2.1", "", Ports(81, 81, 80), "", 4, container="web"),
    )
    assert found.arguments == {"exact": True, "replace": False, "force": True, "dry_run": False}


def test_a_plan_changes_nothing() -> None:
    assert read("POST", "/plan", {}).arguments["dry_run"] is True
    assert problems("POST", "/plan", {"dry_run": False}) == ["unknown field 'dry_run'"]


def test_everything_wrong_is_told_at_once_and_where() -> None:
    body = {
        "dnat": ["80:10.0.0.10:80", "eighty:10.0.0.10:80", 5, {"map": "81:10.0.0.10:81", "color": "red"}],
        "snat": {"int_ip": "10.0.0.0/24"},
        "dnats": [],
        "exact": "perhaps",
    }
    found = problems("POST", "/apply", body)
    assert [message.partition(":")[0] for message in found] == [
        *("exact", "dnat[1]", "dnat[2]", "dnat[3]"),
        "snat must be a list of entries",
        "unknown field 'dnats'",
    ]
    assert "color" in found[3]


def test_no_more_problems_than_anybody_reads() -> None:
    assert len(problems("POST", "/apply", {"dnat": ["x"] * 5000})) == PROBLEMS_MAX


def test_entries_that_exclude_each_other() -> None:
    [message] = problems("POST", "/apply", {"dnat": ["80:10.0.0.10:80", "70-90:10.0.0.11:70-90"]})
    assert "cannot both be" in message
    assert len(entries("POST", "/apply", {"dnat": ["53:10.0.0.10:53", "53:10.0.0.10:53/udp"]})) == 2


@pytest.mark.parametrize(
    ("method", "target", "body", "part"),
    [
        ("PUT", "/remap", {"host_port": 0, "new_host_port": 1}, "host_port: 0 is not between"),
        ("PUT", "/remap", {"host_port": 1, "new_host_port": 65536}, "new_host_port: 65536 is not between"),
        ("PUT", "/remap", {"new_host_port": 1}, "host_port is not given"),
        ("PUT", "/remap", {"host_port": True, "new_host_port": 1}, "host_port: True is no number"),
        ("PUT", "/remap", {"host_port": 1.5, "new_host_port": 1}, "host_port: 1.5 is no number"),
        ("PUT", "/remap", {"host_port": 1, "new_host_port": 1, "host_ip": "x"}, "host_ip: 'x' is no address"),
        ("PUT", "/remap", {"host_port": 1, "new_host_port": 1, "proto": "sctp"}, "proto: 'sctp'"),
        ("DELETE", "/mapping/web/http", None, "port: 'http' is no number"),
        ("DELETE", "/mapping/web/-1", None, "port: '-1' is no number"),
        ("DELETE", "/mapping/web/¹", None, "port: '¹' is no number"),
        ("POST", "/mapping/a b", {"map": "80"}, "container: 'a b' is no name"),
        ("DELETE", "/mapping/web/80", {"port": 81}, "port is given twice"),
        ("DELETE", "/clear?dry_run=1", {"dry_run": True}, "dry_run is given twice"),
        ("GET", "/mappings?filtre=x", None, "unknown field 'filtre'"),
        ("GET", "/mappings", {"filter": ["x"]}, "filter: ['x'] is no text"),
        ("POST", "/mapping/web", {"container": "db", "map": "80"}, "container is given twice"),
        ("POST", "/dnat", {"no_masquerade": True, "preserve_src_ip": True, "map": "80:10.0.0.1:80"}, "twice"),
        ("POST", "/dnat", {}, "int_ip is not given"),
    ],
)
def test_bad_values(method: str, target: str, body: Any, part: str) -> None:
    assert part in "\n".join(problems(method, target, body))


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/", None, 404),
        ("GET", "/nothing", None, 404),
        ("GET", "/mappings/", None, 404),
        ("GET", "/rules/x", None, 404),
        ("DELETE", "/mapping/a/80/tcp", None, 404),
        ("PATCH", "/mappings", None, 405),
        ("GET", "/clear", None, 405),
        ("get", "/mappings", None, 405),
        ("POST", "/apply", [], 400),
        ("POST", "/apply", "x", 400),
    ],
)
def test_refused(method: str, target: str, body: Any, status: int) -> None:
    with pytest.raises(Refused) as caught:
        read(method, target, body)
    assert caught.value.status == status
    if status == 405:
        assert set(caught.value.headers["Allow"].split(", ")) <= {"GET", "POST", "PUT", "DELETE"}


# Every route


class Recorder:
    """A mapper of which only the signatures count: the protocol is not there at run time."""

    def health(self) -> dict[str, Any]:
        return {"well": False, "error": "no table"}

    def status(self) -> dict[str, Any]:
        return {"well": False}

    def list_mappings(self, filter: str) -> dict[str, Any]:
        return {"filter": filter}

    def list_rules(self, filter: str) -> dict[str, Any]:
        return {"filter": filter}

    def doctor(self) -> dict[str, Any]:
        return {"findings": []}

    def apply(
        self, entries: tuple[Entry, ...], exact: bool, replace: bool, force: bool, dry_run: bool
    ) -> dict[str, Any]:
        return {"count": len(entries)}

    def delete(self, entries: tuple[Entry, ...], dry_run: bool) -> dict[str, Any]:
        return {}

    def remove(self, container: str, port: int, proto: str, dry_run: bool) -> dict[str, Any]:
        return {}

    def remove_id(self, id: int, dry_run: bool) -> dict[str, Any]:
        return {}

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
        return {}

    def clear(self, dry_run: bool) -> dict[str, Any]:
        return {}

    def save(self) -> dict[str, Any]:
        return {}

    def forward(self, dry_run: bool) -> dict[str, Any]:
        return {}

    def reload(self) -> dict[str, Any]:
        return {}


def ask(method: str, *path: str) -> tuple[int, Any]:
    response = answer(Recorder(), Request(method, path, {}, None, Peer(1, 0, 0)))  # mypy: it is a Mapper
    return response.status, response.body


def test_the_status_of_health_says_how_it_is() -> None:
    assert ask("GET", "health") == (503, {"well": False, "error": "no table"})
    assert ask("GET", "status") == (200, {"well": False})
    assert ask("POST", "plan") == (200, {"count": 0})


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_gives_all_arguments_of_its_operation(route: api.Route) -> None:
    named = {word[1:-1] for word in route.path.split("/") if word.startswith("{")}
    known = set(inspect.signature(getattr(Recorder, route.operation)).parameters) - {"self"}
    got = {*named, *route.options, *route.given} | ({"entries"} if route.kind else set())
    assert got - ({"container"} if route.kind == "docker" else set()) == known


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_is_documented(route: api.Route) -> None:
    rows = [line.split("|") for line in (api.__doc__ or "").splitlines() if line.startswith("| ")]
    assert any(
        row[1].startswith(f" {route.method} ")
        and route.path in row[1].replace(",", " ").split()
        and row[2].strip() == route.operation
        and all(option in row[3].split() for option in route.options)
        for row in rows
    )


# Both ways, with whatever there is

ADDRESS4 = st.integers(1, 250).map(lambda number: f"10.0.0.{number}")
ADDRESS6 = st.integers(1, 9999).map(lambda number: f"2001:db8::{number}")
NETWORK4 = st.integers(0, 250).map(lambda number: f"172.16.{number}.0/24")
CONTAINER = st.from_regex(r"[a-z][a-z0-9_.-]{0,10}", fullmatch=True)
PROTO = st.sampled_from(["tcp", "udp"])
IFACE = st.sampled_from(["eth0", "br-lan", "wg0.5"])


@st.composite
def ports(draw: st.DrawFn) -> Ports:
    count = draw(st.integers(1, 100))
    first, to = (draw(st.integers(1, 65536 - count)) for _ in range(2))
    return Ports(first, first + count - 1, to)


@st.composite
def dnats(draw: st.DrawFn) -> Dnat:
    family = draw(st.sampled_from([4, 6]))
    address = ADDRESS4 if family == 4 else ADDRESS6
    host = draw(st.just("") | address)
    container = draw(st.just("") | CONTAINER)
    plain: dict[str, Any] = {} if container else {
        "masquerade": draw(st.booleans()),
        "allow_from": tuple(sorted(draw(st.sets(NETWORK4, max_size=3)), key=_number)) if family == 4 else (),
    }  # fmt: skip
    iface = "" if container else draw(st.just("") | IFACE)
    target = "" if container else draw(address)
    return Dnat(draw(PROTO), host, iface, draw(ports()), target, family, container=container, **plain)


def _number(network: str) -> int:
    return int(network.split(".")[2])


ENTRY = st.one_of(
    dnats(),
    st.builds(Snat, NETWORK4, IFACE, ADDRESS4, st.just(()) | NETWORK4.map(lambda one: (one,))),
    st.builds(Masquerade, NETWORK4, IFACE, st.just(())),
    st.builds(Hairpin, ADDRESS4, ADDRESS4, PROTO, ports(), st.just("") | NETWORK4),
    st.builds(PolicyRoute, NETWORK4, ADDRESS4, st.integers(1, 252) | st.integers(256, 2**32 - 1)),
)


@given(ENTRY)
def test_an_entry_survives_its_fields(entry: Entry) -> None:
    kind, fields = entry_fields(entry)
    fields = json.loads(json.dumps(fields))
    assert read_plain(kind, {"map": fields} if isinstance(fields, str) else fields) == [entry]


@given(ENTRY)
def test_what_natmap_is_shown_it_may_say(entry: Entry) -> None:
    """The fields in an answer are those of a request."""
    if isinstance(entry, Dnat) and entry.container:
        return
    kind, _ = entry_fields(entry)
    fields = shown(entry)
    assert fields.pop("command")
    assert read_plain(kind, fields) == [entry]


ENTRIES = st.lists(ENTRY, max_size=4, unique=True).map(tuple).filter(lambda found: not overlaps(found))
NAMES: dict[str, st.SearchStrategy[Any]] = {
    "entries": ENTRIES,
    "filter": st.text(st.characters(codec="utf-8", exclude_characters="&=%+?#/;"), max_size=9),
    "container": st.just("by-id") | CONTAINER | st.text(min_size=1).filter(lambda text: text[0] != "/"),
    "id": st.integers(0, 2**32 - 1),
    "port": st.integers(1, 65535),
    "proto": st.just("") | PROTO,
    "host_ip": st.just("") | ADDRESS4 | ADDRESS6,
    "host_port": st.integers(1, 65535),
    "new_host_port": st.integers(0, 65535),
}


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    route = draw(st.sampled_from(ROUTES))
    named = [word[1:-1] for word in route.path.split("/") if word.startswith("{")]
    names = {*named, *route.options, *route.given} | ({"entries"} if route.kind else set())
    names -= {"container"} if route.kind == "docker" else set()
    arguments = {name: draw(NAMES.get(name, st.booleans())) for name in sorted(names)}
    return Operation(route.operation, arguments | route.given)


@given(operations())
def test_an_operation_survives_its_request(operation: Operation) -> None:
    method, target, body = request_for(operation)
    path, _, query = target.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    words = tuple(unquote(word) for word in path[1:].split("/"))
    found = read_request(
        method, words, {name: unquote_plus(value) for name, _, value in pairs}, json.loads(json.dumps(body))
    )
    # Lists of entries come in the order of their kinds.
    sent, got = ({**one.arguments} for one in (operation, found))
    assert sorted(map(str, got.pop("entries", ()))) == sorted(map(str, sent.pop("entries", ())))
    assert (found.name, got) == (operation.name, sent)


def test_what_stands_beside_the_word_of_a_container_is_said_too() -> None:
    fields = {"map": "8080:80", "ext_if": "eth0", "masquerade": True, "allow_from": ["10.0.0.0/8"]}
    operation = read_request("POST", ("mapping", "web"), {}, fields)
    method, target, body = request_for(operation)
    assert (
        read_request(method, (target[1:],), {}, body).arguments["entries"] == operation.arguments["entries"]
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
FIELD = st.sampled_from(
    sorted({*api._ARGUMENTS, *FIELDS, *(f for fields in FIELDS.values() for f in fields)})
)


@given(
    st.sampled_from(ROUTES),
    st.dictionaries(FIELD, JSON, max_size=5),
    st.lists(st.text(max_size=5), max_size=4),
)
def test_whatever_is_said_is_done_or_refused(route: api.Route, body: dict[str, Any], more: list[str]) -> None:
    path = tuple(word or "x" for word in route.path[1:].split("/"))
    for words in (path, (*path[:-1], *more)):
        try:
            operation = read_request(route.method, words, {}, body)
        except (Refused, ConfigError):
            continue
        assert hasattr(Recorder, operation.name)


# Answers


def test_a_mapping_to_a_container_as_natmap_shows_it() -> None:
    entry = Dnat("tcp", "", "", Ports(8080, 8080, 80), "172.17.0.2", 4, container="web")
    found = shown(entry, container_id="abc", state="live")
    assert found["request"] == {
        "host_addr": "0.0.0.0:8080",
        "container_addr": "172.17.0.2:80",
        "proto": "tcp",
    }
    assert (found["container_id"], found["container_name"], found["state"]) == ("abc", "web", "live")
    assert found["rule_comment"] == "natmap:abc:8080"
    assert found["id"] == mapping_id(entry)
    six = Dnat("udp", "2001:db8::1", "", Ports(9000, 9010, 90), "", 6, container="web")
    assert shown(six)["request"] == {
        "host_addr": "[2001:db8::1]:9000-9010",
        "container_addr": None,
        "proto": "udp",
    }


def test_ids_tell_mappings_apart() -> None:
    def entry(proto: str, host: str, port: int, target: str) -> Dnat:
        return Dnat(proto, host, "", Ports(port, port, 80), target, 4, container="web")

    one = entry("tcp", "", 80, "172.17.0.2")
    others = [entry("udp", "", 80, ""), entry("tcp", "192.0.2.1", 80, ""), entry("tcp", "", 8080, "")]
    assert mapping_id(one) == mapping_id(entry("tcp", "", 80, "172.17.0.9"))
    assert len({mapping_id(each) for each in [one, *others]}) == 4


def test_the_list_and_its_drift() -> None:
    web = (WEB, {"state": api.LIVE, "origin": api.FILE})
    away = (Dnat("tcp", "", "", Ports(1, 1, 1), "", 4, container="c"), {"state": api.WAITING})
    found = listed([web, away], [])
    assert [len(found[name]) for name in ("dnats", "docker", "snats")] == [1, 1, 0]
    assert found["dnats"][0]["origin"] == "file"
    assert found["drift"] is False
    assert listed([web], ["tcp *:1 (IPv4)"])["drift"] is True
    assert listed([(WEB, {"state": api.MISSING})], [])["drift"] is True


def test_rules_as_natmap_shows_them() -> None:
    assert rule(WEB) == {
        "kind": "dnat",
        "ext_ip": "192.0.2.1",
        "int_ip": "10.0.0.10",
        "ports": [8080],
        "proto": "tcp",
    }
    assert rule(Snat("10.0.0.0/24", "eth0", "192.0.2.1"))["kind"] == "snat"
    assert rule(Hairpin("192.0.2.1", "10.0.0.5", "tcp", Ports(1, 3, 1), ""))["ports"] == [1, 2, 3]


def test_the_answer_to_a_change_has_the_fields_of_the_first() -> None:
    found = written(["add element …"], [shown(WEB)])
    assert found["int_ip"] == "10.0.0.10"
    assert found["entries"] == [shown(WEB)]
    assert (found["changes"], found["done"]) == (["add element …"], True)
    assert written([], done=False) == {"entries": [], "changes": [], "done": False}
