"""How every command of ours starts and ends: one place for exit codes and for errors.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 drift found, 130 interrupted.
A user sees what was being done, what went wrong and what to do next; never a traceback
(``NETNS_TOOLS_TRACEBACK=1`` shows it to a developer).
"""

from __future__ import annotations

import errno
import os
import sys

import click

from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

_REMEDIES = {
    errno.EACCES: "run the command as root (sudo)",
    errno.EPERM: "run the command as root (sudo)",
    errno.ENOSPC: "free some space there, then run the command again; nothing was half-written",
    errno.EDQUOT: "free some space there, then run the command again; nothing was half-written",
    errno.EROFS: "the file system is mounted read-only; remount it or use --root",
}

_PACKAGES = {
    "h11": "python3-h11",
    "jinja2": "python3-jinja2",
    "nftables": "python3-nftables",
    "yaml": "python3-yaml",
}
"""Python packages that are imported late, and the Debian packages they come in."""


def run(command: click.Command, prog: str, args: Sequence[str] | None = None) -> NoReturn:
    """Run a click command as a program; ends the process with the command's exit code.

    A command returns its exit code (``None`` is 0) or raises; this is the only place that
    turns exceptions into messages.
    """
    sys.exit(status_of(command, prog, args))


def status_of(command: click.Command, prog: str, args: Sequence[str] | None = None) -> int:
    """Run a click command and say with which exit code the process should end."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a file name may hold bytes that the terminal's encoding has not
            reconfigure(errors="backslashreplace")
    try:
        result = command.main(args=args, prog_name=prog, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BaseException as error:
        if os.environ.get("NETNS_TOOLS_TRACEBACK") and not isinstance(error, SystemExit):
            raise
        return _explain(error)


def _open_standard_streams() -> None:
    """Replace standard streams that the caller closed: else a file of ours would get their number."""
    for name, descriptor, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None and _is_closed(descriptor):
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


def _explain(error: BaseException) -> int:
    """Tell the user about ``error``; the exit code that belongs to it."""
    if isinstance(error, SystemExit):
        return _exit_code(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        return 1
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, NetnsToolsError):
        _say(error.render())
        return error.exit_code
    if isinstance(error, OSError):
        _silence_stdout()
        _say(_os_error(error))
        return 1
    if isinstance(error, ModuleNotFoundError) and error.name in _PACKAGES:
        package = _PACKAGES[error.name]
        _say(f"error: the Python package {error.name} is missing\n  hint: apt install {package}")
        return 1
    _say(_bug(error))
    return 1


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        if error.code:
            _silence_stdout()  # click leaves this way when the reader of a pipe is gone
        return error.code
    _say(str(error.code))
    return 1


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    place = f"{error.filename}: " if error.filename is not None else ""
    text = f"error: {place}{reason}"
    remedy = _REMEDIES.get(error.errno or 0, "")
    return f"{text}\n  hint: {remedy}" if remedy else text


def _bug(error: BaseException) -> str:
    """An error that nobody foresaw: say what and where, in two lines."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame is not None else ""
    reason = " ".join(str(error).split())
    return (
        f"error: internal error: {type(error).__name__}: {reason}{place}\n"
        "  hint: this is a mistake in netns-tools; run it again with NETNS_TOOLS_TRACEBACK=1 and report that"
    )


def _say(text: str) -> None:
    """Write to standard error, which may be gone or full as well."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def _silence_stdout() -> None:
    """Point standard output to /dev/null, so that Python's own flush at exit cannot fail."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        return
