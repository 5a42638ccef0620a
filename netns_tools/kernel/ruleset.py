"""The text of ``nft list ruleset``: its tables, and what in it would not survive a restore.

nft is run without --stateless, so counters, quotas and the remaining time of elements
are part of the text. Pure functions; tested against real nft in the kernel lane.
"""

from __future__ import annotations

import re

GUARD = "inet netns_blocked"
"""The table that blocks everything when rules could not be loaded (lib/blocked.nft)."""

Tables = list[tuple[str, str]]
"""Pairs of a table's family and name, and its whole text. Lines outside tables have the name ""."""


def split_tables(text: str) -> Tables:
    """Cut a listing into tables; nothing is lost: the parts make the whole text again."""
    tables: Tables = []
    for line in text.splitlines(keepends=True):
        if line.startswith("table "):
            tables.append((line.removeprefix("table ").partition("{")[0].strip(), line))
        elif not tables:
            tables.append(("", line))
        else:
            name, body = tables[-1]
            tables[-1] = (name, body + line)
    return tables


def blocked(tables: Tables) -> bool:
    """Whether these are not the namespace's rules but the ones that block everything."""
    return any(name == GUARD for name, _body in tables)


def owned_tables(tables: Tables) -> list[str]:
    """Tables with the owner flag: the kernel removes them with their program, and lets no other one in."""
    return [
        name
        for name, body in tables
        if any(re.fullmatch(r"\s*flags\s+(?:\w+,\s*)*owner\b.*", line) for line in body.splitlines()[:3])
    ]


def vanished_devices(text: str) -> list[str]:
    """Pieces of rules and sets that name a device by its number, because it is gone.

    ``iif``/``oif`` hold the number of a device, and nft prints its name while it has one.
    Loaded again, the number would match whichever device has it then.
    """
    text = re.sub(r'"[^"\n]*"', '""', text)  # nothing in a comment or a log prefix is meant
    found = re.findall(r"\b[io]if (?:(?:==|!=) )?\d+\b", text)
    for match in re.finditer(r"((?:[\w-]+ )*?[io]if\b[^{}\n]*?)(?:!= )?(?:vmap |map )?\{([^{}]*)\}", text):
        found += _numbers(_components(match[1]), match[2])
    for match in re.finditer(
        r"^\s*(?:type|typeof) ([^\n]*)\n(?:(?!\s*\}).*\n)*?\s*elements = \{([^{}]*)\}", text, re.M
    ):
        components = [part.strip() for part in re.split(r" \. | : ", match[1])]
        found += _numbers(
            [part in ("iface_index", "iif", "oif", "meta iif", "meta oif") for part in components], match[2]
        )
    return list(dict.fromkeys(found))


def indexed_devices(text: str) -> list[str]:
    """Devices other than lo that rules match by ``iif``/``oif``: such rules load only where those exist."""
    found = re.findall(r'\b[io]if (?:== |!= )?"([^"\n]+)"', text)
    return [device for device in dict.fromkeys(found) if device != "lo"]


def _components(expression: str) -> list[bool]:
    """For each part of ``iif . tcp dport``: whether it is the number of a device."""
    return [part.split()[-1:] in (["iif"], ["oif"]) for part in expression.strip().split(" . ")]


def _numbers(device: list[bool], elements: str) -> list[str]:
    """Elements of a set or map that have a bare number where a device is meant."""
    found = []
    for element in elements.split(","):
        parts = [part.strip() for part in re.split(r" \. | : ", element)]
        if any(
            is_device and re.match(r"\d+\b", part) for part, is_device in zip(parts, device, strict=False)
        ):
            found.append(f"element {' '.join(element.split())}")
    return found


def iptables_rule(text: str) -> str:
    """The first rule that nft lists and cannot load, as an extension of iptables is in it; "" for none."""
    text = re.sub(r'"[^"\n]*"', '""', text)
    lines = (line.strip() for line in text.splitlines())
    mark = re.compile(r"(?:^|\s)xt (?:match|target) |# xt_")
    return next((line for line in lines if mark.search(line)), "")
