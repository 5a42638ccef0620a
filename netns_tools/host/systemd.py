"""The running systemd, by way of systemctl. Only for the running system: never with --root."""

from __future__ import annotations

import os
import subprocess

from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SECONDS = 90
_HINT = "look at what systemd itself logged: journalctl _PID=1"


def is_running() -> bool:
    """Whether systemd is PID 1 here (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def has_device_units() -> bool:
    """Whether udev tells systemd of devices; without it no .device unit ever comes."""
    return os.path.exists("/run/udev/control")


def daemon_reload() -> None:
    """Make systemd read all unit files again. Raises ``NetnsToolsError``."""
    _systemctl("daemon-reload")


def units(patterns: Iterable[str], states: Iterable[str]) -> list[str]:
    """Names of loaded units that match a glob and are in one of the states. Raises ``NetnsToolsError``.

    No pattern matches nothing.
    """
    patterns = list(patterns)
    if not patterns:
        return []
    text = _systemctl(
        "list-units", "--all", "--full", "--plain", "--no-legend", f"--state={','.join(states)}", *patterns
    )
    return [line.split(maxsplit=1)[0] for line in text.splitlines() if line.strip()]


def jobs() -> dict[str, str]:
    """The queued and running jobs: unit → ``start``, ``stop``, ... Raises ``NetnsToolsError``."""
    text = _systemctl("list-jobs", "--full", "--plain", "--no-legend")
    lines = (line.split() for line in text.splitlines())
    return {words[1]: words[2] for words in lines if len(words) >= 3}


def dependents(units: Iterable[str]) -> dict[str, set[str]]:
    """For each unit those that need it, started or not, as StopWhenUnneeded= sees it.

    Raises ``NetnsToolsError``.
    """
    units = list(units)
    if not units:
        return {}
    properties = ("Id", "RequiredBy", "WantedBy", "BoundBy", "RequisiteOf")
    text = _systemctl("show", *(f"--property={name}" for name in properties), "--", *units)
    found: dict[str, set[str]] = {}
    for block in text.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        unit = values.pop("Id", "")
        if unit:
            found[unit] = {word for value in values.values() for word in value.split()}
    return found


def stop(units: Iterable[str]) -> None:
    """Queue the stop of these units alone, without waiting for it. Raises ``NetnsToolsError``.

    Units that require them are not stopped along: the caller knows that none needs them. A
    start of one that is about to fail by itself is then reported as failed, not canceled.
    """
    _systemctl("stop", "--no-block", "--job-mode=ignore-dependencies", "--", *units)


def start(unit: str) -> None:
    """Queue the start of a unit, without waiting for it. Raises ``NetnsToolsError``."""
    _systemctl("start", "--no-block", "--", unit)


def states(patterns: Iterable[str]) -> dict[str, str]:
    """Loaded units that match a glob, with their states (active, failed, ...). Raises ``NetnsToolsError``."""
    text = _systemctl("list-units", "--all", "--full", "--plain", "--no-legend", *patterns)
    rows = (line.split(maxsplit=4) for line in text.splitlines())
    return {row[0]: row[2] for row in rows if len(row) >= 4}


def state(unit: str) -> str:
    """The state of one unit; ``inactive`` when there is none of that name. Raises ``NetnsToolsError``."""
    return _systemctl("show", "--property=ActiveState", "--value", "--", unit).strip()


def reset_failed(names: Iterable[str]) -> None:
    """Forget that units have failed. Raises ``NetnsToolsError``."""
    _systemctl("reset-failed", "--", *names)


def _systemctl(*words: str) -> str:
    command = ["systemctl", "--no-pager", "--no-ask-password", *words]
    environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
    shown = " ".join(command[:1] + list(words[:3]))
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_SECONDS, env=environment
        )
    except FileNotFoundError:
        raise NetnsToolsError("systemctl is not there", hint="netns-tools needs systemd") from None
    except subprocess.TimeoutExpired:
        raise NetnsToolsError(f"{shown} did not finish within {_SECONDS} s", hint=_HINT) from None
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise NetnsToolsError(f"{shown}: {reason[0]}", hint=_HINT)
    return done.stdout
