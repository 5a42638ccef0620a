"""Only files that nobody but root can change are believed. (Run by root, root stands for itself.)"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from netns_tools.config import trust
from netns_tools.errors import ConfigError
from netns_tools.paths import Paths

from .conftest import Write

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners: sudo make check")


def refusal(path: str, paths: Paths) -> str:
    with pytest.raises(ConfigError) as caught:
        trust.read_file(path, paths)
    return caught.value.render().replace(f"{paths.conf}/", "")


def test_a_plain_file_is_read(paths: Paths, write: Write) -> None:
    assert trust.read_file(write("veth.conf", "A=1"), paths) == b"A=1"
    assert trust.check_file(write("veth.conf", "A=1"), paths) == []
    assert trust.check_directories(paths.conf, paths) == []


def test_a_missing_file_is_none(paths: Paths) -> None:
    assert trust.read_file(f"{paths.conf}/veth.conf", paths) is None
    assert trust.check_file(f"{paths.conf}/veth.conf", paths) == []
    assert trust.check_directories(f"{paths.conf}/missing", paths) == []


@pytest.mark.parametrize(("mode", "who"), [(0o664, "its group"), (0o646, "everybody"), (0o666, "everybody")])
def test_a_file_that_others_can_write(paths: Paths, write: Write, mode: int, who: str) -> None:
    path = write("veth.conf", "A=1")
    os.chmod(path, mode)
    assert refusal(path, paths) == (
        f"veth.conf: error: refused: can be written by {who} (mode {mode:04o}), "
        "and its content acts as root\n"
        "  hint: chmod go-w veth.conf"
    )
    assert trust.check_file(path, paths)


@needs_root
def test_a_file_of_somebody_else(paths: Paths, write: Write) -> None:
    path = write("veth.conf", "A=1")
    os.chown(path, 1234, 0)
    os.chmod(path, 0o666)
    assert refusal(path, paths) == (
        "veth.conf: error: refused: belongs to user 1234 and can be written by everybody (mode 0666), "
        "and its content acts as root\n"
        "  hint: chown root:root veth.conf && chmod go-w veth.conf"
    )


@pytest.mark.parametrize("directory", ["etc/conf.d/netns", "etc/conf.d", "etc", "."])
@pytest.mark.parametrize("mode", [0o775, 0o777, 0o1777])
def test_directories_that_others_can_write(paths: Paths, directory: str, mode: int) -> None:
    os.chmod(Path(paths.root, directory), mode)
    (problem,) = trust.check_directories(paths.conf, paths)
    assert problem.path == os.path.normpath(Path(paths.root, directory))
    if mode & stat.S_ISVTX:  # /tmp must stay as it is
        assert "chmod" not in problem.hint
    else:
        assert problem.hint == f"chmod go-w {problem.path}"


def test_directories_above_the_root_do_not_matter(paths: Paths) -> None:
    inner = Paths(f"{paths.root}/etc")
    os.chmod(paths.root, 0o777)
    assert trust.check_directories(f"{inner.root}/conf.d", inner) == []


def test_a_link_is_as_good_as_its_target(paths: Paths, write: Write) -> None:
    target = Path(paths.root, "elsewhere", "veth.conf")
    target.parent.mkdir()
    target.write_text("A=1")
    link = Path(paths.conf, "veth.conf")
    link.symlink_to(target)
    assert trust.read_file(str(link), paths) == b"A=1"
    target.chmod(0o666)
    assert "can be written by everybody" in refusal(str(link), paths)
    target.chmod(0o644)
    target.parent.chmod(0o777)
    assert f"{target.parent}: error: refused" in refusal(str(link), paths)


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "dangling", "loop", "socket"])
def test_what_is_no_file_is_refused_at_once(paths: Paths, kind: str) -> None:
    path = Path(paths.conf, "veth.conf")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("/nonexistent/file")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        os.mknod(path, stat.S_IFSOCK | 0o644)
    assert "not a regular file" in refusal(str(path), paths) or "cannot be read" in refusal(str(path), paths)
    assert trust.check_file(str(path), paths)


def test_a_file_that_is_too_long(paths: Paths, write: Write) -> None:
    path = write("veth.conf", "#" * trust.SIZE_MAX)
    assert len(trust.read_file(path, paths) or b"") == trust.SIZE_MAX
    write("veth.conf", "#" * (trust.SIZE_MAX + 1))
    assert "at most 1048576" in refusal(path, paths)


def test_a_directory_that_is_none(paths: Paths, tmp_path: Path) -> None:
    os.rmdir(paths.conf)
    Path(paths.conf).write_text("")
    assert [problem.message for problem in trust.check_directories(paths.conf, paths)] == ["not a directory"]


@pytest.mark.parametrize("word", ["a b", "it's", "", "$x", "plain/path-1.conf", "é"])
def test_quoting_for_a_shell(word: str) -> None:
    assert os.popen(f"printf %s {trust.quote(word)}").read() == word
