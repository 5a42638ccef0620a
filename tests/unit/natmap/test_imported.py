"""natmap's own state file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.errors import NetnsToolsError
from netns_tools.natmap.fields import render_entry
from netns_tools.natmap.imported import import_natmap
from netns_tools.natmap.model import Desired, Dnat, Ports

STATE = {
    "next_id": 7,
    "mapping": {
        "4f1c0e": [
            {
                "id": 1,
                "request": {
                    "host_addr": "0.0.0.0:8888",
                    "container_addr": "172.17.0.2:80",
                    "proto": "tcp",
                },
                "container_id": "4f1c0e",
                "container_name": "web",
                "rule_comment": "natmap:4f1c0e:8888",
            },
            {
                "id": 2,
                "request": {
                    "host_addr": "[2001:db8::1]:53",
                    "container_addr": "[fd00::2]:5353",
                    "proto": "Udp",
                },
                "container_id": "4f1c0e",
                "container_name": "web",
            },
        ],
        "aa": [],
    },
    "dnats": [
        {
            "ext_ip": "198.51.100.1",
            "int_ip": "10.0.0.10",
            "proto": "TCP",
            "ports": "80,443",
            "ext_if": None,
        },
        {"ext_ip": "198.51.100.1", "int_ip": "10.0.0.10", "proto": "udp", "ports": "9000:9100,53"},
        {"ext_ip": "198.51.100.1", "int_ip": "10.0.0.11", "proto": "tcp", "ports": "80", "ext_if": "eth0"},
    ],
    "snats": [{"int_ip": "10.0.0.0/24", "ext_if": "eth0", "ext_ip": "198.51.100.1"}],
    "hairpins": [
        {"ext_ip": "198.51.100.1", "int_ip": "10.0.0.10", "proto": "tcp", "ports": "80", "lan_cidr": None}
    ],
    "policy_routes": [{"src_ip": "10.0.0.5", "via": "192.0.2.254", "table": 100}],
}


def take(tree: object) -> tuple[Desired, list[str]]:
    desired, problems = import_natmap(json.dumps(tree), "state.json")
    assert {problem.severity for problem in problems} <= {"warning"}
    return desired, [problem.message for problem in problems]


def test_everything_of_natmap_is_taken() -> None:
    desired, problems = take(STATE)
    assert problems == []
    assert sorted(map(render_entry, desired)) == [
        "dnat 198.51.100.1:443:10.0.0.10:443/tcp",
        "dnat 198.51.100.1:53:10.0.0.10:53/udp",
        "dnat 198.51.100.1:80:10.0.0.10:80/tcp",
        "dnat 198.51.100.1:80:10.0.0.11:80/tcp --ext-if eth0",
        "dnat 198.51.100.1:9000-9100:10.0.0.10:9000-9100/udp",
        "docker add web 0.0.0.0:8888:80/tcp",
        "docker add web [2001:db8::1]:53:5353/udp",
        "hairpin --ext-ip 198.51.100.1 --int-ip 10.0.0.10 --proto tcp --ports 80",
        "policy-route --src-ip 10.0.0.5/32 --via 192.0.2.254 --table 100",
        "snat --int-ip 10.0.0.0/24 --ext-if eth0 --ext-ip 198.51.100.1",
    ]
    assert Dnat("tcp", "", "", Ports(8888, 8888, 80), "172.17.0.2", 4, container="web") in desired.dnat


def test_its_answer_to_a_list_is_taken_too() -> None:
    mappings = [row for rows in STATE["mapping"].values() for row in rows]  # type: ignore[attr-defined]
    desired, problems = take({"docker": mappings, "dnats": [], "snats": [], "hairpins": []})
    assert len(desired.dnat) == 2
    assert problems == []


def test_a_container_without_a_name_is_known_by_its_id() -> None:
    row = {"container_id": "4f1c0e", "request": {"host_addr": "0.0.0.0:1", "container_addr": "10.0.0.1:2"}}
    row["request"]["proto"] = "tcp"  # type: ignore[index]
    desired, _ = take({"mapping": [row]})
    assert [entry.container for entry in desired.dnat] == ["4f1c0e"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"ext_ip": "198.51.100.1", "int_ip": "10.0.0.1", "proto": "tcp", "ports": "80", "ext_if": "a b"},
            "ext_if",
        ),
        ({"ext_ip": "198.51.100.1", "int_ip": "127.0.0.1", "proto": "tcp", "ports": "80"}, "loopback"),
        ({"ext_ip": "198.51.100.1", "int_ip": "10.0.0.1", "proto": "sctp", "ports": "80"}, "'sctp'"),
        ({"int_ip": "10.0.0.1"}, "ports is not given"),
        ([], "it is no object"),
        ("x", "it is no object"),
        ({"ext_ip": "198.51.100.9", "int_ip": "10.0.0.2", "proto": "tcp", "ports": "80"}, "conflicts with"),
    ],
)
def test_what_cannot_be_taken_is_told_and_the_rest_is_taken(row: object, reason: str) -> None:
    good = {"ext_ip": "198.51.100.9", "int_ip": "10.0.0.1", "proto": "tcp", "ports": "80"}
    desired, problems = take({"dnats": [good, row, good]})
    assert len(desired) == 1
    (problem,) = problems
    assert "dnats, entry 2 is not taken over" in problem
    assert reason in problem


@pytest.mark.parametrize(
    ("host", "target", "reason"),
    [
        ("0.0.0.0:80", "127.0.0.1:80", "loopback"),
        ("[::]:80", "10.0.0.1:80", "from one family"),
        ("0.0.0.0:x", "10.0.0.1:80", "'x' is neither"),
        (None, "10.0.0.1:80", "missing"),
        ("0.0.0.0:80", "10.0.0.1", "is no address"),
    ],
)
def test_mappings_of_containers_that_cannot_be_taken(host: object, target: object, reason: str) -> None:
    request = {"host_addr": host, "container_addr": target, "proto": "tcp"}
    desired, problems = take({"mapping": {"a": [{"container_id": "a", "request": request}]}})
    assert not len(desired)
    assert reason in problems[0]


def test_unknown_parts_are_told() -> None:
    _, problems = take({"dnats": [], "masks": []})
    assert problems == ["'masks' is not taken over: it is not known"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "dnat": []}', "[" * 100_000])
def test_what_is_no_state_of_natmap(text: str) -> None:
    with pytest.raises(NetnsToolsError):
        import_natmap(text, "state.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["request", "ports", "ext_ip", "host_addr", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["dnats", "mapping", "snats", "hairpins", "policy_routes"]), JSON, min_size=1
    )
)
def test_any_shape_is_taken_or_told(tree: dict[str, object]) -> None:
    desired, _ = take(tree)
    assert isinstance(desired, Desired)
