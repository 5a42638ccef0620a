"""The keys of a daemon's configuration: what a definition declares, what a file may say, how it is read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.config import definition, yamlfile
from netns_tools.config.keykind import KINDS, parse_seconds
from netns_tools.config.keys import Key, Tree, check_tree, read_keys
from netns_tools.config.layers import load_config
from netns_tools.config.nstype import load_nstype, load_nstypes, write_cache
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, Problem
from netns_tools.paths import Paths

from .conftest import Write

KEYS = [
    Key("peers[].name", "ifpattern", required=True, example="eth0"),
    Key("peers[].weight", "integer", minimum=1, maximum=9, default="5"),
    Key("zones.*.family", "choice", ("inet", "ip"), default="inet"),
    Key("zones.*.set", "word"),
    Key("zones.*.on", "bool", default="no"),
    Key("zones.*.who[]", "text", example="label=x"),
    Key("zones.*.who[].label", "text"),
    Key("docker", "bool|path"),
    Key("docker.socket", "path"),
    Key("address", "address"),
    Key("interval", "seconds", default="1min"),
    Key("count", "integer", minimum=2),
]

DAEMON = """\
summary: A daemon
kind: daemon
keys:
  a[].b: {kind: bool, default: "no", help: What it is., example: "yes"}
example: |
  a: []
"""


def check(text: str, keys: list[Key] = KEYS) -> tuple[Tree, list[Problem]]:
    return check_tree(yamlfile.read_tree(text, "x.yaml"), keys, "x.yaml")


def good(text: str) -> Tree:
    tree, problems = check(text)
    assert not problems, "\n".join(problem.render() for problem in problems)
    return tree


# Definitions


def test_a_definition_of_a_daemon() -> None:
    plain = definition.read("x", "/usr/lib/nstypes/x.yaml", DAEMON.encode())
    assert plain is not None
    assert plain[1] == "daemon"
    keys = [Key(*fields) for fields in plain[8]]
    assert [(key.path, key.kind, key.default, key.help) for key in keys] == [
        ("a[].b", "bool", "no", "What it is.")
    ]
    assert plain[9] == "a: []\n"


@pytest.mark.parametrize(
    ("old", "new", "place", "told"),
    [
        ("kind: bool", "kind: boole", "4:3", "no kind 'boole'"),
        ("kind: bool, ", "", "4:3", "no kind ''"),
        ("kind: bool", "kind: bool|strange", "4:3", "no kind 'strange'"),
        ("a[].b", "a[.b", "4:3", "'a[.b' is no path of a key"),
        ("a[].b", "a..b", "4:3", "'a..b' is no path of a key"),
        ("help:", "halp:", "4:38", "unknown key 'halp' in key a[].b"),
        ("kind: bool", "kind: choice", "4:3", "choice and a list of choices belong together"),
        ("kind: bool", "kind: [bool]", "4:17", "kind must be a single value, not a list"),
        ("kind: bool", "kind: integer, minimum: x", "4:35", "minimum is no number"),
        ('default: "no"', "default: maybe", "4:3", "its default is wrong: 'maybe' is neither yes nor no"),
        ('example: "yes"', "example: ja", "4:3", "its example is wrong: 'ja' is neither yes nor no"),
        ("What it is.", "What it is., required: perhaps", "4:67", "required must be yes or no"),
        ("keys:\n  a[].b: ", "keys: ", "3:14", "key kind must be a mapping, not a single value"),
        ("summary: A daemon\n", "", "1:1", "a daemon needs 'summary'"),
        ("example: |\n  a: []\n", "", "1:1", "a daemon needs 'example'"),
        ("kind: daemon\n", "kind: daemon\nsteps: {}\n", "3:1", "unknown key 'steps' in the definition"),
        ("kind: daemon\n", "kind: daemon\noptions: {}\n", "3:1", "unknown key 'options' in the definition"),
    ],
)
def test_broken_definitions(old: str, new: str, place: str, told: str) -> None:
    assert old in DAEMON
    with pytest.raises(ConfigError) as caught:
        definition.read("x", "/usr/lib/nstypes/x.yaml", DAEMON.replace(old, new).encode())
    assert told in caught.value.render()
    assert place in [f"{problem.line}:{problem.column}" for problem in caught.value.problems]


def test_names_and_a_star_at_one_place() -> None:
    root = yamlfile.read_tree("{a.*.b: {kind: bool}, a.c: {kind: bool}}", "x.yaml")
    assert root is not None
    with pytest.raises(ConfigError, match=r"a has both names of its own and '\*'"):
        read_keys(root, "x.yaml")


DECLARATIONS = st.dictionaries(
    st.sampled_from(["a", "a.b", "a.*", "a[].b", "*.c[]", "a..b", "[]", ""]) | st.text(max_size=6),
    st.none()
    | st.dictionaries(
        st.sampled_from(
            ["kind", "choices", "minimum", "maximum", "default", "required", "example", "help", "x"]
        ),
        st.sampled_from([*KINDS, "bool|path", "|", "yes", "9" * 30, "5"])
        | st.none()
        | st.lists(st.text(max_size=3), max_size=2),
    ),
    max_size=4,
)


@given(DECLARATIONS)
def test_any_declarations_are_read_or_refused(data: dict[str, Any]) -> None:
    root = yamlfile.read_tree(yaml.safe_dump(data), "x.yaml")
    assert root is not None
    try:
        keys = read_keys(root, "x.yaml")
    except ConfigError:
        return
    assert [key.path for key in keys] == [key.text for key, _ in root.pairs or ()]
    check_tree(yamlfile.read_tree("a: [{b: 1}]\nc: {d: x}", "y.yaml"), keys, "y.yaml")


def test_only_shipped_types_are_daemons(paths: Paths, write: Write) -> None:
    """A daemon is a program of this project: an administrator's own type has steps."""
    write("mine.yaml", DAEMON + "steps: {}\n")
    with pytest.raises(ConfigError, match="unknown key 'steps' in the definition of a daemon"):
        load_nstype("mine", paths)


