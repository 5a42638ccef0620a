"""Settings below /proc/sys/net, with a record of what they were, so that they can be put back exactly.

Keys are those of sysctl(8) with slashes, as interfaces may have dots: ``net/ipv4/ip_forward``.
/proc/sys/net shows the network namespace of the thread that opens it (net_ctl_root in
net/sysctl_net.c).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass

from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_TOP = "/proc/sys"
_ALL4 = "net/ipv4/conf/all"

FORWARD = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
"""Whether packets of others are passed on, by address family.

Beware: with IPv6 forwarding an interface takes no more router advertisements unless its
``accept_ra`` is 2, and the routes learned from them vanish (Documentation/networking/ip-sysctl.rst).
"""


def route_localnet(interface: str) -> str:
    """Whether 127.0.0.0/8 may leave by an interface: needed for mappings reachable by 127.0.0.1."""
    return f"net/ipv4/conf/{interface}/route_localnet"


def read(key: str) -> str | None:
    """The value, without its line break; None when there is no such key (an interface that is gone)."""
    try:
        with open(f"{_TOP}/{_checked(key)}", encoding="ascii", errors="replace") as file:
            return file.read().rstrip("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if not os.path.exists(f"{_TOP}/{key}"):
            return None  # the interface went while we read
        raise NetnsToolsError(f"cannot read {_shown(key)}: {error.strerror}") from None


def write(key: str, value: str) -> None:
    """Set a value. Raises ``NetnsToolsError``."""
    try:
        with open(f"{_TOP}/{_checked(key)}", "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        raise NetnsToolsError(
            f"cannot set {_shown(key)} to {value}: there is no such setting",
            hint="is the interface there? ip link; is IPv6 switched off? ls /proc/sys/net",
        ) from None
    except OSError as error:
        hint = ""
        if error.errno == errno.EROFS:
            hint = "/proc/sys is read-only here: set it outside of this container or sandbox"
        elif isinstance(error, PermissionError):
            hint = "run it as root"
        raise NetnsToolsError(f"cannot set {_shown(key)} to {value}: {error.strerror}", hint=hint) from None


def _checked(key: str) -> str:
    """A key that stays below /proc/sys/net; else ``NetnsToolsError``."""
    if not key.startswith("net/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise NetnsToolsError(f"not a setting of the network: {key}")
    return key


def _shown(key: str) -> str:
    return f"sysctl {key}"


@dataclass
class _Change:
    """``before`` and ``after``: key → value, of the key that was set and of all that followed it."""

    before: dict[str, str]
    after: dict[str, str]


class Sysctls:
    """Settings that are changed and put back; a file remembers them in between.

    ``path`` should lie below /run: at a boot all settings are what they were. ``namespace``
    tells network namespaces apart (``netns.cookie()``); the record of another one counts
    as none. One process at a time may use it.
    """

    def __init__(self, path: str, namespace: int) -> None:
        self.path = path
        self._namespace = namespace
        self._changes: dict[str, _Change] = {}
        self._load()

    def changed(self) -> dict[str, tuple[str, str]]:
        """What was set: key → the value before and the one that was set."""
        return {key: (change.before[key], change.after[key]) for key, change in self._changes.items()}

    def set(self, key: str, value: str) -> bool:
        """Set a value, and remember the one before; False when it has this value already.

        Raises ``NetnsToolsError``; then nothing has changed.
        """
        now = read(key)
        if now == value:
            return False
        if now is None:
            write(key, value)  # says what is wrong
            return True
        before = {key: now, **_read_all(_following(key))}
        known = self._changes.get(key)
        # Written ahead: if we are interrupted here, the values are none of ours, and nothing is undone.
        self._changes[key] = _Change(before, {k: _follows(k, value) for k in before})
        try:
            self._save()
            write(key, value)
        except NetnsToolsError:
            del self._changes[key]
            if known is not None:
                self._changes[key] = known
            with contextlib.suppress(NetnsToolsError):
                self._save()
            raise
        return True

    def restore(self, keys: Iterable[str] | None = None) -> list[tuple[str, str]]:
        """Put back what was set, all of it or some ``keys``; the keys and values that were put back.

        What somebody else has changed since is left as it is. Raises ``NetnsToolsError``
        for the first that cannot be put back, after all others have been.
        """
        done: list[tuple[str, str]] = []
        problem: NetnsToolsError | None = None
        for key in reversed(list(self._changes) if keys is None else [k for k in keys if k in self._changes]):
            try:
                if _put_back(key, self._changes[key]):
                    done.append((key, self._changes[key].before[key]))
                del self._changes[key]
            except NetnsToolsError as error:
                problem = problem or error
        self._save()
        if problem is not None:
            raise problem
        return done

    def _load(self) -> None:
        """Read the file; one of another namespace, or a broken one, counts as none."""
        try:
            with open(self.path, encoding="utf-8") as file:
                found = json.load(file)
            if found["namespace"] == self._namespace:
                self._changes = {
                    key: _Change(
                        {k: str(b) for k, (b, _) in rows.items()}, {k: str(a) for k, (_, a) in rows.items()}
                    )
                    for key, rows in found["changes"].items()
                    if key in rows
                }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._changes = {}

    def _save(self) -> None:
        """Replace the file in one step; without changes there is none."""
        if not self._changes:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        rows = {
            key: {k: [change.before[k], change.after[k]] for k in change.before}
            for key, change in self._changes.items()
        }
        temporary = f"{self.path}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            with open(temporary, "x", encoding="utf-8") as file:
                json.dump({"namespace": self._namespace, "changes": rows}, file, indent=1)
            os.rename(temporary, self.path)
        except OSError as error:
            raise NetnsToolsError(
                f"cannot write down which settings were changed: {self.path}: {error.strerror}",
                hint="nothing is changed that could not be put back",
            ) from None


def _following(key: str) -> list[str]:
    """The keys that the kernel changes as well when ``key`` is set.

    inet_forward_change in net/ipv4/devinet.c, addrconf_fixup_forwarding in net/ipv6/addrconf.c:
    every interface follows, and IPv4 redirects are taken by hosts and not by routers.
    """
    if key not in FORWARD.values():
        return []
    family = 4 if key == FORWARD[4] else 6
    top = f"net/ipv{family}/conf"
    try:
        names = sorted(os.listdir(f"{_TOP}/{top}"))
    except OSError:
        names = []
    keys = [f"{top}/{name}/forwarding" for name in names if name != "all"]
    return [*keys, f"{_ALL4}/accept_redirects"] if family == 4 else keys


def _follows(key: str, value: str) -> str:
    """What a key becomes when forwarding, or the key itself, is set to ``value``."""
    if key == f"{_ALL4}/accept_redirects":
        return "0" if value != "0" else "1"
    return value


def _read_all(keys: Iterable[str]) -> dict[str, str]:
    return {key: value for key in keys if (value := read(key)) is not None}


def _put_back(key: str, change: _Change) -> bool:
    """Whether it had to be put back."""
    if read(key) != change.after[key]:
        return False  # gone, or somebody else's by now
    now = _read_all(_following(key))
    write(key, change.before[key])
    for other, value in now.items():
        was, ours = change.before.get(other), change.after.get(other)
        if was is None:
            continue  # an interface that came since: what the kernel gave it on our account goes with it
        wanted = was if value == ours else value
        if read(other) != wanted:
            write(other, wanted)
    return True
