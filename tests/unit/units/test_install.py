"""Unit files on disk: atomic, nothing left over, one at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.units import install
from netns_tools.units.plan import Change, Entry
from netns_tools.units.unitfile import DROPIN

UNIT = "netns-veth@.service"
DROP = f"netns-veth@a.service.d/{DROPIN}"


def failures(changes: list[Change], directory: Path) -> list[tuple[str, int | None]]:
    """What could not be done, and why."""
    return [(change.file, error.errno) for change, error in install.apply(changes, str(directory)) if error]


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_create_update_remove(tmp_path: Path) -> None:
    os.umask(0o022)
    assert not failures([Change("create", UNIT, "one\n"), Change("create", DROP, "two\n")], tmp_path)
    assert (tmp_path / DROP).read_text() == "two\n"
    assert (tmp_path / UNIT).stat().st_mode & 0o777 == 0o644
    assert not failures([Change("update", UNIT, "three\n", "one\n"), Change("remove", DROP)], tmp_path)
    assert (tmp_path / UNIT).read_text() == "three\n"
    assert names(tmp_path) == [UNIT]


def test_an_umask_does_not_hide_units(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert not failures([Change("create", UNIT, "one\n")], tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / UNIT).stat().st_mode & 0o777 == 0o644


def test_a_drop_in_of_the_administrator_keeps_its_directory(tmp_path: Path) -> None:
    assert not failures([Change("create", DROP, "x\n")], tmp_path)
    own = tmp_path / DROP.replace(DROPIN, "mine.conf")
    own.write_text("[Unit]\n")
    assert not failures([Change("remove", DROP)], tmp_path)
    assert own.exists()
    assert not (tmp_path / DROP).exists()


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / DROP).parent.write_text("no directory\n")
    done = failures([Change("create", DROP, "x\n"), Change("create", UNIT, "y\n")], tmp_path)
    assert [file for file, _ in done] == [DROP]
    assert (tmp_path / UNIT).read_text() == "y\n"
    assert names(tmp_path) == sorted([UNIT, DROP.partition("/")[0]])


@pytest.mark.parametrize("count", [1, 50])
def test_a_full_disk_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    (tmp_path / UNIT).write_text("old\n")
    changes = [Change("update", UNIT, "new\n", "old\n")]
    changes += [Change("create", f"netns-veth@n{i}.service.d/{DROPIN}", "x\n") for i in range(count)]
    real = os.fchmod
    calls = iter(range(count + 1))

    def fchmod(descriptor: int, mode: int) -> None:
        if next(calls) == count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    assert failures(changes, tmp_path) == [(changes[-1].file, errno.ENOSPC)]
    assert names(tmp_path) == [UNIT]
    assert (tmp_path / UNIT).read_text() == "old\n"


def test_left_over_temporary_files_go(tmp_path: Path) -> None:
    (tmp_path / f"{install.TEMPORARY}1.0").write_text("half")
    (tmp_path / "netns-veth@a.service.d").mkdir()
    (tmp_path / f"netns-veth@a.service.d/{install.TEMPORARY}1.1").write_text("half")
    install.remove_temporaries(str(tmp_path), [DROP])
    assert names(tmp_path) == ["netns-veth@a.service.d"]


def test_observe_follows_no_link_and_opens_no_pipe(tmp_path: Path) -> None:
    (tmp_path / UNIT).write_text("text\n")
    (tmp_path / "netns-nft@.service").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "netns-lo@.service")
    (tmp_path / "netns-macvlan@.service").mkdir()
    (tmp_path / "netns_name@.service").write_text("not of netns-update\n")
    assert install.observe(str(tmp_path)) == {
        UNIT: Entry("file", "text\n"),
        "netns-nft@.service": Entry("link", "/dev/null"),
        "netns-lo@.service": Entry("other"),
        "netns-macvlan@.service": Entry("other"),
    }
    assert install.observe(str(tmp_path / "missing")) == {}


def test_the_second_one_says_who_the_first_is(tmp_path: Path) -> None:
    lock = f"{tmp_path}/run/update.lock"
    with install.lock(lock), pytest.raises(NetnsToolsError, match=str(os.getpid())), install.lock(lock, 0.1):
        pass
    with install.lock(lock, 0.1):
        pass
