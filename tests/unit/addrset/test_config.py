"""The configuration of an address-set watcher."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from netns_tools.addrset.config import (
    Interface,
    Selector,
    Settings,
    Zone,
    config_path,
    load_settings,
    parse_settings,
)
from netns_tools.config.nstype import load_nstype
from netns_tools.errors import ConfigError
from netns_tools.paths import Paths
from tests.unit.addrset import zones

TYPE = load_nstype("addrset", Paths())

RUST_NETWORK_MGR = """\
interfaces:
  - name: eth0        # outside
    dhcp: true        # a word of rust-network-mgr
    nftables_zone: wan
  - name: eth1
    address: 192.168.1.1/24
    nftables_zone: lan
socket_path: /run/rust-network-mgr.sock
"""


def parse(text: str, name: str = "blue", docker_host: str = "") -> Settings:
    return parse_settings(text, "addrset.yaml", name, TYPE.keys, docker_host)


def refused(text: str, docker_host: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, docker_host=docker_host)
    return caught.value.render()


def one_zone(words: str, top: str = "") -> Zone:
    """Zone wan with an interface and these words in the zone."""
    text = f"{{interfaces: [{{name: eth0, nftables_zone: wan}}], zones: {{wan: {{{words}}}}}, {top}}}"
    (zone,) = parse(text).zones
    return zone


WAN = replace(zones.WAN, interfaces=("eth0",))


# What may be written


def test_a_file_of_rust_network_mgr() -> None:
    settings = parse(RUST_NETWORK_MGR)
    assert settings.zones[0] == WAN
    assert (settings.zones[1].name, settings.zones[1].set4, settings.zones[1].interfaces) == (
        "lan",
        "lan_ips",
        ("eth1",),
    )
    assert settings.interfaces == (Interface("eth0", "wan"), Interface("eth1", "lan"))
    assert (settings.docker, settings.socket_path) == ("", "/run/rust-network-mgr.sock")
    assert settings.path == "addrset.yaml"
    assert settings.warnings == ()


def test_the_example_of_the_type() -> None:
    settings = parse(TYPE.example)
    assert settings.warnings == ()
    assert settings.docker == "/var/run/docker.sock"
    zones = {zone.name: zone for zone in settings.zones}
    assert list(zones) == ["lan", "edge", "wan"]
    assert zones["wan"].interfaces == ("eth0", "ppp*")
    assert (zones["lan"].set4, zones["lan"].set6, zones["lan"].networks) == (
        "lan_networks",
        "lan_networks6",
        True,
    )
    assert not zones["edge"].exclusive
    assert zones["edge"].containers == (
        Selector(label=("role", "edge")),
        Selector(network="frontend", compose_project="shop"),
    )


def test_the_lines_of_the_example_that_are_comments() -> None:
    settings = parse(TYPE.example.replace("# own_table", "own_table").replace("# docker", "docker"))
    assert [zone.table for zone in settings.zones] == [
        "filter",
        "netns_addrset_blue",
        "netns_addrset_blue",
    ]


def test_the_shape_of_the_documentation() -> None:
    words = (
        "family: inet, table: filter, set4: wan_ips, set6: wan_ips6, networks: false, exclusive: true, "
        'temporary: false, require_up: false, containers: ["label=role=edge"]'
    )
    zone = one_zone(words)
    assert zone.containers == (Selector(label=("role", "edge")),)
    assert one_zone(words.replace("label=role=edge", "label=role")).containers == (
        Selector(label=("role", None)),
    )


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("", {}),
        ("family: ip, table: mangle", {"family": "ip", "table": "mangle"}),
        ("set4: a, set6: b", {"set4": "a", "set6": "b"}),
        ("set4: '', set6: null", {}),
        ("networks: yes, exclusive: no", {"networks": True, "exclusive": False}),
        ("temporary: true, require_up: on", {"temporary": True, "require_up": True}),
    ],
)
def test_what_a_zone_says(words: str, changed: dict[str, Any]) -> None:
    from dataclasses import replace

    assert one_zone(words) == replace(WAN, **changed)


@pytest.mark.parametrize(
    ("words", "table", "own"),
    [
        ("", "inet netns_addrset_blue", True),
        ("table: x", "inet x", False),
        ("family: ip", "ip filter", False),
        ("family: inet, table: netns_addrset_blue", "inet netns_addrset_blue", True),
        ("family: ip, table: netns_addrset_blue", "ip netns_addrset_blue", False),
    ],
)
def test_a_table_of_our_own(words: str, table: str, own: bool) -> None:
    zone = one_zone(words, "own_table: yes")
    assert (f"{zone.family} {zone.table}", zone.own_table) == (table, own)
    assert (zone.set4, zone.set6) == ("wan_ips", "wan_ips6")


def test_a_table_of_that_name_without_own_table_is_not_ours() -> None:
    assert not one_zone("table: netns_addrset_blue").own_table


def test_one_interface_in_several_zones() -> None:
    settings = parse(
        "interfaces:\n- {name: eth0, nftables_zone: a}\n- {name: eth0, nftables_zone: b}\n- {name: eth0}\n"
    )
    assert [(zone.name, zone.interfaces) for zone in settings.zones] == [("a", ("eth0",)), ("b", ("eth0",))]
    assert settings.interfaces[2] == Interface("eth0", "")


def test_containers_without_interfaces() -> None:
    settings = parse("zones: {edge: {containers: [name=web]}}")
    assert settings.zones[0].containers == (Selector(name="web"),)
    assert settings.docker == "/var/run/docker.sock"


@pytest.mark.parametrize(
    ("entry", "selector"),
    [
        ("label=a", Selector(label=("a", None))),
        ("label=a=", Selector(label=("a", ""))),
        ("label=a=b=c", Selector(label=("a", "b=c"))),
        ("name=web-*", Selector(name="web-*")),
        ("'name=web-[0-9]'", Selector(name="web-[0-9]")),
        ("network=front end", Selector(network="front end")),
        ("compose_project=shop", Selector(compose_project="shop")),
        ("{label: a=b, network: n}", Selector(label=("a", "b"), network="n")),
        (
            "{name: x?, compose_project: p, label: l}",
            Selector(label=("l", None), name="x?", compose_project="p"),
        ),
    ],
)
def test_how_containers_are_chosen(entry: str, selector: Selector) -> None:
    assert one_zone(f"containers: [{entry}]").containers == (selector,)


@pytest.mark.parametrize(
    ("line", "docker_host", "socket"),
    [
        ("", "", ""),
        ("", "tcp://192.0.2.1", ""),
        ("docker: no", "", ""),
        ("docker: ~", "", ""),
        ("docker: yes", "", "/var/run/docker.sock"),
        ("docker: yes", "unix:///run/user/0/docker.sock", "/run/user/0/docker.sock"),
        ("docker: /d.sock", "tcp://192.0.2.1", "/d.sock"),
        ("docker: unix:///d.sock", "", "/d.sock"),
        ("docker: {socket: /d.sock}", "", "/d.sock"),
        ("docker: {socket: 'unix:///d.sock'}", "", "/d.sock"),
        ("docker: {}", "", "/var/run/docker.sock"),
        ("docker: {socket: }", "", "/var/run/docker.sock"),
    ],
)
def test_where_docker_is(line: str, docker_host: str, socket: str) -> None:
    settings = parse(f"interfaces: [{{name: eth0}}]\n{line}\n", docker_host=docker_host)
    assert settings.docker == socket
    assert settings.warnings == ()


def test_docker_host_counts_for_containers() -> None:
    text = "zones: {edge: {containers: [name=web]}}"
    assert parse(text, docker_host="unix:///x.sock").docker == "/x.sock"
    told = refused(text, docker_host="tcp://192.0.2.1:2375")
    assert "DOCKER_HOST of the environment: 'tcp://192.0.2.1:2375' is no Unix socket" in told
    assert "docker: /var/run/docker.sock" in told


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/run/a.sock", "/run/a.sock"),
        ("/var/run/a.sock", "/run/a.sock"),
        ("/run/netns-tools/addrset-blue.sock", ""),
        ("/run//netns-tools/./addrset-blue.sock", ""),
    ],
)
def test_a_second_control_socket(path: str, found: str) -> None:
    settings = parse(f"interfaces: [{{name: eth0}}]\nsocket_path: {path}\n")
    assert settings.socket_path == found
    assert settings.warnings == ()


# What is told


def test_a_socket_that_the_unit_cannot_make() -> None:
    settings = parse("interfaces: [{name: eth0}]\nsocket_path: /srv/a.sock\n")
    assert settings.socket_path == "/srv/a.sock"
    (warning,) = settings.warnings
    assert (warning.line, warning.column, warning.severity) == (2, 14, "warning")
    assert "netns-addrset@blue.service may write below /run only" in warning.message


def test_a_zone_that_nothing_belongs_to() -> None:
    settings = parse("interfaces: [{name: eth0, nftables_zone: wna}]\nzones:\n  wan: {networks: yes}\n")
    (warning,) = settings.warnings
    assert (warning.line, warning.column) == (3, 3)
    assert "zone 'wan' has neither interfaces nor containers" in warning.message
    assert "is 'wna' meant?" in warning.hint


def test_an_interface_that_is_listed_twice() -> None:
    text = "interfaces: [{name: a, nftables_zone: z}, {name: a, nftables_zone: z}]"
    settings = parse(text)
    assert settings.interfaces == (Interface("a", "z"),)
    assert [warning.message for warning in settings.warnings] == ["'a' is listed twice for zone 'z'"]


@pytest.mark.parametrize(
    "text", ["", "interfaces: []", "zones: {wan: {}}", "docker: yes", "own_table: yes", "socket_path: /srv/x"]
)
def test_nothing_to_watch(text: str) -> None:
    told = refused(text)
    assert told.startswith("addrset.yaml: error: nothing to watch")
    example = told.partition("write for instance\n")[2]
    assert parse(example.partition("\naddrset.yaml")[0]).zones == (WAN,)


@pytest.mark.parametrize(
    ("text", "place", "told", "hint"),
    [
        ("interfaces: [{name: a, nftables_zone: 1a}]", "1:39", "begins with a letter", ""),
        ("zones: {1a: {}}", "1:9", "zone: '1a' is no name for nft", ""),
        (f"zones: {{{'a' * 251}: {{}}}}", "1:9", "has more than 250 characters", ""),
        ("zones: {a: {set4: x, set6: x}}", "1:28", "set4 and set6 are both 'x'", "of one family"),
        (
            "zones: {a: {set4: x}, b: {set6: x}}",
            "1:33",
            "zones 'a' and 'b' both fill inet filter x",
            "choose another set6",
        ),
        (
            "interfaces: [{name: e, nftables_zone: a}]\nzones: {b: {set4: a_ips}}",
            "1:39",
            "zones 'b' and 'a' both fill inet filter a_ips",
            "choose another set4",
        ),
        (
            "docker: off\nzones: {e: {containers: [name=x]}}",
            "1:9",
            "docker: off, but zone 'e' has containers",
            "remove this line",
        ),
        ("docker: maybe", "1:9", "'maybe' is not the absolute path of a socket", "/var/run/docker.sock"),
        ("docker: ssh://root@host", "1:9", "'ssh://root@host' is no Unix socket", "/var/run/docker.sock"),
        ("docker: {socket: run/x}", "1:18", "'run/x' is not the absolute path", "/var/run/docker.sock"),
        (f"docker: /{'x' * 107}", "1:9", "longer than the 107 bytes", ""),
        ("docker: {sockets: /x}", "1:10", "unknown key 'sockets' in docker", "did you mean 'socket'?"),
        ("socket_path: /run/x/", "1:14", "'/run/x/' is a directory", "write  /run/x/addrset.sock"),
        ("socket_path: run/x", "1:14", "no absolute path", "begin it with '/'"),
        (f"socket_path: /run/{'x' * 103}", "1:14", "a path of 108 bytes", ""),
        ("socket_path: /run/netns-tools/addrset-red.sock", "1:14", "uses itself", "/run/addrset.sock"),
        ("zones: {e: {containers: [edge]}}", "1:26", "does not say what to choose by", "write label=KEY"),
        ("zones: {e: {containers: [lable=x]}}", "1:26", "'lable=x' does not say", "did you mean label=?"),
        ("zones: {e: {containers: [label=]}}", "1:26", "label= has nothing behind it", ""),
        ("zones: {e: {containers: ['label==x']}}", "1:26", "label= has nothing behind it", ""),
        ("zones: {e: {containers: [name=/web]}}", "1:26", "no name of a container", "name=web"),
        ("zones: {e: {containers: [name=a b]}}", "1:26", "no name of a container", "one entry a name"),
        ("zones: {e: {containers: ['name=[a']}}", "1:26", "never closed", ""),
        ("zones: {e: {containers: [{}]}}", "1:26", "chooses nothing", "label, name, network"),
        ("zones: {e: {containers: [{name: a, label: }]}}", "1:36", "label has no value", "remove it"),
        ("zones: {e: {containers: [{image: a}]}}", "1:27", "unknown key 'image'", "label, name, network"),
        ("zones: {e: {containers: label=a}}", "1:25", "must be a list", '["label=role=edge"]'),
        ("steps: {}", "1:1", "unknown key 'steps'", "configures a daemon"),
        ("interfaces: [{name: eth0, zone: wan}]", "1:27", "unknown key 'zone' in interfaces[]", "nftables_z"),
        ("interfaces: [{name: eth0, nftables_zone: [a]}]", "1:42", "must be a single value", ""),
        ("interfaces: [{dhcp: yes}]", "1:14", "an entry of interfaces has no 'name'", "add  name: eth0"),
    ],
)
def test_what_is_refused(text: str, place: str, told: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    found = [problem for problem in caught.value.problems if told in problem.message]
    assert found, caught.value.render()
    assert f"{found[0].line}:{found[0].column}" == place
    assert hint in found[0].hint
    assert (found[0].path, found[0].severity) == ("addrset.yaml", "error")


def test_all_problems_at_once_in_their_order() -> None:
    told = refused(
        "docker: no\ninterfaces:\n- {nam: a}\n- {name: b, nftables_zone: '?'}\n"
        "zones:\n  e: {containers: [x, name=y], set4: a, set6: a}\n"
    )
    places = [line.split(": error: ")[0] for line in told.splitlines() if ": error: " in line]
    assert places == [
        *("addrset.yaml:1:9", "addrset.yaml:3:3", "addrset.yaml:3:4", "addrset.yaml:4:28"),
        *("addrset.yaml:6:20", "addrset.yaml:6:47"),
    ]


def test_the_same_set_in_other_tables_is_another_set() -> None:
    zones = "a: {set4: x}, b: {set4: x, family: ip}, c: {set4: x, table: nat}"
    assert len(parse(f"zones: {{{zones}}}\ninterfaces: [{{name: eth0}}]").zones) == 3


# Any text

SCALARS = st.text(max_size=12) | st.sampled_from(
    [
        "yes",
        "no",
        "",
        "wan",
        "eth0",
        "ppp*",
        "/run/x",
        "inet",
        "label=a",
        "name=",
        "network=n",
        "x_ips",
        "docker",
    ]
)
KNOWN = st.sampled_from(
    [
        *("interfaces", "name", "nftables_zone", "zones", "wan", "set4", "set6", "containers", "docker"),
        *("socket", "socket_path", "own_table", "family", "table", "label", "network", "networks"),
    ]
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KNOWN | SCALARS, inner, max_size=5),
    max_leaves=30,
)
# Near a configuration, so that the rules behind the form are reached too.
NEAR = st.fixed_dictionaries(
    {},
    optional={
        "interfaces": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["eth0", "ppp*"])},
                optional={"nftables_zone": st.sampled_from(["a", "b", ""]), "dhcp": st.just("yes")},
            )
        ),
        "zones": st.dictionaries(
            st.sampled_from(["a", "b"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "set4": st.sampled_from(["x", "a_ips", ""]),
                    "set6": st.sampled_from(["x", "y"]),
                    "table": st.sampled_from(["filter", "netns_addrset_blue"]),
                    "family": st.sampled_from(["inet", "ip"]),
                    "containers": st.lists(
                        st.sampled_from(["label=a", "name=x*", {"label": "a=b", "network": "n"}]), max_size=3
                    ),
                },
            ),
        ),
        "docker": st.sampled_from(["yes", "no", "/d.sock", {"socket": "/d.sock"}, {}]),
        "own_table": st.sampled_from(["yes", "no"]),
        "socket_path": st.sampled_from(["/run/x", "/srv/x", ""]),
    },
)


def says_why(error: ConfigError) -> None:
    """A refusal with its reasons, and nothing in them that steers a terminal."""
    assert any(problem.severity == "error" for problem in error.problems)
    for problem in error.problems:
        assert problem.message
        assert problem.path == "addrset.yaml"
    assert error.render().replace("\n", "").isprintable()


@settings_of_hypothesis(max_examples=400)
@given(
    st.text() | (TREES | NEAR).map(yaml.safe_dump), st.sampled_from(["", "unix:///d.sock", "tcp://x", "\0"])
)
def test_any_text_gives_problems_or_settings(text: str, docker_host: str) -> None:
    try:
        settings = parse(text, docker_host=docker_host)
    except ConfigError as error:
        says_why(error)
        return
    assert settings.interfaces or any(zone.containers for zone in settings.zones)
    sets = [(zone.family, zone.table, name) for zone in settings.zones for name in (zone.set4, zone.set6)]
    assert len(sets) == len(set(sets))
    assert bool(settings.docker) or not any(zone.containers for zone in settings.zones)
    for zone in settings.zones:
        assert not zone.own_table or (zone.family, zone.table) == ("inet", "netns_addrset_blue")
        for selector in zone.containers:
            assert selector != Selector()
    for interface in settings.interfaces:
        assert not interface.zone or interface.pattern in next(
            zone.interfaces for zone in settings.zones if zone.name == interface.zone
        )


# The file


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A machine without configuration."""
    monkeypatch.delenv("NETNS_ADDRSET_CONFIG", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    paths = Paths(str(tmp_path))
    Path(paths.conf).mkdir(parents=True)
    return paths


def write(paths: Paths, name: str, text: str) -> str:
    path = Path(paths.conf) / name
    path.write_text(text)
    return str(path)


def load_refused(paths: Paths, name: str = "blue") -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(name, paths)
    return caught.value.render()


def test_which_file_counts(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_path("blue", paths) == f"{paths.conf}/addrset.yaml"
    write(paths, "addrset.yaml", "interfaces: [{name: shared}]")
    write(paths, "addrset-blue.yaml", "interfaces: [{name: own}]")
    assert load_settings("blue", paths).interfaces == (Interface("own", ""),)
    assert load_settings("host", paths).interfaces == (Interface("shared", ""),)
    assert load_settings("blue", paths).path == f"{paths.conf}/addrset-blue.yaml"
    other = tmp_path / "other.yaml"
    other.write_text("interfaces: [{name: other}]")
    monkeypatch.setenv("NETNS_ADDRSET_CONFIG", str(other))
    assert load_settings("blue", paths).interfaces == (Interface("other", ""),)
    assert config_path("blue", paths) == str(other)
    monkeypatch.setenv("NETNS_ADDRSET_CONFIG", "")
    assert config_path("blue", paths) == f"{paths.conf}/addrset-blue.yaml"


def test_a_relative_override(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.yaml").write_text("interfaces: [{name: other}]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETNS_ADDRSET_CONFIG", "other.yaml")
    assert load_settings("blue", paths).path == str(tmp_path / "other.yaml")


def test_no_file(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    told = load_refused(paths)
    assert f"neither {paths.conf}/addrset-blue.yaml nor {paths.conf}/addrset.yaml" in told
    example = "\n".join(line for line in told.splitlines() if line.startswith("    "))
    assert parse(example).zones == (WAN,)
    monkeypatch.setenv("NETNS_ADDRSET_CONFIG", f"{paths.conf}/x.yaml")
    told = load_refused(paths)
    assert f"{paths.conf}/x.yaml: error: there is no such file" in told
    assert "NETNS_ADDRSET_CONFIG names it" in told


def test_a_file_of_its_own_that_is_broken_hides_the_shared_one(paths: Paths) -> None:
    write(paths, "addrset.yaml", "interfaces: [{name: shared}]")
    write(paths, "addrset-blue.yaml", "interfaces: [}")
    assert f"{paths.conf}/addrset-blue.yaml:1:" in load_refused(paths)
    os.remove(f"{paths.conf}/addrset-blue.yaml")
    os.symlink("nowhere", f"{paths.conf}/addrset-blue.yaml")
    assert "addrset-blue.yaml: error: cannot be read" in load_refused(paths)


def test_whose_file_it_is(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(paths, "addrset.yaml", "interfaces: [{name: eth0}]")
    os.chmod(path, 0o666)
    assert f"{path}: error: refused: can be written by everybody" in load_refused(paths)
    os.chmod(path, 0o644)
    os.chmod(paths.conf, 0o777)
    assert f"{paths.conf}: error: refused: can be written by everybody" in load_refused(paths)
    os.chmod(paths.conf, 0o755)
    load_settings("blue", paths)
    other = tmp_path / "shared"
    other.mkdir()
    (other / "a.yaml").write_text("interfaces: [{name: eth0}]")
    os.chmod(other, 0o1777)
    monkeypatch.setenv("NETNS_ADDRSET_CONFIG", str(other / "a.yaml"))
    assert "others may put files here" in load_refused(paths)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"interfaces: \0", b"a" * (1 << 20) + b"b"])
def test_a_file_that_is_no_text(paths: Paths, data: bytes) -> None:
    (Path(paths.conf) / "addrset.yaml").write_bytes(data)
    assert f"{paths.conf}/addrset.yaml" in load_refused(paths)


@pytest.mark.parametrize("name", ["", "../x", "a b"])
def test_names_that_are_none(paths: Paths, name: str) -> None:
    write(paths, "addrset.yaml", "interfaces: [{name: eth0}]")
    assert "name" in load_refused(paths, name)


def test_docker_host_of_the_environment(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    write(paths, "addrset.yaml", "zones: {e: {containers: [name=x]}}")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    assert load_settings("blue", paths).docker == "/run/other.sock"


def test_a_type_of_the_same_name(paths: Paths) -> None:
    write(paths, "addrset.yaml", "interfaces: [{name: eth0}]")
    path = write(paths, "addrset.sh", "")
    assert f"{path}: error: defines a type addrset of your own" in load_refused(paths)


def test_a_definition_in_the_place_of_the_configuration(paths: Paths) -> None:
    write(paths, "addrset.yaml", "summary: mine\nsteps: {up_inside: [true]}\n")
    told = load_refused(paths)
    assert "unknown key 'steps'" in told
    assert "this file configures a daemon" in told
