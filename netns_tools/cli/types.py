"""``netnsctl types``: what kinds of things a namespace can be given, with their options and an example."""

from __future__ import annotations

import click

from netns_tools.cli.options import json_option, root_option, type_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.keys import Key
    from netns_tools.config.nstype import NsType, Option
    from netns_tools.paths import Paths


@click.command("types", short_help="What a namespace can be given: options and examples.")
@type_argument(required=False)
@click.option(
    "--example",
    type=click.Choice(["conf", "yaml"]),
    help="Print only the example, as shell-style lines (conf) or as YAML.",
)
@json_option
@root_option
def command(nstype: str | None, example: str | None, as_json: bool, paths: Paths) -> int:
    """List the types; with TYPE, describe its options and end with an example to paste.

    A type is shipped with netns-tools, or yours: TYPE.yaml with commands as steps, or a bash script TYPE.sh,
    in /etc/conf.d/netns. A daemon is configured in YAML alone, so its example is too.

    \b
    Examples:
      netnsctl types
      netnsctl types veth
      netnsctl types veth --example conf > /etc/conf.d/netns/veth-demo.conf
      netnsctl types addrset --example yaml > /etc/conf.d/netns/addrset-host.yaml
    """
    if nstype is None:
        if example is not None:
            raise click.UsageError("--example needs a TYPE: netnsctl types TYPE --example conf")
        return _list(paths, as_json)
    from netns_tools.config.nstype import DAEMON, load_nstype

    one = load_nstype(nstype, paths)
    if one.kind == "bash":
        _add_script_options(one)
    if example == "conf" and one.kind == DAEMON:
        raise click.UsageError(
            f"{one.name} is a daemon, which is configured in YAML alone: "
            f"netnsctl types {one.name} --example yaml"
        )
    if example is not None:
        click.echo("\n".join(example_yaml(one) if example == "yaml" else example_conf(one)))
    elif as_json:
        from netns_tools.cli.output import print_json

        print_json(_as_dict(one))
    else:
        _describe(one)
    return 0


def _list(paths: Paths, as_json: bool) -> int:
    from netns_tools.cli.instances import Known
    from netns_tools.cli.output import print_json, print_table, problem_text

    known = Known(paths)
    types = known.types
    problems = [problem for problem in known.problems if problem.severity == "error"]
    if as_json:
        print_json(
            [
                {"type": n, "summary": t.summary, "kind": t.kind, "file": t.path}
                for n, t in sorted(types.items())
            ]
        )
    else:
        print_table(("TYPE", "SUMMARY"), [(name, one.summary) for name, one in sorted(types.items())])
        click.echo("\n'netnsctl types TYPE' shows the options of a type and an example.")
    for problem in problems:
        click.echo(problem_text(problem), err=True)
    return 2 if problems else 0


def _as_dict(nstype: NsType) -> dict[str, object]:
    conf = {} if nstype.example else {"conf": example_conf(nstype)}
    return {
        "type": nstype.name,
        "summary": nstype.summary,
        "kind": nstype.kind,
        "file": nstype.path,
        "requires": nstype.requires,
        "config_required": nstype.config_required,
        "options": [_option_dict(option) for option in nstype.options.values()],
        "keys": [_key_dict(key) for key in nstype.keys],
        "example": {**conf, "yaml": example_yaml(nstype)},
    }


def _option_dict(option: Option) -> dict[str, object]:
    return {
        "name": option.name,
        "kind": option.kind,
        "choices": list(option.choices),
        "default": option.default,
        "required": option.required,
        "example": option.example,
        "help": option.help,
    }


def _key_dict(key: Key) -> dict[str, object]:
    return {
        "key": key.path,
        "kind": key.kind,
        "choices": list(key.choices),
        "default": key.default,
        "required": key.required,
        "example": key.example,
        "help": key.help,
    }


