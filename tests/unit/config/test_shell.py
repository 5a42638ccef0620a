"""Plain shell-style files: what they mean, what needs bash, what is a mistake."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from netns_tools.config.shell import RealShell, decode, evaluate
from netns_tools.errors import ConfigError

BEFORE = {"ADDR": "10.0.0.1/24", "EMPTY": "", "PATTERN": "*"}


def values(text: str) -> dict[str, str]:
    return {name: value.text for name, value in evaluate(text, "veth.conf", BEFORE).items()}


def mistakes(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        evaluate(text, "veth.conf", BEFORE)
    return caught.value.render()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# only a comment", {}),
        ("A=1", {"A": "1"}),
        ("  A=1  # why\n", {"A": "1"}),
        ("A=1#2", {"A": "1#2"}),
        ("A=1 B=$A; C=$B\nD=", {"A": "1", "B": "1", "C": "1", "D": ""}),
        ("A=1\nA+=2", {"A": "12"}),
        ("NEW+=2", {"NEW": "2"}),
        ("A=a\\\nb", {"A": "ab"}),
        ("A='a  b'\"c d\"e\\ f", {"A": "a  bc de f"}),
        ("A='two\nlines'", {"A": "two\nlines"}),
        ('A="\\$ADDR \\" \\\\ \\n"', {"A": '$ADDR " \\ \\n'}),
        ("A='$ADDR'", {"A": "$ADDR"}),
        ("A=$'a\\tb\\'c'", {"A": "a\tb'c"}),
        ("A=*.{a,b}[x]!", {"A": "*.{a,b}[x]!"}),
        ("A=$ B=a$ C=$.", {"A": "$", "B": "a$", "C": "$."}),
        ("A=$ADDR,${ADDR}", {"A": "10.0.0.1/24,10.0.0.1/24"}),
        ("A=$NONE", {"A": ""}),
        ("A=${NONE:-x y} B=${EMPTY:-z} C=${EMPTY-z}", {"A": "x y", "B": "z", "C": ""}),
        ("A=${NONE:=n}$NONE", {"NONE": "n", "A": "nn"}),
        ("A=${ADDR:+yes}${EMPTY:+no}${EMPTY+set}", {"A": "yesset"}),
        ("A=${#ADDR}", {"A": "11"}),
        ("A=${ADDR%/*} B=${ADDR#*.} C=${ADDR##*.} D=${ADDR%%.*}", {
            "A": "10.0.0.1", "B": "0.0.1/24", "C": "1/24", "D": "10",
        }),
        ("A=${ADDR%$PATTERN} B=${ADDR%%$PATTERN}", {"A": "10.0.0.1/24", "B": ""}),
        ("A=${ADDR:0:2} B=${ADDR: -2} C=${ADDR:9}", {"A": "10", "B": "24", "C": "24"}),
        ("A=${NONE:-${NONE2:-${ADDR%/*}}}", {"A": "10.0.0.1"}),
        ("A=“x”", {"A": "“x”"}),
    ],
)  # fmt: skip
def test_values(text: str, expected: dict[str, str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "A=$(hostname)",
            "A=`hostname`",
            'A="$(hostname)"',
            "A=$((1+1))",
            "A=$[1+1]",
            "A=<(true)",
            "((A=1))",
        ),
        *("A=(1 2)", "A[1]=2", "export A=1", "declare -i A=1", "local A", ". /etc/x", "source /etc/x"),
        *("f() { A=1; }", "f ()\n{ A=1; }", "function f { A=1; }", "(A=1)", "{ A=1; }"),
        *("if true; then A=1; fi", "for i in 1; do A=$i; done", "case $A in x) ;; esac"),
        *("[[ $A ]] && B=1", "[ -e /x ] || A=1", "A=1 && B=2", ": ${A:=1}", "IFS=, read -r A", "echo hello"),
        *("A=~", "A=x:~/y", "A=$HOME", "A=$RANDOM", "A=$1", "A=$$", "PATH=/bin", "A=$'\\x41'", 'A=$"x"'),
        *("A=${A/b/c}", "A=${A^^}", "A=${!B}", "A=${A@Q}"),
        *("logger hello; A=$(hostname)", "logger hello && A=1"),
    ],
)
def test_real_shell(text: str) -> None:
    with pytest.raises(RealShell):
        evaluate(text, "veth.conf", BEFORE)


def test_blanks_beside_the_equals_sign() -> None:
    assert mistakes("A=1\nVETH_IFADDR_OUTSIDE = 10.0.0.1") == (
        "veth.conf:2:21: error: no blanks around '='\n"
        "    VETH_IFADDR_OUTSIDE = 10.0.0.1\n"
        "                        ^\n"
        "  hint: write VETH_IFADDR_OUTSIDE='...' without blanks beside the '='"
    )


def test_a_value_with_blanks_needs_quotes() -> None:
    assert mistakes("VETH_IFADDR_OUTSIDE=10.0.0.1/24 broadcast +") == (
        "veth.conf:1:33: error: 'broadcast' would be run as a command\n"
        "    VETH_IFADDR_OUTSIDE=10.0.0.1/24 broadcast +\n"
        "                                    ^^^^^^^^^\n"
        "  hint: put a value that contains blanks into quotes: NAME='...'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reboot", "'reboot' is a command"),
        ("A = $(reboot)", "no blanks around"),
        ("A =1 && reboot", "no blanks around"),
        ("$A=1", "write A=... without the '$'"),
        ("VETH-IFADDR=1", "'VETH-IFADDR' is not the name of a variable"),
        ("1A=1", "'1A' is not the name"),
        ("A='x", "never closed"),
        ('A="x', "never closed"),
        ("A=${B", "never closed"),
        ("A=${B:-x", "never closed"),
        ("A=$'x", "never closed"),
        ("A=x&y", "'&' is not part of a value"),
        ("A=<address>", "'<' is not part of a value"),
        ("A=x | y", "'|' is not part of a value"),
        ("A=x(y)", "'(' is not part of a value"),
        ("A=1;;", "unexpected ';;'"),
        ("; A=1", "cannot begin with ';'"),
        ("A=${NONE:?must be set}", "NONE: must be set"),
        ("A=" + "${A:-" * 50 + "}" * 50, "inside each other"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    assert message in mistakes(text)


def test_all_mistakes_are_told_at_once() -> None:
    told = mistakes("A = 1\nB=2\nreboot now\nC=1 2\n")
    assert [line.split(":")[1] for line in told.splitlines() if line.startswith("veth.conf")] == [
        "1",
        "3",
        "4",
    ]


def test_the_place_is_that_of_the_last_assignment() -> None:
    value = evaluate("A=1\nA=2 B='x\ny'\n  A=${C:=33} # c\n", "veth.conf", {})
    assert (value["A"].line, value["A"].column, value["A"].width, value["A"].source) == (
        4,
        5,
        8,
        "  A=${C:=33} # c",
    )
    assert (value["B"].line, value["B"].column) == (2, 7)
    assert value["C"].line == 4


def test_nothing_is_expanded_twice() -> None:
    text = "A='$(touch pwned)'\nB=$A\nC=\"${B:-x}\"\nD=${NONE:-$B}\n"
    assert set(values(text).values()) == {"$(touch pwned)"}


def test_variables_in_scope_stay_as_they_are() -> None:
    before = {"A": "1"}
    evaluate("A=2", "veth.conf", before)
    assert before == {"A": "1"}


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"A=1\nB=\xff\n", "2:3", "0xff is not UTF-8"),
        (b"A=1\nB=x\0y", "2:4", "NUL"),
        (b"A=1\r\nB=2\r\n", "1:4", "Windows line end"),
        (b"\xef\xbb\xbfA=1", "1:1", "byte order mark"),
    ],
)
def test_bytes_that_are_refused(data: bytes, place: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(data, "veth.conf")
    assert f"veth.conf:{place}: error: " in caught.value.render()
    assert message in caught.value.render()


@pytest.mark.parametrize(
    "text",
    [
        "A=1\n" * 260_000,
        "A=${A:-" * 140_000,
        "A=" + "(" * 1_000_000,
        "A='" + "x\n" * 500_000,
        "A" * 1_000_000,
        "$" * 1_000_000,
        '"' * 1_000_000,
        "A=${B#" + "*?" * 2000 + "}",
        "x\n" * 500_000,
        "A=x\n" + "A=$A$A\n" * 100_000,
        "A+=xxxx\n" * 130_000,
        "A=" + "x" * 5000 + "\n" + "B=$A$A$A$A$A$A$A$A\n" * 50_000,
        "A=1 " * 260_000,
        "A = 1 " * 170_000,
        "A=" + "x" * 2000 + "\nB=${A##" + "*x" * 700 + "y}",
    ],
)
def test_a_hostile_file_takes_no_time(text: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(ConfigError, RealShell):
        evaluate(text, "veth.conf", BEFORE)
    assert time.process_time() - begin < 4
    assert not os.path.exists("pwned")