def test_the_cache_keeps_keys_and_example(paths: Paths) -> None:
    fresh = load_nstype("addrset", paths)
    assert not fresh.cached
    write_cache(paths)
    cached = load_nstype("addrset", paths)
    assert cached.cached
    assert cached.keys
    assert [key.fields() for key in cached.keys] == [key.fields() for key in fresh.keys]
    assert cached.example == fresh.example != ""


@pytest.mark.parametrize("text", ["steps: {up_outside: [true]}\n", "# steps\ninterfaces: [\n"])
def test_the_file_of_a_daemon_is_never_a_definition(paths: Paths, write: Write, text: str) -> None:
    write("addrset.yaml", text)
    for _ in "ab":
        assert load_nstype("addrset", paths).kind == "daemon"
        assert load_nstypes(paths)["addrset"].kind == "daemon"
        write_cache(paths)


@pytest.mark.parametrize("name", sorted(load_nstypes(Paths())))
def test_every_shipped_key_is_explained(name: str) -> None:
    nstype = load_nstype(name, Paths())
    for key in nstype.keys:
        assert key.help.endswith("."), key
        assert key.example, key
    if nstype.kind == "daemon":
        assert check_tree(yamlfile.read_tree(nstype.example, "example"), nstype.keys, "example")[1] == []


# Reading


def test_values_and_defaults() -> None:
    tree = good(
        "peers: [{name: ppp*}, {name: eth0, weight: 9}]\n"
        "zones: {wan: {family: ip, on: YES, who: [label=a, {label: b}]}, lan: , dmz: {set: ''}}\n"
        "docker: off\ncount: 3\n"
    )
    assert [(peer.text("name"), peer.number("weight")) for peer in tree.items("peers")] == [
        ("ppp*", 5),
        ("eth0", 9),
    ]
    zones = {place.text: zone for place, zone in tree.children("zones")}
    assert list(zones) == ["wan", "lan", "dmz"]
    assert [zone.text("family") for zone in zones.values()] == ["ip", "inet", "inet"]
    assert [zone.flag("on") for zone in zones.values()] == [True, False, False]
    assert [value.text for value in zones["wan"].values("who")] == ["label=a"]
    assert [who.text("label") for who in zones["wan"].items("who")] == ["", "b"]
    assert zones["lan"].items("who") == []
    assert zones["lan"].value("family") is None
    assert zones["dmz"].value("set") is None
    assert [place.text for place in zones["dmz"].empty()] == ["set"]
    place = zones["wan"].value("family")
    assert place is not None
    assert (place.line, place.column) == (2, 23)
    assert not tree.flag("docker")
    assert tree.mapping("docker") is None
    assert (tree.seconds("interval"), tree.number("count"), tree.text("address")) == (60.0, 3, "")


def test_either_form_of_a_key() -> None:
    mapping = good("docker: {socket: /run/d}").mapping("docker")
    assert mapping is not None
    assert mapping.text("socket") == "/run/d"
    assert good("docker: /run/d").text("docker") == "/run/d"
    assert good("docker: {}").mapping("docker") is not None
    assert good("docker:").mapping("docker") is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n", "{}\n"])
