"""What ``netns-natmap`` prints for people, made of the answers that programs get as JSON."""

from __future__ import annotations

import click

from netns_tools.cli.output import print_table, styled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

_COLOURS = {"live": "green", "missing": "red", "waiting": "yellow"}


def print_changes(answer: Json, *, with_entries: bool) -> None:
    """What was changed or would be, a line each; before it the entries concerned, where asked for."""
    if with_entries:
        for entry in answer["entries"]:
            click.echo(f"# {entry['command']}")
    for line in answer["changes"]:
        click.echo(line)
    if not answer["changes"]:
        waits = any(_waits(entry) for entry in answer["entries"])
        click.echo(f"# nothing to do{' as long as the container does not run' if waits else ''}")


def _waits(entry: Json) -> bool:
    """Whether the container of a mapping has no address now."""
    request = entry.get("request")
    return request is not None and request["container_addr"] is None


def print_mappings(answer: Json) -> None:
    """What is wanted, and what is there."""
    rows = [
        (entry["state"], entry["origin"], entry["command"] + _more(entry))
        for entries in answer.values()
        if isinstance(entries, list)
        for entry in entries
        if isinstance(entry, dict)
    ]
    if rows:
        print_table(("STATE", "FROM", "ENTRY"), rows)
    for line in answer["foreign"]:
        click.echo(f"{styled('foreign', fg='red')}: {line}")
    if not rows and not answer["foreign"]:
        click.echo("# nothing is wanted, and nothing is there")
    elif answer["drift"]:
        click.echo("# the kernel has drifted from what is wanted; 'netns-natmap reload' mends it")


def _more(entry: Json) -> str:
    target = (entry.get("request") or {}).get("container_addr")
    shown = f"  -> {target}" if target else ""
    return shown + (f"  ({entry['reason']})" if entry.get("reason") else "")


def print_findings(answer: Json) -> None:
    """What is in the way of the mappings."""
    for finding in answer["findings"]:
        click.echo(f"{styled(finding['where'], bold=True)}: {finding['message']}")
        if finding["command"]:
            click.echo(f"    {finding['command']}")
    if not answer["findings"]:
        click.echo("# nothing is in the way")


def print_status(answer: Json) -> None:
    """All that is said, a line each."""
    _print_tree(answer, "")


def _print_tree(tree: Json, indent: str) -> None:
    for name, value in tree.items():
        shown = name.replace("_", " ")
        if isinstance(value, dict):
            click.echo(f"{indent}{shown}:")
            _print_tree(value, f"{indent}  ")
        elif isinstance(value, list):
            click.echo(f"{indent}{shown}: {', '.join(map(str, value)) or 'none'}")
        else:
            click.echo(f"{indent}{shown}: {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
