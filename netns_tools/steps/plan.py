"""The plan of one TYPE in one namespace: every line of every step, computed without touching anything.

A plan is a set of small files, one a step and interpreter (``up-outside.ip`` is
fed to ``ip -batch`` outside the namespace, ``up-inside.nft`` to ``nft -f`` inside
it, ``*.sh`` to ``sh``). What is printed by ``netnsctl plan`` is these lines.
"""

from __future__ import annotations

from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Value

STEPS = ("up-outside", "up-inside", "down-inside", "down-outside")
"""The steps in the order in which a start and a stop take them."""


class Plan:
    """What the steps of a TYPE in a namespace do.

    ``files`` maps a file name, ``STEP.INTERPRETER``, to its lines. Besides there
    are notes for the steps, which no interpreter reads: ``gated`` (present: do not
    come up while the namespace is closed), ``requires`` (other types in the same
    namespace, a line each), ``peer`` (the namespace of ``up-peer.ip``),
    ``group`` (the device group of a link, for its undo), ``bash`` (present: a bash type, run as itself) and
    ``warnings`` (said at every start).
    """

    __slots__ = ("files",)

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}

    def add(self, file: str, command: str, *sources: Value | None) -> None:
        """Append a command to a file, with the places in the configuration that it follows from."""
        if "\n" in command or command.startswith("@ "):
            # The cached plan is lines, and "@ " begins a section of it.
            raise NetnsToolsError(
                f"{file}: a command may not hold a line break: {command!r}",
                hint="one command, one line; a value with a line break cannot be part of it",
            )
        origin = "; ".join(_origin(source) for source in sources if source is not None and source.path)
        self.files.setdefault(file, []).append(f"{command}  # {origin}" if origin else command)

    def note(self, file: str, *lines: str) -> None:
        """Set a note for the steps."""
        self.files[file] = list(lines)


def _origin(source: Value) -> str:
    return f"{source.path}:{source.line}" if source.line else source.path
