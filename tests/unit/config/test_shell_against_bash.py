"""Property: a file that we read ourselves means to us what it means to bash; no file breaks the reader."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from netns_tools.config.shell import RealShell, decode, evaluate
from netns_tools.errors import ConfigError, Problem

from .conftest import Bash

NAMES = st.sampled_from(["A", "B", "C", "D", "E"])
WORDS = st.sampled_from(["x", "10.0.0.1/24", "a/b", "é", "a b", "-1", "0", "*", "", ",", ":"])


def _quoted(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"'{text}'", f'"{text}"', text.replace(" ", "\\ ").replace("*", "\\*")])


def _expansions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from([":-", "-", ":=", "=", ":+", "+", "#", "##", "%", "%%"])
    lengths = st.sampled_from([":0", ":1", ":0:1", ":2:3", ": -1", ": -2:1", ":99"])
    braced = st.builds("${{{}{}{}}}".format, NAMES, operators, inner)
    simple = st.builds(
        '"${{{}{}{}}}"'.format, NAMES, operators, st.sampled_from(["", "x", "a b", "/*", "$A", "${B}"])
    )
    sliced = st.builds("${{{}{}}}".format, NAMES, lengths)
    return st.one_of(braced, sliced, simple, st.builds("{}{}".format, inner, inner))


PIECES = st.recursive(
    st.one_of(
        WORDS.flatmap(_quoted),
        st.sampled_from(
            ["x", "/24", "$'a\\tb'", "\\\n", "*", "?", "{", "}", "$", "#", "=", "é", "\\$A", '"\\$A\\x"']
        ),
        st.builds("${}".format, NAMES),
        st.builds("${{{}}}".format, NAMES),
        st.builds("${{#{}}}".format, NAMES),
        st.builds('"-{}-${{{}}}"'.format, WORDS, NAMES),
    ),
    _expansions,
    max_leaves=6,
)
VALUES = st.lists(PIECES, max_size=3).map("".join)
ASSIGNMENTS = st.builds("{}{}{}".format, NAMES, st.sampled_from(["=", "=", "+="]), VALUES)
SEPARATORS = st.sampled_from(["\n", " ", "; ", "\n\n", " # comment ' \"\n", ";\n", " \\\n ", "\t"])
FILES = st.lists(st.tuples(ASSIGNMENTS, SEPARATORS), max_size=6).map(
    lambda lines: "".join(map("".join, lines))
)

# Not files that somebody means: all that the reader distinguishes, in any order.
SOUP = st.lists(
    st.one_of(
        st.sampled_from("=:-+*?%#@,{}[]!^~$\\'\"`;&|<>() \n\t\r\x01\x7f\xa0\u201cax0/.é"),
        st.sampled_from(
            ["A=", " B+=", "\nC=", "$A", "${A}", "${B:-", "${A:+", "${C:=", "${A#", "${A%%", "${#A}"]
        ),
        st.sampled_from(
            ["${A:1}", "'x\ty'", '"$A"', "\\\n", "$'", "$'\\t'", '$"', "$$", "${!A}", "${A/", "=("]
        ),
    ),
    max_size=16,
).map("".join)

PROFILE = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _same_as_bash(text: str, bash: Bash) -> bool:
    """Check a file that we read ourselves; False when we leave it to bash or refuse it."""
    try:
        found = evaluate(text, "file", bash.BEFORE)
    except (RealShell, ConfigError):
        return False
    ours = bash.BEFORE | {name: value.text for name, value in found.items()}
    if any("\1" in value for value in ours.values()):
        return False
    assert bash.variables(text) == {name: ours[name] for name in bash.NAMES if name in ours}
    return True


@settings(PROFILE, max_examples=1500)
@given(text=FILES)
@example(text="A=${B:-'}'}")
@example(text="A=a\\\n")
@example(text='A="${B:-x y}"')
@example(text="A=x B+=$A A+=$B")
@example(text="A=$D\nB=${D#a }")
@example(text="A=\nB=${A#${C:=x}}")
def test_assignment_files(text: str, bash: Bash) -> None:
    _same_as_bash(text, bash)


def test_most_of_them_are_read_without_bash(bash: Bash) -> None:
    """Otherwise the property above would say little."""
    counts = {True: 0, False: 0}

    @settings(PROFILE, max_examples=300, derandomize=True)
    @given(text=FILES)
    def count(text: str) -> None:
        counts[_same_as_bash(text, bash)] += 1

    count()
    assert counts[True] > counts[False]


@settings(PROFILE, max_examples=1500)
@given(text=st.builds("{}{}".format, st.sampled_from(["", "A=", 'A="a b"; B=']), SOUP))
def test_soup(text: str, bash: Bash) -> None:
    _same_as_bash(text, bash)


@settings(PROFILE, max_examples=500)
@given(data=st.one_of(st.binary(max_size=60), SOUP.map(str.encode)))
def test_no_input_breaks_the_reader(data: bytes) -> None:
    problems: list[Problem] = []
    lines = 1
    try:
        text = decode(data, "file")
        lines = text.count("\n") + 1
        evaluate(text, "file", {})
    except ConfigError as error:
        problems = error.problems
    except RealShell:
        return
    for problem in problems:
        assert problem.render().startswith("file:")
        assert 1 <= problem.line <= max(lines, data.count(b"\n") + 1)
        assert 1 <= problem.column <= len(problem.text) + 1


@pytest.mark.parametrize("text", ["A=$(touch pwned)", "A=`touch pwned`", "touch pwned", "A=1 touch pwned"])
def test_the_reader_runs_nothing(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        with pytest.raises((RealShell, ConfigError)):
            evaluate(text, "file", {})
    assert not list(directory.iterdir())
