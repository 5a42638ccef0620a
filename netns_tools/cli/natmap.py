"""``netns-natmap``: port mappings, source NAT, hairpins and policy routes, by one nftables table."""

from __future__ import annotations

import functools

import click

from netns_tools.cli.entry import run as run_program
from netns_tools.cli.natmap_session import Session
from netns_tools.cli.options import names_of, root_option, version_option
from netns_tools.errors import ConfigError, Problem
from netns_tools.names import HOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from netns_tools.natmap.api import Operation
    from netns_tools.natmap.model import Entry
    from netns_tools.paths import Paths

    F = TypeVar("F", bound=Callable[..., Any])
    T = TypeVar("T")

_TYPE = "natmap"

# Options


def _inherited(context: click.Context, name: str) -> Any:
    """What a command above this one was given as an option."""
    while context.parent is not None:
        context = context.parent
        if context.params.get(name):
            return context.params[name]
    return None


def _take_name(context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    from netns_tools.names import nsname_problem

    if value is not None and (message := nsname_problem(value)):
        raise click.BadParameter(message)
    return value or _inherited(context, "name") or ("" if context.parent is None else HOST)


def _take_flag(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    return value or bool(_inherited(context, parameter.name or ""))


def _take_socket(context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    return value or _inherited(context, "socket") or ""


_name_option = click.option(
    "--name",
    metavar="NAME",
    callback=_take_name,
    shell_complete=names_of(_TYPE),
    help="The network namespace; 'host', the one that the command runs in, unless given.",
)
_json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_take_flag, help="Print JSON for programs."
)
_socket_option = click.option(
    "--socket",
    metavar="PATH",
    callback=_take_socket,
    help="Ask the daemon that listens there, and nobody else.",
)


def _common(function: F) -> F:
    """The options that may stand before and after the name of a command."""
    for option in (root_option, _socket_option, _json_option, _name_option):
        function = option(function)
    return function


def _with_session(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command its common options as one ``Session``."""

    @functools.wraps(function)
    def call(*, name: str, as_json: bool, socket: str, paths: Paths, **given: Any) -> int:
        return function(Session(name, paths, socket, as_json), **given)

    return call


def _register(
    group: click.Group, name: str, short_help: str, cls: type[click.Command] = click.Command
) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function that takes a session."""

    def register(function: Callable[..., int]) -> click.Command:
        wrapped = _common(_with_session(function))
        return group.command(name, cls=cls, short_help=short_help)(wrapped)

    return register


class _Listing(click.Command):
    """A command whose options for prefixes take several: ``--allow-from A B`` is one for each."""

    _LISTS = ("--allow-from", "--exclude")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from netns_tools.config.address import parse

        spelled: list[str] = []
        option = ""  # the one whose first value has been given
        for index, word in enumerate(args):
            is_first = index > 0 and args[index - 1] in self._LISTS
            if is_first:
                option = args[index - 1]
            elif option and parse(word):
                spelled.append(option)
            else:
                option = ""
            spelled.append(word)
        return super().parse_args(ctx, spelled)


def _several(value: tuple[str, ...]) -> list[str]:
    """The values of an option that may be given several times, each a list with commas."""
    return [item for text in value for item in text.replace(",", " ").split()]


_delete_option = click.option("--delete", is_flag=True, help="Remove it instead of adding it.")
_replace_option = click.option("--replace", is_flag=True, help="Take the place of what is in conflict.")
_force_option = click.option("--force", is_flag=True, help="Even where a program listens on the port.")
_dry_option = click.option("--dry-run", is_flag=True, help="Say what would be changed, and change nothing.")
_proto_option = click.option("--proto", metavar="tcp|udp", help="The protocol; tcp unless given.")
_ports_option = click.option(
    "--ports", metavar="PORTS", help="Ports and ranges, such as 80,443,9000-9100 or 8080:80."
)
_ext_if_option = click.option("--ext-if", metavar="IF", help="Only what comes in by this interface.")
_masquerade_option = click.option(
    "--masquerade/--no-masquerade",
    default=False,
    help="Whether the target sees an address of this machine instead of the client's; not unless given.",
)
_allow_option = click.option(
    "--allow-from", metavar="CIDR...", multiple=True, help="Only for these clients; everybody unless given."
)
_exclude_option = click.option(
    "--exclude", metavar="CIDR...", multiple=True, help="Not towards these destinations."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@_common
@version_option("netns-natmap")
def command(**_: Any) -> None:
    """Map ports to servers and containers, and translate addresses, of the host or of a namespace.

    While netns-natmap@NAME.service runs, it does what these commands ask for, keeps it against the changes of
    others, and follows containers; members of the group netns-natmap may ask it too. Else the commands do it
    themselves, as root. What they ask for stays until it is removed; it is kept in
    /var/lib/netns-tools/natmap-NAME.json. What is to be there always can be declared in
    /etc/conf.d/netns/natmap-NAME.yaml, or natmap.yaml; 'netnsctl types natmap' describes it.

    \b
    Examples:
      netns-natmap dnat 8080:10.0.0.10:80      tcp port 8080 of any local address
      netns-natmap docker add web 8888:80      wherever the container web is
      netns-natmap ls                          what is wanted, and is it there?
      netns-natmap doctor                      why does a mapping not pass?
    """


# Operations


def _operation(
    method: str, path: tuple[str, ...], kind: str = "", given: Mapping[str, object] | None = None
) -> Operation:
    """The operation of a request, checked as the daemon checks it; what is not given is left out.

    Raises ``ConfigError``, in which fields are called as the options are.
    """
    from netns_tools.natmap.api import read_request

    unset: tuple[object, ...] = (None, "", [])
    body = {n: value for n, value in (given or {}).items() if value not in unset and value is not False}
    try:
        return read_request(method, path, {}, body)
    except ConfigError as error:
        raise ConfigError([_as_option(problem, kind) for problem in error.problems]) from None


def _as_option(problem: Problem, kind: str) -> Problem:
    """A problem of a field, told of its option."""
    from netns_tools.natmap.fields import FIELDS

    for name in FIELDS.get(kind, ()):
        option = f"--{name.replace('_', '-')}"
        if problem.message.startswith((f"{name}: ", f"{name} is ")):
            problem.message = option + problem.message.removeprefix(name)
        if problem.hint.startswith(f"add  {name}: "):
            problem.hint = f"add {option} {problem.hint.removeprefix(f'add  {name}: ')}"
    return problem


def _add_or_delete(
    session: Session,
    path: str,
    kind: str,
    fields: Mapping[str, object],
    *,
    delete: bool,
    dry_run: bool,
    replace: bool,
    force: bool = False,
) -> int:
    if delete and (replace or force):
        raise click.UsageError(f"--{'replace' if replace else 'force'} has no meaning with --delete")
    given = {**fields, "dry_run": dry_run, "replace": replace, "force": force}
    return session.change(_operation("DELETE" if delete else "POST", (path,), kind, given))


@_register(command, "dnat", "Map ports to a server.", _Listing)
@click.argument("mapping", required=False)
@click.option("--ext-ip", metavar="IP", help="The address connections come to; any local one unless given.")
@click.option("--int-ip", metavar="IP", help="The address of the server.")
@_proto_option
@_ports_option
@_ext_if_option
@_masquerade_option
@_allow_option
@_replace_option
@_force_option
@_delete_option
@_dry_option
def dnat_command(
    session: Session,
    mapping: str | None,
    masquerade: bool,
    allow_from: tuple[str, ...],
    replace: bool,
    force: bool,
    delete: bool,
    dry_run: bool,
    **fields: Any,
) -> int:
    """Send what comes to a port here on to a server.

    MAPPING is [HOST_IP:]PORT[-PORT]:TARGET_IP[:PORT[-PORT]][/PROTO], with IPv6 addresses in brackets; the
    options --ext-ip, --int-ip, --ports and --proto say the same. Without a host address any local one is
    meant; what only passes through is left alone. Host port 0 is a free one, which is told.

    What is there already stays as it is. If the port is mapped to another target it is refused, unless with
    --replace; if a program listens on it, unless with --force.

    \b
    Examples:
      netns-natmap dnat 198.51.100.1:8080:10.0.0.10:80
      netns-natmap dnat 9500-9599:10.0.0.10:9000-9099/udp --ext-if eth0
      netns-natmap dnat '[2001:db8::1]:443:[fd00::10]:443' --allow-from 2001:db8:1::/48
      netns-natmap dnat --ext-ip 198.51.100.1 --int-ip 10.0.0.10 --ports 80,443,9000-9100
      netns-natmap dnat 198.51.100.1:8080:10.0.0.10:80 --delete
    """
    given = {**fields, "map": mapping, "masquerade": masquerade, "allow_from": _several(allow_from)}
    return _add_or_delete(
        session, "dnat", "dnat", given, delete=delete, dry_run=dry_run, replace=replace, force=force
    )


@_register(command, "snat", "Give connections another source.", _Listing)
@click.option("--int-ip", metavar="CIDR", help="Whose connections; an address or a prefix.")
@click.option("--ext-if", metavar="IF", help="The interface by which they go out.")
@click.option("--ext-ip", metavar="IP", help="The source that they get.")
@_exclude_option
@_replace_option
@_delete_option
@_dry_option
def snat_command(
    session: Session, exclude: tuple[str, ...], replace: bool, delete: bool, dry_run: bool, **fields: Any
) -> int:
    """Give what goes out by an interface a certain source.

    \b
    Examples:
      netns-natmap snat --int-ip 10.0.0.0/24 --ext-if eth0 --ext-ip 198.51.100.1
      netns-natmap snat --int-ip 10.0.0.9 --ext-if eth0 --ext-ip 198.51.100.2 --exclude 10.0.0.0/8
    """
    given = {**fields, "exclude": _several(exclude)}
    return _add_or_delete(session, "snat", "snat", given, delete=delete, dry_run=dry_run, replace=replace)


@_register(command, "masquerade", "Give connections the address of an interface.", _Listing)
@click.option("--int-ip", metavar="CIDR", help="Whose connections; an address or a prefix.")
@click.option("--ext-if", metavar="IF", help="The interface by which they go out.")
@_exclude_option
@_replace_option
@_delete_option
@_dry_option
def masquerade_command(
    session: Session, exclude: tuple[str, ...], replace: bool, delete: bool, dry_run: bool, **fields: Any
) -> int:
    """Give what goes out by an interface that interface's address, whichever it has at the time.

    \b
    Examples:
      netns-natmap masquerade --int-ip 10.0.0.0/24 --ext-if ppp0
      netns-natmap masquerade --int-ip fd00::/64 --ext-if eth0 --exclude fd00::/8
    """
    given = {**fields, "exclude": _several(exclude)}
    return _add_or_delete(
        session, "masquerade", "masquerade", given, delete=delete, dry_run=dry_run, replace=replace
    )


@_register(command, "hairpin", "Let clients beside a server use its outer address.")
@click.option("--ext-ip", metavar="IP", help="The address by which they reach it.")
@click.option("--int-ip", metavar="IP", help="The server; it reaches itself by --ext-ip too.")
@_proto_option
@_ports_option
@click.option("--lan-cidr", metavar="CIDR", help="Where the clients are; the server's subnet unless given.")
@_replace_option
@_delete_option
@_dry_option
def hairpin_command(session: Session, replace: bool, delete: bool, dry_run: bool, **fields: Any) -> int:
    """Let clients in the network of a server, and the server itself, reach it by an outer address.

    \b
    Examples:
      netns-natmap hairpin --ext-ip 198.51.100.1 --int-ip 10.0.0.10 --ports 80,443
      netns-natmap hairpin --ext-ip 192.0.2.1 --int-ip 10.0.0.10 --ports 53 --lan-cidr 10.0.0.0/16
    """
    return _add_or_delete(
        session, "hairpin", "hairpin", fields, delete=delete, dry_run=dry_run, replace=replace
    )


@_register(command, "policy-route", "Give a source a gateway of its own.")
@click.option("--src-ip", metavar="CIDR", help="Whose packets; an address or a prefix.")
@click.option("--via", metavar="IP", help="The gateway of what would take the default route.")
@click.option("--table", metavar="N", help="The routing table for that; 100 unless given.")
@_replace_option
@_delete_option
@_dry_option
def policy_route_command(session: Session, replace: bool, delete: bool, dry_run: bool, **fields: Any) -> int:
    """Send what comes from a source, and would take the default route, by another gateway.

    All other routes count as before, and those that are added later.

    \b
    Examples:
      netns-natmap policy-route --src-ip 10.0.0.5 --via 192.0.2.254
      netns-natmap policy-route --src-ip fd00:5::/64 --via 2001:db8::1 --table 1000
    """
    return _add_or_delete(
        session, "policy-route", "policy_routes", fields, delete=delete, dry_run=dry_run, replace=replace
    )


# Containers


@command.group("docker", short_help="Map ports to containers.")
@_common
def docker_group(**_: Any) -> None:
    """Map ports to containers. A mapping follows its container, and waits while that is stopped.

    \b
    Examples:
      netns-natmap docker add web 8888:80
      netns-natmap docker remap web 8888:9999
      netns-natmap docker rm web 9999
    """


@_register(docker_group, "add", "Map ports to a container.", _Listing)
@click.argument("container")
@click.argument("mappings", metavar="MAPPING...", nargs=-1, required=True)
@_ext_if_option
@_masquerade_option
@_allow_option
@_replace_option
@_force_option
@_dry_option
def docker_add_command(
    session: Session,
    container: str,
    mappings: tuple[str, ...],
    ext_if: str | None,
    masquerade: bool,
    allow_from: tuple[str, ...],
    **options: bool,
) -> int:
    """Map ports to CONTAINER, a name or an id, which need not exist yet: all MAPPINGs or none.

    MAPPING is [HOST_IP:]HOST_PORT[:[TARGET_IP:]TARGET_PORT][/PROTO]. Without HOST_IP any local address is
    meant, of IPv4 and of IPv6; with 0.0.0.0 or [::] of one of them. With TARGET_IP it leads there, whoever
    has that address. Host port 0 is a free one, which is told. --replace and --force as for 'dnat'.

    \b
    Examples:
      netns-natmap docker add web 8888:80 8443:443
      netns-natmap docker add web 127.0.0.1:0:80
      netns-natmap docker add dns 53/udp --allow-from 10.0.0.0/8
    """
    given = {
        **options,
        "map": [*mappings],
        "ext_if": ext_if,
        "masquerade": masquerade,
        "allow_from": _several(allow_from),
    }
    return session.change(_operation("POST", ("mapping", container), "docker", given))


@_register(docker_group, "rm", "Remove mappings of containers.")
@click.argument("container", required=False)
@click.argument("host_port", metavar="[HOST_PORT[/PROTO]]", required=False)
@click.option("--id", "number", metavar="N", help="The mapping with this id, as 'ls --json' has it.")
@click.option("--all", "everything", is_flag=True, help="All mappings of CONTAINER, or of all containers.")
@_dry_option
def docker_rm_command(
    session: Session,
    container: str | None,
    host_port: str | None,
    number: str | None,
    everything: bool,
    dry_run: bool,
) -> int:
    """Remove the mapping of a host port to CONTAINER, at whichever addresses; or several mappings.

    \b
    Examples:
      netns-natmap docker rm web 8888
      netns-natmap docker rm dns 53/udp
      netns-natmap docker rm web --all
    """
    from netns_tools.natmap.words import parse_host_port

    if bool(number) + bool(host_port) + everything != 1 or (number and container):
        raise click.UsageError("name CONTAINER and HOST_PORT, or CONTAINER --all, or --all, or --id N")
    given: dict[str, object] = {"dry_run": dry_run}
    if number:
        return session.change(_operation("DELETE", ("mapping", "by-id", number), given=given))
    if host_port:
        port, proto = _parsed(parse_host_port, host_port)
        given |= {"port": port, "proto": proto}
    path = ("mapping", container) if container else ("mapping",)
    return session.change(_operation("DELETE", path, given=given))


_move_argument = click.argument("ports", metavar="OLD:NEW[/PROTO]")
_host_option = click.option("--ext-ip", metavar="IP", help="Only a mapping of this host address.")


@_register(docker_group, "remap", "Move a host port of a container.")
@click.argument("container")
@_move_argument
@_host_option
@_replace_option
@_force_option
@_dry_option
def docker_remap_command(session: Session, container: str, ports: str, **options: Any) -> int:
    """Map host port NEW to CONTAINER in place of OLD; the container is not touched. 0 is a free one.

    \b
    Examples:
      netns-natmap docker remap web 8888:9999
      netns-natmap docker remap dns 53:5353/udp
    """
    return session.change(_remap(("remap", container), ports, **options))


@_register(command, "remap", "Move a host port.")
@_move_argument
@_host_option
@_replace_option
@_force_option
@_dry_option
def remap_command(session: Session, ports: str, **options: Any) -> int:
    """Map host port NEW in place of OLD, to the same target. 0 is a free one, which is told.

    \b
    Examples:
      netns-natmap remap 8080:8081
      netns-natmap remap 53:5353/udp --ext-ip 198.51.100.1
    """
    return session.change(_remap(("remap",), ports, **options))


def _remap(path: tuple[str, ...], ports: str, ext_ip: str | None, **options: bool) -> Operation:
    from netns_tools.natmap.words import parse_remap

    word, _, proto = ports.partition("/")
    old, new = _parsed(parse_remap, word)
    given = {"host_ip": ext_ip, "host_port": old, "new_host_port": new, "proto": proto, **options}
    return _operation("PUT", path, given=given)


def _parsed(parse: Callable[[str], T], text: str) -> T:
    """What a word says. Raises ``ConfigError``."""
    from netns_tools.natmap.words import Refused

    try:
        return parse(text)
    except Refused as refused:
        raise ConfigError([Problem(refused.message, hint=refused.hint)]) from None


# Many at once

_file_argument = click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
_exact_option = click.option(
    "--exact", is_flag=True, help="And remove what commands asked for and FILE does not name."
)


@_register(command, "apply", "Add what a file names: all or nothing.")
@_file_argument
@_exact_option
@_replace_option
@_force_option
@_dry_option
def apply_command(session: Session, file: str, **options: bool) -> int:
    """Add or update what the YAML FILE names, in one step: all of it or nothing. - is standard input.

    It is written as natmap-NAME.yaml is: lists dnat, docker, snat, masquerade, hairpin and policy_routes.

    \b
    Examples:
      netns-natmap apply mappings.yaml
      netns-natmap apply --exact --name blue mappings.yaml
    """
    return session.change(_apply(_entries_of(file, session), **options))


@_register(command, "plan", "What 'apply' would change.")
@_file_argument
@_exact_option
@_replace_option
@_force_option
def plan_command(session: Session, file: str, **options: bool) -> int:
    """Print what 'apply' would change with FILE, and change nothing. It refuses what 'apply' refuses.

    \b
    Examples:
      netns-natmap plan mappings.yaml
      netns-natmap plan --exact --json mappings.yaml | jq -r '.changes[]'
    """
    return session.change(_apply(_entries_of(file, session), dry_run=True, **options))


@_register(command, "import", "Take over a state.json of natmap.")
@_file_argument
@_replace_option
@_force_option
@_dry_option
def import_command(session: Session, file: str, **options: bool) -> int:
    """Add what the state file of lab-ops' natmap has, or what its daemon answers to GET /mappings.

    Exit status: 1 also when some of it could not be taken over, which is said; the rest is done.

    \b
    Examples:
      netns-natmap import --dry-run /var/lib/natmap/state.json
      netns-natmap import /var/lib/natmap/state.json
    """
    from netns_tools.natmap.imported import import_natmap

    with open(_path(file), encoding="utf-8", errors="replace") as opened:
        desired, problems = import_natmap(opened.read(), file)
    for problem in problems:
        click.echo(problem.render(), err=True)
    return session.change(_apply(tuple(desired), exact=False, **options)) or (1 if problems else 0)


def _path(file: str) -> str:
    return "/dev/stdin" if file == "-" else file


def _entries_of(file: str, session: Session) -> tuple[Entry, ...]:
    from netns_tools.natmap.file import load_given

    return tuple(load_given(_path(file), session.name, session.paths))


def _apply(
    entries: tuple[Entry, ...], *, exact: bool, replace: bool, force: bool, dry_run: bool
) -> Operation:
    from netns_tools.natmap.api import Operation

    options = {"exact": exact, "replace": replace, "force": force, "dry_run": dry_run}
    return Operation("apply", {"entries": entries, **options})


@_register(command, "clear", "Remove everything.")
@_dry_option
def clear_command(session: Session, dry_run: bool) -> int:
    """Remove what commands asked for, and everything that was changed for it: rules, routes, settings.

    What the configuration of NAME declares stays, with what that needs.

    \b
    Examples:
      netns-natmap clear --dry-run
      netns-natmap clear --name blue
    """
    return session.change(_operation("DELETE", ("clear",), given={"dry_run": dry_run}))


@_register(command, "purge", "Take everything out of the kernel.")
def purge_command(session: Session) -> int:
    """Take all that was made for NAME out of the kernel again, declared or not; stop its daemon first.

    Rules, routes and settings are as before. The state file stays: the next daemon or command brings back
    what is wanted.

    \b
    Examples:
      systemctl stop netns-natmap@host && netns-natmap purge
    """
    session.purge()
    return 0


# Looking


@_register(command, "ls", "What is wanted, and whether it is there.")
@click.argument("filter", required=False)
def ls_command(session: Session, filter: str | None) -> int:
    """List what is wanted, all or what has FILTER in its text, and whether it is live in the kernel.

    What is in our table and nobody wants is listed too. A daemon does not let the two differ for long.

    \b
    Examples:
      netns-natmap ls
      netns-natmap ls 10.0.0.10
      netns-natmap ls --json | jq '.drift'
    """
    from netns_tools.cli.natmap_text import print_mappings

    session.show(_operation("GET", ("mappings",), given={"filter": filter}), print_mappings)
    return 0


@_register(command, "status", "How it goes.")
def status_command(session: Session) -> int:
    """Show how much is wanted and whether it is there, what went wrong, and where all this is kept.

    \b
    Examples:
      netns-natmap status
      netns-natmap status --name blue --json | jq -r '.last_error'
    """
    from netns_tools.cli.natmap_text import print_status

    session.show(_operation("GET", ("status",)), print_status)
    return 0


@_register(command, "doctor", "Why does a mapping not pass?")
def doctor_command(session: Session) -> int:
    """Find what is in the way of the mappings: tables, chains, policies, settings, listeners, routes.

    Each finding has the command that mends it. Exit status: 0 nothing is in the way, 3 something is.

    \b
    Examples:
      netns-natmap doctor
      netns-natmap doctor --json | jq -r '.findings[].command'
    """
    from netns_tools.cli.natmap_text import print_findings

    answer = session.show(_operation("GET", ("doctor",)), print_findings)
    return 3 if answer["findings"] else 0


# The machine and the daemon


@_register(command, "fwd", "Switch forwarding on.")
@_dry_option
def fwd_command(session: Session, dry_run: bool) -> int:
    """Switch forwarding on in NAME, of IPv4 and of IPv6, until 'clear' puts it back as it was.

    \b
    Examples:
      netns-natmap fwd
      netns-natmap fwd --name blue
    """
    return session.change(_operation("POST", ("fwd",), given={"dry_run": dry_run}))


@_register(command, "save", "Write the state file.")
def save_command(session: Session) -> int:
    """Write the state file, which every change does anyway, and print where it is.

    \b
    Examples:
      netns-natmap save
      cp "$(netns-natmap save)" /root/natmap-host.json
    """
    session.show(_operation("POST", ("save",)), lambda answer: click.echo(answer["path"]))
    return 0


@_register(command, "reload", "Take the configuration anew.")
def reload_command(session: Session) -> int:
    """Read the configuration of NAME again, and apply it. With a mistake in it nothing is changed.

    \b
    Examples:
      netns-natmap reload
      systemctl reload netns-natmap@blue
    """
    return session.change(_operation("POST", ("reload",)))


@_register(command, "daemon", "Do it all from now on.")
@click.option("--flush-on-stop", is_flag=True, help="Take everything out again at SIGTERM.")
def daemon_command(session: Session, flush_on_stop: bool) -> int:
    """Keep the mappings of NAME as they are wanted, until SIGTERM; then they stay as they are.

    This is what the unit netns-natmap@NAME.service runs. SIGHUP reloads the configuration. There is one
    daemon a NAME; another one refuses to start.

    \b
    Examples:
      netns-natmap daemon
      netns-natmap daemon --name blue --flush-on-stop
    """
    return session.run_daemon(flush=flush_on_stop)


def main() -> None:
    """The program ``netns-natmap``."""
    run_program(command, "netns-natmap")


if __name__ == "__main__":
    main()
