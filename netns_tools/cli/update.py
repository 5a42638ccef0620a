"""netns-update: make unit files from types and configuration."""

from __future__ import annotations

import os

import click

from netns_tools.cli import entry, output
from netns_tools.cli.options import json_option, root_option, version_option
from netns_tools.errors import NetnsToolsError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from netns_tools.paths import Paths
    from netns_tools.units.plan import Change
    from netns_tools.units.update import Result

_DONE = {"create": "Creating '{}'.", "update": "Updating '{}'.", "remove": "Removed stale service file '{}'."}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Make the unit files of all types and the drop-ins of all instances.

    Types are the shipped ones and those that /etc/conf.d/netns defines; instances are what
    is configured there, enabled or running. Run it after adding or removing a type or an
    instance, or after changing what units depend on (NETWORK_ORDER, another namespace, a
    parent device). Other changes take effect at the next start without it.

    Only files that netns-update wrote are ever replaced or removed, and none that a running
    instance stands on. Exit status: 0 done, 1 done but with warnings or errors.""",
)
@click.option("--daemon-reload", "reload", is_flag=True, help="Reload systemd even if nothing has changed.")
@click.option("--clean", is_flag=True, help="Remove all generated files instead; what is in use stays.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--diff", "show_diff", is_flag=True, help="Show what would change in files, and do nothing.")
@root_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
@version_option("netns-update")
def command(
    *, reload: bool, clean: bool, dry_run: bool, show_diff: bool, paths: Paths, as_json: bool, quiet: bool
) -> int:
    from netns_tools.units.update import Update, Watch

    dry_run = dry_run or show_diff
    if not paths.root and not dry_run and os.geteuid() != 0:
        raise NetnsToolsError("netns-update writes unit files and must be run as root (sudo netns-update)")
    silent = quiet or as_json

    def checking(nstype: str) -> None:
        if not silent and not show_diff:
            click.echo(f"Checking NSTYPE '{nstype}'.")

    def changed(change: Change) -> None:
        if show_diff and not as_json:
            click.echo(_diff(change, paths), nl=False)
        elif not silent:
            click.echo(_DONE[change.verb].format(f"{paths.units}/{change.file}"))

    def problem(found: Problem) -> None:
        if not as_json:
            click.echo(output.problem_text(found), err=True)

    run = Update(paths, Watch(checking, changed, problem), dry_run=dry_run, clean=clean, reload=reload)
    result = run.run()
    if as_json:
        output.print_json(_as_dict(result, paths, dry_run=dry_run, show_diff=show_diff))
    elif not silent and not show_diff and not result.problems:
        click.echo("Nothing was written (--dry-run)." if dry_run else "Update successful.")
    return 1 if result.problems else 0


def _diff(change: Change, paths: Paths) -> str:
    """A change as a unified diff, as ``diff -u`` and ``patch`` have it."""
    from difflib import unified_diff

    path = f"{paths.units}/{change.file}"
    lines = unified_diff(
        change.old.splitlines(keepends=True),
        change.new.splitlines(keepends=True),
        "/dev/null" if change.verb == "create" else path,
        "/dev/null" if change.verb == "remove" else path,
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def _as_dict(result: Result, paths: Paths, *, dry_run: bool, show_diff: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "changes": [
            {"verb": change.verb, "file": f"{paths.units}/{change.file}"}
            | ({"diff": _diff(change, paths)} if show_diff else {})
            for change in result.changes
        ],
        "problems": [found.as_dict() for found in result.problems],
        "daemon_reload": result.reloaded,
    }


def main() -> NoReturn:
    """The program netns-update."""
    entry.run(command, "netns-update")


if __name__ == "__main__":
    main()
