"""The text of rules: what would not survive a restore is seen."""

from __future__ import annotations

import pytest

from netns_tools.check.rules import nft_problems
from netns_tools.kernel.ruleset import (
    blocked,
    indexed_devices,
    iptables_rule,
    owned_tables,
    split_tables,
    vanished_devices,
)

LISTING = """\
table inet filter {
\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t\tiif "lo" accept
\t}
}
table inet theirs { # progname daemon
\tflags owner

\tchain c {
\t}
}
table ip6 nat {
}
"""


def test_tables() -> None:
    tables = split_tables(LISTING)
    assert [name for name, _body in tables] == ["inet filter", "inet theirs", "ip6 nat"]
    assert "".join(body for _name, body in tables) == LISTING
    assert split_tables("") == []


def test_owned_tables() -> None:
    assert owned_tables(split_tables(LISTING)) == ["inet theirs"]


def test_guard() -> None:
    assert not blocked(split_tables(LISTING))
    assert blocked(split_tables("table inet netns_blocked {\n}\n"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\tiif 3 counter packets 0 bytes 0 accept", ["iif 3"]),
        ("\toif != 3 drop", ["oif != 3"]),
        ('\tiif { "lo", 3 } accept', ["element 3"]),
        ('\tiif != { "lo", 3 } accept', ["element 3"]),
        ('\tiif . tcp dport { 3 . 80, "lo" . 81 } accept', ["element 3 . 80"]),
        ("\ttcp dport . oif { 80 . 3 } drop", ["element 80 . 3"]),
        ('\tiif vmap { "lo" : drop, 3 : accept }', ["element 3 : accept"]),
        ("\tset s {\n\t\ttype iface_index\n\t\telements = { 3 }\n\t}", ["element 3"]),
        ("\tset s {\n\t\ttypeof iif . tcp dport\n\t\tsize 9\n\t\telements = { 3 . 22,\n\t\t\t4 . 22 }\n\t}",
         ["element 3 . 22", "element 4 . 22"]),
        ('\tiif "eth3" accept', []),
        ('\tiifname { "3", "lo" } accept', []),
        ('\tiif . tcp dport { "lo" . 3 } accept', []),
        ('\tlog prefix "iif 3 " accept comment "iif { 3 }"', []),
        ("\tset s {\n\t\ttype inet_service\n\t\telements = { 3 }\n\t}", []),
        ("\ttcp dport { 3, 4 } iif @s accept", []),
    ],
)  # fmt: skip
def test_vanished_devices(text: str, found: list[str]) -> None:
    assert vanished_devices(text) == found


def test_rules_of_iptables() -> None:
    assert iptables_rule('\t\txt match "comment" counter accept\n') == 'xt match "" counter accept'
    assert iptables_rule('\t\taccept comment "xt match foo"\n') == ""


def test_messages_of_nft() -> None:
    stderr = (
        "/r/nft-a.rules:3:9-13: Error: syntax error, unexpected string\n"
        "    tcp dprot 22 accept\n"
        "        ^^^^^\n"
        "/r/nft-a.rules:5:1-1: Error: Could not process rule: No such file or directory\n"
        "x\n^\n"
    )
    found = nft_problems("/r/nft-a.rules", stderr)
    assert [(one.where(), one.width, one.text) for one in found] == [
        ("/r/nft-a.rules:3:9", 5, "    tcp dprot 22 accept"),
        ("/r/nft-a.rules:5:1", 1, "x"),
    ]
    assert nft_problems("p", "") == []
    assert nft_problems("p", "something\nelse\n")[0].message == "nft: something else"


def test_devices_that_rules_match_by_their_number() -> None:
    text = 'iif "lo" accept\niif "ve-a1" accept\noif != "br0" drop\niifname "x" accept\niif "ve-a1" drop\n'
    assert indexed_devices(text) == ["ve-a1", "br0"]
