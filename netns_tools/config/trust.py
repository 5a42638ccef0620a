"""Whose files are believed: only those that nobody but root can change.

A configuration file decides what runs as root, so it must be a regular file of
root's that neither its group nor others can write, in directories of which the
same is true. Without privileges (``--root``, tests) the effective user counts
as root does. A sticky bit does not make a writable directory trustworthy.
"""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISLNK, S_ISREG, S_ISVTX

from netns_tools.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

SIZE_MAX = 1 << 20
"""Longest configuration file, in bytes."""

# O_NONBLOCK: the open of a FIFO must not wait for a writer.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def check_directories(directory: str, paths: Paths) -> list[Problem]:
    """What is wrong with ``directory`` and those above it, up to the root of ``paths``.

    A directory that does not exist is fine: then no file in it is read.
    """
    top = os.path.realpath(paths.root or "/")
    here = os.path.realpath(directory)
    problems = []
    while True:
        try:
            status = os.stat(here)
        except OSError as error:
            if error.errno != 2:  # ENOENT
                problems.append(_unreadable(here, error))
        else:
            if not S_ISDIR(status.st_mode):
                problems.append(Problem("not a directory", path=here))
            problems += _check_owner(here, status)
        if here in (top, "/"):
            return problems
        here = here.rpartition("/")[0] or "/"


def check_file(path: str, paths: Paths) -> list[Problem]:
    """What keeps ``path`` from being believed; nothing when it is fine or does not exist.

    Its size does not matter here: rules are for nft to read, and sets can be large.
    """
    try:
        descriptor = _open(path, paths)
    except ConfigError as error:
        return error.problems
    if descriptor >= 0:
        os.close(descriptor)
    return []


def read_file(path: str, paths: Paths) -> bytes | None:
    """The content of a trusted file; None when there is none. Raises ConfigError.

    The caller checks the directories (once for all files of one directory).
    """
    descriptor = _open(path, paths)
    if descriptor < 0:
        return None
    try:
        chunks: list[bytes] = []
        size = 0
        while size <= SIZE_MAX:
            chunk = os.read(descriptor, SIZE_MAX + 1 - size)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
    except OSError as error:
        raise ConfigError([_unreadable(path, error)]) from None
    finally:
        os.close(descriptor)
    raise ConfigError([_too_long(path, size)])


def _open(path: str, paths: Paths) -> int:
    """Open and then check what was opened, so that nothing can be swapped in between; -1: no such file."""
    try:
        # Opening a device may have effects of its own; what counts is what fstat says below.
        if not S_ISREG(os.stat(path).st_mode):
            raise ConfigError([_not_regular(path)])
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno == 2 and not os.path.islink(path):
            return -1
        raise ConfigError([_unreadable(path, error)]) from None
    problems = []
    status = os.fstat(descriptor)
    if not S_ISREG(status.st_mode):
        problems.append(_not_regular(path))
    else:
        problems += _check_owner(path, status)
        if S_ISLNK(os.lstat(path).st_mode):
            problems += check_directories(os.path.realpath(path).rpartition("/")[0] or "/", paths)
    if problems:
        os.close(descriptor)
        raise ConfigError(problems)
    return descriptor


def _check_owner(path: str, status: os.stat_result) -> list[Problem]:
    mode = status.st_mode & 0o7777
    remedies = []
    reasons = []
    if S_ISDIR(status.st_mode) and mode & S_ISVTX and mode & 0o022:
        # A directory such as /tmp is shared on purpose: never tell anybody to close it.
        message = f"refused: others may put files here (mode {mode:04o}), and what is here would act as root"
        hint = "keep configuration in another directory, one that only root can write"
        return [Problem(message, path=path, hint=hint)]
    if status.st_uid not in (0, os.geteuid()):
        reasons.append(f"belongs to user {status.st_uid}")
        remedies.append(f"chown root:root {quote(path)}")
    if mode & 0o022:
        who = {0o020: "its group", 0o002: "everybody", 0o022: "everybody"}[mode & 0o022]
        reasons.append(f"can be written by {who}")
        remedies.append(f"chmod go-w {quote(path)}")
    if not reasons:
        return []
    return [
        Problem(
            f"refused: {' and '.join(reasons)} (mode {mode:04o}), and its content acts as root",
            path=path,
            hint=" && ".join(remedies),
        )
    ]


def quote(text: str) -> str:
    """A word as a shell takes it."""
    if text and all(c.isalnum() or c in "/._-+:@%," for c in text) and text.isascii():
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def _not_regular(path: str) -> Problem:
    hint = "a configuration file is a plain file or a link to one"
    return Problem("not a regular file", path=path, hint=hint)


def _unreadable(path: str, error: OSError) -> Problem:
    return Problem(f"cannot be read: {error.strerror or error}", path=path)


def _too_long(path: str, size: int) -> Problem:
    return Problem(f"has {size} bytes or more; a configuration file has at most {SIZE_MAX}", path=path)
