"""``netnsctl list``: every instance that is configured, enabled or running."""

from __future__ import annotations

import click

from netns_tools.cli.options import json_option, root_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths


@click.command("list", short_help="All instances with their states.")
@json_option
@root_option
def command(as_json: bool, paths: Paths) -> int:
    """List all instances that are configured, enabled or running, with state and files.

    An instance is a type in a namespace, the unit netns-TYPE@NAME. The files are those that belong to it
    alone; default.conf and TYPE.conf lie under them.

    \b
    Examples:
      netnsctl list
      netnsctl list --json | jq -r '.[] | select(.state == "failed") | .unit'
    """
    from netns_tools.cli.instances import Known
    from netns_tools.cli.machine import add_states, unit_states
    from netns_tools.cli.output import print_json, print_table, problem_text
    from netns_tools.names import unit

    known = Known(paths)
    problems = [problem for problem in known.problems if problem.severity == "error"]
    found = add_states(known.instances, unit_states(paths))
    if as_json:
        print_json(
            [
                {
                    "type": one.nstype,
                    "name": one.name,
                    "unit": unit(one.nstype, one.name),
                    "state": one.state,
                    "enabled": one.enabled,
                    "running": one.running,
                    "files": one.files,
                }
                for one in found
            ]
        )
    elif found:
        print_table(
            ("TYPE", "NAME", "STATE", "BOOT", "FILES"),
            [
                (
                    one.nstype,
                    one.name,
                    one.state,
                    "enabled" if one.enabled else "-",
                    " ".join(one.files) or "-",
                )
                for one in found
            ],
        )
    else:
        click.echo(f"No instance is configured in {paths.conf}; 'netnsctl types TYPE' ends with an example.")
    for problem in problems:
        click.echo(problem_text(problem), err=True)
    return 2 if problems else 0
