"""Where our rule goes in DOCKER-USER, and which rules are ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.kernel.dockeruser import Rule, is_ours, parse, plan

MARK = 0x00400000
OURS: Rule = (
    *("-m", "connmark", "--mark", "0x400000/0x400000"),
    *("-m", "comment", "--comment", "netns-natmap", "-j", "ACCEPT"),
)
OLD: Rule = ("-m", "comment", "--comment", "netns-natmap", "-j", "ACCEPT")
RETURN: Rule = ("-j", "RETURN")
DROP: Rule = ("-s", "203.0.113.0/24", "-j", "DROP")
RULES = st.lists(st.sampled_from([OURS, OLD, RETURN, DROP]), max_size=6)


def done(rules: list[Rule], commands: list[tuple[str, ...]]) -> list[Rule]:
    """What iptables would make of the rules."""
    rules = list(rules)
    for verb, chain, *words in commands:
        assert chain == "DOCKER-USER"
        if verb == "-D":
            rules.remove(tuple(words))
        else:
            assert verb == "-I"
            assert 1 <= int(words[0]) <= len(rules) + 1
            rules.insert(int(words[0]) - 1, tuple(words[1:]))
    return rules


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [OURS]),
        ([RETURN], [OURS, RETURN]),
        ([DROP, RETURN], [DROP, OURS, RETURN]),
        ([DROP], [DROP, OURS]),
        ([OURS, RETURN, OURS], [OURS, RETURN]),
        ([RETURN, OURS], [OURS, RETURN]),
        ([OLD, RETURN], [OURS, RETURN]),
        ([OURS, DROP, RETURN], [OURS, DROP, RETURN]),  # who put a rule behind ours had a reason
    ],
)
def test_where_it_goes(before: list[Rule], after: list[Rule]) -> None:
    assert done(before, plan(before, MARK)) == after


@given(RULES)
def test_rules_of_others_stay_and_a_second_run_changes_nothing(rules: list[Rule]) -> None:
    others = [rule for rule in rules if rule not in (OURS, OLD)]
    for mark, ours in ((MARK, [OURS]), (0, [])):
        after = done(rules, plan(rules, mark))
        assert [rule for rule in after if rule not in (OURS, OLD)] == others
        assert [rule for rule in after if rule in (OURS, OLD)] == ours
        if others.count(RETURN) < 2 and RETURN not in others[:-1]:
            assert plan(after, mark) == []


def test_parse() -> None:
    listing = (
        "-N DOCKER-USER\n"
        '-A DOCKER-USER -m comment --comment "a --comment netns-natmap \\"b" -j DROP\n'
        "-A DOCKER-USER-2 -j DROP\n"
        "-A DOCKER-USER -m connmark --mark 0x400000/0x400000 -m comment --comment netns-natmap -j ACCEPT\n"
        '-A DOCKER-USER -m comment --comment "two\n'
        'lines" -j DROP\n'
        "-A DOCKER-USER -j RETURN\n"
    )
    first, second, third, fourth = parse(listing)
    assert first[3] == 'a --comment netns-natmap "b'
    assert [is_ours(rule) for rule in (first, second, third, fourth)] == [False, True, False, False]
    assert second == OURS
    assert fourth == RETURN


@given(st.text())
def test_garbage_is_no_error(text: str) -> None:
    assert len(parse(f"-A DOCKER-USER {text}")) <= 1 + text.count("-A DOCKER-USER ")
