"""Every kind of option: what it takes, what it refuses and what it says then."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netns_tools.config.definition import OPTION_KINDS
from netns_tools.config.nstype import Option
from netns_tools.config.option import check_value, is_true, split_words
from netns_tools.config.value import Value


def check(kind: str, text: str) -> list[str]:
    """The messages with their hints."""
    option = Option("OPT", kind, choices=("bridge", "private") if kind == "choice" else ())
    source = f"OPT='{text}'"
    found = check_value(option, Value(text, "veth.conf", 1, 5, source, len(text) + 2))
    return [f"{problem.severity}: {problem.message} [{problem.hint}]" for problem in found]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("ifname", "ve-demo0"), ("ifname", "a" * 15), ("ifname", "eth0.100"),
        ("ifprefix", ""), ("ifprefix", "ve-"),
        ("nsname", "router"), ("nsname", "a-b.c_d"),
        ("mac", "02:00:00:00:00:01"), ("mac", "AA:bb:CC:dd:EE:ff"),
        ("macs", "02:00:00:00:00:01, 02:00:00:00:00:02"), ("macs", "02:00:00:00:00:01\n02:00:00:00:00:02\n"),
        ("mtu", "68"), ("mtu", "1500"), ("mtu", "65535"),
        ("choice", "bridge"), ("text", "anything 'at all' #1"), ("text", "é"),
        ("bool", "yes"), ("bool", "No"), ("bool", "1"), ("bool", "FALSE"),
        ("addresses", "10.0.0.1/24"), ("addresses", "10.0.0.0/31"),
        ("addresses", "10.0.0.1/24, 2001:db8::1/64"),
        ("addresses", "10.0.0.1/32"), ("addresses", "2001:db8::/127"), ("addresses", "fe80::1/64"),
        ("addresses", "192.0.2.1/24 broadcast 192.0.2.255"), ("addresses", "192.0.2.1/24 broadcast +"),
        ("addresses", "192.0.2.1/24 brd - label eth0:1 scope link metric 5"),
        ("addresses", "10.0.0.1 peer 10.0.0.2"), ("addresses", "local 10.0.0.1 peer 10.0.0.2/32"),
        ("addresses", "2001:db8::1/64 nodad preferred_lft 0 valid_lft forever"),
        ("addresses", "10.0.0.1/24,,\n"),
        ("gateways", "10.0.0.1"), ("gateways", "10.0.0.1, fe80::1"),
        ("routes", "default via 10.0.0.1"), ("routes", "192.0.2.0/24"), ("routes", "192.0.2.1"),
        ("routes", "192.0.2.0/24 via 10.0.0.1 metric 5 table 100, 2001:db8::/32 via fe80::1 onlink"),
        ("routes", "blackhole 192.0.2.0/24"), ("routes", "192.0.2.0/24 via inet6 fe80::1"),
        ("routes", "default via 10.0.0.1 mtu lock 1400 src 10.0.0.2"),
    ],
)  # fmt: skip
def test_good_values(kind: str, text: str) -> None:
    assert check(kind, text) == []


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("ifname", "a" * 16, "has 16 characters; Linux allows 15"),
        ("ifname", "a b", "is no device name"),
        ("ifname", "lo", "taken in every namespace"),
        ("ifprefix", "ve/", "is no device name"),
        ("nsname", "host", "reserved"),
        ("nsname", "../x", "is no namespace name"),
        ("mac", "01:00:5e:00:00:01", "is a multicast address (its first byte is odd)"),
        ("mac", "01:00:5e:00:00:01", "[write 02:00:5e:00:00:01, or any even first byte]"),
        ("mac", "00:00:00:00:00:00", "zero MAC address"),
        ("mac", "02-00-00-00-00-01", "[write 02:00:00:00:00:01]"),
        ("mac", "2:0:0:0:0:1", "is no MAC address [six pairs"),
        ("macs", "02:00:00:00:00:01 02:00:00:00:00:02", "separate MAC addresses by commas"),
        ("macs", "02:00:00:00:00:0a, 02:00:00:00:00:0A", "given twice"),
        ("mtu", "67", "a number from 68 to 65535"),
        ("mtu", "65536", "a number from 68 to 65535"),
        ("mtu", "0x5dc", "a number from 68 to 65535"),
        ("mtu", "\u0661\u0665\u0660\u0660", "a number from 68 to 65535"),
        ("choice", "Bridge", "is not one of bridge, private [write bridge]"),
        ("choice", "veb", "is not one of bridge, private"),
        ("bool", "maybe", "neither yes nor no"),
        ("text", "a\nb", "control characters"),
        ("addresses", "10.0.0.1", "warning: OPT: 10.0.0.1 has no prefix length"),
        ("addresses", "10.0.0.1", "[write 10.0.0.1/24 "),
        ("addresses", "2001:db8::1", "[write 2001:db8::1/64 "),
        ("addresses", "10.0.0.0/24", "itself; a device cannot have it [its first host is 10.0.0.1/24]"),
        ("addresses", "10.0.0.255/24", "broadcast address of its network; a device cannot"),
        ("addresses", "2001:db8::/64", "its first host is 2001:db8::1/64"),
        ("addresses", "224.0.0.1/24", "multicast"),
        ("addresses", "ff02::1/64", "multicast"),
        ("addresses", "0.0.0.0/0", "unspecified"),
        ("addresses", "255.255.255.255", "broadcast address"),
        ("addresses", "10.0.0.256/24", "is not an address [each number of an IPv4 address is at most 255]"),
        ("addresses", "10.0.0.01/24", "no leading zeros"),
        ("addresses", "10.0.0.1/33", "is not an address"),
        ("addresses", "10.0.0.1/24 10.0.0.2/24", "[separate addresses by commas]"),
        ("addresses", "10.0.0.1/24 brodcast +", "unknown word 'brodcast' [did you mean 'broadcast'?]"),
        ("addresses", "10.0.0.1/24 broadcast", "needs a word after it"),
        ("addresses", "10.0.0.1/24 peer ::1", "not of the same family"),
        ("addresses", "2001:db8::1/64 broadcast +", "IPv6 has no broadcast"),
        ("addresses", "10.0.0.1/24 nodad", "for IPv6 only"),
        ("addresses", "10.0.0.1/24 valid_lft soon", "neither seconds nor 'forever'"),
        ("addresses", "10.0.0.1/24 dev eth0", "unknown word 'dev'"),
        ("addresses", "10.0.0.1/24, 10.0.0.1/25", "given twice"),
        ("addresses", "10.0.0.1/24 # home", "'#' is not allowed"),
        ("addresses", "$(reboot)", "'$' is not allowed"),
        ("addresses", "10.0.0.1/24;reboot", "';' is not allowed"),
        ("addresses", "“10.0.0.1/24”", "(U+201C) is not allowed"),
        ("addresses", "10.0.0.1/24\xa0", "(U+00A0) is not allowed"),
        ("addresses", "10\u20240\u20240\u20241/24", "(U+2024) is not allowed"),
        ("gateways", "10.0.0.1/24", "a gateway has no prefix length: 10.0.0.1/24 [write 10.0.0.1]"),
        ("gateways", "10.0.0.1, 10.0.0.2", "a second gateway for IPv4"),
        ("gateways", "0.0.0.0", "unspecified"),
        ("gateways", "10.0.0.1 metric 5", "unknown word 'metric'"),
        ("routes", "192.0.2.1/24 via 10.0.0.1", "[write 192.0.2.0/24]"),
        ("routes", "default gw 10.0.0.1", "unknown word 'gw'"),
        ("routes", "default via", "needs a word after it"),
        ("routes", "192.0.2.0/24 via fe80::1", "not an IPv4 address as the rest of the route"),
        ("routes", "192.0.2.0/24 metric x", "not a number"),
        ("routes", "192.0.2.0/24 dev averyveryverylongname", "Linux allows 15"),
        ("routes", "everything", "is not a prefix (or 'default')"),
        ("routes", "default via 10.0.0.1, default via 10.0.0.1", "given twice"),
    ],
)  # fmt: skip
def test_bad_values(kind: str, text: str, told: str) -> None:
    assert any(told in message for message in check(kind, text)), check(kind, text)


def test_the_caret_is_under_the_entry_that_is_wrong() -> None:
    text = "10.0.0.1/24, 10.0.0.2/33"
    value = Value(text, "veth.conf", 7, 6, f"ADDR='{text}'", len(text) + 2)
    (problem,) = check_value(Option("ADDR", "addresses"), value)
    assert problem.render() == (
        "veth.conf:7:20: error: ADDR: '10.0.0.2/33' is not an address\n"
        "    ADDR='10.0.0.1/24, 10.0.0.2/33'\n"
        "                       ^^^^^^^^^^^"
    )


def test_all_entries_are_checked() -> None:
    assert len(check("addresses", "x, 10.0.0.0/24, y")) == 3


def test_truth() -> None:
    assert [word for word in ("yes", "True", "1", "no", "0") if is_true(word)] == ["yes", "True", "1"]


LINE_BREAKERS = frozenset("#'\"\\\n\r\t;$`|&<>(){}")


@settings(max_examples=800, deadline=None, database=None)
@given(
    st.sampled_from([kind for kind in OPTION_KINDS if kind not in ("text", "choice")]),
    st.one_of(
        st.text(max_size=20),
        st.lists(
            st.sampled_from(
                [
                    "10.0.0.1/24",
                    "::1",
                    "peer",
                    "via",
                    "default",
                    "dev",
                    "eth0",
                    "+",
                    "label",
                    "table",
                    "1500",
                    "02:00:00:00:00:01",
                    ",",
                    " ",
                    "\n",
                    "#",
                    "'",
                    '"',
                    "\\",
                    ";",
                    "$x",
                    "é",
                    "\0",
                    "-",
                    "lo",
                ]
            ),
            max_size=8,
        ).map(" ".join),
    ),
)
def test_what_passes_may_stand_in_a_line_of_ip_batch(kind: str, text: str) -> None:
    option = Option("OPT", kind)
    value = Value(text, "veth.conf", 1, 1, text)
    problems = check_value(option, value)
    assert all(problem.render() for problem in problems)
    if any(problem.severity == "error" for problem in problems):
        return
    entries = [split_words(entry) for entry, _ in value.split()] if option.is_list else [[text]]
    for words in entries:
        for word in words:
            assert word.isascii()
            assert LINE_BREAKERS.isdisjoint(word)
            assert " " not in word
