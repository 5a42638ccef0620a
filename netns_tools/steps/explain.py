"""Why a command of a plan failed, in terms of the configuration that it came from."""

from __future__ import annotations

import sys

from netns_tools.names import device_group, unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

RETRY = 75
"""Exit status that tells netnsinit to run the command once more: what was in the way was ours and is gone."""


class Failure:
    """One failed command: its words, where in the configuration it comes from, what its program said."""

    __slots__ = ("command", "name", "nstype", "origin", "program", "said", "status", "step")

    def __init__(self, nstype: str, name: str, step: str, status: int) -> None:
        self.nstype = nstype
        self.name = name
        self.step = step
        self.status = status
        self.command = ""
        self.origin = ""
        self.program = ""
        self.said = ""

    def word_after(self, word: str) -> str:
        """The word of the command that follows ``word``; empty when there is none."""
        words = self.command.split()
        return words[words.index(word) + 1] if word in words[:-1] else ""


def explain(nstype: str, name: str, file: str, status: int, paths: Paths) -> int:
    """Print why a step failed and what to do next; return 75 when it is to be tried again, else 1."""
    directory = paths.run_plan(nstype, name)
    failure = Failure(nstype, name, file.partition(".")[0], status)
    find_command(failure, _read(f"{directory}/{file}"), _read(f"{directory}/error"))
    if failure.status < 128 and _name_is_taken(failure) and _remove_leftover(failure):
        print(f"{unit(nstype, name)}: removed what an interrupted start left behind", file=sys.stderr)
        return RETRY
    print(render(failure), file=sys.stderr)
    return 1


def find_command(failure: Failure, plan: str, said: str) -> None:
    """Fill in the failed line of a plan, from what was said.

    ``ip -batch`` mostly ends with "Command failed FILE:LINE"; ``sh -v`` shows each line before it runs.
    """
    lines = plan.splitlines()
    shown = []
    line = ""
    for text in said.splitlines():
        head, _, number = text.rpartition(":")
        if head.startswith("Command failed ") and number.isdigit() and 0 < int(number) <= len(lines):
            line, failure.program = lines[int(number) - 1], "ip "
        elif text in lines:
            line = text
        else:
            shown.append(text)
    failure.said = "\n".join(shown)
    argument = _wrong_argument(failure.said)
    if not line and argument:
        # ip ends at once, without "Command failed", when it does not like an argument.
        line = next((each for each in lines if argument in each.split()), "")
        failure.program = "ip " if line else ""
    failure.command, _, failure.origin = line.partition("  # ")


def render(failure: Failure) -> str:
    """The failure as people read it: what, the command, its origin, what was said, what to do."""
    place = {"up-outside": "outside", "up-peer": "at the other end"}.get(
        failure.step, f"inside {failure.name}"
    )
    lines = [f"{unit(failure.nstype, failure.name)}: cannot set up {failure.nstype} {place}"]
    if failure.command:
        lines.append(f"  command: {failure.program}{failure.command}")
    if failure.origin:
        lines.append(f"  from: {failure.origin}")
    lines += [f"  it said: {text}" for text in failure.said.splitlines() if text.strip()]
    lines.append(f"  hint: {hint(failure)}")
    return "\n".join(lines)


_HINTS = (
    (("not found",), "a program is missing: install iproute2 and nftables, or what your command needs"),
    (
        ("Cannot open network namespace", 'Invalid "netns" value'),
        "namespace {netns} does not run; 'netns-update' makes {unit} start it first",
    ),
    (
        ("Cannot find device", "No such device"),
        "the device is not there; 'ip link' lists those of the host, 'ip -n {name} link' those inside",
    ),
    (
        ("gateway", "unreachable"),
        "the gateway is in none of the prefixes of the device; mend it in {conf}, or add 'onlink' to it",
    ),
    (("busy",), "a parent in mode passthru belongs to one macvlan alone; no other one or bridge may use it"),
    (
        ("ermission denied", "disabled"),
        "IPv6 may be disabled (sysctl net.ipv6.conf.all.disable_ipv6); enable it or leave IPv6 out",
    ),
    (
        ("Unknown device type", "not supported"),
        "this kernel cannot do that: is the module there (modprobe), and was the kernel built with it?",
    ),
    (("File exists", "Address already assigned"), "the same address or route is there already; set it once"),
    (("",), "'netnsctl plan {nstype} {name}' shows every command and where it comes from"),
)
"""What a program says → what to do; the first that matches counts. The needles are those of iproute2 6."""


def hint(failure: Failure) -> str:
    """What to do next."""
    said = failure.said
    conf = f"/etc/conf.d/netns/{failure.nstype}-{failure.name}.conf"
    if 128 < failure.status < 255:  # 255 is how ip leaves when it does not like an argument
        return "the command was killed; start the unit again"
    if 'Invalid "netns" value' in said and _wrong_argument(said) == failure.name:
        return (
            f"the namespace was deleted while its units ran; stop them all, then start again:"
            f" systemctl stop 'netns-*@{failure.name}.service'"
        )
    if _name_is_taken(failure):
        device = failure.word_after("name")
        return (
            f"a device named {device} (or its peer) exists already and was not made by this unit, so it is"
            f" left alone; see 'ip link show {device}', or choose another name in {conf}"
        )
    parent = failure.command.split()[3] if failure.command.startswith("link add link ") else ""
    if parent and ("Cannot find device" in said or "No such device" in said):
        return (
            f"the host has no device {parent}; set MACVLAN_PARENT_IFNAME in {conf} ('ip link' lists devices)"
        )
    if parent and "Invalid argument" in said:
        return (
            f"{parent} may carry a macvlan in mode passthru, which must be its only one, or have an MTU below"
            f" MACVLAN_MTU; see 'ip -d link show {parent}', then mend MACVLAN_MODE or MACVLAN_MTU in {conf}"
        )
    text = next(text for needles, text in _HINTS if any(needle in said for needle in needles))
    return text.format(
        nstype=failure.nstype,
        name=failure.name,
        conf=conf,
        unit=unit(failure.nstype, failure.name),
        netns=_wrong_argument(said) or failure.word_after("netns"),
    )


def _wrong_argument(said: str) -> str:
    """X in ip's words 'argument "X" is wrong: ...'; empty when it did not say so."""
    before, wrong, _ = said.partition('" is wrong')
    return before.rpartition('argument "')[2] if wrong else ""


def _name_is_taken(failure: Failure) -> bool:
    exists = "File exists" in failure.said or "name exists" in failure.said
    return exists and failure.command.startswith("link add")


def _remove_leftover(failure: Failure) -> bool:
    """Delete what this TYPE left in this namespace; say whether there was anything."""
    from netns_tools.kernel.link import delete_group

    return delete_group(failure.name, device_group(failure.nstype))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
