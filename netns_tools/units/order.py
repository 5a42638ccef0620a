"""Boot order of instances against the network, without cycles. Pure.

An instance may ask to be up before network.target, while something that systemd
starts before it asks to come after the network: a veth, and the firewall of its
namespace, which is loaded before the veth is made. systemd would break that cycle
by dropping a job; we drop the first wish.
"""

from __future__ import annotations

from netns_tools.units.unitfile import FIREWALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from netns_tools.units.facts import Facts

    Node = tuple[str, str, str]

Key = tuple[str, str]

BEFORE = "before"
LATE = ("after", "online")


def late_ones(
    instances: Mapping[Key, Facts], requires: Mapping[str, Collection[str]], waiting: Mapping[str, str]
) -> set[Key]:
    """Instances whose inside step comes after the network by what they wait for.

    ``requires`` maps every type to the types it requires; ``waiting``: which step of
    a type comes after the firewall (``outside``, ``inside``, or neither).
    """
    starts: list[Node] = [("outside", *key) for key, facts in instances.items() if facts.order in LATE]
    if not starts:
        return set()
    edges = _edges(instances, requires, waiting)
    seen: set[Node] = set()
    while starts:
        node = starts.pop()
        if node not in seen:
            seen.add(node)
            starts.extend(edges.get(node, ()))
    return {(nstype, name) for side, nstype, name in seen if side == "inside"}


def _edges(
    instances: Mapping[Key, Facts], requires: Mapping[str, Collection[str]], waiting: Mapping[str, str]
) -> dict[Node, list[Node]]:
    """Which step comes directly before which."""
    edges: dict[Node, list[Node]] = {}

    def add(before: Node, after: Node) -> None:
        edges.setdefault(before, []).append(after)

    # Any type may be started in any of these namespaces, without configuration of its own.
    names = {name for _, name in instances} | {n for facts in instances.values() for n in facts.namespaces}
    for name in names:
        for nstype, required in requires.items():
            outside: Node = ("outside", nstype, name)
            inside: Node = ("inside", nstype, name)
            add(outside, inside)
            for other in required:
                add(("inside", other, name), inside)
                add(outside, ("outside", other, name))
            if waiting.get(nstype):
                known = instances.get((nstype, name))
                for namespace in [name, *(known.namespaces if known else ())]:
                    firewall: Node = ("inside", FIREWALL, namespace)
                    if waiting[nstype] == "outside":
                        add(firewall, outside)
                    else:
                        add(outside, firewall)
                        add(firewall, inside)
    return edges
