"""What the engine makes of others who change sets at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netns_tools.addrset.config import Settings
from netns_tools.addrset.engine import Engine
from netns_tools.addrset.observed import Observed
from netns_tools.addrset.record import Record
from netns_tools.host.journal import Journal
from netns_tools.kernel.nftmonitor import Seen
from netns_tools.kernel.nftset import LiveSet, SetId
from tests.unit.addrset.zones import WAN


class Rules:
    """A ruleset that somebody else fills with a foreign element after each of our changes, while ``busy``."""

    def __init__(self) -> None:
        self.busy = True

    def read(self, id: SetId) -> LiveSet:
        elements: dict[str, object] = (
            {"10.9.9.9": "10.9.9.9"} if self.busy and not id.name.endswith("6") else {}
        )
        return LiveSet(id, "ipv6_addr" if id.name.endswith("6") else "ipv4_addr", elements=elements)

    def apply(self, commands: list[Any]) -> None:
        """Done, and undone by somebody else."""


class Monitor:
    """Tells of that."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def read(self) -> Seen:
        return Seen({(WAN.family, WAN.table)}, 2, False) if self.rules.busy else Seen(set(), 0, False)


def test_what_is_left_over_is_known(tmp_path: Path) -> None:
    """The events of others are used up: without a word about it nobody would look for a minute."""
    rules = Rules()
    record = Record(str(tmp_path / "record"), 1)
    engine = Engine(rules, Monitor(rules), record, Observed(), Journal())  # type: ignore[arg-type]
    engine.configure(Settings("", (WAN,), (), "", ""))
    engine.reconcile()
    assert engine.is_outrun()
    rules.busy = False
    engine.reconcile()
    assert not engine.is_outrun()
