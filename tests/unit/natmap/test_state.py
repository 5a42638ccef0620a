"""The state file: all that commands asked for comes back, and a broken file is never believed."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.errors import NetnsToolsError
from netns_tools.natmap import state
from netns_tools.natmap.model import Desired, Dnat, Entry, Ports
from netns_tools.natmap.state import StateWriter, parse_state, state_path
from netns_tools.paths import Paths

from .entries import crowded_dnats, dnats, others

WEB = Dnat("tcp", "198.51.100.1", "", Ports(8080, 8080, 80), "10.0.0.10", 4)
TEXT = """\
{
"version": 1,
"dnat": [
{"map": "198.51.100.1:8080:10.0.0.10:80/tcp"},
{"map": "198.51.100.1:8443:10.0.0.10:443/tcp", "masquerade": true, "allow_from": ["192.0.2.0/24"]}
],
"docker": [
{"map": "0.0.0.0:8888:80/tcp", "container": "web", "address": "172.17.0.2"},
{"map": "[::]:8888:80/tcp", "container": "web"}
],
"snat": [],
"masquerade": [
{"int_ip": "10.0.0.0/24", "ext_if": "eth0"}
],
"hairpin": [],
"policy_routes": []
}
"""


def corrupt(text: str) -> str:
    with pytest.raises(NetnsToolsError, match="corrupt") as caught:
        parse_state(text, "/var/lib/x.json")
    assert "/var/lib/x.json" in caught.value.message
    assert "nothing was changed" in caught.value.hint
    return caught.value.message


def test_the_file_is_readable_and_has_an_entry_a_line() -> None:
    desired = parse_state(TEXT, "x")
    assert WEB in desired.dnat
    assert [entry.target for entry in desired.dnat if entry.container] == ["172.17.0.2", ""]
    assert StateWriter().text(desired) == TEXT


def test_a_writer_writes_what_is_there_now() -> None:
    writer = StateWriter()
    desired = Desired()
    for step in (WEB, replace(WEB, target="10.0.0.11"), replace(WEB, proto="udp")):
        desired = desired.merge(Desired.of([step]))
        assert writer.text(desired) == StateWriter().text(desired)
        assert parse_state(writer.text(desired), "x") == desired


def test_the_place_of_the_file() -> None:
    assert state_path("blue", Paths("/r")) == "/r/var/lib/netns-tools/natmap-blue.json"


def changed(**sections: Any) -> str:
    return json.dumps(json.loads(TEXT) | sections)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Expecting value"),
        ("{}", "version is None"),
        ("[]", "no JSON object"),
        (TEXT[:-20], ""),
        (TEXT + "x", "Extra data"),
        (changed(version=2), "version is 2, known is 1"),
        (changed(version=True), "version is True"),
        (changed(more=[]), "'more' is unknown"),
        (json.dumps({"version": 1, "dnat": []}), "'docker' is missing"),
        (changed(snat={}), "snat is no list"),
        (changed(snat=[[]]), "snat, entry 1: it is no object"),
        (changed(dnat=[{"map": "80:10.0.0.1"}]), "it is not written as"),
        (changed(dnat=[{"map": "80:10.0.0.1:80/tcp", "target": "x"}]), "unknown field 'target'"),
        (changed(dnat=[{"map": "80:10.0.0.1:80/tcp", "masquerade": False}]), "it is not written as"),
        (changed(dnat=[{"map": "80:010.0.0.1:80/tcp"}]), "is no address"),
        (changed(dnat=[{"map": "0:10.0.0.1:80/tcp"}]), "host port 0"),
        (changed(dnat=[{"int_ip": "10.0.0.1", "ports": "80"}]), "it is not written as"),
        (changed(dnat=[{"int_ip": "10.0.0.1", "ports": "80,81"}]), "it is not one entry"),
        (changed(docker=[{"map": "80:80/tcp", "container": "web"}]), "it is not one entry"),
        (changed(docker=[{"map": "[::]:80:80/tcp", "container": "a", "address": "10.0.0.1"}]), "is not IPv6"),
        (changed(docker=[{"map": "[::]:80:80/tcp", "container": "a", "address": "x"}]), "'x' is no address"),
        (changed(docker=[{"map": "[::]:80:80/tcp", "container": "a", "address": 5}]), "it is not written as"),
        (changed(dnat=[{"map": "80:10.0.0.1:80/tcp"}] * 2), "only one of these can be"),
        (changed(dnat=[{"map": f"80:10.0.0.{n}:80/tcp"} for n in (1, 2)]), "only one of these can be"),
        (TEXT.replace('"snat": []', '"snat": [], "snat": []'), "twice"),
        ("[" * 100_000, ""),
        ('{"version": NaN}', "version is nan"),
    ],
)
def test_a_broken_file_is_refused(text: str, expected: str) -> None:
    assert expected in corrupt(text)


# Whatever was asked for


@given(st.lists(dnats() | others() | crowded_dnats(), max_size=8))
def test_everything_comes_back(entries: list[Entry]) -> None:
    desired = Desired()
    for entry in entries:
        desired = desired.merge(Desired.of([entry]))
    text = StateWriter().text(desired)
    assert parse_state(text, "x") == desired
    assert text.count("\n") >= len(desired)


@given(st.data())
def test_a_file_with_a_change_is_refused_or_says_something_else(data: st.DataObject) -> None:
    """No single character of it is without meaning, but where JSON allows blanks."""
    at = data.draw(st.integers(0, len(TEXT) - 1))
    put = data.draw(st.sampled_from(['"', "}", "]", ",", "7", "x", ":", "", "\\", "\x00"]))
    text = TEXT[:at] + put + TEXT[at + 1 :]
    try:
        found = parse_state(text, "x")
    except NetnsToolsError:
        return
    assert found != parse_state(TEXT, "x") or text == TEXT or TEXT[at].isspace()


@given(st.integers(0, len(TEXT) - 3))
def test_a_file_that_was_cut_off_is_refused(length: int) -> None:
    corrupt(TEXT[:length])


_ADDRESSES = (
    *("", "192.0.2.1", "127.0.0.1", "0.0.0.0", "192.0.2.01", "224.0.0.1", "256.0.0.1", "1.2.3"),
    *("[2001:db8::1]", "[2001:DB8::1]", "[2001:db8:0::1]", "[::]", "[::1]", "[fe80::1]", "2001:db8::1"),
)


def test_simple_rows_are_read_as_all_others_are() -> None:
    ports = ("0", "080", "80", "65536", "80-81")
    simple, found = state._Simple(), 0
    for host, port, target, to, proto in product(_ADDRESSES, ports, _ADDRESSES, ports, ("/tcp", "/udp", "")):
        row = {"map": ":".join(part for part in (host, port, target, to) if part) + proto}
        if (entry := simple.read(row)) is not None:
            assert state._read_row("dnat", row) == entry
            found += 1
    assert found == 8  # of two families: with and without a host, tcp and udp
