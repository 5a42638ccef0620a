"""Ranges of addresses against sets of single ones."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.addrset import ranges

BASE = int(ip_address("10.0.0.0"))
SOME = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 40)).map(lambda p: (BASE + p[0], BASE + p[0] + p[1])),
    max_size=12,
)


def members(found: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in found for number in range(first, last + 1)}


@given(SOME)
def test_merged_ranges_are_the_same_addresses_apart(some: list[tuple[int, int]]) -> None:
    merged = ranges.merge(some)
    assert members(merged) == members(some)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(merged))


@given(SOME, SOME)
def test_subtraction(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    left = ranges.subtract(ranges.merge(some), ranges.merge(others))
    assert members(left) == members(some) - members(others)
    assert left == ranges.merge(left)


@given(SOME)
def test_texts_are_the_same_addresses(some: list[tuple[int, int]]) -> None:
    texts = ranges.texts(ranges.merge(some), 4)
    assert members([ranges.parse(text) for text in texts]) == members(some)
    networks = [ip_network(text) for text in texts]
    assert not any(a.overlaps(b) for i, a in enumerate(networks) for b in networks[:i])


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("192.0.2.0/30", "192.0.2.0", "192.0.2.3"),
        ("2001:db8::5-2001:db8::9", "2001:db8::5", "2001:db8::9"),
    ],
)
def test_parse(text: str, first: str, last: str) -> None:
    assert ranges.parse(text) == (int(ip_address(first)), int(ip_address(last)))


def test_the_whole_of_ipv6() -> None:
    assert ranges.texts([(0, 2**128 - 1)], 6) == ["::/0"]
