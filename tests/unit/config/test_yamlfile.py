"""YAML: values are what is written, and every problem has its place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netns_tools.config.value import Value
from netns_tools.config.yamlfile import flat_values, read_tree
from netns_tools.errors import ConfigError


def flat(text: str) -> dict[str, Value]:
    values, problems = flat_values(read_tree(text, "veth.yaml"))
    if problems:
        raise ConfigError(problems)
    return {key: value for key, (_, value) in values.items()}


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        flat(text)
    return caught.value.render()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("---\n", {}),
        ("a: yes", {"a": "yes"}),
        ("a: 02:00:00:00:00:01", {"a": "02:00:00:00:00:01"}),
        ("a: 010", {"a": "010"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 2001-01-01", {"a": "2001-01-01"}),
        ("a: 'x # y'  # z", {"a": "x # y"}),
        ("a:\nb: ~\nc: null\nd: 'null'\ne: ''", {"a": "", "b": "", "c": "", "d": "null", "e": ""}),
        ("a: [10.0.0.1/24, 2001:db8::1/64]", {"a": "10.0.0.1/24, 2001:db8::1/64"}),
        ("a:\n- x\n- y z\n", {"a": "x, y z"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: $(touch pwned) ${HOME}", {"a": "$(touch pwned) ${HOME}"}),
        ("{a: 1, b: 2}", {"a": "1", "b": "2"}),
    ],
)
def test_values(text: str, expected: dict[str, str]) -> None:
    assert {key: value.text for key, value in flat(text).items()} == expected


def test_places_of_values_and_entries() -> None:
    values = flat("a: 1\nb:\n  - x\n  - yy\n")
    assert (values["a"].line, values["a"].column, values["a"].width) == (1, 4, 1)
    assert values["b"].entries
    assert [(entry.line, entry.column, entry.width) for entry in values["b"].entries] == [
        (3, 5, 1),
        (4, 5, 2),
    ]


def test_a_problem_as_it_is_shown() -> None:
    assert refused("mtu: 1\nmtu: 2\n") == (
        "veth.yaml:2:1: error: 'mtu' is given twice, first in line 1\n"
        "    mtu: 2\n"
        "    ^^^\n"
        "  hint: keep one of them; a list holds several values"
    )


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\n\tb: 2", "2:1", "tabs"),
        ("a: b: c", "1:5", "put a value that contains ': ' into quotes"),
        ("A=1\nB=2", "1:1", "name: value"),
        ("- a\n", "1:1", "this is a list, not a mapping"),
        ("a: {b: 1}", "1:4", "'a' is a mapping, not a value"),
        ("a: [[1]]", "1:5", "an entry of 'a' is a list"),
        ("a: &x 1\nb: *x", "2:4", "aliases are not supported"),
        ("a: !!python/object/apply:os.system [id]", "1:4", "tags are not supported"),
        ("a: !x y", "1:4", "tags are not supported"),
        ("? [a]\n: 1", "1:3", "a key must be a single word"),
        ("a: 1\n---\nb: 2", "2:1", "a second YAML document"),
        ("a: 'x", "1:", "not YAML"),
        ("a: " + "[" * 17 + "]" * 17, "1:19", "nested too deep"),
    ],
)
def test_what_is_refused(text: str, place: str, message: str) -> None:
    told = refused(text)
    assert f"veth.yaml:{place}" in told
    assert message in told


def test_all_problems_at_once() -> None:
    assert refused("a: {}\na: 1\nb: [[]]\n").count("error:") == 1  # form first: duplicate keys
    assert refused("a: {}\nb: [[]]\n").count("error:") == 2


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        "a: " + "{b: " * 200_000,
        "a: 1\n" * 150_000,
        "- " * 400_000,
        "a: &a [x]\n" + "".join(f"b{i}: [*a,*a,*a,*a]\n" for i in range(1000)),
        "? " * 100_000,
        "a: \x01",
        "a: \x85\u2028b",
    ],
)
def test_hostile_files(text: str) -> None:
    assert "error:" in refused(text) or text.startswith("a: \x85")


@settings(max_examples=400, deadline=None, database=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "b:",
                " ",
                "\n",
                "- ",
                "[",
                "]",
                "{",
                "}",
                "'",
                '"',
                "|\n",
                "&x ",
                "*x",
                "!t ",
                "#",
                "\t",
                ": ",
                ",",
                "é",
                "\x00",
                "\x01",
                "\ufeff",
                "---\n",
                "...\n",
                "%YAML 1.1\n",
                "? ",
                "<<: ",
                "\\x",
            ]
        ),
        max_size=14,
    ).map("".join)
)
def test_no_input_breaks_the_reader(text: str) -> None:
    try:
        values = flat(text)
    except ConfigError as error:
        problems = error.problems
    else:
        problems = [value.problem("") for value in values.values()]
        assert all(problem.line for problem in problems)
    assert all(problem.render() for problem in problems)
