"""One rule in Docker's chain DOCKER-USER, so that a forward policy of Docker's lets our mappings pass.

Docker's iptables backend drops what it did not publish itself; an accept in a table of ours overrides
no drop elsewhere. What our table has translated carries a bit in its connmark, and the rule accepts
that. The chain is never made: where Docker did not make it, nothing needs the rule. It can be in
nftables (iptables-nft) or in the kernel's old tables (iptables-legacy), and in both if Docker has
changed sides.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import program
from netns_tools.kernel.netlink import NETLINK_NETFILTER, Requester, attribute

CHAIN = "DOCKER-USER"

COMMENT = "netns-natmap"
"""By this comment a rule is known as ours."""

_GETCHAIN = 10 << 8 | 4  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
_CHAIN_TABLE, _CHAIN_NAME = 1, 3  # NFTA_CHAIN_*
_NFPROTO = {4: 2, 6: 10}
_COMMANDS = {4: "iptables", 6: "ip6tables"}
_WAIT = 5  # seconds for the lock that all iptables share
_TRIES = 5

Rule = tuple[str, ...]
"""A rule as ``iptables -S`` prints it: the words after ``-A CHAIN``."""


@dataclass(frozen=True)
class Chain:
    """DOCKER-USER of an address family, 4 or 6, in one of the two places where it can be.

    ``variant``: ``nft`` or ``legacy``. ``program``: the iptables that reads and changes it, "" when
    it is not installed; then ``rules`` are not known.
    """

    family: int
    variant: str
    program: str
    rules: tuple[Rule, ...]


def observe() -> list[Chain]:
    """Every DOCKER-USER in this thread's network namespace; none is the usual case and costs 0.1 ms.

    Raises ``NetnsToolsError`` when one cannot be read.
    """
    found = []
    for family in _COMMANDS:
        for variant, is_there in (("nft", _in_nftables), ("legacy", _in_old_tables)):
            # Looked up without iptables first: merely by looking, it makes the old tables.
            if is_there(family):
                chain = _read(family, variant)
                if chain is not None:
                    found.append(chain)
    return found


def ensure(mark: int) -> list[str]:
    """Have the rule that accepts what carries these bits in every DOCKER-USER; the commands it took.

    Raises ``NetnsToolsError``.
    """
    return _make(mark)


def remove() -> list[str]:
    """Take our rules out of every DOCKER-USER; the commands it took. Raises ``NetnsToolsError``."""
    return _make(0)


def accepts(chain: Chain, mark: int) -> bool:
    """Whether our rule is in the chain, where packets get to it."""
    return not plan(chain.rules, mark)


def plan(rules: Sequence[Rule], mark: int) -> list[tuple[str, ...]]:
    """Words for iptables, one command each, that leave one rule of ours for ``mark``; with 0, none.

    The rule comes after everybody else's, so that what an administrator drops here stays dropped,
    but before the RETURN that Docker (until 27) ends the chain with.
    """
    ours = [rule for rule in rules if is_ours(rule)]
    others = [rule for rule in rules if not is_ours(rule)]
    wanted = _rule(mark)
    last = len(others) - 1 if others and _is_return(others[-1]) else len(others)
    if mark and ours == [wanted] and not any(map(_is_return, rules[: rules.index(wanted)])):
        return []
    commands = [("-D", CHAIN, *rule) for rule in ours]
    return [*commands, ("-I", CHAIN, str(last + 1), *wanted)] if mark else commands


def is_ours(rule: Rule) -> bool:
    """Whether a rule has our comment."""
    return any(pair == ("--comment", COMMENT) for pair in itertools.pairwise(rule))


def parse(listing: str) -> tuple[Rule, ...]:
    """The rules of the chain in what ``iptables -S`` printed."""
    return tuple(_words(line) for line in listing.splitlines() if line.startswith(f"-A {CHAIN} "))


def _words(line: str) -> Rule:
    try:
        return tuple(shlex.split(line)[2:])
    except ValueError:
        return ("?",)  # somebody's comment has a line break in it


def _rule(mark: int) -> Rule:
    bits = f"{mark:#x}/{mark:#x}"
    return ("-m", "connmark", "--mark", bits, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT")


def _is_return(rule: Rule) -> bool:
    """Whether no packet gets past it."""
    return rule == ("-j", "RETURN")


def _make(mark: int) -> list[str]:
    done: list[str] = []
    problem: NetnsToolsError | None = None
    for _ in range(_TRIES):
        work = [
            (chain, command) for chain in observe() if chain.program for command in plan(chain.rules, mark)
        ]
        if not work:
            return done
        try:
            for chain, command in work:
                words = [chain.program, "-w", str(_WAIT), *command]
                program.output(words, hint=_look(words[0]))
                done.append(shlex.join([os.path.basename(chain.program), *words[1:]]))
        except NetnsToolsError as error:
            problem = error  # maybe Docker changed the chain meanwhile: look again
    raise problem or NetnsToolsError(f"the rules of {CHAIN} change all the time", hint="try again")


def _in_nftables(family: int) -> bool:
    kernel = Requester(NETLINK_NETFILTER, "ask for the nftables of this network namespace")
    try:
        body = bytes([_NFPROTO[family], 0, 0, 0])
        body += attribute(_CHAIN_TABLE, b"filter\0") + attribute(_CHAIN_NAME, CHAIN.encode() + b"\0")
        return kernel.ask(_GETCHAIN, body) is not None
    finally:
        kernel.close()


def _in_old_tables(family: int) -> bool:
    """Whether the old filter table is in use; reading it is what tells about the chain."""
    name = "ip_tables_names" if family == 4 else "ip6_tables_names"
    try:
        with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
            return "filter" in file.read().split()
    except OSError:
        return False


def _read(family: int, variant: str) -> Chain | None:
    """The chain; None when it is not there (any more)."""
    path = _program(family, variant)
    if not path:
        # Whether the old tables have the chain is not known then.
        return Chain(family, variant, "", ()) if variant == "nft" else None
    try:
        listing = program.output([path, "-w", str(_WAIT), "-S", CHAIN], hint=_look(path))
    except NetnsToolsError as error:
        if "No chain/target/match by that name" in error.message:
            return None
        if variant == "nft" and not _in_nftables(family):
            return None  # gone meanwhile
        raise
    return Chain(family, variant, path, parse(listing))


def _program(family: int, variant: str) -> str:
    """The path of the iptables of a variant, "" for none."""
    command = _COMMANDS[family]
    if found := next(program.installed(f"{command}-{variant}"), ""):
        return found
    for path in program.installed(command):  # a distribution with but one of them may call it just that
        with contextlib.suppress(NetnsToolsError):
            is_nft = "(nf_tables)" in program.output([path, "-V"])
            if is_nft == (variant == "nft"):
                return path
    return ""


def _look(path: str) -> str:
    return f"see what is in it: {path} -S {CHAIN}"
