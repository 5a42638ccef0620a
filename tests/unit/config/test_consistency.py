"""What does not fit together within one instance."""

from __future__ import annotations

import pytest

from .conftest import Load, Refused, Write

OUTSIDE = "VETH_IFADDR_OUTSIDE=10.0.0.1/24\n"
INSIDE = "VETH_IFADDR_INSIDE='10.0.0.2/24, 2001:db8::2/64'\n"
MACVLAN = "MACVLAN_IFADDR=10.0.0.2/24\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "VETH_IFNAME_INSIDE=x VETH_IFNAME_OUTSIDE=x",
            "VETH_IFNAME_INSIDE and VETH_IFNAME_OUTSIDE are both x",
        ),
        ("VETH_MAC_INSIDE=02:00:00:00:00:0a VETH_MAC_OUTSIDE=02:00:00:00:00:0A", "MAC addresses"),
        ("VETH_NSNAME_OUTSIDE=demo", "VETH_NSNAME_OUTSIDE is demo, the namespace itself"),
        (
            "VETH_IFADDR_OUTSIDE='10.0.0.3/24, 2001:db8:0::2/64'",
            "in VETH_IFADDR_INSIDE and in VETH_IFADDR_OUTSIDE",
        ),
        ("VETH_GATEWAY=10.0.0.2", "10.0.0.2 is an address of this device itself"),
        ("VETH_GATEWAY=10.0.0.1 VETH_ROUTES_INSIDE='default via 10.0.0.7'", "a second default route"),
    ],
)
def test_errors(refused: Refused, write: Write, text: str, told: str) -> None:
    write("veth.conf", OUTSIDE + INSIDE + text)
    assert told in refused()


@pytest.mark.parametrize(
    ("nstype", "text", "told"),
    [
        ("veth", "VETH_GATEWAY=10.0.1.1", "10.0.1.1 is in no network of the device"),
        ("veth", "VETH_GATEWAY=2001:db8:1::1", "2001:db8:1::1 is in no network"),
        ("veth", "VETH_MTU=1000", "IPv6 needs an MTU of at least 1280"),
        ("macvlan", "MACVLAN_GATEWAY=10.0.1.1", "in no network"),
        ("macvlan", "MACVLAN_SOURCE_MACS=02:00:00:00:00:01", "no effect in mode bridge"),
        ("macvlan", "MACVLAN_MODE=source", "lets in only what MACVLAN_SOURCE_MACS names"),
    ],
)
def test_warnings(load: Load, write: Write, nstype: str, text: str, told: str) -> None:
    write(f"{nstype}.conf", (MACVLAN if nstype == "macvlan" else OUTSIDE + INSIDE) + text)
    (problem,) = load(nstype).warnings
    assert told in problem.message
    assert problem.severity == "warning"


@pytest.mark.parametrize(
    "text",
    [
        "VETH_GATEWAY='10.0.0.1, fe80::1'",
        "VETH_IFADDR_INSIDE='10.0.0.2 peer 10.9.9.9' VETH_GATEWAY=10.9.9.9",
        "VETH_GATEWAY=10.0.0.1 VETH_ROUTES_INSIDE='default via 10.0.0.7 metric 9, default via fe80::1'",
        "VETH_GATEWAY=10.0.0.1 VETH_ROUTES_OUTSIDE='default via 10.0.0.2'",
        "VETH_IFADDR_INSIDE=10.0.0.2/24 VETH_MTU=1000",
    ],
)
def test_what_is_fine(load: Load, write: Write, text: str) -> None:
    write("veth.conf", OUTSIDE + INSIDE + text)
    assert load().warnings == []


def test_a_broken_value_is_not_told_twice(refused: Refused, write: Write) -> None:
    write("veth.conf", OUTSIDE + INSIDE + "VETH_GATEWAY=10.0.1.300\nVETH_MTU=x\n")
    assert refused().count("error:") == 2