def test_an_empty_file(text: str) -> None:
    assert good(text).seconds("interval") == 60.0
    assert good(text).children("zones") == []
    _, problems = check(text, [*KEYS, Key("name", "word", required=True, example="a")])
    assert [(problem.message, problem.hint) for problem in problems] == [
        ("the file has no 'name'", "add  name: a")
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("1.5", 1.5), ("500ms", 0.5), ("10 s", 10.0), ("5min", 300.0), ("2h", 7200.0)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


# Problems


@pytest.mark.parametrize(
    ("text", "place", "told", "hint"),
    [
        ("- a", "1:1", "this is a list, not a mapping", "known names are: peers, zones"),
        ("word", "1:1", "this is a single value, not a mapping", "name: value"),
        ("peer: 1", "1:1", "unknown key 'peer'", "did you mean 'peers'?"),
        ("family: ip", "1:1", "unknown key 'family'", "'family' belongs to zones.*"),
        ("zones: {a: {docker: 1}}", "1:13", "unknown key 'docker' in zones.a", "top level of the file"),
        ("xyz: 1", "1:1", "unknown key 'xyz'", "known here are: peers, zones, docker"),
        ("steps: 1", "1:1", "unknown key 'steps'", "this file configures a daemon"),
        ("peers: eth0", "1:8", "peers must be a list, not a single value", "- name: eth0"),
        ("peers: {name: eth0}", "1:8", "peers must be a list, not a mapping", "- name: eth0"),
        ("peers: [eth0]", "1:9", "peers[] must be a mapping, not a single value", "known here are: name"),
        ("peers: [{weight: 1}]", "1:9", "an entry of peers has no 'name'", "add  name: eth0"),
        ("peers: [{name: }]", "1:9", "an entry of peers has no 'name'", "add  name: eth0"),
        ("peers:\n  -\n", "2:4", "an entry of peers is empty", "remove"),
        ("zones: [a]", "1:8", "zones must be a mapping, not a list", "a line  NAME:"),
        ("zones: {a: b}", "1:12", "zones.a must be a mapping, not a single value", "known here are: family"),
        ("zones: {'': {}}", "1:9", "'' in zones is no name", "name"),
        ('zones: {"a\\n": {}}', "1:9", "is no name", "name"),
        ("zones: {a: {who: x}}", "1:18", "zones.a.who must be a list, not a single", 'who: ["label=x"]'),
        ("zones: {a: {set: [x]}}", "1:18", "zones.a.set must be a single value, not a list", "write one"),
        ("zones: {a: {set: {x: y}}}", "1:18", "zones.a.set must be a single value, not a mapping", "one"),
        ("zones: {a: {who: [[x]]}}", "1:19", "must be a single value or a mapping, not a list", "write one"),
        ("zones: {a: {family: Inet}}", "1:21", "zones.a.family: 'Inet' is not one of inet, ip", "'inet'?"),
        ("zones: {a: {on: maybe}}", "1:17", "'maybe' is neither yes nor no", ""),
        ("zones: {a: {set: 1x}}", "1:18", "begins with a letter", ""),
        ("zones: {a: {set: a$}}", "1:18", "letters, digits and '_./-' only", ""),
        ("docker: maybe", "1:9", "'maybe' is neither yes nor no nor an absolute path", "begin it with '/'"),
        ("docker: {sock: /x}", "1:10", "unknown key 'sock' in docker", "did you mean 'socket'?"),
        ("address: 192.0.2.300/24", "1:10", "'192.0.2.300/24' is no address", "192.0.2.1/24"),
        ("address: localhost", "1:10", "'localhost' is no address", ""),
        ("interval: soon", "1:11", "'soon' is no time", "500ms"),
        ("interval: 1.5.2", "1:11", "'1.5.2' is no time", "500ms"),
        ("count: 1", "1:8", "'1' is not a whole number, 2 or more", ""),
        ("count: 1e3", "1:8", "'1e3' is not a whole number", ""),
        ("count: ٣", "1:8", "is not a whole number", ""),
        ("peers: [{name: a, weight: 10}]", "1:27", "'10' is not a whole number from 1 to 9", ""),
        ("peers: [{name: 'eth 0'}]", "1:16", "'eth 0' is no device name", "one entry a device"),
        ("peers: [{name: 'eth0:1'}]", "1:16", "it may not hold ':'", "write eth0"),
        ("peers: [{name: sixteen-letters-}]", "1:16", "longer than the 15 bytes", ""),
        ("peers: [{name: '[a'}]", "1:16", "never closed", ""),
        ("peers: [{name: '..'}]", "1:16", "no device name", ""),
    ],
)
def test_what_is_refused(text: str, place: str, told: str, hint: str) -> None:
    tree, problems = check(text)
    line, column = map(int, place.split(":"))
    found = [problem for problem in problems if told in problem.message]
    assert found, [problem.render() for problem in problems]
    assert (found[0].path, found[0].line, found[0].column) == ("x.yaml", line, column)
    assert hint in found[0].hint
    assert found[0].severity == "error"
    walk(tree)


def test_all_problems_are_told_at_once() -> None:
    _, problems = check("peers: [{nam: a}, {name: b, weight: x}]\nzones: {a: {set: 1}}\ncuont: 1\n")
    assert [problem.line for problem in problems] == [1, 1, 1, 2, 3]


def test_not_more_problems_than_anybody_reads() -> None:
    _, problems = check("\n".join(f"x{number}: 1" for number in range(500)))
    assert len(problems) == 50


def test_what_was_refused_is_not_there() -> None:
    tree, _ = check("peers: [{name: a, weight: x}, b]\nzones: {a: [], b: {set: 1x, family: ip}}\ncount: 1\n")
    assert [(peer.text("name"), peer.number("weight")) for peer in tree.items("peers")] == [("a", 5)]
    assert [
        (place.text, zone.text("set"), zone.text("family")) for place, zone in tree.children("zones")
    ] == [("b", "", "ip")]
    assert tree.number("count") == 0


def walk(tree: Tree) -> None:
    """Read everything, as a daemon does."""
    assert tree.flag("docker") in (True, False)
    assert tree.seconds("interval") >= 0
    assert tree.number("count") >= 0
    if mapping := tree.mapping("docker"):
        mapping.text("socket")
    for peer in tree.items("peers"):
        assert peer.number("weight") in range(1, 10)
    for place, zone in tree.children("zones"):
        assert place.text
        assert zone.text("family") in ("inet", "ip")
        assert zone.flag("on") in (True, False)
        for who in zone.items("who"):
            assert who.scalar or who.text("label") is not None


WORDS = st.sampled_from(
    [*(word.rstrip("[]") for key in KEYS for word in key.path.split(".") if word != "*"), "wan", "", "~"]
)
SCALARS = WORDS | st.text(max_size=20) | st.sampled_from(["yes", "no", "5", "/x", "inet", "eth0", "10.0.0.1"])
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.none() | st.booleans() | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=5),
    max_leaves=25,
)


