"""The tutorial of README.md, pasted block by block into a machine by a new user.

A ``sh`` block is run as it stands. The ``text`` block after it is what it prints: those
lines, in that order, others may stand between; ``…`` stands for anything. A comment
before a block says ``fails`` (a command of it is meant to) or ``prints nothing``.

The examples of other pages are simpler: a block that begins with ``# /PATH`` is that file,
another ``sh`` block and a "`netnsctl plan ...`:" is run, and indented lines come out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.machine import Machine

PROJECT = Path(__file__).resolve().parents[2]
README = PROJECT / "README.md"

_BLOCK = re.compile(
    r"^(?:<!-- (?P<comment>fails|prints nothing) -->\n)?"
    r"```(?P<language>sh|text)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


@dataclass
class Block:
    """Lines to paste, and what they print."""

    text: str
    comment: str
    wants: list[str]


def tutorial() -> list[Block]:
    """The blocks of the section whose title begins with "Five minutes"."""
    section = re.search(r"^## Five minutes.*?(?=^## )", README.read_text(), re.M | re.S)
    assert section, "README.md has no tutorial"
    blocks: list[Block] = []
    for found in _BLOCK.finditer(section[0]):
        if found["language"] == "sh":
            blocks.append(Block(found["text"], found["comment"] or "", []))
        else:
            blocks[-1].wants = found["text"].splitlines()
    return blocks


def paste(machine: Machine, block: Block) -> tuple[str, list[str]]:
    """What a block prints, and the commands of it that failed."""
    trap = "trap 'echo \"$BASH_COMMAND\" >>/run/tutorial-failed' ERR"
    script = f"exec 2>&1; cd {Machine.PROJECT}; rm -f /run/tutorial-failed; {trap}\n{block.text}"
    printed = machine.run(["bash", "-s"], stdin=script, check=False, timeout=120).stdout
    return printed, machine.run("cat /run/tutorial-failed", check=False).stdout.splitlines()


def prints_nothing(machine: Machine, block: Block) -> bool:
    """Whether a block prints nothing now."""
    return not paste(machine, block)[0]


def missing(wants: list[str], printed: str) -> str:
    """The first line of ``wants`` that does not come in its turn; "" when all do."""
    lines = iter(printed.splitlines())
    for want in wants:
        pattern = re.escape(want).replace("…", ".*")
        if not any(re.fullmatch(pattern, line.rstrip()) for line in lines):
            return want
    return ""


def test_the_tutorial_does_what_it_says(machine: Machine) -> None:
    blocks = tutorial()
    assert len(blocks) > 8
    before = files(machine)
    for block in blocks:
        if block.comment == "prints nothing":
            # systemctl stop returns before units that nothing needs any more are gone.
            machine.wait_until(partial(prints_nothing, machine, block), what=block.text)
            continue
        printed, failed = paste(machine, block)
        assert bool(failed) == (block.comment == "fails"), f"{block.text}\nfailed: {failed}\n{printed}"
        want = missing(block.wants, printed)
        assert not want, f"README.md says {want!r} comes out of\n{block.text}\nwhat came:\n{printed}"
    left = files(machine) - before - {"/etc/netns", "/etc/conf.d/netns"}
    assert not left, f"the tutorial does not remove {left}"


def files(machine: Machine) -> set[str]:
    """What is in the directories that the tutorial writes to, beyond the example configuration."""
    examples = {f"/etc/conf.d/netns/{path.name}" for path in (PROJECT / "etc").iterdir()}
    found = machine.run("find /etc/systemd/system /etc/conf.d/netns /etc/netns; true").stdout.split()
    return set(found) - examples


_EXAMPLE = re.compile(
    r"^```(?:sh|yaml)\n# (?P<path>/\S+)\n(?P<file>.*?)^```$"
    r"|^```sh\n(?P<lines>.*?)^```$"
    r"|^`(?P<plan>netnsctl plan [^`]*)`:$"
    r"|(?P<printed>(?:^ {4}[^\n]*\n)+)",
    re.M | re.S,
)


def examples(page: str) -> Iterator[dict[str, str]]:
    """Files, lines and what they print, in the order of the page."""
    for found in _EXAMPLE.finditer((PROJECT / "docs" / page).read_text()):
        yield {kind: text for kind, text in found.groupdict().items() if text is not None}


@pytest.mark.parametrize("page", ["types.md", "own-types.md"])
def test_examples_do_what_the_page_says(machine: Machine, page: str) -> None:
    machine.run(["make", "-C", Machine.PROJECT, "install_configs"])
    printed, checked = "", 0
    for example in examples(page):
        if "path" in example:
            machine.write(example["path"], example["file"])
        elif "printed" in example:
            want = missing([line[4:] for line in example["printed"].splitlines()], printed)
            assert not want, f"{page} says {want!r}, what came:\n{printed}"
            checked += 1
        else:
            done = machine.run(example.get("lines") or example["plan"])
            # Where a line of a plan comes from is left out on the page.
            printed = re.sub(r"  # .*$", "", done.stdout, flags=re.M)
    assert checked > 1
