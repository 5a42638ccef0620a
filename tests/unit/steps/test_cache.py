"""A cached plan is used only while all that it was made from is as it was."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netns_tools.config.nstype import load_nstype
from netns_tools.paths import Paths
from netns_tools.steps import cache

NETNSINIT = Path(__file__).resolve().parents[3] / "lib/netnsinit"


def stat_format() -> str:
    """The format of netnsinit's ``stat`` call."""
    text = NETNSINIT.read_text()
    return text.partition("--printf='")[2].partition("'")[0]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A root with one configured veth, old enough to be cached."""
    conf = tmp_path / "etc/conf.d/netns"
    conf.mkdir(parents=True)
    (conf / "veth-demo.conf").write_text("VETH_IFADDR_OUTSIDE=10.0.0.1/24\nVETH_IFADDR_INSIDE=10.0.0.2/24\n")
    grow_old()
    return Paths(str(tmp_path))


def grow_old() -> None:
    """Wait until what was just written is no longer too young to be cached."""
    end = time.monotonic_ns() + 2 * cache._TICK_NS
    while time.monotonic_ns() < end:
        time.sleep(0.005)


def refresh(paths: Paths) -> None:
    cache.refresh(load_nstype("veth", paths), "demo", paths)


def test_the_stamp_is_what_stat_prints(paths: Paths, tmp_path: Path) -> None:
    files = [f"{paths.conf}/veth-demo.conf", f"{paths.conf}/missing.conf", str(NETNSINIT)]
    command = ["stat", "-L", f"--printf={stat_format()}", *files]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    assert cache.stamp(files) == said


def test_fresh_until_something_changes(paths: Paths) -> None:
    assert not cache.is_fresh("veth", "demo", paths)
    refresh(paths)
    assert cache.is_fresh("veth", "demo", paths)


def _append(conf: Path) -> None:
    with (conf / "veth-demo.conf").open("a") as file:
        file.write("# more\n")


def _same_size_same_mtime(conf: Path) -> None:
    file = conf / "veth-demo.conf"
    before = file.stat()
    file.write_text(file.read_text().replace("10.0.0.2", "10.0.0.3"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_keeping_times(conf: Path) -> None:
    new = conf / "new"
    subprocess.run(["cp", "-p", conf / "veth-demo.conf", new], check=True)
    new.rename(conf / "veth-demo.conf")


CHANGES: dict[str, Callable[[Path], object]] = {
    "append": _append,
    "same size and mtime": _same_size_same_mtime,
    "replaced by a copy with the same times": _replace_keeping_times,
    "chmod": lambda conf: (conf / "veth-demo.conf").chmod(0o666),
    "a lower layer appears": lambda conf: (conf / "default.conf").write_text("A=1\n"),
    "a YAML layer appears": lambda conf: (conf / "veth-demo.yaml").write_text("{}\n"),
    "a script of the administrator appears": lambda conf: (conf / "veth.sh").write_text(":\n"),
    "removed": lambda conf: (conf / "veth-demo.conf").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_stale_after(paths: Paths, change: Callable[[Path], object]) -> None:
    refresh(paths)
    grow_old()
    change(Path(paths.conf))
    assert not cache.is_fresh("veth", "demo", paths)


def test_a_file_just_written_is_not_cached(paths: Paths) -> None:
    refresh(paths)
    _append(Path(paths.conf))
    refresh(paths)
    assert not cache.is_fresh("veth", "demo", paths)


def test_a_cache_that_cannot_be_written_is_no_error(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "var").write_text("not a directory\n")
    refresh(paths)
    assert not cache.is_fresh("veth", "demo", paths)


def test_real_shell_is_never_cached(paths: Paths) -> None:
    with (Path(paths.conf) / "veth-demo.conf").open("a") as file:
        file.write("VETH_MTU=$(echo 1400)\n")
    grow_old()
    refresh(paths)
    assert not cache.is_fresh("veth", "demo", paths)


def test_garbage_in_the_cache_is_not_fresh(paths: Paths) -> None:
    refresh(paths)
    for garbage in (b"", b"\xff\xfe", b"netns-tools plan 1\n", b"netns-tools plan 0\na\nb\n", b"\n\n\n"):
        Path(paths.cached_plan("veth", "demo")).write_bytes(garbage)
        assert not cache.is_fresh("veth", "demo", paths)
