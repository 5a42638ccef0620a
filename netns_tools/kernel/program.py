"""Run a program of the system and take what it prints, in a clean environment and within a time."""

from __future__ import annotations

import os
import shlex
import subprocess

from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PLACES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENVIRONMENT = {"PATH": ":".join(_PLACES), "LC_ALL": "C"}
_TIMEOUT = 15


def installed(name: str) -> Iterator[str]:
    """The paths at which a program is, best first."""
    return (f"{place}/{name}" for place in _PLACES if os.access(f"{place}/{name}", os.X_OK))


def output(words: Sequence[str], *, hint: str = "") -> str:
    """What a command prints. Raises ``NetnsToolsError`` with what it complained of, and ``hint``."""
    shown = shlex.join([os.path.basename(words[0]), *words[1:]])
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_TIMEOUT,
            check=False,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise NetnsToolsError(f"{shown} did not finish in {_TIMEOUT} seconds") from None
    except OSError as error:
        raise NetnsToolsError(f"cannot run {shown}: {error.strerror}") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"status {done.returncode}"
        denied = "ermission denied" in said or "not permitted" in said
        raise NetnsToolsError(f"{shown}: {said}", hint="run it as root" if denied else hint)
    return done.stdout
