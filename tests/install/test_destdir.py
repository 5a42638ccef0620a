"""``make install DESTDIR=``: exactly these files, for everybody to read, and nothing anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Machine

PROJECT = Path(__file__).resolve().parents[2]

FILES = (PROJECT / "tests/install/tree.txt").read_text().split()
"""All but the package, the type definitions, the unit templates and the manual pages."""

AS_NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"


@pytest.fixture(scope="module")
def builder(boot: object) -> Iterator[Machine]:
    """A machine with a checkout that nobody owns may read, and a tree installed from it by user nobody."""
    with Machine("debian12") as machine:
        machine.run(f"cp -R {Machine.PROJECT} /srv/checkout && chmod -R u=rX,go=rX /srv/checkout")
        machine.run("mkdir /srv/root && chown 65534:65534 /srv/root && touch /srv/stamp")
        make = "make -s -C /srv/checkout install install_configs DESTDIR=/srv/root"
        machine.run(f"umask 077; {AS_NOBODY} {make}")
        yield machine


def listing(machine: Machine, find: str) -> list[str]:
    return sorted(machine.run(f"cd /srv/root && find . {find} -printf '%P\\n'").stdout.split())


def beside_the_package() -> list[str]:
    """What is copied as it is."""
    parts = [
        *(PROJECT / "netns_tools").rglob("*.py"),
        *(PROJECT / "nstypes").glob("*.yaml"),
        *(PROJECT / "unit-templates").glob("*.j2"),
    ]
    return [f"usr/lib/netns-tools/{path.relative_to(PROJECT)}" for path in parts]


def test_exactly_these_files(builder: Machine) -> None:
    found = listing(builder, "-type f -not -path './etc/*' -not -name '*.pyc' -not -path '*/share/man/*'")
    assert found == sorted([*FILES, *beside_the_package()])


def test_a_manual_page_for_each_command(builder: Machine) -> None:
    pages = " ".join(listing(builder, "-path '*/share/man/*' -type f"))
    for command in ("netnsctl", "netns-update", "netns-nft-save", "netns-addrset", "netns-natmap"):
        assert f"usr/share/man/man8/{command}.8" in pages


def test_every_module_is_compiled(builder: Machine) -> None:
    sources = listing(builder, "-name '*.py' -path '*/netns_tools/*'")
    compiled = listing(builder, "-name '*.pyc'")
    assert len(compiled) == len(sources)


def test_nothing_is_stale_or_names_the_build_tree(builder: Machine) -> None:
    found = builder.run("grep -rlE '@(LIBDIR|BINDIR)@|/srv/' /srv/root", check=False).stdout
    assert found == ""


def test_everybody_may_read_and_only_the_owner_may_write(builder: Machine) -> None:
    assert listing(builder, "-type f -not -perm -444") == []
    assert listing(builder, "-type d -not -perm -555") == []
    assert listing(builder, "-perm /022 -not -type l") == []
    assert listing(builder, "-path './usr/sbin/*' -not -perm -555") == []


def test_nothing_outside_is_touched(builder: Machine) -> None:
    touched = builder.run(
        "find /etc /usr /var /opt /home -xdev -newer /srv/stamp -not -type d -not -path '/var/log/*'"
    ).stdout
    assert touched == ""
    assert builder.run("ls -A /etc/conf.d 2>/dev/null || true").stdout == ""


def test_uninstall_removes_only_what_is_below(builder: Machine) -> None:
    builder.run(f"make -s -C {Machine.PROJECT} install")
    installed = "find /usr/sbin /usr/lib /usr/share/man /etc/systemd -newer /srv/stamp | sort"
    outside = builder.run(installed).stdout

    builder.run(f"{AS_NOBODY} make -s -C /srv/checkout uninstall DESTDIR=/srv/root")

    assert listing(builder, "-mindepth 1 -not -path './etc*'") == []
    assert listing(builder, "-path './etc/conf.d/netns/*'") != []
    assert builder.run(installed).stdout == outside


def test_relative_and_odd_directories_are_refused(builder: Machine) -> None:
    for wrong in ("LIBDIR=lib", "BINDIR='/a b'", "DESTDIR=root"):
        done = builder.run(f"make -s -C /srv/checkout install {wrong}", check=False)
        assert done.returncode != 0
        assert "LIBDIR, BINDIR and DESTDIR" in done.stderr
