"""Mapping words: what may be written, what is refused and why, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.natmap.model import Dnat, Ports
from netns_tools.natmap.words import (
    Refused,
    parse_address,
    parse_container_word,
    parse_host_port,
    parse_network,
    parse_port_list,
    parse_remap,
    parse_word,
    render_ports,
    render_word,
)

from .entries import dnats, ports


def refused(word: str, parse: Callable[[str], object] = parse_word) -> str:
    with pytest.raises(Refused) as caught:
        parse(word)
    assert caught.value.part in word
    return f"{caught.value.message}; {caught.value.hint}"


def of_web(word: str) -> list[Dnat]:
    return parse_container_word(word, "web")


def free_word(word: str) -> Dnat:
    return parse_word(word, free=True)


def mapping(proto: str, host: str, ports: tuple[int, int, int], target: str, family: int = 4) -> Dnat:
    return Dnat(proto, host, "", Ports(*ports), target, family)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("8080:10.0.0.1:80", mapping("tcp", "", (8080, 8080, 80), "10.0.0.1")),
        ("80:10.0.0.1", mapping("tcp", "", (80, 80, 80), "10.0.0.1")),
        ("53:10.0.0.1/udp", mapping("udp", "", (53, 53, 53), "10.0.0.1")),
        ("53:10.0.0.1:5353/UDP", mapping("udp", "", (53, 53, 5353), "10.0.0.1")),
        ("192.0.2.1:80:10.0.0.1", mapping("tcp", "192.0.2.1", (80, 80, 80), "10.0.0.1")),
        ("192.0.2.1:8080:10.0.0.1:80/tcp", mapping("tcp", "192.0.2.1", (8080, 8080, 80), "10.0.0.1")),
        ("127.0.0.1:80:10.0.0.1", mapping("tcp", "127.0.0.1", (80, 80, 80), "10.0.0.1")),
        ("0.0.0.0:80:10.0.0.1:80", mapping("tcp", "", (80, 80, 80), "10.0.0.1")),
        ("9000-9100:10.0.0.1", mapping("tcp", "", (9000, 9100, 9000), "10.0.0.1")),
        ("9500-9599:10.0.0.1:9000-9099", mapping("tcp", "", (9500, 9599, 9000), "10.0.0.1")),
        ("443:[FD00:0::10]:443", mapping("tcp", "", (443, 443, 443), "fd00::10", 6)),
        ("[2001:DB8::1]:443:[fd00::10]", mapping("tcp", "2001:db8::1", (443, 443, 443), "fd00::10", 6)),
        ("[::]:1-2:[fd00::10]:3-4/udp", mapping("udp", "", (1, 2, 3), "fd00::10", 6)),
    ],
)
def test_words_of_addresses(word: str, expected: Dnat) -> None:
    assert parse_word(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", [("", 4, (80, 80, 80)), ("", 6, (80, 80, 80))]),
        ("8888:80", [("", 4, (8888, 8888, 80)), ("", 6, (8888, 8888, 80))]),
        ("0.0.0.0:8888:80", [("", 4, (8888, 8888, 80))]),
        ("[::]:8888:80", [("", 6, (8888, 8888, 80))]),
        ("192.0.2.1:80", [("192.0.2.1", 4, (80, 80, 80))]),
        ("[2001:db8::1]:81-82:91-92", [("2001:db8::1", 6, (81, 82, 91))]),
    ],
)
def test_words_of_containers(word: str, expected: list[tuple[str, int, tuple[int, int, int]]]) -> None:
    found = parse_container_word(word, "web")
    assert [(entry.host, entry.family, entry.ports) for entry in found] == [
        (host, family, Ports(*numbers)) for host, family, numbers in expected
    ]
    assert {(entry.proto, entry.container, entry.target) for entry in found} == {("tcp", "web", "")}


@pytest.mark.parametrize("word", ["8080:10.0.0.9:80", "192.0.2.1:8080:10.0.0.9:80"])
def test_a_target_address_is_no_container(word: str) -> None:
    assert parse_container_word(word, "web") == [parse_word(word)]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80:127.0.0.1:80", "the target 127.0.0.1 is a loopback address"),
        ("80:127.9.9.9:80", "systemd-socket-proxyd"),
        ("80:[::1]:80", "systemd-socket-proxyd"),
        ("[::1]:80:[fd00::1]:80", "the kernel sends nothing from ::1"),
        ("192.0.2.1:80:[fd00::1]:80", "192.0.2.1 is IPv4 and fd00::1 is IPv6"),
        ("[::]:80:10.0.0.1:80", "within one family only; NAT cannot do this; systemd-socket-proxyd"),
        ("80:224.0.0.1:80", "no address of one host"),
        ("80:0.0.0.0:80", "no address of one host"),
        ("80:255.255.255.255", "no address of one host"),
        ("80:[fe80::1]:80", "link-local"),
        ("224.0.0.1:80:10.0.0.1", "no address of one host"),
        ("80:[::ffff:10.0.0.1]:80", "write the IPv4 address: 10.0.0.1"),
        ("80:fd00::1:80", "IPv6 addresses stand in brackets"),
        ("2001:db8::1:80:10.0.0.1", "IPv6 addresses stand in brackets"),
        ("80:[fd00::1", "has no ']'"),
        ("80:[fd00::1]80", "has no ']'"),
        ("80:web:80", "for a container: docker add"),
        ("80", "is no mapping"),
        ("10.0.0.1", "is no mapping"),
        ("10.0.0.1:80", "is no mapping"),
        ("80:80", "is no mapping"),
        ("80:10.0.0.1:80:90", "is no mapping"),
        ("", "is no mapping"),
        ("80:10.0.0.1:", "is no mapping"),
        (":10.0.0.1:80", "is no mapping"),
        ("80:10.0.0.1/sctp", "'sctp' is no protocol"),
        ("80:10.0.0.1/", "'' is no protocol"),
        ("80:10.0.0.1/24:80", "'24:80' is no protocol"),
        ("65536:10.0.0.1:80", "port 65536 is too high"),
        ("99999999:10.0.0.1:80", "is no port"),
        ("080:10.0.0.1:80", "'080' is no port"),
        ("80:10.0.0.1:0", "the port of the target cannot be 0"),
        ("0:10.0.0.1:80", "only a command chooses a free one"),
        ("90-80:10.0.0.1", "write 80-90"),
        ("80-:10.0.0.1", "is no port"),
        ("1-2-3:10.0.0.1", "is no port"),
        ("80-89:10.0.0.1:80-88", "80-89 has 10 ports and 80-88 has 9"),
        ("80-88:10.0.0.1:80-89", "80-88 has 9 ports and 80-89 has 10"),
        ("80-89:10.0.0.1:80", "write 80-89"),
        ("80-89:10.0.0.1:65530", "both ranges must be of one length"),
        ("80:10.0.0.256:80", "'10.0.0.256' is no address"),
        ("80:10.0.0.01:80", "'10.0.0.01' is no address"),
        ("²:10.0.0.1", "'²' is neither a port nor an address"),
        ("8²:10.0.0.1", "is no port"),
    ],
)
def test_refused_words(word: str, expected: str) -> None:
    assert expected in refused(word)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("web", "'web' is neither a port nor an address"),
        ("", "is no mapping"),
        ("80:90:100", "is no mapping"),
        ("10.0.0.1", "is no mapping"),
        ("8080:127.0.0.1:80", "loopback"),
        ("[::1]:8080:80", "::1"),
        ("0:80", "only a command chooses"),
    ],
)
def test_refused_words_of_containers(word: str, expected: str) -> None:
    assert expected in refused(word, of_web)


def test_port_0_waits_for_a_free_port() -> None:
    assert parse_word("0:10.0.0.1:80", free=True).ports == Ports(0, 0, 80)
    assert [entry.ports for entry in parse_container_word("0:80", "web", free=True)] == [Ports(0, 0, 80)] * 2
    assert "needs the port of the target" in refused("0:10.0.0.1", free_word)
    assert "cannot begin with port 0" in refused("0-5:10.0.0.1:1-6", free_word)


def test_a_list_of_ports() -> None:
    found = parse_port_list(["443", "80", "9000-9100", "8080:81", "9500-9599:9000-9099"])
    assert found == [
        Ports(80, 80, 80),
        Ports(443, 443, 443),
        Ports(8080, 8080, 81),
        Ports(9000, 9100, 9000),
        Ports(9500, 9599, 9000),
    ]


@pytest.mark.parametrize("entries", [["80", "80"], ["80-90", "85"], ["80", "70-80"], ["80:", "81"], ["x"]])
def test_a_list_of_ports_is_refused(entries: list[str]) -> None:
    with pytest.raises(Refused):
        parse_port_list(entries)


def test_words_of_the_other_commands() -> None:
    assert parse_remap("8080:9090") == (8080, 9090)
    assert parse_remap("8080:0") == (8080, 0)
    assert parse_host_port("53") == (53, "")
    assert parse_host_port("53/UDP") == (53, "udp")
    for word in ("8080", "0:80", "80:x", ":", "80:"):
        with pytest.raises(Refused):
            parse_remap(word)
    for word in ("0", "53/", "x", ""):
        with pytest.raises(Refused):
            parse_host_port(word)


def test_prefixes_are_canonical() -> None:
    assert parse_network("192.0.2.0/24").text == "192.0.2.0/24"
    assert parse_network("192.0.2.7").text == "192.0.2.7/32"
    assert parse_network("2001:DB8:0::/64").text == "2001:db8::/64"
    with pytest.raises(Refused) as caught:
        parse_network("192.0.2.7/24")
    assert caught.value.hint == "write 192.0.2.0/24 for the whole network, 192.0.2.7 for the one address"


@pytest.mark.parametrize("text", ["192.0.2.1/24", "[2001:db8::1]", "x", "", "::ffff:192.0.2.1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Refused):
        parse_address(text)


# There and back


@given(dnats())
def test_a_rendered_word_makes_the_same_mapping(entry: Dnat) -> None:
    word = render_word(entry)
    expected = replace(entry, iface="", masquerade=False, allow_from=())
    if entry.container:
        assert parse_container_word(word, entry.container) == [replace(expected, target="")]
    else:
        assert parse_word(word) == expected


@given(ports())
def test_rendered_ports_are_the_same_ports(some: Ports) -> None:
    assert parse_port_list([render_ports(some)]) == [some]


@given(st.text(alphabet="0123456789:.-[]/abtcpudfe ²\n", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_word_or_refused(text: str) -> None:
    """Nothing else is raised, and what is taken is rendered."""
    with contextlib.suppress(Refused):
        entry = free_word(text)
        assert free_word(render_word(entry)) == entry
    with contextlib.suppress(Refused):
        parse_container_word(text, "web", free=True)
