"""The kinds of single values in a daemon's configuration, and what is wrong with a value of a kind.

Each check gives a message, "" when the text is fine, and a hint.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from netns_tools import names
from netns_tools.config import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.keys import Key

TRUE_WORDS = ("yes", "true", "on", "1")
FALSE_WORDS = ("no", "false", "off", "0")

WORD_MAX = 255
"""Longest name of a table or a set: NFT_NAME_MAXLEN - 1 (linux/netfilter/nf_tables.h)."""

INTEGER_MAX = (1 << 63) - 1

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset("0123456789")
_SECONDS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def is_true(text: str) -> bool:
    """The meaning of a value of kind ``bool`` that passed the check; an empty one is false."""
    return text.lower() in TRUE_WORDS


def value_problem(key: Key, text: str) -> tuple[str, str]:
    """What is wrong with a value; of a key of several kinds it must fit one."""
    kinds = key.kind.split("|")
    found = [_CHECKS[kind](key, text) for kind in kinds]
    if any(not message for message, _ in found):
        return "", ""
    if len(found) == 1:
        return found[0]
    shown = " nor ".join(_KIND_NAMES.get(kind, kind) for kind in kinds)
    return f"{shortened(text)!r} is neither {shown}", next((hint for _, hint in found if hint), "")


def shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_bool(_key: Key, text: str) -> tuple[str, str]:
    if text.lower() in TRUE_WORDS + FALSE_WORDS:
        return "", ""
    return f"{shortened(text)!r} is neither yes nor no", ""


def _check_text(_key: Key, text: str) -> tuple[str, str]:
    if text.isprintable():
        return "", ""
    return f"control characters are not allowed in {shortened(text)!r}", ""


def _check_choice(key: Key, text: str) -> tuple[str, str]:
    if text in key.choices:
        return "", ""
    close = difflib.get_close_matches(text.lower()[:40], key.choices, 1)
    hint = f"did you mean {close[0]!r}?" if close else ""
    return f"{shortened(text)!r} is not one of {', '.join(key.choices)}", hint


def is_integer(text: str) -> bool:
    return bool(text) and len(text) <= 18 and _DIGITS.issuperset(text)


def _check_integer(key: Key, text: str) -> tuple[str, str]:
    bounded = key.maximum < INTEGER_MAX
    what = f"a whole number from {key.minimum} to {key.maximum}" if bounded else "a whole number"
    if not bounded and key.minimum:
        what = f"a whole number, {key.minimum} or more"
    if not is_integer(text) or not key.minimum <= int(text) <= key.maximum:
        return f"{shortened(text)!r} is not {what}", ""
    return "", ""


def parse_seconds(text: str) -> float | None:
    """``30``, ``1.5``, ``500ms``, ``10s``, ``5min``, ``2h``, ``1d`` in seconds; None for all else."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip()
    whole, dot, part = number.partition(".")
    if unit not in _SECONDS or not is_integer(whole) or (dot and not is_integer(part)):
        return None
    return float(number) * _SECONDS[unit]


def _check_seconds(_key: Key, text: str) -> tuple[str, str]:
    if parse_seconds(text) is None:
        return f"{shortened(text)!r} is no time", "write a number of seconds, or 500ms, 10s, 5min, 2h"
    return "", ""


def _check_path(_key: Key, text: str) -> tuple[str, str]:
    if not text.isprintable():
        return f"control characters are not allowed in {shortened(text)!r}", ""
    if not text.startswith("/"):
        return f"{shortened(text)!r} is no absolute path", "begin it with '/'"
    return "", ""


def _check_ifpattern(_key: Key, text: str) -> tuple[str, str]:
    """A device name or a pattern for one; names by the kernel's rule (dev_valid_name in net/core/dev.c)."""
    shown = shortened(text)
    if ":" in text:
        hint = f"addresses of an alias are addresses of its device: write {shown.partition(':')[0]}"
        return f"{shown!r} is no device name: it may not hold ':'", hint
    if not text.isprintable() or " " in text or "/" in text or text in (".", ".."):
        hint = (
            "one entry a device; a pattern like ppp* stands for several" if " " in text or "/" in text else ""
        )
        return f"{shown!r} is no device name", hint
    is_pattern = bool(set(text) & set("*?["))
    if not is_pattern and len(text.encode()) > names.IFNAME_MAX:
        return f"device name {shown!r} is longer than the {names.IFNAME_MAX} bytes that Linux allows", ""
    if is_pattern and len(text) > 64:
        return f"the pattern {shown!r} is longer than 64 characters", ""
    if "[" in text and "]" not in text[text.rindex("[") + 2 :]:
        return f"the pattern {shown!r} has a '[' that is never closed", ""
    return "", ""


def _check_address(_key: Key, text: str) -> tuple[str, str]:
    if address.parse(text) is None:
        return f"{shortened(text)!r} is no address", "write one like 192.0.2.1/24 or 2001:db8::1/64"
    return "", ""


def _check_word(_key: Key, text: str) -> tuple[str, str]:
    """An identifier of nft(8): the token ``string`` of its scanner.l."""
    if text[:1] not in _LETTERS.union("_."):
        return f"{shortened(text)!r} is no name for nft: it begins with a letter, '_' or '.'", ""
    if not _LETTERS.union(_DIGITS, "_./-").issuperset(text):
        return f"{shortened(text)!r} is no name for nft: letters, digits and '_./-' only", ""
    if len(text) > WORD_MAX:
        return f"{shortened(text)!r} has {len(text)} characters; nft allows {WORD_MAX}", ""
    return "", ""


_CHECKS: dict[str, Callable[[Key, str], tuple[str, str]]] = {
    "bool": _check_bool,
    "text": _check_text,
    "choice": _check_choice,
    "integer": _check_integer,
    "seconds": _check_seconds,
    "path": _check_path,
    "ifpattern": _check_ifpattern,
    "address": _check_address,
    "word": _check_word,
}

_KIND_NAMES = {
    "bool": "yes nor no",
    "choice": "one of its words",
    "integer": "a whole number",
    "seconds": "a time",
    "path": "an absolute path",
    "ifpattern": "a device name",
    "address": "an address",
    "word": "a name for nft",
}

KINDS = tuple(_CHECKS)
"""Every kind of a key."""
