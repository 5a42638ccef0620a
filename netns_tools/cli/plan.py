"""``netnsctl plan``: what a start would do, without doing it."""

from __future__ import annotations

import click

from netns_tools.cli.options import json_option, name_argument, root_option, type_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths


@click.command("plan", short_help="What a start would do, without doing it.")
@type_argument()
@name_argument()
@click.option("--running", is_flag=True, help="Show the plan that the running instance was started with.")
@json_option
@root_option
def command(nstype: str, name: str, running: bool, as_json: bool, paths: Paths) -> int:
    """Show what 'systemctl start netns-TYPE@NAME' would do, line by line, without doing it.

    Each line is the ip or nft command that it stands for, and the file and line that it follows from.
    A file with real shell in it is run by bash to get its variables, as at a start. A daemon has a command
    of its own for this: netns-addrset plan --name NAME, netns-natmap ls --name NAME.

    \b
    Examples:
      netnsctl plan veth demo
      netnsctl plan veth demo --running
    """
    from netns_tools.cli.output import print_json

    _refuse_daemon(nstype, name, paths, running=running)
    plan = _running_plan(nstype, name, paths) if running else _new_plan(nstype, name, paths)
    sections = plan_sections(plan, nstype, name)
    if as_json:
        print_json({"type": nstype, "name": name, "running": running, "sections": sections})
    else:
        _print(sections, nstype, name)
    return 0


def _refuse_daemon(nstype: str, name: str, paths: Paths, *, running: bool) -> None:
    """A daemon acts on what it observes, which its own program knows; ConfigError for one."""
    from netns_tools.cli.daemons import PLAN
    from netns_tools.config.nstype import DAEMON, load_nstype
    from netns_tools.errors import ConfigError, Problem
    from netns_tools.names import nstype_problem

    try:
        daemon = not nstype_problem(nstype) and load_nstype(nstype, paths).kind == DAEMON
    except ConfigError:
        return
    if daemon:
        word = "status" if running else PLAN[nstype]
        raise ConfigError(
            [
                Problem(
                    f"{nstype} is a daemon: what it does depends on what it observes",
                    hint=f"run: netns-{nstype} {word} --name {name}",
                )
            ]
        )


def _new_plan(nstype: str, name: str, paths: Paths) -> dict[str, list[str]]:
    """The plan of the next start. Raises ConfigError as a start would; warnings go to standard error."""
    from netns_tools.cli.instances import load_instance
    from netns_tools.cli.output import problem_text
    from netns_tools.steps.planner import plan_type

    config = load_instance(nstype, name, paths)
    plan = plan_type(config, paths)
    for warning in config.warnings:
        click.echo(problem_text(warning), err=True)
    return plan.files


def _running_plan(nstype: str, name: str, paths: Paths) -> dict[str, list[str]]:
    """The plan under /run, as the start wrote it."""
    import os

    from netns_tools.cli.instances import check_names
    from netns_tools.errors import NetnsToolsError

    check_names(nstype, name)
    directory = paths.run_plan(nstype, name)
    try:
        files = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        raise NetnsToolsError(
            f"{nstype}@{name} is not running: there is no {directory}",
            hint="without --running you see what a start would do",
        ) from None
    plan = {}
    for file in files:
        with open(f"{directory}/{file}", encoding="utf-8", errors="surrogateescape") as stream:
            plan[file] = stream.read().splitlines()
    return plan


Section = dict[str, object]

_SECTIONS = (
    ("outside (host)", "up-outside"),
    ("the other end", "up-peer"),
    ("inside", "up-inside"),
    ("undo inside", "down-inside"),
    ("undo outside", "down-outside"),
)


def plan_sections(files: dict[str, list[str]], nstype: str, name: str) -> list[Section]:
    """A plan as sections of commands, each ``{"title", "step", "commands": [{"command", "from"}]}``."""
    sections: list[Section] = []
    where = {"up-inside": name, "down-inside": name, "up-peer": "".join(files.get("peer", []))}
    for title, step in _SECTIONS:
        namespace = where.get(step, "")
        commands = [
            {"command": command, "from": origin}
            for tool in ("ip", "nft", "sh")
            for line in files.get(f"{step}.{tool}", [])
            for command, origin in [_command(line, tool, namespace)]
        ]
        if "bash" in files:
            commands += _function(files["bash"], f"configure_{nstype}_{step.replace('-', '_')}", name)
        if step == "down-inside":
            commands += [{"command": one, "from": None} for one in _undo(files, name)]
        if step == "up-peer" and not commands:
            continue
        sections.append(
            {
                "title": f"{title}: {namespace}" if namespace else title,
                "step": step,
                "commands": commands,
            }
        )
    return sections


def _function(note: list[str], function: str, name: str) -> list[dict[str, str | None]]:
    """The call of a bash type's function, if its script (the first file of the note) seems to have it."""
    script = next(iter(note), "").removeprefix("source ")
    try:
        with open(script, encoding="utf-8", errors="surrogateescape") as file:
            there = function in file.read()
    except OSError:
        there = True
    return [{"command": f"{function} {name}", "from": script}] if there else []


def _command(line: str, tool: str, namespace: str) -> tuple[str, str | None]:
    """A line of a plan as the command that a person would type, and where it comes from."""
    text, _mark, origin = line.rpartition("  # ") if "  # " in line else (line, "", "")
    if tool == "ip":
        text = f"ip -n {namespace} {text}" if namespace else f"ip {text}"
    elif tool == "nft" and text.startswith("include "):
        text = f"nft -f {text.removeprefix('include ').strip(chr(34))}"
    elif tool == "nft":
        text = f"nft {text}"
    return text, origin or None


def _undo(files: dict[str, list[str]], name: str) -> list[str]:
    """What the unit itself does at a stop: a link type's devices are deleted by their group."""
    return [f"ip -n {name} link delete group {group}" for group in files.get("group", [])]


def _print(sections: list[Section], nstype: str, name: str) -> None:
    from netns_tools.cli.output import styled

    for section in sections:
        commands = section["commands"]
        assert isinstance(commands, list)
        if not commands:
            continue
        click.echo(styled(str(section["title"]), bold=True))
        for one in commands:
            origin = styled(f"  # {one['from']}", dim=True) if one["from"] else ""
            click.echo(f"  {one['command']}{origin}")
    if not any(section["commands"] for section in sections):
        click.echo(f"A start of {nstype}@{name} runs no command.")
