"""What the last netns-update found out, so that the next one need not find it out again.

One JSON file below the cache directory. It may be missing, old or broken: then
everything is read and rendered anew.
"""

from __future__ import annotations

import contextlib
import json
import os

from netns_tools.steps.cache import stamp
from netns_tools.units.facts import Facts, facts_from_dict
from netns_tools.units.install import write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.paths import Paths


class Record:
    """Rendered texts, and facts of instances with the stamp of what they were read from."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.rendered: dict[str, str] = {}
        self._known: dict[str, dict[str, object]] = {}
        self._used: dict[str, dict[str, object]] = {}
        self._loaded = ""

    def facts(self, nstype: str, name: str) -> tuple[Facts, str] | None:
        """The facts of an instance and the head of its cached plan, if none of its files has changed."""
        known = self._known.get(f"{name}@{nstype}")
        if known is None:
            return None
        inputs, stamped = known["inputs"], known["stamp"]
        if not isinstance(inputs, str) or stamp(inputs.split(" ")) != stamped:
            return None
        facts = known["facts"]
        if not isinstance(facts, dict):
            return None
        self._used[f"{name}@{nstype}"] = known
        return facts_from_dict(facts), f"{inputs}\n{stamped}\n"

    def remember(self, nstype: str, name: str, facts: Facts, plan: str) -> None:
        """Note the facts that belong to a plan that may be cached (its text)."""
        _, inputs, stamped, _ = plan.split("\n", 3)
        self._used[f"{name}@{nstype}"] = {"inputs": inputs, "stamp": stamped, "facts": facts.as_dict()}

    def load(self, paths: Paths) -> None:
        """Read the file; what does not fit is as good as missing."""
        try:
            with open(path_of(paths), encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                    return
                text = file.read()
            data = json.loads(text)
            if data["fingerprint"] == self.fingerprint:
                self.rendered = dict(data["rendered"])
                self._known = dict(data["instances"])
                self._loaded = text
        except (OSError, ValueError, KeyError, TypeError):
            return

    def save(self, paths: Paths, rendered: dict[str, str]) -> None:
        """Write the file if it says something new; as well as possible."""
        data = {"fingerprint": self.fingerprint, "rendered": rendered, "instances": self._used}
        text = json.dumps(data, separators=(",", ":"))
        if text != self._loaded:
            with contextlib.suppress(OSError):
                write_atomically(path_of(paths), text)


def path_of(paths: Paths) -> str:
    """Where the record is."""
    return f"{paths.cache}/units.json"
