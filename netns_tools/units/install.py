"""Unit files on disk: look at them, change them atomically, one netns-update at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time

from netns_tools.errors import NetnsToolsError
from netns_tools.units.plan import Entry
from netns_tools.units.unitfile import DROPIN, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netns_tools.units.plan import Change

LOCK_SECONDS = 10.0
TEMPORARY = ".netns-update."
"""What temporary files begin with: hidden, and without a suffix that systemd reads."""

_FEW = 20
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the next file would fail of just as well."""


def observe(directory: str) -> dict[str, Entry]:
    """What is at every file of the unit directory that may be generated."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return {}
    entries = {}
    for name in names:
        if name.startswith(("netns-", "netns_outside-")):
            file = f"{name}/{DROPIN}" if name.endswith(".service.d") else name
            entry = _observe_one(f"{directory}/{file}") if owner_of(file) else None
            if entry is not None:
                entries[file] = entry
    return entries


def _observe_one(path: str) -> Entry | None:
    """One file; links are not followed. None when nothing is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Entry("link", os.readlink(path))
        if error.errno in (errno.ENXIO, errno.ENODEV):
            return Entry("other")
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return Entry("other")
    with open(descriptor, "rb") as file:
        return Entry("file", file.read().decode("utf-8", "surrogateescape"))


def apply(changes: list[Change], directory: str) -> Iterator[tuple[Change, OSError | None]]:
    """Do the changes; yield each one when it is done, or with the reason why it could not be.

    All new files are written beside the old ones first, brought to the disk together
    (syncing 2,000 files one by one takes half a minute on a slow disk), then renamed
    into place. When the disk is full nothing has changed and no temporary file stays.
    """
    staged: list[tuple[Change, str]] = []
    try:
        for number, change in enumerate(changes):
            if change.verb == "remove":
                continue
            try:
                staged.append((change, _stage(f"{directory}/{change.file}", change.new, number)))
            except OSError as error:
                yield change, error
                if error.errno in _HOPELESS:
                    return
        _sync([temporary for _, temporary in staged])
        while staged:
            change, temporary = staged[0]
            failure = _try(os.rename, temporary, f"{directory}/{change.file}")
            if failure is None:
                staged.pop(0)
                yield change, None
            else:
                _discard(staged.pop(0)[1])
                yield change, failure
        for change in changes:
            if change.verb == "remove":
                yield change, _try(_remove, f"{directory}/{change.file}")
    finally:
        for _, temporary in staged:
            _discard(temporary)


def _stage(path: str, text: str, number: int) -> str:
    """Write ``text`` to a temporary file beside ``path``, making the directory; return its name."""
    parent = path.rpartition("/")[0]
    temporary = f"{parent}/{TEMPORARY}{os.getpid()}.{number}"
    try:
        if not os.path.isdir(parent):
            os.makedirs(parent, 0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o644), "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        _discard(temporary)
        # Name the file that is wanted, not the temporary one.
        raise OSError(error.errno, error.strerror, path) from None
    return temporary


def _sync(files: list[str]) -> None:
    """Bring files to the disk: a few one by one, many with all else that their file system has to write."""
    if len(files) > _FEW:
        # Python has no os.syncfs.
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(files[0], os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.syncfs(descriptor) == 0:
                return
        finally:
            os.close(descriptor)
    for file in files:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: str) -> None:
    os.unlink(path)
    _remove_if_empty(path.rpartition("/")[0])


def _discard(temporary: str) -> None:
    """Remove a temporary file, and the directory if it was made for it."""
    with contextlib.suppress(OSError):
        os.unlink(temporary)
    _remove_if_empty(temporary.rpartition("/")[0])


def _remove_if_empty(directory: str) -> None:
    """Remove a drop-in directory; one where the administrator has a drop-in of his own stays."""
    if directory.endswith(".d"):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _try(function: Callable[..., None], *arguments: str) -> OSError | None:
    try:
        function(*arguments)
    except OSError as error:
        return error
    return None


def write_atomically(path: str, text: str) -> None:
    """Put ``text`` at ``path`` (0644) in one step. Raises ``OSError``; the old file is as it was then."""
    temporary = _stage(path, text, 0)
    try:
        os.rename(temporary, path)
    except OSError:
        _discard(temporary)
        raise


def remove_temporaries(directory: str, files: Iterable[str]) -> None:
    """Remove temporary files that a killed netns-update left; call it under the lock."""
    for parent in {directory, *(f"{directory}/{file}".rpartition("/")[0] for file in files)}:
        with contextlib.suppress(OSError):
            for name in os.listdir(parent):
                if name.startswith(TEMPORARY):
                    os.unlink(f"{parent}/{name}")


@contextlib.contextmanager
def lock(path: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file; wait up to ``seconds`` for another holder, then say who it is."""
    os.makedirs(path.rpartition("/")[0], 0o755, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(descriptor, 100, 0).decode("utf-8", "replace").strip()
                    raise NetnsToolsError(
                        f"another netns-update is running{f' (process {holder})' if holder else ''}",
                        hint="wait until it is done, then run it again",
                    ) from None
                time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
