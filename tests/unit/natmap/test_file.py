"""The configuration file of a NAT mapper."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.errors import ConfigError
from netns_tools.natmap import file
from netns_tools.natmap.fields import FIELDS, plain
from netns_tools.natmap.file import load_desired, load_given, parse
from netns_tools.natmap.model import Desired, Dnat, Entry, Ports, overlaps
from netns_tools.natmap.words import render_word
from netns_tools.paths import Paths

from .entries import EXAMPLE, KEYS, dnats, others


def desired(text: str) -> Desired:
    return parse(text, "natmap.yaml", KEYS)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        desired(text)
    return caught.value.render()


def test_the_example() -> None:
    assert len(desired(EXAMPLE)) == 10
    with_comments = re.sub("^# ", "", EXAMPLE, flags=re.M)
    found = desired(with_comments)
    assert (len(found.snat), len(found.hairpin), len(found.policy_routes)) == (1, 1, 1)


def test_each_entry_is_a_word_or_a_mapping() -> None:
    words = desired("dnat: ['198.51.100.1:80:10.0.0.10:80', '9500-9599:10.0.0.10:9000-9099/udp']")
    maps = desired(
        """\
dnat:
  - ext_ip: 198.51.100.1
    int_ip: 10.0.0.10
    proto: tcp
    ports: 80
  - {int_ip: 10.0.0.10, proto: udp, ports: 9500-9599:9000-9099}
"""
    )
    assert words == maps
    assert words.dnat[0].ports == Ports(80, 80, 80)


def test_words_need_no_quotes_and_are_no_numbers() -> None:
    found = desired("dnat:\n  - 8080:10.0.0.10:80\ndocker:\n  - {container: 0123456789ab, map: 22:22}\n")
    assert [entry.ports.first for entry in found.dnat] == [22, 8080, 22]
    assert {entry.container for entry in found.dnat} == {"", "0123456789ab"}


def test_lists_of_values() -> None:
    one = desired("dnat: [{int_ip: 10.0.0.1, ports: '80,443', allow_from: '192.0.2.1,192.0.2.2'}]")
    other = desired("dnat: [{int_ip: 10.0.0.1, ports: [80, 443], allow_from: [192.0.2.1, 192.0.2.2]}]")
    assert one == other
    found = desired("docker: [{container: web, map: [80, '8443:443']}]")
    assert len(found.dnat) == 4


def test_an_empty_file_declares_nothing() -> None:
    assert desired("") == desired("dnat:\n# nothing\n") == Desired()


# Refusals: all problems, with their places


def test_all_problems_at_once_with_places() -> None:
    text = """\
dnat:
  - 80:10.0.0.1:x
  - {int_ip: 10.0.0.1/24, ports: [80, nine]}
snat:
  - {int_ip: 10.0.0.0/24, ext_if: eth0, ext_ip: fd00::1}
policy_routes:
  - {src_ip: 10.0.0.1, via: 10.0.0.2, table: 254}
nat: []
"""
    with pytest.raises(ConfigError) as caught:
        desired(text)
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [
        (2, 17),
        (3, 14),
        (3, 39),
        (5, 49),
        (7, 46),
        (8, 1),
    ]
    assert "      - 80:10.0.0.1:x\n                    ^\n" in caught.value.render()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dnat: [0:10.0.0.1:80]", "only a command chooses a free one"),
        ("dnat: [{int_ip: 10.0.0.1}]", "ports is not given"),
        ("dnat: [{ports: 80}]", "int_ip is not given"),
        ("snat: [{int_ip: 10.0.0.1}]", "has no 'ext_if'"),
        ("docker: [{map: 80:80}]", "an entry of docker has no 'container'"),
        ("dnat: [{map: 80:10.0.0.1, no_masquerade: yes}]", "unknown key 'no_masquerade'"),
        ("dnat: 80:10.0.0.1", "must be a list"),
        ("snat: [80:10.0.0.1]", "must be a mapping"),
        ("dnat: [{map: 80:10.0.0.1, masquerade: maybe}]", "neither yes nor no"),
        ("policy_routes: [{src_ip: 10.0.0.1, via: 10.0.0.2, table: x}]", "not a whole number"),
        ("- 80:10.0.0.1", "not a mapping"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    assert expected in refused(text)


def test_what_is_missing_is_told_once() -> None:
    assert refused("snat: [{int_ip: 10.0.0.1, ext_ip: 192.0.2.1}]").count("ext_if") == 2  # message and hint


@pytest.mark.parametrize(
    ("first", "second", "verb"),
    [
        ("80:10.0.0.1", "80:10.0.0.2", "conflicts with"),
        ("80:10.0.0.1", "80:10.0.0.1", "repeats"),
        ("80:10.0.0.1", "80:10.0.0.1:81", "conflicts with"),
        ("80-90:10.0.0.1", "85:10.0.0.1", "repeats"),
        ("85:10.0.0.1", "80-90:10.0.0.2", "conflicts with"),
        ("80:10.0.0.1", "{map: 80:10.0.0.1, masquerade: yes}", "conflicts with"),
        ("80:10.0.0.1", "0.0.0.0:80:10.0.0.1", "repeats"),
    ],
)
def test_conflicts_and_repetitions_are_told_with_both_places(first: str, second: str, verb: str) -> None:
    with pytest.raises(ConfigError) as caught:
        desired(f"dnat:\n  - {first}\n  - {second}\n")
    (problem,) = caught.value.problems
    assert f" {verb} " in problem.message
    assert problem.message.endswith("in line 2")
    assert (problem.line, problem.column) == (3, 5)


def test_conflicts_between_lists() -> None:
    text = """\
