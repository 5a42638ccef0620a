"""The plan: desired files and what is there → changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netns_tools.units.plan import Change, Entry, Keep, Plan, plan_update
from netns_tools.units.unitfile import DROPIN, MARK, is_generated, is_replaceable

GENERATED = f"{MARK}here\n# netns-tools kind: link\n"
OTHER_KIND = f"{MARK}here\n# netns-tools kind: bash\n"
LEGACY = "# Some words.\n# For each NSTYPE this file needs to be copied AS-IS, unless\n[Unit]\n"
COPIED = "# Part of netns-tools: a template\n"
OWN = "[Unit]\nDescription=mine\n"

TYPES = ("veth", "nft", "gone")
NAMES = ("", "a", "b-c")


def file_of(nstype: str, name: str, *, outside: bool) -> str:
    head = f"netns{'_outside' if outside else ''}-{nstype}@{name}.service"
    return f"{head}.d/{DROPIN}" if name else head


FILES = [file_of(t, n, outside=o) for t in TYPES for n in NAMES for o in (False, True)]
texts = st.sampled_from([GENERATED, GENERATED + "X=1\n", OTHER_KIND])
entries = st.one_of(
    st.builds(Entry, st.just("file"), st.sampled_from([GENERATED, OTHER_KIND, LEGACY, COPIED, OWN, ""])),
    st.builds(Entry, st.just("link"), st.sampled_from(["/dev/null", "/etc/other"])),
    st.just(Entry("other")),
)
desired_files = st.dictionaries(st.sampled_from(FILES), texts)
observed_files = st.dictionaries(st.sampled_from(FILES), entries)
in_use_keys = st.sets(st.tuples(st.sampled_from(TYPES), st.sampled_from(NAMES[1:])))


def after(plan: Plan, observed: dict[str, Entry]) -> dict[str, Entry]:
    """What is there when the plan has been carried out."""
    result = dict(observed)
    for change in plan.changes:
        if change.verb == "remove":
            del result[change.file]
        else:
            result[change.file] = Entry("file", change.new)
    return result


@given(desired_files, observed_files, in_use_keys)
def test_planning_the_result_again_changes_nothing(
    desired: dict[str, str], observed: dict[str, Entry], in_use: set[tuple[str, str]]
) -> None:
    first = plan_update(desired, observed, in_use=in_use)
    second = plan_update(desired, after(first, observed), in_use=in_use)
    assert second.changes == []
    assert [p.render() for p in second.warnings] == [p.render() for p in first.warnings]


@given(desired_files, observed_files, in_use_keys)
def test_nothing_foreign_is_touched(
    desired: dict[str, str], observed: dict[str, Entry], in_use: set[tuple[str, str]]
) -> None:
    for change in plan_update(desired, observed, in_use=in_use).changes:
        entry = observed.get(change.file)
        if change.verb == "create":
            assert entry is None
        else:
            assert entry is not None
            assert entry.kind == "file"
            assert is_replaceable(entry.text) if change.verb == "update" else is_generated(entry.text)


@given(desired_files, observed_files, in_use_keys)
def test_what_is_wanted_is_there_or_a_warning_names_it(
    desired: dict[str, str], observed: dict[str, Entry], in_use: set[tuple[str, str]]
) -> None:
    plan = plan_update(desired, observed, in_use=in_use, directory="D")
    result = after(plan, observed)
    warned = {problem.path for problem in plan.warnings}
    for file, text in desired.items():
        assert result[file] == Entry("file", text) or f"D/{file}" in warned
    for file, entry in result.items():
        if file not in desired and entry.kind == "file" and is_generated(entry.text):
            assert f"D/{file}" in warned


@given(desired_files, observed_files, in_use_keys)
def test_nothing_is_removed_under_a_running_instance(
    desired: dict[str, str], observed: dict[str, Entry], in_use: set[tuple[str, str]]
) -> None:
    running_types = {nstype for nstype, _ in in_use}
    for change in plan_update(desired, observed, in_use=in_use).changes:
        if change.verb == "remove":
            head, _, rest = change.file.partition("-")[2].partition("@")
            name = rest.partition(".service")[0]
            assert head not in running_types if not name else (head, name) not in in_use


def test_an_instance_in_use_keeps_the_unit_that_started_it() -> None:
    file = file_of("veth", "", outside=False)
    for old in (OTHER_KIND, LEGACY, COPIED):
        used = plan_update({file: GENERATED}, {file: Entry("file", old)}, in_use={("veth", "a")})
        assert used.changes == []
        assert "netns-veth@a.service" in used.warnings[0].message
        free = plan_update({file: GENERATED}, {file: Entry("file", old)}, in_use={("nft", "a")})
        assert free == Plan([Change("update", file, GENERATED, old)])


def test_a_change_of_the_same_kind_reaches_a_running_instance() -> None:
    file = file_of("veth", "", outside=False)
    new = GENERATED + "X=1\n"
    plan = plan_update({file: new}, {file: Entry("file", GENERATED)}, in_use={("veth", "a")})
    assert plan == Plan([Change("update", file, new, GENERATED)])


def test_what_cannot_be_read_keeps_its_files() -> None:
    observed = {file: Entry("file", GENERATED) for file in FILES}
    keep = Keep(types=frozenset(["gone"]), instances=frozenset([("veth", "a")]))
    removed = {change.file for change in plan_update({}, observed, keep=keep).changes}
    kept = {file_of("veth", "a", outside=o) for o in (False, True)}
    kept |= {file_of("gone", n, outside=o) for n in NAMES for o in (False, True)}
    assert removed == set(FILES) - kept
