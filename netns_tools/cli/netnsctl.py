"""``netnsctl``: look at types, instances and plans, and check the configuration.

A new subcommand is a file ``netns_tools/cli/NAME.py`` with a click command called
``command`` whose help ends with examples, and its name in ``COMMANDS`` here. The manual
page, completion and the tests of help and exit codes follow by themselves.
"""

from __future__ import annotations

import click

from netns_tools.cli.entry import run
from netns_tools.cli.options import root_option, version_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths

COMMANDS = ("types", "list", "plan", "check", "completion")
"""All subcommands, in the order in which --help teaches them; each is cli/NAME.py."""


class Subcommands(click.Group):
    """A group that imports a subcommand only when it is called: what is not used costs no start time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        command = import_module(f"netns_tools.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, 1)
            meant = f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=Subcommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@root_option
@version_option("netnsctl")
def command(paths: Paths) -> None:
    """Look at network namespaces that systemd starts: types, instances, plans, configuration.

    Namespaces themselves are started and stopped with systemctl; netnsctl changes nothing.

    \b
    Examples:
      netnsctl types veth        options, and an example to paste into veth-NAME.conf
      netnsctl check             is all configuration right?
      netnsctl plan veth demo    what would a start do?
      systemctl start netns-veth@demo
    """


def main() -> None:
    """The program ``netnsctl``."""
    run(command, "netnsctl")


if __name__ == "__main__":
    main()
