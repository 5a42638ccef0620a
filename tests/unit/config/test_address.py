"""Addresses, held against Python's own ipaddress."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netns_tools.config.address import parse, render

PROFILE = settings(max_examples=400, deadline=None, database=None)
TEXT = st.lists(
    st.sampled_from(
        [
            "0",
            "1",
            "255",
            "256",
            "00",
            "a",
            "ffff",
            "g",
            "12345",
            ".",
            ":",
            "::",
            "/",
            "24",
            "64",
            "129",
            "٣",
            " ",
        ]
    ),
    max_size=12,
).map("".join)


@PROFILE
@given(
    st.one_of(TEXT, st.ip_addresses().map(str), st.ip_addresses(v=6).map(lambda address: address.exploded))
)
def test_the_same_addresses_as_ipaddress(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        assert parse(text) is None or "/" in text
        return
    found = parse(text)
    assert found is not None
    assert (found.family, found.number, found.prefix) == (expected.version, int(expected), -1)
    assert render(found.family, found.number) == str(
        ipaddress.ip_address(int(expected)) if found.family == 4 else expected
    )


@PROFILE
@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses())
def test_networks(address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int, other: object) -> None:
    found = parse(f"{address}/{prefix}")
    if prefix > address.max_prefixlen:
        assert found is None
        return
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    second = parse(str(other))
    assert found is not None
    assert second is not None
    assert found.contains(second) == (other in network)
    assert render(found.family, found.number & found.mask) == str(network.network_address)
    assert found.is_multicast == address.is_multicast
    assert found.is_link_local == address.is_link_local


@pytest.mark.parametrize(
    "text", ["", "/", "10.0.0.1/", "10.0.0.1/033", "10.0.0.1/33", "::/129", "fe80::1%eth0", "1::2::3"]
)
def test_what_is_no_address(text: str) -> None:
    assert parse(text) is None
