"""Links between documents lead somewhere, headings included; examples of address sets are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from netns_tools.addrset.config import parse_settings
from netns_tools.config.nstype import load_nstype
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


ADDRSET_KEYS = {key.path.partition(".")[0].partition("[")[0] for key in load_nstype("addrset", Paths()).keys}


def address_sets() -> Iterator[tuple[str, str]]:
    """Every YAML block that configures address sets, with its place: ``page.md:LINE``."""
    for document in DOCUMENTS:
        text = document.read_text()
        for block in re.finditer(r"^```yaml\n(.*?)^```$", text, re.M | re.S):
            content = yaml.safe_load(block[1])
            if document.name == "address-sets.md" or ADDRSET_KEYS & content.keys():
                line = text.count("\n", 0, block.start(1)) + 1
                yield f"{document.relative_to(ROOT)}:{line}", block[1]


def test_examples_of_address_sets_pass_the_check() -> None:
    """Without an error and without a warning; of every page, the one about them at least."""
    found = list(address_sets())
    assert {"README.md", "docs/address-sets.md"} <= {place.partition(":")[0] for place, _ in found}
    keys = load_nstype("addrset", Paths()).keys
    for place, text in found:
        settings = parse_settings(text, place, "host", keys)
        assert not settings.warnings, [warning.render() for warning in settings.warnings]


def test_every_key_of_address_sets_is_explained_by_an_example() -> None:
    page = (ROOT / "docs/address-sets.md").read_text()
    given = {key.path.rpartition(".")[2].removesuffix("[]") for key in load_nstype("addrset", Paths()).keys}
    missing = {key for key in given if not re.search(rf"\b{key}\b[:=`]", page)}
    assert not missing
