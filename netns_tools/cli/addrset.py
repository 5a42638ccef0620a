"""``netns-addrset``: nftables sets that always equal the addresses of interfaces and containers."""

from __future__ import annotations

import click

from netns_tools.cli.entry import run as run_program
from netns_tools.cli.options import json_option, names_of, root_option, version_option
from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from netns_tools.addrset.service import AddressSets
    from netns_tools.host.control import Answer
    from netns_tools.host.lock import Lock
    from netns_tools.paths import Paths

    F = TypeVar("F", bound=Callable[..., Any])

_TYPE = "addrset"

_OTHERS = 10.0
"""Seconds that ``run`` waits for somebody who has the lock at this moment and does not answer."""


def _check_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from netns_tools.names import nsname_problem

    if message := nsname_problem(value):
        raise click.BadParameter(message)
    return value


def name_option(function: F) -> F:
    """``--name NAME``; the function gets ``name: str``."""
    return click.option(
        "--name",
        metavar="NAME",
        default="host",
        show_default=True,
        callback=_check_name,
        shell_complete=names_of(_TYPE),
        help="The network namespace; 'host' is the one that the command runs in.",
    )(function)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@root_option
@version_option("netns-addrset")
def command(paths: Paths) -> None:
    """Keep nftables sets equal to the addresses of interfaces and containers.

    Zones, their interfaces and sets stand in /etc/conf.d/netns/addrset-NAME.yaml, or addrset.yaml;
    'netnsctl types addrset' describes them. NETNS_ADDRSET_CONFIG names another file.

    \b
    Examples:
      systemctl start netns-addrset@host     follow addresses from now on
      netns-addrset plan                     what would be changed now?
      netns-addrset status                   what do the sets hold, and what is wrong?
    """


@command.command("run", short_help="Follow addresses; the daemon.")
@click.option(
    "--once", is_flag=True, help="Apply what is right now, and exit; a daemon that runs is asked to."
)
@name_option
@root_option
def run_command(*, once: bool, name: str, paths: Paths) -> int:
    """Follow the addresses in NAME and keep its sets true, until SIGTERM; then the sets stay as they are.

    This is what the unit netns-addrset@NAME.service runs. SIGHUP reloads the configuration. There is one
    daemon a NAME; another one refuses to start. Exit status with --once: 0 applied (a set that does not
    exist is only mentioned), 1 a set could not be made right, 2 the configuration is wrong.

    \b
    Examples:
      netns-addrset run --once
      netns-addrset run --name blue
    """
    import time

    from netns_tools.host.control import ask
    from netns_tools.host.lock import Held
    from netns_tools.host.runtime import socket_path

    deadline = time.monotonic() + _OTHERS
    while True:
        try:
            return _run(name, paths, once=once)
        except Held:
            # Who has the lock is a daemon that answers, or one that starts, or a run --once, soon over.
            answer = ask(socket_path(_TYPE, name, paths), "apply" if once else "ping", timeout=60)
            if answer and once:
                return _print_answer(answer)
            if answer or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _run(name: str, paths: Paths, *, once: bool) -> int:
    from netns_tools.host.daemon import Daemon
    from netns_tools.host.journal import Journal

    lock = _take_lock(name, paths)
    try:
        journal = Journal()
        service = _service(name, paths, journal)
        if once:
            service.observe()
            return _print_answer(service.apply_once())
        return Daemon(_TYPE, name, paths, service, journal).run()
    finally:
        lock.release()


def _take_lock(name: str, paths: Paths) -> Lock:
    """The lock of NAME's daemon; raises Held also when somebody removed its file while the daemon runs."""
    from netns_tools.host.control import ask
    from netns_tools.host.lock import Held
    from netns_tools.host.runtime import lock_of, socket_path

    lock = lock_of(_TYPE, name, paths)
    lock.acquire()
    if ask(socket_path(_TYPE, name, paths), "ping"):
        lock.release()
        raise Held(lock.what, 0)
    return lock


def _service(name: str, paths: Paths, journal: Any) -> AddressSets:
    """The service, inside the namespace, with checked settings."""
    from netns_tools.addrset.config import load_settings
    from netns_tools.addrset.service import AddressSets
    from netns_tools.kernel import netns

    settings = load_settings(name, paths)
    for warning in settings.warnings:
        click.echo(warning.render(), err=True)
    netns.enter(name, paths)
    return AddressSets(name, paths, settings, journal)


def _ask(name: str, paths: Paths, word: str, timeout: float = 10) -> Answer:
    """Ask the daemon of NAME; raises NetnsToolsError when it does not run."""
    from netns_tools.host.control import ask
    from netns_tools.host.runtime import socket_path
    from netns_tools.names import unit

    answer = ask(socket_path(_TYPE, name, paths), word, timeout=timeout)
    if answer is None:
        raise NetnsToolsError(
            f"{unit(_TYPE, name)} does not run", hint=f"start it: systemctl start {unit(_TYPE, name)}"
        )
    return answer


