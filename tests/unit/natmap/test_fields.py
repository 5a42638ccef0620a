"""Entries by fields, as flags and requests give them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.errors import ConfigError
from netns_tools.natmap.fields import FIELDS, plain, read_plain, render_entry
from netns_tools.natmap.model import (
    Dnat,
    Entry,
    Hairpin,
    Masquerade,
    PolicyRoute,
    Ports,
    Snat,
)

from .entries import dnats, others

FORWARD = {"ext_ip": "198.51.100.1", "int_ip": "10.0.0.10", "proto": "tcp", "ports": "80"}
WEB = Dnat("tcp", "198.51.100.1", "", Ports(80, 80, 80), "10.0.0.10", 4)


def refused(kind: str, given: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        read_plain(kind, given)
    return caught.value.render()


def ports_of(entries: list[Entry]) -> list[Ports]:
    assert all(isinstance(entry, (Dnat, Hairpin)) for entry in entries)
    return [entry.ports for entry in entries if isinstance(entry, (Dnat, Hairpin))]


# natmap's flags


def test_natmaps_dnat() -> None:
    assert read_plain("dnat", FORWARD) == [WEB]
    assert read_plain("dnat", FORWARD | {"no_masquerade": True}) == [WEB]
    assert read_plain("dnat", FORWARD | {"masquerade": True}) == [replace(WEB, masquerade=True)]
    assert read_plain("dnat", FORWARD | {"allow_from": [], "ext_if": "", "map": ""}) == [WEB]
    assert read_plain("dnat", FORWARD | {"proto": "UDP", "ext_if": None}) == [replace(WEB, proto="udp")]
    assert read_plain("dnat", FORWARD | {"ext_if": "eth0"}) == [replace(WEB, iface="eth0")]
    for ports in ("80, 443,9000-9100", ["80", "443", "9000-9100"], [443, 80, "9000-9100"]):
        assert ports_of(read_plain("dnat", FORWARD | {"ports": ports})) == [
            Ports(80, 80, 80),
            Ports(443, 443, 443),
            Ports(9000, 9100, 9000),
        ]


def test_a_mapping_without_an_address() -> None:
    given = {"int_ip": "fd00::10", "ports": "8080:80"}
    anywhere = Dnat("tcp", "", "", Ports(8080, 8080, 80), "fd00::10", 6)
    assert read_plain("dnat", given) == [anywhere]
    assert read_plain("dnat", given | {"ext_ip": "::"}) == [anywhere]
    assert read_plain("dnat", given | {"ext_if": "eth0"}) == [replace(anywhere, iface="eth0")]


def test_a_word_with_options() -> None:
    given = {"map": "80:10.0.0.10", "masquerade": "yes", "allow_from": "203.0.113.7,192.0.2.0/24,192.0.2.9"}
    (entry,) = read_plain("dnat", given)
    assert entry == replace(WEB, host="", masquerade=True, allow_from=("192.0.2.0/24", "203.0.113.7/32"))


def test_natmaps_snat_and_ours() -> None:
    given: dict[str, object] = {"int_ip": "10.0.0.10", "ext_if": "eth0", "ext_ip": "198.51.100.1"}
    assert read_plain("snat", given) == [Snat("10.0.0.10/32", "eth0", "198.51.100.1")]
    given |= {"int_ip": "10.0.0.0/24", "exclude": ["192.168.0.0/16", "10.0.0.0/8", "10.1.0.0/16"]}
    (entry,) = read_plain("snat", given)
    assert entry == Snat("10.0.0.0/24", "eth0", "198.51.100.1", ("10.0.0.0/8", "192.168.0.0/16"))
    given = {"int_ip": "2001:db8::/64", "ext_if": "ppp0"}
    assert read_plain("masquerade", given) == [Masquerade("2001:db8::/64", "ppp0")]


def test_natmaps_hairpin() -> None:
    (entry,) = read_plain("hairpin", FORWARD)
    assert entry == Hairpin("198.51.100.1", "10.0.0.10", "tcp", Ports(80, 80, 80), "")
    (entry,) = read_plain("hairpin", FORWARD | {"lan_cidr": "10.0.0.0/24"})
    assert entry == Hairpin("198.51.100.1", "10.0.0.10", "tcp", Ports(80, 80, 80), "10.0.0.0/24")


def test_natmaps_policy_route() -> None:
    given: dict[str, object] = {"src_ip": "10.0.0.5", "via": "192.0.2.254"}
    assert read_plain("policy_routes", given) == [PolicyRoute("10.0.0.5/32", "192.0.2.254", 100)]
    for table in (1000, "1000"):
        assert read_plain("policy_routes", given | {"table": table}) == [
            PolicyRoute("10.0.0.5/32", "192.0.2.254", 1000)
        ]


# Containers


def test_a_request_of_natmap_for_a_container() -> None:
    request = {"container": "/web", "host_port": 8888, "container_port": 80}
    for body in (request, {"container": "web", "map": "8888:80"}):
        found = read_plain("docker", body)
        assert [entry.family for entry in found if isinstance(entry, Dnat)] == [4, 6]
        assert [plain(entry)[1]["map"] for entry in found] == ["0.0.0.0:8888:80/tcp", "[::]:8888:80/tcp"]
    (entry,) = read_plain("docker", request | {"host_ip": "0.0.0.0", "proto": "udp"})
    assert plain(entry) == ("docker", {"map": "0.0.0.0:8888:80/udp", "container": "web"})
    (entry,) = read_plain("docker", request | {"host_ip": "2001:db8::1"})
    assert isinstance(entry, Dnat)
    assert (entry.host, entry.family) == ("2001:db8::1", 6)
    (entry,) = read_plain("docker", request | {"target_ip": "10.9.9.9"})
    assert entry == Dnat("tcp", "", "", Ports(8888, 8888, 80), "10.9.9.9", 4)


def test_clients_of_one_family_leave_the_other_without_a_mapping() -> None:
    given: dict[str, object] = {"container": "web", "map": "8888:80"}
    (entry,) = read_plain("docker", given | {"allow_from": "192.0.2.0/24"})
    assert isinstance(entry, Dnat)
    assert (entry.family, entry.allow_from) == (4, ("192.0.2.0/24",))
    found = read_plain("docker", given | {"allow_from": ["192.0.2.0/24", "2001:db8::/32"]})
    assert [entry.allow_from for entry in found if isinstance(entry, Dnat)] == [
        ("192.0.2.0/24",),
        ("2001:db8::/32",),
    ]


def test_port_0_for_commands_only() -> None:
    (entry,) = read_plain("dnat", {"map": "0:10.0.0.10:80"}, free=True)
    assert ports_of([entry]) == [Ports(0, 0, 80)]
    (entry,) = read_plain("dnat", FORWARD | {"ports": "0:80"}, free=True)
    assert ports_of([entry]) == [Ports(0, 0, 80)]
    assert "only a command chooses" in refused("dnat", {"map": "0:10.0.0.10:80"})
    with pytest.raises(ConfigError):
        read_plain("hairpin", FORWARD | {"ports": "0:80"}, free=True)


# Refusals


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("dnat", {}, ["int_ip is not given", "ports is not given"]),
        ("dnat", {"map": "80:10.0.0.1", "ports": "80"}, ["ports: the mapping says this already"]),
        ("dnat", {"map": "x"}, ["error: 'x' is neither a port"]),
        (
            "dnat",
            FORWARD | {"ext_ip": "127.0.0.1", "ext_if": "eth0"},
            ["ext_if: what this host sends to 127.0.0.1 comes in by no interface", "127.0.0.1 or eth0"],
        ),
        (
            "dnat",
            FORWARD | {"ext_ip": "x", "proto": "sctp", "ports": "99999"},
            ["ext_ip:", "proto:", "ports:"],
        ),
        ("dnat", FORWARD | {"int_ip": "fd00::1"}, ["198.51.100.1 is IPv4 and fd00::1 is IPv6", "proxyd"]),
        ("dnat", FORWARD | {"int_ip": "127.0.0.1"}, ["int_ip: the target 127.0.0.1 is a loopback", "proxyd"]),
        (
            "dnat",
            FORWARD | {"ext_ip": "::1"},
            ["ext_ip: the kernel sends nothing from ::1", "127.0.0.1 works"],
        ),
        ("dnat", FORWARD | {"ports": ","}, ["there is no port in the list"]),
        ("dnat", FORWARD | {"ports": "80,80"}, ["have a port in common"]),
        ("dnat", FORWARD | {"masquerade": "maybe"}, ["masquerade: 'maybe' is neither yes nor no"]),
        ("dnat", FORWARD | {"masquerade": True, "no_masquerade": True}, ["leave out one of the two"]),
        (
            "dnat",
            FORWARD | {"allow_from": "2001:db8::/32"},
            ["2001:db8::/32 is IPv6, and the target is IPv4"],
        ),
        ("dnat", FORWARD | {"allow_from": "0.0.0.0/0"}, ["leave out allow_from for everybody"]),
        ("dnat", FORWARD | {"allow_from": ["10.0.0.1/8", "x"]}, ["bits beyond", "'x' is no prefix"]),
        ("dnat", FORWARD | {"extip": 1}, ["unknown field 'extip'", "known here are: map, ext_ip"]),
        ("dnat", FORWARD | {"ports": {"a": 1}}, ["ports must be a single value"]),
        ("dnat", FORWARD | {"ports": [[80]]}, ["ports must be a single value"]),
        ("dnat", FORWARD | {"ports": 80.5}, ["ports must be a single value"]),
        ("dnat", FORWARD | {"ext_ip": "", "ext_if": "a b"}, ["ext_if: 'a b' is no device name"]),
        ("docker", {}, ["container is not given", "map is not given"]),
        ("docker", {"container": "-x", "map": "80"}, ["'-x' is no name or id of a container"]),
        ("docker", {"container": "x", "map": "80", "host_port": 80}, ["host_port: map is given too"]),
        ("docker", {"container": "x", "host_port": 80}, ["container_port is not given"]),
        ("docker", {"container": "x", "host_port": 80, "container_port": "a"}, ["'a' is neither"]),
        ("docker", {"container": "x", "map": ["80", "x", "y"]}, ["'x' is neither", "'y' is neither"]),
        ("snat", {}, ["int_ip is not given", "ext_if is not given", "ext_ip is not given"]),
        (
            "snat",
            {"int_ip": "10.0.0.0/24", "ext_if": "eth0", "ext_ip": "2001:db8::1"},
            ["ext_ip: 2001:db8::1 is IPv6, and 10.0.0.0/24 is IPv4"],
        ),
        (
            "snat",
            {"int_ip": "10.0.0.0/24", "ext_if": "e", "ext_ip": "127.0.0.1"},
            ["ext_ip: 127.0.0.1 is a loop"],
        ),
        (
            "masquerade",
            {"int_ip": "10.0.0.0/24", "ext_if": "e", "exclude": "0.0.0.0/0"},
            ["is every address"],
        ),
        ("masquerade", {"int_ip": "10.0.0.0/24", "ext_if": "e", "exclude": "fd00::/8"}, ["int_ip is IPv4"]),
        ("hairpin", FORWARD | {"ext_ip": "0.0.0.0"}, ["0.0.0.0 is no address of one host"]),
        ("hairpin", FORWARD | {"lan_cidr": "fd00::/8"}, ["lan_cidr: fd00::/8 is not of the family"]),
        ("hairpin", FORWARD | {"int_ip": "fd00::1"}, ["198.51.100.1 is IPv4 and fd00::1 is IPv6"]),
        ("hairpin", {"ports": "80"}, ["ext_ip is not given", "int_ip is not given"]),
        ("policy_routes", {}, ["src_ip is not given", "via is not given"]),
        (
            "policy_routes",
            {"src_ip": "10.0.0.1", "via": "fd00::1"},
            ["via: fd00::1 is IPv6, and 10.0.0.1/32"],
        ),
        (
            "policy_routes",
            {"src_ip": "10.0.0.1", "via": "10.0.0.2", "table": 254},
            ["the kernel's own (main)"],
        ),
        ("policy_routes", {"src_ip": "10.0.0.1", "via": "10.0.0.2", "table": "main"}, ["is no number"]),
        ("policy_routes", {"src_ip": "10.0.0.1", "via": "10.0.0.2", "table": 1 << 32}, ["is no number"]),
        ("policy_routes", {"src_ip": "10.0.0.1", "via": "10.0.0.2", "table": -1}, ["is no number"]),
        ("policy_routes", {"src_ip": "fd00::1", "via": "fe80::1"}, ["link-local"]),
    ],
)
def test_refused(kind: str, given: dict[str, object], expected: list[str]) -> None:
    text = refused(kind, given)
    for part in expected:
        assert part in text


# Whatever it is


@given(dnats() | others())
def test_plain_fields_make_the_same_entry(entry: Entry) -> None:
    kind, row = plain(entry)
    if isinstance(entry, Dnat) and entry.container:
        entry = replace(entry, target="")
    assert read_plain(kind, row) == [entry]
    assert set(row) <= set(FIELDS[kind])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(FIELDS)), st.data())
def test_any_body_of_a_request_is_taken_or_refused(kind: str, data: st.DataObject) -> None:
    """Only ConfigError comes of it."""
    given = data.draw(st.dictionaries(st.sampled_from(FIELDS[kind]) | st.text(max_size=5), JSON, max_size=6))
    try:
        entries = read_plain(kind, given, free=True)
    except ConfigError as error:
        message = error.render()
    else:
        message = "; ".join(map(render_entry, entries))
    assert message or given.get("allow_from")


@pytest.mark.parametrize(
    ("entry", "command"),
    [
        (WEB, "dnat 198.51.100.1:80:10.0.0.10:80/tcp"),
        (
            replace(
                WEB, host="", iface="eth0", masquerade=True, allow_from=("192.0.2.0/24", "203.0.113.7/32")
            ),
            "dnat 80:10.0.0.10:80/tcp --ext-if eth0 --masquerade"
            " --allow-from 192.0.2.0/24 --allow-from 203.0.113.7/32",
        ),
        (replace(WEB, iface="eth0"), "dnat 198.51.100.1:80:10.0.0.10:80/tcp --ext-if eth0"),
        (replace(WEB, host="", container="web"), "docker add web 0.0.0.0:80:80/tcp"),
        (
            Snat("10.0.0.0/24", "eth0", "192.0.2.1", ("10.0.0.0/8",)),
            "snat --int-ip 10.0.0.0/24 --ext-if eth0 --ext-ip 192.0.2.1 --exclude 10.0.0.0/8",
        ),
        (Masquerade("10.0.0.0/24", "eth0"), "masquerade --int-ip 10.0.0.0/24 --ext-if eth0"),
        (
            Hairpin("192.0.2.1", "10.0.0.1", "udp", Ports(53, 53, 5353), ""),
            "hairpin --ext-ip 192.0.2.1 --int-ip 10.0.0.1 --proto udp --ports 53:5353",
        ),
        (
            PolicyRoute("10.0.0.5/32", "192.0.2.254", 100),
            "policy-route --src-ip 10.0.0.5/32 --via 192.0.2.254 --table 100",
        ),
    ],
)
def test_an_entry_is_shown_as_its_command(entry: Entry, command: str) -> None:
    assert render_entry(entry) == command
