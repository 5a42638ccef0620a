"""Which containers there are, and where each can be reached. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from netns_tools.host.docker import Container


def find(reference: str, containers: Mapping[str, Container]) -> Container | None:
    """The container that Docker means by a text: its id, its name, the beginning of one id alone."""
    if reference in containers:
        return containers[reference]
    if not reference:
        return None
    named = [container for container in containers.values() if container.name == reference]
    begins = named or [container for id, container in containers.items() if id.startswith(reference)]
    return begins[0] if len(begins) == 1 else None


def network_owner(container: Container, containers: Mapping[str, Container]) -> Container | None:
    """The container whose network namespace this one is in; None when that is the host's, or gone."""
    passed = set()
    while container.network_mode.startswith("container:"):
        passed.add(container.id)
        found = find(container.network_mode.removeprefix("container:"), containers)
        if found is None or found.id in passed:
            return None
        container = found
    return None if container.network_mode == "host" else container