def _print_answer(answer: Answer) -> int:
    click.echo(answer.text.rstrip("\n"), err=answer.code != 0)
    return answer.code


@command.command("plan", short_help="What would be changed now.")
@name_option
@json_option
@root_option
def plan_command(name: str, as_json: bool, paths: Paths) -> int:
    """Print the nft commands that would make the sets of NAME right, and change nothing.

    \b
    Examples:
      netns-addrset plan
      netns-addrset plan --name blue --json | jq '.sets[].state'
    """
    from netns_tools.addrset.plan import lines
    from netns_tools.cli.output import print_json
    from netns_tools.host.journal import Journal

    service = _service(name, paths, Journal())
    service.observe()
    plans = service.plans()
    service.stop()
    if as_json:
        print_json(
            {
                "name": name,
                "sets": [
                    {
                        "family": one.id.family,
                        "table": one.id.table,
                        "set": one.id.name,
                        "state": one.state,
                        "error": one.error or None,
                        "hint": one.hint or None,
                        "commands": lines(one),
                    }
                    for one in plans
                ],
            }
        )
        return 0
    said = set()
    for one in plans:
        for line in lines(one):
            if line not in said:  # several sets may need the same table
                click.echo(line)
            said.add(line)
        if one.error:
            click.echo(f"# set {one.id}: {one.state}: {one.error}")
            if one.hint:
                click.echo(f"#   hint: {one.hint}")
    if not any(one.commands for one in plans):
        click.echo("# nothing to do")
    return 0


@command.command("status", short_help="What the sets hold, and what is wrong.")
@name_option
@json_option
@root_option
def status_command(name: str, as_json: bool, paths: Paths) -> int:
    """Show the state of the daemon of NAME: each set with its elements, interfaces, containers, errors.

    Exit status: 0 it runs (whatever it says), 1 it does not run.

    \b
    Examples:
      netns-addrset status
      netns-addrset status --json | jq '.sets[] | select(.state != "ok")'
      echo status | socat - UNIX-CONNECT:/run/netns-tools/addrset-host.sock
    """
    answer = _ask(name, paths, "status")
    if as_json or answer.code:
        return _print_answer(answer)
    import json

    from netns_tools.addrset.status import describe

    click.echo("\n".join(describe(json.loads(answer.text))))
    return 0


@command.command("reload", short_help="Take the configuration anew.")
@name_option
@root_option
def reload_command(name: str, paths: Paths) -> int:
    """Make the daemon of NAME read its configuration again, and wait until that is applied.

    With a mistake in the file the old configuration stays in force, and the exit status is 2. It is 1 when
    the daemon does not run, or when a set could not be made right.

    \b
    Examples:
      netns-addrset reload
      systemctl reload netns-addrset@blue
    """
    return _print_answer(_ask(name, paths, "reload", timeout=60))


@command.command("ping", short_help="Is the daemon there?")
@name_option
@root_option
def ping_command(name: str, paths: Paths) -> int:
    """Ask the daemon of NAME for a sign of life; it prints 'pong'. Exit status: 0 it runs, 1 it does not.

    \b
    Examples:
      netns-addrset ping --name blue
    """
    return _print_answer(_ask(name, paths, "ping"))


@command.command("metrics", short_help="Metrics for Prometheus.")
@name_option
@root_option
def metrics_command(name: str, paths: Paths) -> int:
    """Print the daemon's metrics in Prometheus' text format.

    \b
    Examples:
      netns-addrset metrics > /var/lib/prometheus/node-exporter/netns-addrset.prom
    """
    return _print_answer(_ask(name, paths, "metrics"))


@command.command("purge", short_help="Take everything out again.")
@name_option
@root_option
def purge_command(name: str, paths: Paths) -> int:
    """Take out of the sets of NAME what the daemon put there, and remove its own table; stop it first.

    Chains and sets that others made in its own table stay, and the table with them.

    \b
    Examples:
      systemctl stop netns-addrset@host && netns-addrset purge
    """
    from netns_tools.addrset.purge import purge
    from netns_tools.host.journal import Journal

    lock = _take_lock(name, paths)
    try:
        left = purge(name, paths, Journal())
    finally:
        lock.release()
    for line in left:
        click.echo(f"left: {line}", err=True)
    return 1 if left else 0


def main() -> None:
    """The program ``netns-addrset``."""
    run_program(command, "netns-addrset")


if __name__ == "__main__":
    main()
