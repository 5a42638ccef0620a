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
    from collections.abc import Iterable, Iterator

    from netns_tools.units.plan import Change

LOCK_SECONDS = 10.0


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
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Entry("other")
        return Entry("file", file.read().decode("utf-8", "surrogateescape"))


def apply(change: Change, directory: str) -> None:
    """Do one change. Raises ``OSError``; the old file is intact then and no temporary one is left."""
    path = f"{directory}/{change.file}"
    if change.verb == "remove":
        os.unlink(path)
        if "/" in change.file:
            # The administrator may have a drop-in of his own beside ours.
            with contextlib.suppress(OSError):
                os.rmdir(path.rpartition("/")[0])
    else:
        write_atomically(path, change.new)


def write_atomically(path: str, text: str, *, sync: bool = True) -> None:
    """Put ``text`` at ``path`` (0644) in one step, making its directory. Raises ``OSError``."""
    parent = path.rpartition("/")[0]
    made = not os.path.isdir(parent)
    if made:
        os.makedirs(parent, 0o755, exist_ok=True)
    temporary = f"{parent}/.netns-update.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o644)
        with open(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fchmod(descriptor, 0o644)
            if sync:
                os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(parent)
        if isinstance(error, OSError):
            # Name the file that is wanted, not the temporary one.
            raise OSError(error.errno, error.strerror, path) from None
        raise


def remove_temporaries(directory: str, files: Iterable[str]) -> None:
    """Remove temporary files that a killed netns-update left; call it under the lock."""
    for parent in {directory, *(f"{directory}/{file}".rpartition("/")[0] for file in files)}:
        with contextlib.suppress(OSError):
            for name in os.listdir(parent):
                if name.startswith(".netns-update."):
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
