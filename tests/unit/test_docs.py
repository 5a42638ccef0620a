"""Links between documents lead somewhere, headings included; examples of daemons' files are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from netns_tools.addrset.config import parse_settings
from netns_tools.cli.natmap import command
from netns_tools.config.nstype import load_nstype
from netns_tools.natmap.file import load_keys, parse
from netns_tools.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def without_code(text: str) -> str:
    """Text without code blocks and code in a line: what stands there is no link and no heading."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("[", "").replace("]", ""), text)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as made by the usual renderers of Markdown."""
    titles = re.findall(r"^#+ (.*)$", without_code(document.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{document.name}: {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#\s]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {str(path.relative_to(ROOT)) for path in DOCUMENTS if path.parent.name == "docs"} <= linked


def examples(nstype: str, page: str) -> Iterator[tuple[str, str]]:
    """Every YAML block that configures a daemon, with its place: ``page.md:LINE``. All of ``page`` do."""
    keys = {key.path.partition(".")[0].partition("[")[0] for key in load_nstype(nstype, Paths()).keys}
    for document in DOCUMENTS:
        text = document.read_text()
        for block in re.finditer(r"^```yaml\n(.*?)^```$", text, re.M | re.S):
            content = yaml.safe_load(block[1])
            # Both daemons have a key docker: for the one it is a mapping, for the other a list.
            own = {key for key in keys & content.keys() if key != "docker"}
            if document.name == page or own:
                line = text.count("\n", 0, block.start(1)) + 1
                yield f"{document.relative_to(ROOT)}:{line}", block[1]


def test_examples_of_address_sets_pass_the_check() -> None:
    """Without an error and without a warning; of every page, the one about them at least."""
    found = list(examples("addrset", "address-sets.md"))
    assert {"README.md", "docs/address-sets.md"} <= {place.partition(":")[0] for place, _ in found}
    keys = load_nstype("addrset", Paths()).keys
    for place, text in found:
        settings = parse_settings(text, place, "host", keys)
        assert not settings.warnings, [warning.render() for warning in settings.warnings]


def test_examples_of_mappings_pass_the_check() -> None:
    found = list(examples("natmap", "nat.md"))
    assert {"README.md", "docs/nat.md", "docs/types.md", "docs/configuration.md"} <= {
        place.partition(":")[0] for place, _ in found
    }
    for place, text in found:
        assert len(parse(text, place, load_keys("host", Paths()))), place


def files_in_commands() -> Iterator[str]:
    """The YAML files that commands of the page about mappings write."""
    page = (ROOT / "docs/nat.md").read_text()
    for written in re.finditer(r"^cat > \S+\.yaml <<'END'\n(.*?)^END$", page, re.M | re.S):
        yield written[1]


def test_files_that_commands_write_pass_the_check() -> None:
    found = list(files_in_commands())
    assert found
    for text in found:
        assert len(parse(text, "docs/nat.md", load_keys("host", Paths())))


@pytest.mark.parametrize(("nstype", "page"), [("addrset", "address-sets.md"), ("natmap", "nat.md")])
def test_every_key_of_a_daemon_is_explained_by_an_example(nstype: str, page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    given = {key.path.rpartition(".")[2].removesuffix("[]") for key in load_nstype(nstype, Paths()).keys}
    missing = {key for key in given if not re.search(rf"\b{key}\b[:=`]", text)}
    assert not missing


def test_every_command_of_the_nat_mapper_is_on_its_page() -> None:
    page = (ROOT / "docs/nat.md").read_text()
    missing = [name for name in command.commands if not re.search(rf"`{name}\b|netns-natmap {name}\b", page)]
    assert not missing
