"""The rooms of the house, kept apart: who may import whom, and who may have effects.

When a change needs another arrow, change the table here and docs/development.md in the same step.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

import netns_tools

PACKAGE = Path(netns_tools.__file__).parent

MAY_IMPORT: dict[str, set[str]] = {
    "": set(),  # names, errors, paths: used by everybody, using nobody
    "config": {""},
    "check": {"", "config"},
    "host": {""},
    "kernel": {"", "host"},
    "steps": {"", "config", "kernel", "host"},
    "units": {"", "config", "steps", "host"},
    "addrset": {"", "config", "kernel", "host"},
    "natmap": {"", "config", "kernel", "host"},
    "cli": {"", "config", "check", "steps", "units", "addrset", "natmap", "kernel", "host"},
}

EFFECTS = {"subprocess", "socket", "_socket", "pyroute2", "nftables", "fcntl", "ctypes"}
"""Modules that reach out of the process."""

MAY_HAVE_EFFECTS = {
    "kernel": "it is what it is for",
    "host": "it is what it is for",
    "config/bash.py": "runs bash for files with real shell in them",
    "config/address.py": "inet_pton(3) reads addresses; it opens no socket",
    "addrset/ranges.py": "the same",
    "units/install.py": "locks against a second netns-update",
    "cli/scripts.py": "lets bash check the syntax of a script that it does not run (bash -n)",
    "cli/machine.py": "asks the machine for its devices, for netnsctl check",
}

HEAVY = {
    *("typing", "dataclasses", "enum", "re", "pathlib", "json", "subprocess", "logging", "argparse"),
    *(
        "ipaddress",
        "socket",
        "yaml",
        "click",
        "jinja2",
        "pyroute2",
        "asyncio",
        "inspect",
        "shutil",
        "site",
        "contextlib",
    ),
    "netns_tools.config.keys",  # of daemons, which have no steps
}
"""What a start never pays for (docs/how-it-works.md has the milliseconds)."""


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The room of a module; "" for those that everybody may use."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(path: Path) -> set[str]:
    """The modules that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            base = node.module or ""
            found.add(base)
            if base == "netns_tools":
                found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    here = room(path)
    assert here in MAY_IMPORT, f"a new room {here!r}: say in MAY_IMPORT what it may use"
    for name in imports(path):
        if not name.startswith("netns_tools."):
            continue
        other = name.split(".")[1]
        other = other if is_room(other) else ""
        assert other == here or other in MAY_IMPORT[here], f"{here or 'base'} may not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_some_places_reach_out_of_the_process(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    reaching = {name.partition(".")[0] for name in imports(path)} & EFFECTS
    if room(path) not in MAY_HAVE_EFFECTS and place not in MAY_HAVE_EFFECTS:
        assert not reaching, f"{place} imports {reaching}: effects belong into kernel/ or host/"


def test_plans_are_pure() -> None:
    """A plan is computed from configuration alone: it neither asks nor changes the system.

    Two look at files: which rules or which layers of a script are there.
    """
    looking = {"nft.py", "bash.py"}
    planners = [path for path in (PACKAGE / "steps/types").glob("*.py") if path.name not in looking]
    for path in [*planners, PACKAGE / "steps/plan.py", PACKAGE / "steps/device.py"]:
        used = imports(path)
        asking = {name for name in used if name.startswith(("netns_tools.kernel", "netns_tools.host"))}
        assert not asking | (used & {"os", "posix", "sys"}), path.name


def test_a_start_imports_nothing_heavy(tmp_path: Path) -> None:
    """A new plan of a shell-style configuration, as netnsinit asks for it."""
    conf = tmp_path / "etc/conf.d/netns"
    conf.mkdir(parents=True)
    (conf / "veth-demo.conf").write_text(
        "VETH_IFADDR_OUTSIDE=192.0.2.1/24\nVETH_IFADDR_INSIDE=192.0.2.2/24\n"
    )
    program = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from netns_tools.paths import Paths
from netns_tools.steps import cache, main
from netns_tools.config.nstype import load_nstype, write_cache
paths = Paths({str(tmp_path)!r})
if sys.argv[1:]:
    load_nstype("veth", paths)
    write_cache(paths)
else:
    config, plan, text = cache.make(load_nstype("veth", paths), "demo", paths)
    print(*sys.modules)
"""
    command = ["/usr/bin/python3", "-IS", "-c", program]
    subprocess.run([*command, "fill the cache"], check=True, timeout=60)
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert not set(done.stdout.split()) & HEAVY
