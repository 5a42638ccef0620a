"""Manual pages, from the same source as --help and 'netnsctl types': ``python3 -m netns_tools.cli.man DIR``.

A new program or page is a line in ``PAGES`` here.
"""

from __future__ import annotations

import os

import click

from netns_tools import __version__
from netns_tools.cli.completion import PROGRAMS
from netns_tools.cli.entry import run
from netns_tools.cli.roff import Page
from netns_tools.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from netns_tools.config.keys import Key
    from netns_tools.config.nstype import NsType, Option


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
def command(directory: str) -> int:
    """Write the manual pages into DIR/man5, DIR/man7 and DIR/man8.

    They follow from the commands' --help and from the types in nstypes/.

    \b
    Examples:
      python3 -m netns_tools.cli.man build/man
      man -l build/man/man8/netnsctl.8
    """
    for page in pages():
        folder = os.path.join(directory, f"man{page.section}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, page.file), "w", encoding="utf-8") as file:
            file.write(page.text())
    return 0


def pages() -> Iterator[Page]:
    """All manual pages."""
    for make in PAGES:
        yield make()


def program_page(program: str) -> Page:
    """The page of a click program, with its subcommands."""
    from importlib import import_module

    module = import_module(PROGRAMS[program])
    top = next(value for value in vars(module).values() if isinstance(value, click.Command))
    context = click.Context(top, info_name=program, **top.context_settings)
    text = Help(top)
    page = Page(program, 8, text.summary, __version__)
    page.heading("synopsis")
    page.paragraph(_synopsis(context))
    page.heading("description")
    text.write_body(page)
    if isinstance(top, click.Group):
        page.heading("commands")
        for name in top.list_commands(context):
            _subcommand(page, context, top, name)
    page.heading("options")
    _options(page, context)
    page.heading("exit status")
    for code, meaning in _EXIT_CODES:
        page.item(code, meaning)
    for title, items in _MORE_OF.get(program, ()):
        page.heading(title)
        for item in items:
            _write(page, item)
    text.write_examples(page)
    _see_also(page)
    return page


_EXIT_CODES = (
    ("0", "Done; nothing was found."),
    ("1", "The command failed."),
    ("2", "Usage or configuration is wrong; netnsctl check: there are findings."),
    ("3", "A command that compares found a difference."),
)


def _subcommand(page: Page, parent: click.Context, group: click.Group, name: str) -> None:
    sub = group.get_command(parent, name)
    assert sub is not None
    context = click.Context(sub, parent=parent, info_name=name, **sub.context_settings)
    text = Help(sub)
    page.subheading(_synopsis(context).replace("`", ""))
    page.paragraph(text.summary_sentence)
    text.write_body(page)
    _options(page, context)
    for block in text.examples:
        page.code(block)
    if isinstance(sub, click.Group):
        for inner in sub.list_commands(context):
            _subcommand(page, context, sub, inner)


class Help:
    """A command's help in parts: its first sentence, its paragraphs and its examples."""

    def __init__(self, command: click.Command) -> None:
        paragraphs = _paragraphs(command.help or "")
        self.summary_sentence = " ".join(paragraphs[0].split())
        self.summary = self.summary_sentence.rstrip(".")
        self.body = [text for text in paragraphs[1:] if not _is_examples(text)]
        self.examples = [
            [line.strip() for line in text.splitlines()[2:]] for text in paragraphs if _is_examples(text)
        ]

    def write_body(self, page: Page) -> None:
        """The description of the command."""
        for text in self.body:
            page.paragraph(text.replace("\b", ""))

    def write_examples(self, page: Page) -> None:
        """The examples, under a heading of their own."""
        if self.examples:
            page.heading("examples")
        for block in self.examples:
            page.code(block)


def _paragraphs(text: str) -> list[str]:
    import inspect

    return [part for part in inspect.cleandoc(text).split("\n\n") if part.strip()]


def _is_examples(paragraph: str) -> bool:
    return paragraph.startswith("\b") and "Example" in paragraph.splitlines()[1]


def _synopsis(context: click.Context) -> str:
    return f"`{context.command_path}` {' '.join(context.command.collect_usage_pieces(context))}"


def _options(page: Page, context: click.Context) -> None:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and not (context.parent and "--help" in record[0]):
            page.item(record[0], record[1])


def types_page() -> Page:
    """All shipped types with all options."""
    from netns_tools.cli.types import example_conf
    from netns_tools.config.nstype import load_defaults, load_nstypes

    # A directory that does not exist: the types of the build machine's administrator are not ours.
    paths = Paths("/nonexistent")
    page = Page("netns-types", 7, "what a network namespace can be given", __version__)
    page.heading("description")
    page.paragraph(
        "`systemctl start netns-TYPE@NAME` gives the network namespace NAME a thing of kind TYPE. These "
        "are the types that come with netns-tools; `netnsctl types` shows those of your own too."
    )
    page.heading("all types")
    page.paragraph("These options may be used with every type; most often they are set in `default.conf`.")
    _option_items(page, list(load_defaults(paths).values()))
    for name, one in load_nstypes(paths).items():
        _type(page, name, one, example_conf(one))
    _see_also(page)
    return page


def _type(page: Page, name: str, one: NsType, example: list[str]) -> None:
    page.heading(name)
    page.paragraph(f"{one.summary}.")
    if one.example:
        _daemon(page, one)
        return
    if one.requires:
        page.paragraph(f"It brings along {', '.join(one.requires)}.")
    if not one.config_required:
        page.paragraph("It needs no configuration file.")
    _option_items(page, list(one.options.values()))
    if one.options:
        page.paragraph(f"Example of `/etc/conf.d/netns/{name}-NAME.conf`:")
        page.code([line for line in example if not line.startswith("# ")])


def _daemon(page: Page, one: NsType) -> None:
    from netns_tools.cli.types import KEY_PATHS, example_yaml

    name = one.name
    page.paragraph(
        f"A daemon: `netns-{name}`(8), run by `netns-{name}@NAME` inside NAME, or with NAME 'host' in the "
        f"host's own namespace. These are the keys of its file, {name}-NAME.yaml or {name}.yaml. {KEY_PATHS}"
    )
    _option_items(page, one.keys)
    page.paragraph(f"Example of `/etc/conf.d/netns/{name}-NAME.yaml`:")
    page.code(example_yaml(one))


def _option_items(page: Page, options: Sequence[Option | Key]) -> None:
    from netns_tools.cli.types import option_facts
    from netns_tools.config.nstype import Option

    for option in options:
        name = option.name if isinstance(option, Option) else option.path
        page.item(name, f"{option.help} ({', '.join(option_facts(option))})")


def config_page() -> Page:
    """netns.conf(5): files, layers, syntax, trust."""
    page = Page("netns.conf", 5, "configuration of network namespaces", __version__)
    for title, items in _CONFIG_TEXT:
        page.heading(title)
        for item in items:
            _write(page, item)
    _see_also(page)
    return page


def netnsinit_page() -> Page:
    """netnsinit(8): the program behind the units."""
    page = Page("netnsinit", 8, "run one step of a type in a network namespace", __version__)
    for title, items in _NETNSINIT_TEXT:
        page.heading(title)
        for item in items:
            _write(page, item)
    _see_also(page)
    return page


Item = str | tuple[str, str] | list[str]
"""A paragraph, an entry of a list, or lines that stand as they are."""


def _write(page: Page, item: Item) -> None:
    if isinstance(item, str):
        page.paragraph(item)
    elif isinstance(item, tuple):
        page.item(*item)
    else:
        page.code(item)


_NETNSINIT_TEXT: tuple[tuple[str, tuple[Item, ...]], ...] = (
    ("synopsis", ("`netnsinit` TYPE NAME [PARAMETER...] up|down outside|inside",)),
    (
        "description",
        (
            "The units `netns_outside-TYPE@NAME` and `netns-TYPE@NAME` run this program; by hand use "
            "systemctl. A start is `up outside` and then `up inside`, a stop is `down inside` and then "
            "`down outside`.",
            "`up outside` checks the configuration and plans the whole type, unless a plan made from the "
            "same files is there already, and writes the plan to /run/netns-tools/NAME/TYPE as lines for "
            "ip, nft and sh. The other steps apply what is written there, so that a stop undoes what the "
            "start did even if the configuration has changed since. `netnsctl plan TYPE NAME --running` "
            "shows these lines.",
            "For a bash type, TYPE.sh, each step runs the function `configure_TYPE_up_outside`, "
            "`configure_TYPE_up_inside`, `configure_TYPE_down_inside` or `configure_TYPE_down_outside` "
            "with NAME and the PARAMETERs; one that is missing is not an error.",
        ),
    ),
    (
        "exit status",
        (
            ("0", "The step is done."),
            ("1", "The step failed, or there are fewer than four words."),
            ("2", "The configuration is refused; the messages name file, line and remedy."),
        ),
    ),
    (
        "files",
        (
            ("/run/netns-tools/NAME/TYPE/", "The plan of a running instance."),
            (
                "/var/cache/netns-tools/NAME@TYPE.plan",
                "The plan of the next start, and the files it was made from.",
            ),
        ),
    ),
)

_MORE_OF: dict[str, tuple[tuple[str, tuple[Item, ...]], ...]] = {
    "netns-addrset": (
        (
            "control socket",
            (
                "The daemon listens on /run/netns-tools/addrset-NAME.sock (root only), and on the "
                "`socket_path` of its configuration. A line with one of the words `ping`, `status`, "
                "`reload`, `metrics` or `apply` gets an answer in text:",
                ["echo status | socat - UNIX-CONNECT:/run/netns-tools/addrset-host.sock"],
            ),
        ),
        (
            "signals",
            (
                ("SIGHUP", "Reload the configuration; a file with a mistake changes nothing."),
                ("SIGTERM", "End, and leave the sets as they are."),
            ),
        ),
        ("environment", (("NETNS_ADDRSET_CONFIG", "The configuration file, instead of those below."),)),
        (
            "files",
            (
                ("/etc/conf.d/netns/addrset-NAME.yaml", "The configuration of NAME; netns-types(7)."),
                ("/etc/conf.d/netns/addrset.yaml", "That of every NAME that has no file of its own."),
                ("/run/netns-tools/addrset-NAME.sock", "The control socket."),
                ("/run/netns-tools/addrset-NAME.record", "What the daemon has put into which set."),
            ),
        ),
    ),
    "netns-natmap": (
        (
            "socket",
            (
                "The daemon listens on /run/netns-tools/natmap-NAME.sock, for root and the group "
                "netns-natmap. It speaks HTTP with JSON, with the paths of lab-ops' natmap and some more:",
                [
                    "curl --unix-socket /run/netns-tools/natmap-host.sock http://localhost/mappings",
                    "curl --unix-socket /run/netns-tools/natmap-host.sock http://localhost/dnat \\",
                    '     -d \'{"map": "8080:10.0.0.10:80"}\'',
                ],
                "Paths are GET /health, /status, /mappings, /rules and /doctor; POST and DELETE /dnat, "
                "/snat, /masquerade, /hairpin, /policy-route and /mapping/CONTAINER; DELETE "
                "/mapping/CONTAINER/PORT, /mapping/by-id/ID, /mappings and /clear; PUT /remap and "
                "/remap/CONTAINER; POST /apply, /plan, /save, /fwd and /reload. Bodies have the options of "
                "the commands, with '_' for '-'. A refusal has a status of 400 or more, and `error`.",
            ),
        ),
        (
            "signals",
            (
                ("SIGHUP", "Reload the configuration; a file with a mistake changes nothing."),
                ("SIGTERM", "End, and leave all mappings in force, unless with --flush-on-stop."),
            ),
        ),
        (
            "environment",
            (
                ("NETNS_NATMAP_CONFIG", "The configuration file, instead of those below."),
                ("DOCKER_HOST", "Docker's socket, as unix:///PATH; /var/run/docker.sock unless given."),
            ),
        ),
        (
            "files",
            (
                ("/etc/conf.d/netns/natmap-NAME.yaml", "What NAME has always; netns-types(7)."),
                ("/etc/conf.d/netns/natmap.yaml", "That of every NAME that has no file of its own."),
                ("/var/lib/netns-tools/natmap-NAME.json", "What commands asked for."),
                ("/run/netns-tools/natmap-NAME.sock", "The socket of the daemon."),
                ("/run/netns-tools/natmap-NAME.sysctls", "Settings that were changed, as they were before."),
            ),
        ),
    ),
}
"""What the page of a program says beyond its --help."""

_CONFIG_TEXT: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "synopsis",
        (
            [
                "/etc/conf.d/netns/default.conf, default.yaml",
                "/etc/conf.d/netns/TYPE.conf, TYPE.yaml",
                "/etc/conf.d/netns/TYPE-NAME.conf, TYPE-NAME.yaml",
            ],
            "and of a daemon alone",
            ["/etc/conf.d/netns/TYPE-NAME.yaml, or else TYPE.yaml"],
        ),
    ),
    (
        "description",
        (
            "The configuration of `netns-TYPE@NAME` is made of layers, in the order above: what a later "
            "file says wins, and within a layer YAML comes after .conf. Every file is optional, but most "
            "types want at least one of their own. An edit counts from the next start on.",
            "An option that is set to nothing counts as not set and takes its default, with two "
            "exceptions: an empty VETH_IFNAME is an empty prefix, and an empty MACVLAN_GATEWAY means no "
            "gateway.",
            "A NAME has letters, digits, '_', '-' and '.'; a TYPE has letters, digits and '_'. "
            "'host' is the host's own namespace and no NAME but of a daemon.",
        ),
    ),
    (
        "shell-style files",
        (
            "Lines `NAME=value` as in sh. A value may use what stands before it and what lower layers "
            "have set, `${HOST_IFNAME}` or `${X:-y}`, and `NSTYPE`, `NSNAME` and `NAME`. Entries of a "
            "list (addresses, gateways, routes, macs) are separated by commas or line breaks.",
            [
                "# /etc/conf.d/netns/veth-demo.conf",
                'VETH_IFADDR_OUTSIDE="10.0.0.1/24, 2001:db8::1/64"',
                'VETH_IFADDR_INSIDE="10.0.0.2/24, 2001:db8::2/64"',
                'VETH_GATEWAY="10.0.0.1"',
            ],
            "Such files are read, not run. Only a file with real shell in it (command substitution, "
            "functions, conditions) is run by bash, in a clean environment, to get its variables: at a "
            "start, by `netns-update` and by `netnsctl check`.",
        ),
    ),
    (
        "yaml files",
        (
            "A mapping of options in lower case; an option that holds a list may be written as one. "
            "Values are taken as they are, without `${...}`. Unknown options are errors.",
            [
                "# /etc/conf.d/netns/veth-demo.yaml",
                "veth_ifaddr_outside: [10.0.0.1/24, 2001:db8::1/64]",
                "veth_ifaddr_inside: [10.0.0.2/24, 2001:db8::2/64]",
                "veth_gateway: 10.0.0.1",
            ],
        ),
    ),
    (
        "files of daemons",
        (
            "A daemon (addrset) reads one YAML file and nothing else: `TYPE-NAME.yaml` where it exists, "
            "else `TYPE.yaml`. There are no layers, neither `default.conf` nor another `.conf` counts, and "
            "its keys are nested; `netns-types`(7) and `netnsctl types TYPE` describe them. All problems of "
            "a file are reported at once, with line and column, and unknown keys are errors.",
            "A daemon that runs takes an edit at `systemctl reload netns-TYPE@NAME`. A file with a mistake "
            "is refused then, and the old configuration stays in force.",
            [
                "# /etc/conf.d/netns/addrset-host.yaml",
                "interfaces:",
                "  - {name: eth0, nftables_zone: wan}",
            ],
        ),
    ),
    (
        "types of your own",
        (
            "TYPE.yaml with `steps:` describes a type by its commands. Each is split into words once; "
            "`{OPTION}` and `{NSNAME}` are put in as they are, and no shell sees the values.",
            [
                "# /etc/conf.d/netns/vx.yaml",
                "summary: A VXLAN device",
                "options:",
                "  VX_ID: {kind: text, required: true, help: The network identifier., example: '42'}",
                "steps:",
                "  up_inside:",
                "    - ip link add vx0 type vxlan id {VX_ID} dstport 4789",
                "    - ip link set vx0 up",
            ],
            "TYPE.sh is a bash script with the functions `configure_TYPE_up_outside`, "
            "`configure_TYPE_up_inside`, `configure_TYPE_down_inside` and `configure_TYPE_down_outside`. "
            "Run `netns-update` after adding a type.",
        ),
    ),
    (
        "trust",
        (
            "These files say what root does. Each must be a regular file (or a link to one) that belongs "
            "to root and that neither its group nor others may write, and so must the directory; else the"
            " file is refused, with the chown or chmod that mends it.",
        ),
    ),
    (
        "files",
        (
            ("/etc/conf.d/netns/nft.rules", "Firewall rules of every namespace that has none of its own."),
            ("/etc/conf.d/netns/nft-NAME.rules", "Firewall rules of NAME, as netns-nft-save writes them."),
            (
                "/etc/conf.d/netns/TYPE.sh",
                "A type of your own, in bash; /usr/share/systemd-netns is searched too.",
            ),
            ("/etc/netns/NAME/", "resolv.conf and others that stand in for those in /etc (ip-netns(8))."),
        ),
    ),
)


def _see_also(page: Page) -> None:
    page.heading("see also")
    others = [f"`{name}`({section})" for name, section in _NAMES if name != page.name]
    page.paragraph(", ".join([*others, "`systemd.unit`(5)", "`ip-netns`(8)", "`nft`(8)"]))


_NAMES = (
    ("netns.conf", 5),
    ("netns-types", 7),
    ("netns-addrset", 8),
    ("netns-natmap", 8),
    ("netns-nft-save", 8),
    ("netns-update", 8),
    ("netnsctl", 8),
    ("netnsinit", 8),
)

PAGES: tuple[Callable[[], Page], ...] = (
    lambda: program_page("netnsctl"),
    lambda: program_page("netns-update"),
    lambda: program_page("netns-nft-save"),
    lambda: program_page("netns-addrset"),
    lambda: program_page("netns-natmap"),
    netnsinit_page,
    types_page,
    config_page,
)
"""Every page that is written."""


def main() -> None:
    """Write the pages."""
    run(command, "netns-man")


if __name__ == "__main__":
    main()
