"""What each set should hold: configuration and observations → elements. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from netns_tools.addrset.containers import container_addresses
from netns_tools.kernel.nftset import SetId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.addrset.config import Settings, Zone
    from netns_tools.addrset.observed import Observed
    from netns_tools.host.docker import Container


@dataclass(frozen=True)
class Target:
    """One set that a zone fills; ``family`` is that of its addresses, 4 or 6."""

    id: SetId
    zone: Zone
    family: int

    @property
    def type(self) -> str:
        """The type that the set must have (nft(8))."""
        return f"ipv{self.family}_addr"


@dataclass(frozen=True)
class Wanted:
    """Elements that a set should hold.

    ``complete`` is False as long as a part cannot be known (Docker has not answered yet): then
    nothing that we put there before is taken out.
    """

    elements: frozenset[str]
    complete: bool = True


def targets_of(settings: Settings) -> list[Target]:
    """Every set of the configuration."""
    found = []
    for zone in settings.zones:
        for family, name in ((4, zone.set4), (6, zone.set6)):
            found.append(Target(SetId(zone.family, zone.table, name), zone, family))
    return found


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether a link's name is one of these, or fits one of these globs."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def links_of(zone: Zone, observed: Observed) -> list[int]:
    """Indexes of the links whose addresses count for a zone."""
    chosen = observed.chosen.get(zone.interfaces)
    if chosen is None:
        chosen = [link.index for link in observed.links.values() if matches(zone.interfaces, link.name)]
        observed.chosen[zone.interfaces] = chosen
    if not zone.require_up:
        return chosen
    return [index for index in chosen if observed.links[index].up]


def wanted(target: Target, observed: Observed, containers: tuple[Container, ...] | None) -> Wanted:
    """What a set should hold; ``containers`` is None as long as nobody knows them."""
    zone = target.zone
    ask = observed.networks if zone.networks else observed.hosts
    indexes = links_of(zone, observed)
    sources = [ask(index, target.family, temporary=zone.temporary) for index in indexes]
    complete = True
    if zone.containers:
        complete = containers is not None
        both = container_addresses(containers or (), zone.containers)
        sources.append(both[0] if target.family == 4 else both[1])
    return Wanted(frozenset().union(*sources), complete)
