"""``netns-nft-save``: make the firewall rules of a running namespace those of its next start."""

from __future__ import annotations

import click

from netns_tools.cli.entry import run
from netns_tools.cli.options import name_argument, root_option, version_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@name_argument()
@root_option
@version_option("netns-nft-save")
def command(name: str, paths: Paths) -> int:
    """Save the nftables rules that are in force in namespace NAME, for its next start.

    They go to /etc/conf.d/netns/nft-NAME.rules, with counters, sets and maps; netns-nft@NAME restores them.
    The file is replaced in one step, by rules that nft can load again: after a failure the old one is there.

    \b
    Examples:
      netns-nft-save demo
      ip netns exec demo nft add rule inet filter input tcp dport 22 accept && netns-nft-save demo
    """
    from netns_tools.cli.instances import check_names
    from netns_tools.kernel.nft import save_rules
    from netns_tools.kernel.ruleset import indexed_devices

    check_names("nft", name)
    path, left_out = save_rules(name, paths)
    for table in left_out:
        click.echo(
            f"warning: table {table} belongs to a running program, which makes it anew; not saved", err=True
        )
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        indexed = indexed_devices(file.read())
    if indexed:
        click.echo(
            f"warning: rules match {', '.join(indexed)} by iif or oif; at a start, rules are loaded"
            " before any link is made, so these will not load then: write iifname or oifname",
            err=True,
        )
    click.echo(f"Successfully saved nftables ruleset for '{name}' to '{path}'.")
    return 0


def main() -> None:
    """The program ``netns-nft-save``."""
    run(command, "netns-nft-save")


if __name__ == "__main__":
    main()
