"""Templates to text. jinja2 costs 40 ms to import, so what was rendered before is remembered."""

from __future__ import annotations

from netns_tools import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jinja2 import Environment

Context = dict[str, str | list[str]]


class Renderer:
    """Renders unit templates of a directory.

    ``memo`` maps (template, context) to text; it is filled as we go, and ``used``
    holds what this run asked for. It is valid for one ``fingerprint`` only.
    """

    def __init__(self, directory: str, memo: dict[str, str]) -> None:
        self.directory = directory
        self.memo = memo
        self.used: dict[str, str] = {}
        self._environment: Environment | None = None

    def render(self, template: str, context: Context) -> str:
        """The text of ``template`` with ``context``; a name that the context lacks is an error."""
        key = f"{template} {context!r}"
        text = self.memo.get(key)
        if text is None:
            text = self._load().get_template(template).render(context)
        self.used[key] = text
        return text

    def _load(self) -> Environment:
        if self._environment is None:
            from jinja2 import Environment, FileSystemLoader, StrictUndefined

            self._environment = Environment(
                loader=FileSystemLoader(self.directory),
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
                keep_trailing_newline=True,
                autoescape=False,
            )
        return self._environment


def fingerprint(directory: str) -> str:
    """What the rendered text depends on besides the context: this version and the templates."""
    import os

    parts = [__version__]
    for name in sorted(os.listdir(directory)):
        if name.endswith(".j2"):
            status = os.stat(f"{directory}/{name}")
            parts.append(f"{name}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}")
    return " ".join(parts)
