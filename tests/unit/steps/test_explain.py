"""What a user reads when a command of a plan failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.steps.explain import Failure, find_command, render

PLAN = (
    "link add name ve-demo0 type veth peer name ve-demo1 netns demo group 1"
    "  # /etc/conf.d/netns/veth-demo.conf:3\n"
    "address add 10.0.0.1/24 dev ve-demo0  # /etc/conf.d/netns/veth-demo.conf:1\n"
)


def failure(said: str, plan: str = PLAN, status: int = 1) -> Failure:
    found = Failure("veth", "demo", "up-outside", status)
    find_command(found, plan, said)
    return found


def test_the_failed_line_of_a_batch_is_shown_with_its_origin() -> None:
    said = "RTNETLINK answers: File exists\nCommand failed /run/netns-tools/demo/veth/up-outside.ip:2\n"
    text = render(failure(said))
    assert "command: ip address add 10.0.0.1/24 dev ve-demo0" in text
    assert "from: /etc/conf.d/netns/veth-demo.conf:1" in text
    assert "it said: RTNETLINK answers: File exists" in text


def test_the_last_line_that_sh_showed_is_the_failed_one() -> None:
    plan = "ip link add br0 type bridge\nip link set br0 mtu 1  # /etc/x:4\n"
    text = render(
        failure("ip link add br0 type bridge\nip link set br0 mtu 1  # /etc/x:4\nError: mtu\n", plan)
    )
    assert "command: ip link set br0 mtu 1\n" in text
    assert "from: /etc/x:4" in text
    assert "ip link add" not in text


def test_the_line_whose_argument_ip_does_not_like_is_shown() -> None:
    text = render(failure('Error: argument "ve-demo0" is wrong: "dev" not a valid ifname\n', status=255))
    assert "command: ip link add name ve-demo0 " in text
    assert "from: /etc/conf.d/netns/veth-demo.conf:3" in text


@pytest.mark.parametrize(
    ("said", "status", "needle"),
    [
        ("RTNETLINK answers: File exists\nCommand failed x:1\n", 1, "ve-demo0 (or its peer) exists already"),
        ('Cannot open network namespace "demo"\nCommand failed x:1\n', 1, "namespace demo does not run"),
        ("Error: Nexthop has invalid gateway.\nCommand failed x:2\n", 1, "onlink"),
        ("sh: ip: not found\n", 127, "install iproute2"),
        ("", 137, "killed"),
        ('Error: argument "other" is wrong: Invalid "netns" value\n\n', 255, "namespace other does not run"),
        ('Error: argument "demo" is wrong: Invalid "netns" value\n\n', 255, "stop 'netns-*@demo.service'"),
        ("something new\n", 1, "netnsctl plan veth demo"),
    ],
)
def test_hints(said: str, status: int, needle: str) -> None:
    assert needle in render(failure(said, status=status))


def test_a_missing_parent_is_named() -> None:
    plan = "link add link nope0 name eth100 netns demo group 1 type macvlan mode bridge\n"
    text = render(failure('Cannot find device "nope0"\nCommand failed x:1\n', plan))
    assert "the host has no device nope0; set MACVLAN_PARENT_IFNAME" in text


def test_a_macvlan_that_its_parent_does_not_allow() -> None:
    plan = "link add link eth0 name eth100 netns demo group 1 mtu 9000 type macvlan mode passthru\n"
    text = render(failure("RTNETLINK answers: Invalid argument\nCommand failed x:1\n", plan))
    assert "passthru" in text.partition("hint:")[2]
    assert "MACVLAN_MTU in /etc/conf.d/netns/veth-demo.conf" in text


@given(st.text(), st.text(), st.integers(0, 255))
def test_whatever_was_said_there_is_a_hint(said: str, plan: str, status: int) -> None:
    assert "hint: " in render(failure(said, plan, status))