docker: [{container: web, map: "80"}]
dnat: ["80:10.0.0.1"]
snat: [{int_ip: 10.0.0.1, ext_if: eth0, ext_ip: 192.0.2.1}]
masquerade: [{int_ip: 10.0.0.1/32, ext_if: eth0}]
policy_routes: [{src_ip: 10.0.0.1, via: 10.0.0.2}, {src_ip: 10.0.0.1, via: 10.0.0.2, table: 1000}]
hairpin: [{ext_ip: 192.0.2.1, int_ip: 10.0.0.1, ports: 80}, {ext_ip: 192.0.2.1, int_ip: 10.0.0.2, ports: 80}]
"""
    found = refused(text)
    for line in (1, 4, 5, 6):
        assert f"natmap.yaml:{line}:" in found
    assert found.count("conflicts with") == 4


def test_one_repetition_of_a_container_is_one_problem() -> None:
    found = refused("docker:\n  - {container: web, map: 80:80}\n  - {container: web, map: 80:80}\n")
    assert found.count("repeats") == 1


@pytest.mark.parametrize(
    "text",
    [
        "dnat: ['53:10.0.0.1', '53:10.0.0.1/udp']",
        "dnat: ['80:10.0.0.1', '80:[fd00::1]', '192.0.2.1:80:10.0.0.1', {map: 80:10.0.0.1, ext_if: eth0}]",
        "dnat: ['80:10.0.0.1', '8080:10.0.0.1']",
    ],
)
def test_what_is_no_conflict(text: str) -> None:
    assert len(desired(text)) >= 2


# Where it stands


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.delenv("NETNS_NATMAP_CONFIG", raising=False)
    monkeypatch.setattr(file, "load_keys", lambda name, paths: KEYS)
    (tmp_path / "etc/conf.d/netns").mkdir(parents=True)
    return Paths(str(tmp_path))


def test_the_file_of_a_name_counts_before_that_of_all(paths: Paths) -> None:
    assert load_desired("blue", paths) == Desired()
    Path(paths.conf, "natmap.yaml").write_text("dnat: ['80:10.0.0.1']\n")
    assert load_desired("blue", paths) == desired("dnat: ['80:10.0.0.1']")
    Path(paths.conf, "natmap-blue.yaml").write_text("dnat: ['81:10.0.0.1']\n")
    assert load_desired("blue", paths) == desired("dnat: ['81:10.0.0.1']")
    assert load_desired("green", paths) == desired("dnat: ['80:10.0.0.1']")


def test_a_file_that_the_environment_names_must_exist(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETNS_NATMAP_CONFIG", f"{paths.root}/none.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load_desired("blue", paths)


def test_a_file_that_others_can_write_is_not_believed_but_may_be_given(paths: Paths) -> None:
    path = Path(paths.conf, "natmap-blue.yaml")
    path.write_text("dnat: ['80:10.0.0.1']\n")
    path.chmod(0o666)
    with pytest.raises(ConfigError):
        load_desired("blue", paths)
    assert load_given(str(path), "blue", paths) == desired("dnat: ['80:10.0.0.1']")


def test_what_cannot_be_read_is_a_problem(paths: Paths) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_given(f"{paths.root}/none.yaml", "blue", paths)
    Path(paths.root, "odd.yaml").write_bytes(b"dnat: \xff\n")
    with pytest.raises(ConfigError):
        load_given(f"{paths.root}/odd.yaml", "blue", paths)
    Path(paths.root, "long.yaml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(ConfigError, match="bytes"):
        load_given(f"{paths.root}/long.yaml", "blue", paths)


def test_the_type_declares_every_field_of_a_file() -> None:
    declared = {key.path.replace("[]", "", 1).removesuffix("[]") for key in KEYS}
    for kind, fields in FIELDS.items():
        missing = {name for name in fields if f"{kind}.{name}" not in declared}
        in_the_map = {"host_ip", "host_port", "container_port", "target_ip", "proto"}
        assert missing <= {"no_masquerade"} | (in_the_map if kind == "docker" else set())
    for key in KEYS:
        assert key.help
        assert key.example


# Whatever stands in it


@given(st.lists(dnats() | others(), max_size=6))
def test_written_entries_are_read_again(entries: list[Entry]) -> None:
    rows: dict[str, list[object]] = {}
    for entry in entries:
        if isinstance(entry, Dnat) and entry.container:
            continue
        kind, row = plain(entry)
        is_word = isinstance(entry, Dnat) and row.keys() == {"map"}
        rows.setdefault(kind, []).append(row["map"] if is_word else row)
    written = [entry for entry in entries if not (isinstance(entry, Dnat) and entry.container)]
    if overlaps(written):
        with pytest.raises(ConfigError):
            desired(yaml.safe_dump(rows))
    else:
        assert desired(yaml.safe_dump(rows)) == Desired.of(written)


@given(st.text(max_size=60) | st.text(alphabet="dnat: []{}80,.-\n'x", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(desired(text), Desired)


def test_ten_thousand_mappings_of_one_file() -> None:
    entries = [Dnat("tcp", "", "", Ports(port, port, 80), "10.0.0.1", 4) for port in range(1, 10001)]
    text = "dnat:\n" + "".join(f"  - {render_word(entry)}\n" for entry in entries)
    assert desired(text) == Desired.of(entries)
