"""``netnsctl check``: all configuration, all problems at once."""

from __future__ import annotations

import click

from netns_tools.cli.options import json_option, name_argument, root_option, type_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.check.survey import Finding, Key
    from netns_tools.paths import Paths


@click.command("check", short_help="All problems of the configuration.")
@type_argument(required=False)
@name_argument(required=False)
@json_option
@root_option
def command(nstype: str | None, name: str | None, as_json: bool, paths: Paths) -> int:
    """Check all configuration, or that of TYPE NAME, and report every problem with file, line and hint.

    Errors keep an instance from starting; warnings do not, and both are findings ('info' is none). Nothing
    is changed or started. Files with real shell in them ('$(...)', functions, if) are run by bash to get
    their variables, as at a start; plain files run nothing. Rules are tried in a scratch namespace (as root).

    \b
    Exit codes: 0 no findings, 2 findings, 1 the check itself failed.

    \b
    Examples:
      netnsctl check
      netnsctl check veth demo
      netnsctl check --json | jq -r '.findings[].message'
    """
    if nstype is not None and name is None:
        raise click.UsageError("TYPE and NAME belong together: netnsctl check veth demo")
    from netns_tools.cli.findings import collect

    only = (nstype, name) if nstype is not None and name is not None else None
    checked, findings = collect(paths, only)
    counted = [one for one in findings if one.problem.severity != "info"]
    if as_json:
        _print_json(checked, findings)
    else:
        _print(checked, findings)
    return 2 if counted else 0


def _print_json(checked: list[Key], findings: list[Finding]) -> None:
    from netns_tools.check.survey import label
    from netns_tools.cli.output import print_json

    print_json(
        {
            "checked": [label(key) for key in checked],
            "findings": [
                {**one.problem.as_dict(), "instances": [label(key) for key in one.keys]} for one in findings
            ],
        }
    )


def _print(checked: list[Key], findings: list[Finding]) -> None:
    from netns_tools.cli.output import problem_text, styled

    for one in findings:
        click.echo(problem_text(one.problem) + "\n")
    counts = {word: sum(one.problem.severity == word for one in findings) for word in ("error", "warning")}
    what = _count(len(checked), "instance")
    if not any(counts.values()):
        click.echo(styled(f"{what} checked, no problem found.", fg="green"))
        return
    parts = " and ".join(_count(number, word) for word, number in counts.items() if number)
    click.echo(styled(f"{what} checked: {parts}.", fg="red" if counts["error"] else "yellow"))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