@given(TREES)
def test_any_tree_gives_problems_or_values(data: Any) -> None:
    try:
        root = yamlfile.read_tree(yaml.safe_dump(data), "x.yaml")
    except ConfigError:
        return  # not the form of a configuration at all: the same key twice
    tree, problems = check_tree(root, KEYS, "x.yaml")
    walk(tree)
    for problem in problems:
        assert problem.message
        assert "\n" not in problem.message
        assert problem.render().isprintable() or "\n" in problem.render()
        assert problem.line


@given(st.sampled_from(KINDS), st.text(min_size=1))
def test_any_value_of_any_kind_is_fine_or_not(kind: str, text: str) -> None:
    root = yamlfile.Node(place := Value("", "x.yaml", 1, 1))
    name, node = yamlfile.Node(place), yamlfile.Node(place.with_text(text))
    name.scalar, node.scalar, root.pairs = "a", text, [(name, node)]
    tree, problems = check_tree(root, [Key("a", kind, ("x",) if kind == "choice" else ())], "x.yaml")
    assert tree.text("a") == ("" if problems else text)
    if not problems:
        assert text.isprintable()


@given(st.text(alphabet="abz09_.-/$ ü", min_size=1, max_size=8))
def test_words_are_what_nft_takes(text: str) -> None:
    """The rule of nft(8) for identifiers, said another way."""
    import re

    root = yamlfile.read_tree(f"a: '{text}'", "x.yaml")
    _, problems = check_tree(root, [Key("a", "word")], "x.yaml")
    assert bool(problems) != bool(re.fullmatch(r"[A-Za-z_.][A-Za-z0-9_./-]*", text))


def test_a_daemon_has_no_steps_to_run(paths: Paths, write: Write) -> None:
    write("addrset.yaml", "interfaces: [{name: eth0}]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(load_nstype("addrset", paths), "blue", paths)
    assert "addrset is a daemon: it has no steps" in caught.value.render()
    assert "netns-addrset plan --name blue" in caught.value.render()
