"""Requests, answers and refusals in HTTP and JSON, as both ends see them.

An error is a JSON object: ``error`` (text), ``code`` (what a command of ours exits with: 2 for bad
values, else 1), and where there is something to say ``hint`` and ``problems`` (a list of objects
with ``message``, ``file``, ``line``, ``column``, ``hint``, ``severity``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netns_tools.errors import ConfigError, NetnsToolsError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BAD, FORBIDDEN, UNKNOWN, NO_METHOD, CONFLICT, FAILED = 400, 403, 404, 405, 409, 500


@dataclass(frozen=True)
class Peer:
    """The process at the other end of a Unix socket, when it connected (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True)
class Request:
    """``path``: its words, decoded one by one. ``body``: what the JSON says; None without a body."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    body: Any
    peer: Peer


@dataclass(frozen=True)
class Response:
    """``body`` is said as JSON."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Refused(NetnsToolsError):
    """Somebody asked for what cannot be. ``status``: 4xx, which of the many reasons it is."""

    def __init__(
        self, message: str, *, status: int = CONFLICT, hint: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = headers or {}
        self.exit_code = 2 if status == BAD else 1


def refusal(error: NetnsToolsError) -> Response:
    """What a client hears of an error; ``error_of`` makes an error of it again."""
    said: dict[str, Any] = {"error": error.message, "code": error.exit_code}
    if error.hint:
        said["hint"] = error.hint
    if isinstance(error, ConfigError):
        said["error"] = str(error)
        said["problems"] = [problem.as_dict() for problem in error.problems]
    if isinstance(error, Refused):
        return Response(error.status, said, error.headers)
    return Response(BAD if error.exit_code == 2 else FAILED, said)


def error_of(status: int, body: Any) -> NetnsToolsError:
    """The error that a client was answered with, to be raised there."""
    said = body if isinstance(body, dict) else {}
    message, hint = _text(said, "error") or f"refused with HTTP status {status}", _text(said, "hint")
    found = said.get("problems")
    if found and isinstance(found, list) and all(isinstance(problem, dict) for problem in found):
        return ConfigError([_problem(problem) for problem in found])
    error = Refused(message, status=status, hint=hint)
    if isinstance(said.get("code"), int):
        error.exit_code = said["code"]
    return error


def _problem(said: dict[str, Any]) -> Problem:
    line, column = (number if isinstance(number := said.get(name), int) else 0 for name in ("line", "column"))
    return Problem(
        _text(said, "message"),
        path=_text(said, "file"),
        line=line,
        column=column,
        hint=_text(said, "hint"),
        severity=_text(said, "severity") or "error",
    )


def _text(said: dict[str, Any], name: str) -> str:
    found = said.get(name)
    return found if isinstance(found, str) else ""
