"""One process at a time: a lock file that the kernel lets go with its holder, whatever kills it."""

from __future__ import annotations

import fcntl
import os

from netns_tools.errors import NetnsToolsError


def make_directory(path: str) -> None:
    """Make the directory of what daemons keep while they run, as their units do (RuntimeDirectoryMode=)."""
    if not os.path.isdir(path):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)  # whatever the umask is


class Held(NetnsToolsError):
    """Somebody else holds the lock; ``pid`` is who, 0 when the file does not say."""

    def __init__(self, what: str, pid: int) -> None:
        super().__init__(f"{what} runs already{f' (process {pid})' if pid else ''}")
        self.pid = pid


class Lock:
    """A lock (flock(2)) on ``path``, whose file holds the process number of who has it.

    The file stays: to remove it would let a third process lock another file of that name.
    """

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        self.what = what
        self._descriptor = -1

    def acquire(self) -> None:
        """Take it or raise ``Held``; the holder is not disturbed. Raises ``NetnsToolsError``."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            make_directory(os.path.dirname(self.path))
            # Who can open it can lock it, and so keep us from starting: root alone.
            descriptor = os.open(self.path, flags, 0o600)
            os.fchmod(descriptor, 0o600)
        except OSError as error:
            hint = "run it as root" if isinstance(error, PermissionError) else ""
            raise NetnsToolsError(
                f"cannot lock {self.path}, so that {self.what} runs only once: {error.strerror}", hint=hint
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise Held(self.what, int(text) if text.isdecimal() else 0) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let it go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
