"""Why a command of a plan failed, in terms of the configuration that it came from."""

from __future__ import annotations

import posix
import sys

from netns_tools.names import device_group, unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

RETRY = 75
"""Exit status that tells netnsinit to run the command once more: what was in the way was ours and is gone."""


class Failure:
    """One failed command: its words, where in the configuration it comes from, what its program said."""

    __slots__ = ("command", "name", "nstype", "origin", "said", "status", "step")

    def __init__(self, nstype: str, name: str, step: str, command: str, origin: str, said: str, status: int) -> None:
        self.nstype = nstype
        self.name = name
        self.step = step
        self.command = command
        self.origin = origin
        self.said = said
        self.status = status

    def word_after(self, word: str) -> str:
        """The word of the command that follows ``word``; empty when there is none."""
        words = self.command.split()
        return words[words.index(word) + 1] if word in words[:-1] else ""


def explain(nstype: str, name: str, step: str, file: str, status: int, paths: Paths) -> int:
    """Print why a step failed and what to do next; return 75 when it is to be tried again, else 1."""
    directory = paths.run_plan(nstype, name)
    failure = read_failure(nstype, name, step, _read(f"{directory}/{file}"), _read(f"{directory}/error"), status)
    if _is_leftover(failure) and _remove_leftover(failure):
        print(f"{unit(nstype, name)}: removed what an interrupted start left behind", file=sys.stderr)
        return RETRY
    print(render(failure), file=sys.stderr)
    return 1


def read_failure(nstype: str, name: str, step: str, plan: str, said: str, status: int) -> Failure:
    """Find the failed line of a plan from what ``ip -batch`` ("Command failed FILE:LINE") or ``sh -v`` said."""
    lines = plan.splitlines()
    shown = []
    line = ""
    for text in said.splitlines():
        head, _, number = text.rpartition(":")
        if head.startswith("Command failed ") and number.isdigit() and 0 < int(number) <= len(lines):
            line = lines[int(number) - 1]
        elif text in lines:
            line = text
        else:
            shown.append(text)
    command, _, origin = line.partition("  # ")
    return Failure(nstype, name, step, command, origin, "\n".join(shown), status)


def render(failure: Failure) -> str:
    """The failure as people read it: what, the command, its origin, what was said, what to do."""
    place = "outside" if failure.step.endswith("outside") else f"inside {failure.name}"
    lines = [f"{unit(failure.nstype, failure.name)}: cannot set up {failure.nstype} {place}"]
    if failure.command:
        program = "" if failure.step.endswith(".sh") or "/" in failure.command.split()[0] else "ip "
        lines.append(f"  command: {program}{failure.command}")
    if failure.origin:
        lines.append(f"  from: {failure.origin}")
    lines += [f"  it said: {text}" for text in failure.said.splitlines() if text.strip()]
    lines.append(f"  hint: {hint(failure)}")
    return "\n".join(lines)


def hint(failure: Failure) -> str:
    """What to do next."""
    said = failure.said
    conf = f"/etc/conf.d/netns/{failure.nstype}-{failure.name}.conf"
    if failure.status == 127 or "not found" in said:
        return "a program is missing: install the packages iproute2 and nftables, or what your command needs"
    if failure.status > 128:
        return "the command was killed; start the unit again"
    if "File exists" in said or "name exists" in said:
        if failure.command.startswith("link add"):
            device = failure.word_after("name")
            return (
                f"a device named {device} (or its peer) exists already and was not made by this unit, so it is left"
                f" alone; see 'ip link show {device}', or choose another name in {conf}"
            )
        return "this address or route exists already; look for the same value twice in the configuration"
    if "Cannot open network namespace" in said:
        other = failure.word_after("netns")
        return (
            f"namespace {other} does not run; 'netns-update' makes {unit(failure.nstype, failure.name)} start it first"
        )
    if "Cannot find device" in said or "No such device" in said:
        parent = failure.word_after("link") if failure.command.startswith("link add link") else ""
        if parent:
            return f"the host has no device {parent}; set MACVLAN_PARENT_IFNAME in {conf} (ip link lists devices)"
        return "the device is gone; was it renamed or removed while the unit started?"
    if "gateway" in said or "unreachable" in said:
        return f"the gateway is in none of the prefixes configured on the device; mend it in {conf}, or add 'onlink'"
    if "busy" in said and "passthru" in failure.command:
        return "passthru takes the parent for itself: no other macvlan or bridge may use it"
    if "ermission denied" in said or "disabled" in said:
        return "IPv6 may be disabled there (sysctl net.ipv6.conf.all.disable_ipv6); enable it or leave IPv6 out"
    if "Unknown device type" in said or "not supported" in said:
        return "this kernel cannot do that; is the module there (modprobe) and the kernel configured for it?"
    return f"'netnsctl plan {failure.nstype} {failure.name}' shows every command and where it comes from"


def _is_leftover(failure: Failure) -> bool:
    return (
        failure.command.startswith("link add")
        and ("File exists" in failure.said or "name exists" in failure.said)
        and failure.status < 128
    )


def _remove_leftover(failure: Failure) -> bool:
    """Delete what this TYPE left in this namespace, known by its device group; say whether there was anything."""
    group = str(device_group(failure.nstype))
    return _run("ip", "-n", failure.name, "link", "delete", "group", group) == 0


def _run(*command: str) -> int:
    null = posix.open("/dev/null", posix.O_RDWR)
    actions = [(posix.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    try:
        child = posix.posix_spawn(_program(command[0]), list(command), posix.environ, file_actions=actions)
    except OSError:
        return 127
    finally:
        posix.close(null)
    return posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1])


def _program(name: str) -> str:
    """Where a program is; netnsinit sets PATH, but posix_spawn does not search it."""
    for directory in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        try:
            posix.stat(f"{directory}/{name}")
        except OSError:
            continue
        return f"{directory}/{name}"
    return name


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
