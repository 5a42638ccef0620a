"""``netnsctl completion``: the script that teaches a shell to complete our commands."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")

PROGRAMS = {
    "netnsctl": "netns_tools.cli.netnsctl",
    "netns-update": "netns_tools.cli.update",
    "netns-nft-save": "netns_tools.cli.nft_save",
    "netns-addrset": "netns_tools.cli.addrset",
    "netns-natmap": "netns_tools.cli.natmap",
}
"""Our programs and the modules of their click commands, all called ``command``."""


@click.command("completion", short_help="The completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.option(
    "--program",
    type=click.Choice(list(PROGRAMS)),
    default="netnsctl",
    show_default=True,
    help="The program to complete.",
)
def command(shell: str, program: str) -> int:
    """Print a script that completes subcommands, options, TYPEs and NAMEs in SHELL.

    'make install' puts these scripts where the shells look for them; this is for a shell of your own.

    \b
    Examples:
      source <(netnsctl completion bash)
      netnsctl completion fish > ~/.config/fish/completions/netnsctl.fish
    """
    click.echo(completion_script(shell, program))
    return 0


def completion_script(shell: str, program: str) -> str:
    """The completion script of a program, by click's own machinery, without asking the shell's version."""
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    assert completer is not None
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    # The scripts do not depend on the command, and the version check of bash would start one.
    instance = completer(click.Command(program), {}, program, variable)
    return instance.source_template % instance.source_vars()
