"""Firewall rules of a namespace: dump, judge and write them; try a file in a scratch namespace."""

from __future__ import annotations

import os
import stat
import subprocess

from netns_tools.errors import NetnsToolsError
from netns_tools.host import systemd
from netns_tools.kernel.ruleset import blocked, iptables_rule, owned_tables, split_tables, vanished_devices
from netns_tools.names import name_unit, unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netns_tools.paths import Paths

_TIMEOUT = 12
"""Seconds for one nft; 10,000 elements take less than one.

A save at a stop is two of them, and systemd gives the stop 30 s (TimeoutStopSec=).
"""

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def save_rules(name: str, paths: Paths) -> tuple[str, list[str]]:
    """Write the rules of a running namespace to its rules file; the file, and the tables that were left out.

    Raises NetnsToolsError, and then the file is as it was.
    """
    if os.geteuid() != 0:
        raise NetnsToolsError("rules are saved as root", hint=f"sudo netns-nft-save {name}")
    _require_active(name, paths)
    target = f"{paths.conf}/nft-{name}.rules"
    _refuse_target(target)
    namespace = f"{paths.netns}/{name}"
    dump = _nft(namespace, "list", "ruleset")
    if dump.returncode:
        raise NetnsToolsError(
            f"cannot list the rules of {name}: {_one_line(dump.stderr)}", hint="run the command as root"
        )
    tables = split_tables(dump.stdout)
    if blocked(tables):
        raise NetnsToolsError(
            f"nothing saved: everything in {name} is blocked, because its rules could not be loaded",
            hint=f"{target} is kept; see what is wrong with it: journalctl -u {unit('nft', name)}",
        )
    left_out = owned_tables(tables)
    text = _head(name) + "".join(body for table, body in tables if table not in left_out)
    _refuse_loss(name, target, text)
    test = _nft(namespace, "-c", "-f", "-", text=text)
    if test.returncode:
        raise NetnsToolsError(
            f"nothing saved: nft cannot load what it lists for {name}: {_first_error(test.stderr)}",
            hint=f"{target} is kept; write the rule in another way, or that file by hand",
        )
    _write(target, text)
    return target, left_out


def _head(name: str) -> str:
    import time

    from netns_tools import __version__

    when = time.strftime("%Y-%m-%d %H:%M:%S %z")
    comment = f"# Saved {when} from namespace {name} by netns-nft-save {__version__}; comments are not kept."
    return f"flush ruleset\n{comment}\n\n"


def _require_active(name: str, paths: Paths) -> None:
    """Refuse unless the namespace's unit is active; below another root, unless the namespace is there."""
    remedy = f"start it: systemctl start {unit('nft', name)}"
    if not paths.root:
        if not systemd.is_running():
            raise NetnsToolsError(f"systemd does not run here, so {name_unit(name)} cannot be active")
        state = systemd.state(name_unit(name))
        if state != "active":
            raise NetnsToolsError(
                f"namespace {name} is not running: {name_unit(name)} is {state}", hint=remedy
            )
    if not os.path.exists(f"{paths.netns}/{name}"):
        raise NetnsToolsError(f"there is no namespace {name}: {paths.netns}/{name} is missing", hint=remedy)


def _refuse_target(target: str) -> None:
    """Never write through a link, over another user's file or into a directory that others may change."""
    directory = os.path.dirname(target)
    status = os.stat(directory)
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NetnsToolsError(
            f"nothing saved: users other than root may write to {directory}",
            hint=f"chown root:root {directory} && chmod go-w {directory}",
        )
    try:
        status = os.lstat(target)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise NetnsToolsError(
            f"nothing saved: {target} is {kind}", hint=f"move it away: mv {target} {target}.old"
        )
    if status.st_uid != 0:
        raise NetnsToolsError(
            f"nothing saved: {target} belongs to user {status.st_uid}, not to root",
            hint=f"look who wrote it, then: chown root:root {target}",
        )


def _refuse_loss(name: str, target: str, text: str) -> None:
    """Refuse rules whose text does not say what the kernel does."""
    if numbers := vanished_devices(text):
        raise NetnsToolsError(
            f"nothing saved: rules of {name} match a vanished device by its number: {'; '.join(numbers)}",
            hint=f"write them with iifname or oifname, or bring the device back; {target} is kept",
        )
    if line := iptables_rule(text):
        raise NetnsToolsError(
            f"nothing saved: a rule was made by iptables, and nft cannot write it down: {line}",
            hint=f"make it with nft instead (ip netns exec {name} iptables -F removes it); {target} is kept",
        )


def _write(target: str, text: str) -> None:
    """Replace a file in one step: root:root 0644, on the disk before it has its name."""
    import fcntl

    directory, base = os.path.split(target)
    temporary = f"{directory}/.{base}.new"
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if os.path.lexists(temporary):  # of a process that was killed: whoever works here holds the lock
                os.unlink(temporary)
            _write_new(temporary, text)
            _refuse_target(target)
            os.rename(temporary, target)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise
        os.fsync(lock)
    finally:
        os.close(lock)


def _write_new(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)


def _nft(namespace: str, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run nft inside a namespace."""
    try:
        return subprocess.run(
            ["nsenter", f"--net={namespace}", "nft", *words],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_TIMEOUT,
            check=False,
            env=_ENVIRONMENT,
        )
    except subprocess.TimeoutExpired:
        raise NetnsToolsError(f"nft {' '.join(words)} did not finish in {_TIMEOUT} seconds") from None


def try_rules(path: str, devices: Iterable[str]) -> str:
    """Let nft check a rules file in a new namespace that has these devices; nft's complaints, "" for none.

    Needs root. Nothing of the machine changes: namespace and devices are gone afterwards.
    Raises NetnsToolsError when that cannot be tried here.
    """
    script = (
        "rules=$1; shift; n=0; for device do "
        'ip link add name "$device" type veth peer name "_$n" 2>/dev/null; n=$((n + 1)); done; '
        'exec nft -c -f "$rules"'
    )
    try:
        answer = subprocess.run(
            ["unshare", "--net", "sh", "-c", script, "sh", path, *devices],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_TIMEOUT,
            check=False,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetnsToolsError(f"nft cannot be asked about these rules: {error}") from None
    if answer.stderr.startswith(("unshare:", "sh:")):
        raise NetnsToolsError(f"nft cannot be asked about these rules: {_one_line(answer.stderr)}")
    return answer.stderr if answer.returncode else ""


def _first_error(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    return " ".join(line.strip() for line in lines[:2])


def _one_line(text: str) -> str:
    return " ".join(text.split())