def _add_script_options(nstype: NsType) -> None:
    """Options of a bash type: the variables that its script insists on; and what its first comment says."""
    import re

    from netns_tools.config.nstype import Option

    with open(nstype.path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    comments = (line.strip("# \t") for line in lines if line.startswith("#") and not line.startswith("#!"))
    nstype.summary = next((text for text in comments if text), nstype.summary)
    for line in lines:
        if found := re.match(r"""[^#]*\bassert_non_empty\s+["']?([A-Za-z_]\w*)""", line):
            name = found[1]
            nstype.options.setdefault(
                name, Option(name, "text", required=True, example="change-me", help="The script needs it.")
            )


def _describe(nstype: NsType) -> None:
    from netns_tools.cli.output import styled

    click.echo(styled(f"{nstype.name}: {nstype.summary}", bold=True))
    if nstype.example:
        _describe_daemon(nstype)
        return
    click.echo(f"  start   systemctl start netns-{nstype.name}@NAME")
    click.echo(
        f"  files   default.conf, {nstype.name}.conf, {nstype.name}-NAME.conf (or .yaml) in /etc/conf.d/netns"
    )
    click.echo(f"  defined in {nstype.path}")
    if nstype.requires:
        click.echo(f"  brings along  {', '.join(nstype.requires)}")
    if nstype.options:
        click.echo("\n" + styled("Options", bold=True))
        for option in nstype.options.values():
            _describe_value(option.name, option)
    if nstype.kind == "bash":
        click.echo(f"\nThe files may set any variable that {nstype.path} uses.")
    click.echo("\n" + styled(f"Example: /etc/conf.d/netns/{nstype.name}-NAME.yaml", bold=True))
    click.echo("\n".join(example_yaml(nstype)))
    click.echo("\n" + styled(f"Example: /etc/conf.d/netns/{nstype.name}-NAME.conf", bold=True))
    click.echo("\n".join(example_conf(nstype)))


KEY_PATHS = (
    "A[].B is B in each entry of the list A, A[] an entry that is a single value, and A.*.B is B in each "
    "mapping of A, whatever its name. A key with several forms may be written in any of them."
)
"""How the paths of keys are read."""


def _describe_daemon(nstype: NsType) -> None:
    from netns_tools.cli.output import styled

    name = nstype.name
    click.echo(f"  start   systemctl start netns-{name}@NAME (NAME 'host': in the host's own namespace)")
    click.echo(f"  file    {name}-NAME.yaml in /etc/conf.d/netns where it exists, else {name}.yaml")
    click.echo(f"  see     netns-{name} --help")
    click.echo(f"  defined in {nstype.path}")
    click.echo("\n" + styled("Keys", bold=True))
    click.echo(click.wrap_text(KEY_PATHS, 98, "  ", "  "))
    for key in nstype.keys:
        _describe_value(key.path, key)
    click.echo("\n" + styled(f"Example: /etc/conf.d/netns/{name}-NAME.yaml", bold=True))
    click.echo("\n".join(example_yaml(nstype)))


def _describe_value(name: str, described: Option | Key) -> None:
    from netns_tools.cli.output import styled

    click.echo(f"  {styled(name, fg='green')} ({', '.join(option_facts(described))})")
    click.echo(click.wrap_text(described.help, 96, "      ", "      "))


def option_facts(option: Option | Key) -> list[str]:
    """Kind, choices, required or not, default: what stands in brackets behind an option's name."""
    facts = ["|".join(option.choices) if option.choices else option.kind]
    if option.default:
        facts.append(f"default {option.default}")
    elif option.required:
        facts.append("required")
    return facts


def example_conf(nstype: NsType) -> list[str]:
    """A file TYPE-NAME.conf that passes ``netnsctl check``, as lines."""
    lines = [f"# {nstype.name}: {nstype.summary}"]
    for option, is_set in _example_options(nstype):
        lines += _comment(option)
        # Single quotes: '$' in an example is meant as it stands.
        value = option.example or option.default or ""
        quote = '"' if not set(value) & set('"$`\\') else "'"
        lines.append(f"{'' if is_set else '#'}{option.name}={quote}{value}{quote}")
    return lines


def example_yaml(nstype: NsType) -> list[str]:
    """The same as ``example_conf`` for TYPE-NAME.yaml."""
    if nstype.example:
        return nstype.example.rstrip("\n").split("\n")
    lines = [f"# {nstype.name}: {nstype.summary}"]
    for option, is_set in _example_options(nstype):
        lines += _comment(option)
        lead = "" if is_set else "#"
        value = option.example or option.default or ""
        entries = [entry.strip() for entry in value.split(",")] if option.is_list else []
        if len(entries) > 1:
            lines.append(f"{lead}{option.name.lower()}:")
            lines += [f"{lead}  - {_yaml_text(entry)}" for entry in entries]
        else:
            lines.append(f"{lead}{option.name.lower()}: {_yaml_text(value)}")
    if not any(line[0] != "#" for line in lines):
        lines.append("{}")
    return lines


def _yaml_text(value: str) -> str:
    """A value as YAML: in quotes unless it is a plain word, or the number or the yes/no that is meant."""
    plain = value.replace("-", "").replace("_", "").replace(".", "")
    if value in ("yes", "no") or value.isdecimal() or (plain.isalpha() and plain.lower() not in _YAML_WORDS):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_YAML_WORDS = frozenset(("y", "n", "on", "off", "true", "false", "null", "nan", "inf"))


def _example_options(nstype: NsType) -> list[tuple[Option, bool]]:
    """The options of an example and whether each is set there; those not set stand in comments.

    Set is what has to be; where nothing has to be, everything that has an example.
    """
    options = list(nstype.options.values())
    needed = [option for option in options if option.required and not option.default]
    return [(option, option in needed if needed else bool(option.example)) for option in options]


def _comment(option: Option) -> list[str]:
    text: str = click.wrap_text(f"{option.help} ({', '.join(option_facts(option))})", 98, "# ", "# ")
    return text.splitlines()
