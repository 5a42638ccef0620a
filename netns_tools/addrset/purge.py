"""Take out of a namespace what netns-addrset put there."""

from __future__ import annotations

import os

from netns_tools.addrset.engine import Engine
from netns_tools.addrset.observed import Observed
from netns_tools.addrset.record import Record, record_path
from netns_tools.kernel import netns, nftset
from netns_tools.kernel.nftmonitor import NftMonitor
from netns_tools.kernel.nftset import Nft
from netns_tools.names import HOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.host.journal import Journal
    from netns_tools.paths import Paths


def purge(name: str, paths: Paths, journal: Journal) -> list[str]:
    """Empty the sets that the daemon of NAME filled of what is ours, and remove its own sets and table.

    Returns what had to stay, as lines for a person. The caller holds the daemon's lock.
    Raises ``NetnsToolsError``.
    """
    if name != HOST and not os.path.exists(f"{paths.netns}/{name}"):
        # The sets went with the namespace; what is left is what we wrote about them.
        Record(record_path(name, paths), 0).remove()
        return []
    netns.enter(name, paths)
    record = Record(record_path(name, paths), netns.cookie())
    record.load()
    filled = record.sets()
    nft = Nft()
    monitor = NftMonitor()
    engine = Engine(nft, monitor, record, Observed(), journal)
    engine.forget_all()
    engine.reconcile()
    monitor.close()
    left = [f"our elements in set {id}: {engine.last_error or 'see above'}" for id in record.sets()]
    family, table = "inet", f"netns_addrset_{name}"
    for id in filled:
        if (id.family, id.table) == (family, table):
            left += _try(nft, journal, nftset.delete_set(id), f"set {id}")
    others = nft.table_content(family, table)
    if others == []:
        left += _try(nft, journal, nftset.delete_table(family, table), f"table {family} {table}")
    elif others:
        left.append(f"table {family} {table}, because there is something else in it: {', '.join(others)}")
    if not left:
        record.remove()
    return left


def _try(nft: Nft, journal: Journal, command: dict[str, object], what: str) -> list[str]:
    try:
        nft.apply([command])
        journal.info(nftset.render(command))
    except nftset.NftError as error:
        return [] if error.errno == "missing" else [f"{what}: {error.message}"]
    return []
