"""Which names are possible, and what is derived from them.

This module is on the start path of every namespace: it imports nothing.
"""

from __future__ import annotations

_ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_NSNAME_CHARS = frozenset(_ALNUM + "_.-")
_NSTYPE_CHARS = frozenset(_ALNUM + "_")
_IFNAME_CHARS = frozenset(_ALNUM + "_.-@+=,")

IFNAME_MAX = 15
"""Longest device name: IFNAMSIZ - 1 (linux/if.h)."""

NSNAME_MAX = 64
"""Longest NAME: leaves room for unit and file names made of it (NAME_MAX is 255)."""

HOST = "host"
"""The NAME of the host's own namespace; only a daemon can be started for it."""

RESERVED = (HOST,)
"""NAMEs that no namespace of ours can have."""


def nsname_problem(name: str) -> str:
    """Say what is wrong with a NAME; empty when it is fine."""
    if not name:
        return "a namespace needs a name"
    if "\\" in name:
        return f"{name!r} is an escaped unit name; write the NAME itself, hyphens are fine"
    if not set(name) <= _NSNAME_CHARS:
        return f"{name!r} is no namespace name: letters, digits, '_', '-' and '.' only"
    if name[0] in ".-":
        return f"{name!r} is no namespace name: it may not begin with {name[0]!r}"
    if len(name) > NSNAME_MAX:
        return f"{name!r} is no namespace name: longer than {NSNAME_MAX} characters"
    return ""


def nstype_problem(nstype: str) -> str:
    """Say what is wrong with a TYPE; empty when it is fine. A TYPE has no hyphen: TYPE-NAME must split."""
    if not nstype:
        return "a type needs a name"
    if not set(nstype) <= _NSTYPE_CHARS or nstype[0].isdigit():
        return f"{nstype!r} is no type name: letters, digits and '_', not beginning with a digit"
    if nstype == "default":
        return "'default' is no type: default.conf is the layer under all types"
    if len(nstype) > 32:
        return f"{nstype!r} is no type name: longer than 32 characters"
    return ""


def ifname_problem(name: str) -> str:
    """Say what is wrong with a device name; empty when it is fine.

    Stricter than the kernel (dev_valid_name in net/core/dev.c takes any byte but
    white space, '/' and ':'): '#' and quotes would end a line of ``ip -batch``.
    """
    if not name:
        return "a device needs a name"
    if len(name) > IFNAME_MAX:
        return f"device name {name!r} has {len(name)} characters; Linux allows {IFNAME_MAX}"
    if name in (".", "..") or not set(name) <= _IFNAME_CHARS or name[0] in "-@":
        return f"{name!r} is no device name: letters, digits and '_.-@+=,' only"
    return ""


def device_group(nstype: str) -> int:
    """The device group (IFLA_GROUP) that marks what TYPE created inside a namespace.

    The kernel sets it in the same step that creates the device, so the mark is
    there whatever kills us; a stop deletes that group in that namespace and
    nothing else. FNV-1a of the type's name, 31 bits, never 0 (the default group).
    """
    digest = 2166136261
    for byte in b"netns-tools:" + nstype.encode():
        digest = ((digest ^ byte) * 16777619) & 0xFFFFFFFF
    return (digest & 0x3FFFFFFF) | 0x40000000


def unit(nstype: str, name: str) -> str:
    """The unit a user starts: ``netns-TYPE@NAME.service``."""
    return f"netns-{nstype}@{name}.service"


def outside_unit(nstype: str, name: str) -> str:
    """The unit of the outside step."""
    return f"netns_outside-{nstype}@{name}.service"


def name_unit(name: str) -> str:
    """The unit that creates and removes the namespace itself."""
    return f"netns_name@{name}.service"
