"""Whatever the configuration, the units have no ordering cycle."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netns_tools.config.nstype import NsType
from netns_tools.names import name_unit, outside_unit, unit
from netns_tools.units import dropins, order, typeunits
from netns_tools.units.facts import Facts

NAMES = ("a", "b", "c")


def make_type(name: str, kind: str, *requires: str) -> NsType:
    nstype = NsType(name, kind, f"/{name}.yaml")
    nstype.requires = list(requires)
    return nstype


SHIPPED = [
    make_type("lo", "loopback"),
    make_type("nft", "firewall", "lo"),
    make_type("veth", "link"),
    make_type("macvlan", "link"),
]
# As an administrator may replace or add to them.
OWN = [make_type("lo", "bash"), make_type("nft", "bash"), make_type("own", "commands", "lo", "veth")]

own_types = st.sets(st.sampled_from(range(len(OWN)))).map(lambda chosen: [OWN[i] for i in sorted(chosen)])
some_facts = st.builds(
    Facts,
    order=st.sampled_from(["before", "after", "online", "none"]),
    namespaces=st.lists(st.sampled_from(NAMES), unique=True, max_size=2).map(tuple),
    devices=st.just(("eth0",)),
    sources=st.just(()),
)
all_keys = [(nstype, name) for nstype in ("lo", "nft", "veth", "macvlan", "own") for name in NAMES]
configurations = st.dictionaries(st.sampled_from(all_keys), some_facts)

# How systemd orders its own targets (systemd.special(7)).
TARGETS = {
    "network.target": ["network-pre.target"],
    "network-online.target": ["network.target"],
    "multi-user.target": ["network.target"],
}


def predecessors(types: dict[str, NsType], facts: dict[tuple[str, str], Facts]) -> dict[str, set[str]]:
    """Unit → units that systemd starts before it, from After= and Before= of all that is rendered."""
    before: dict[str, set[str]] = {target: set(earlier) for target, earlier in TARGETS.items()}
    waiting = {name: typeunits.waits_for_firewall(nstype, types) for name, nstype in types.items()}
    requires = {name: typeunits.requirements(nstype) for name, nstype in types.items()}
    late = order.late_ones(facts, requires, waiting)

    def add(one: str, context: dict[str, str | list[str]], *, implied: list[str], name: str) -> None:
        for key in ("after", "requires"):
            for other in context.get(key, []):
                before.setdefault(one, set()).add(other.replace("%i", name))
        for other in context.get("before", []):
            before.setdefault(other.replace("%i", name), set()).add(one)
        before.setdefault(one, set()).update(implied)

    for nstype, name in [(nstype, name) for nstype in types for name in NAMES]:
        inside, outside = unit(nstype, name), outside_unit(nstype, name)
        add(inside, typeunits.inside_context(types[nstype], types, ""), implied=[outside], name=name)
        add(outside, typeunits.outside_context(types[nstype], types, "") | {"requires": []},
            implied=[name_unit(name), "network-pre.target"], name=name)  # fmt: skip
        known = facts.get((nstype, name))
        if known is not None:
            waits = waiting[nstype]
            is_late = (nstype, name) in late
            add(inside, dropins.inside_dropin(nstype, name, known, late=is_late, waits=waits, files=[]),
                implied=[], name=name)  # fmt: skip
            add(outside, dropins.outside_dropin(nstype, name, known, waits=waits, udev=True, running=None),
                implied=[], name=name)  # fmt: skip
            before.setdefault("multi-user.target", set()).add(inside)
    return before


def cycle(before: dict[str, set[str]]) -> list[str]:
    """A cycle, if there is one."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        for earlier in sorted(before.get(node, ())):
            if earlier == node:
                continue  # systemd drops a dependency of a unit on itself
            found = visit(earlier, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    for node in sorted(before):
        found = visit(node, [])
        if found:
            return found
    return []


@settings(max_examples=300, deadline=None)
@given(own_types, configurations)
def test_no_cycle(own: list[NsType], facts: dict[tuple[str, str], Facts]) -> None:
    types = {nstype.name: nstype for nstype in [*SHIPPED, *own]}
    known = {key: value for key, value in facts.items() if key[0] in types}
    assert not cycle(predecessors(types, known))


def test_only_what_must_is_late() -> None:
    types = {nstype.name: nstype for nstype in [*SHIPPED, make_type("own", "commands")]}
    early = Facts("before", (), (), ())
    facts = {
        ("veth", "a"): Facts("online", ("b",), (), ()),
        ("nft", "a"): early,
        ("lo", "a"): early,
        ("macvlan", "b"): early,
        ("own", "c"): Facts("online", (), (), ()),
        ("nft", "c"): early,
        ("macvlan", "c"): early,
    }
    waiting = {name: typeunits.waits_for_firewall(nstype, types) for name, nstype in types.items()}
    late = order.late_ones(facts, {name: typeunits.requirements(t) for name, t in types.items()}, waiting)
    # The firewall loads before links, and after the outside step of an own type; so do links then.
    assert late & facts.keys() == {("veth", "a"), ("own", "c"), ("nft", "c"), ("macvlan", "c")}
