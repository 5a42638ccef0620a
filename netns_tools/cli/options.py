"""Options and arguments that several commands share, so that they read and complete the same everywhere."""

from __future__ import annotations

import click

from netns_tools import __version__
from netns_tools.names import HOST
from netns_tools.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from click.shell_completion import CompletionItem

    F = TypeVar("F", bound=Callable[..., Any])


def root_option(function: F) -> F:
    """``--root DIR``; the function gets a ``paths: Paths``. A group's --root holds for its commands."""

    def to_paths(context: click.Context, _parameter: click.Parameter, value: str | None) -> Paths:
        if value is not None:
            return Paths(value)
        inherited = context.parent.params.get("paths") if context.parent else None
        return inherited if isinstance(inherited, Paths) else Paths()

    return click.option(
        "--root",
        "paths",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        callback=to_paths,
        help="Look at the system below DIR instead of the running one.",
    )(function)


def json_option(function: F) -> F:
    """``--json``; the function gets ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def version_option(prog: str) -> Callable[[F], F]:
    """``--version`` of a program."""
    return click.version_option(__version__, prog_name=prog, message="%(prog)s (netns-tools) %(version)s")


def type_argument(*, required: bool = True) -> Callable[[F], F]:
    """The argument TYPE as ``nstype``, completed from the types that exist."""
    return click.argument(
        "nstype", metavar="TYPE" if required else "[TYPE]", required=required, shell_complete=_complete_types
    )


def name_argument(*, required: bool = True) -> Callable[[F], F]:
    """The argument NAME as ``name``, completed from the instances that exist (of TYPE, when it is given)."""
    return click.argument(
        "name", metavar="NAME" if required else "[NAME]", required=required, shell_complete=_complete_names
    )


def _paths_of(context: click.Context) -> Paths:
    """--root as far as the command line has been typed; completion runs no callbacks that fail."""
    paths = context.params.get("paths")
    return paths if isinstance(paths, Paths) else Paths()


def _complete_types(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from netns_tools.cli.instances import Known

    types = Known(_paths_of(context)).types
    return [
        CompletionItem(name, help=nstype.summary)
        for name, nstype in sorted(types.items())
        if name.startswith(incomplete)
    ]


def _complete_names(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return _names(context, context.params.get("nstype"), incomplete)


def names_of(nstype: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """A ``shell_complete`` for the NAMEs of one type."""
    return lambda context, _parameter, incomplete: _names(context, nstype, incomplete)


def _names(context: click.Context, wanted: str | None, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from netns_tools.cli.instances import Known

    known = Known(_paths_of(context))
    names = {one.name for one in known.instances if wanted in (None, one.nstype)}
    names |= {HOST} if wanted in known.daemons else set()
    names = names or {one.name for one in known.instances}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
