"""Which addresses of Docker's containers belong into a set. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from netns_tools.host.containers import network_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netns_tools.addrset.config import Selector
    from netns_tools.host.docker import Container

_COMPOSE_PROJECT = "com.docker.compose.project"


def container_addresses(
    containers: Iterable[Container], selectors: tuple[Selector, ...]
) -> tuple[frozenset[str], frozenset[str]]:
    """The IPv4 and the IPv6 addresses of all running containers that one of the selectors chooses.

    A container in mode ``container:X`` has X's addresses, one in host mode none.
    """
    running = {container.id: container for container in containers if container.running}
    v4: set[str] = set()
    v6: set[str] = set()
    for container in running.values():
        for selector in selectors:
            if not _chooses(selector, container):
                continue
            owner = network_owner(container, running)
            for network, address4, address6 in owner.networks if owner else ():
                if selector.network is None or network == selector.network:
                    v4.add(address4)
                    v6.add(address6)
    return frozenset(v4 - {""}), frozenset(v6 - {""})


def _chooses(selector: Selector, container: Container) -> bool:
    """Whether all that the selector says of the container itself is true."""
    if selector.label is not None:
        key, wanted = selector.label
        value = container.label(key)
        if value is None or wanted not in (None, value):
            return False
    if selector.name is not None and not fnmatchcase(container.name, selector.name):
        return False
    project = selector.compose_project
    return project is None or container.label(_COMPOSE_PROJECT) == project
