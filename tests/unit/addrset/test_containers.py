"""Selectors and containers → addresses."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.addrset.config import Selector
from netns_tools.addrset.containers import container_addresses
from netns_tools.host.docker import Container

FRONT = ("front", "10.1.0.2", "")
BACK = ("back", "10.2.0.2", "fd00:2::2")


def container(name: str, *networks: tuple[str, str, str], mode: str = "front", **labels: str) -> Container:
    """A running container; its id is made of its name."""
    return Container(
        id=(name.encode().hex() * 64)[:64],
        name=name,
        labels=tuple(sorted((key.replace("_", "."), value) for key, value in labels.items())),
        running=True,
        network_mode=mode,
        networks=networks,
    )


WEB = container("web", FRONT, BACK, role="edge", com_docker_compose_project="shop")
WEB_1 = container("web-1", ("front", "10.1.0.3", ""), role="core")
WEB_10 = container("web-10", ("front", "10.1.0.4", ""), role="core", com_docker_compose_project="shop2")
ALL = (WEB, WEB_1, WEB_10)


def chosen(*containers: Container, **selector: object) -> set[str]:
    """All addresses that one selector chooses."""
    v4, v6 = container_addresses(containers, (Selector(**selector),))  # type: ignore[arg-type]
    assert all(":" in address for address in v6)
    assert all(":" not in address for address in v4)
    return set(v4 | v6)


@pytest.mark.parametrize(
    ("selector", "addresses"),
    [
        ({"label": ("role", "edge")}, {"10.1.0.2", "10.2.0.2", "fd00:2::2"}),
        ({"label": ("role", "core")}, {"10.1.0.3", "10.1.0.4"}),
        ({"label": ("role", None)}, {"10.1.0.2", "10.2.0.2", "fd00:2::2", "10.1.0.3", "10.1.0.4"}),
        ({"label": ("role", "")}, set()),
        ({"label": ("rol", None)}, set()),
        ({"name": "web-1"}, {"10.1.0.3"}),
        ({"name": "web-1*"}, {"10.1.0.3", "10.1.0.4"}),
        ({"name": "web-?"}, {"10.1.0.3"}),
        ({"name": "WEB-1"}, set()),
        ({"network": "back"}, {"10.2.0.2", "fd00:2::2"}),
        ({"network": "bac"}, set()),
        ({"network": "front", "name": "web"}, {"10.1.0.2"}),
        ({"compose_project": "shop"}, {"10.1.0.2", "10.2.0.2", "fd00:2::2"}),
        ({"compose_project": "shop", "name": "web-*"}, set()),
        ({"compose_project": "shop2", "label": ("role", "core")}, {"10.1.0.4"}),
    ],
)
def test_all_that_a_selector_says_must_be_true(selector: dict[str, object], addresses: set[str]) -> None:
    assert chosen(*ALL, **selector) == addresses


def test_selectors_are_alternatives() -> None:
    selectors = (Selector(name="web-1"), Selector(network="back"))
    v4, v6 = container_addresses(ALL, selectors)
    assert v4 == {"10.1.0.3", "10.2.0.2"}
    assert v6 == {"fd00:2::2"}
    nothing: frozenset[str] = frozenset()
    assert container_addresses(ALL, ()) == (nothing, nothing)
    assert container_addresses((), selectors) == (nothing, nothing)


def test_a_container_that_does_not_run_has_none() -> None:
    stopped = dataclasses.replace(WEB, running=False)
    assert chosen(stopped, name="web") == set()
    assert chosen(stopped, container("side", mode=f"container:{WEB.id}"), name="side") == set()


def test_host_mode_has_none() -> None:
    host = container("in-host", ("host", "", ""), mode="host")
    assert chosen(host, name="in-host") == set()
    # Not even when a list should show some: they are the host's.
    shown = container("in-host", ("host", "192.0.2.1", ""), mode="host")
    assert chosen(shown, name="in-host") == set()
    assert chosen(shown, container("side", mode="container:in-host"), name="side") == set()


@pytest.mark.parametrize("reference", [WEB.id, "web", WEB.id[:12]])
def test_a_container_in_anothers_namespace_has_its_addresses(reference: str) -> None:
    side = container("side", mode=f"container:{reference}", role="side")
    everything = (side, *ALL)
    assert chosen(*everything, name="side") == {"10.1.0.2", "10.2.0.2", "fd00:2::2"}
    assert chosen(*everything, label=("role", "side"), network="back") == {"10.2.0.2", "fd00:2::2"}
    # Its label is its own: that of the other chooses nothing here.
    assert chosen(side, WEB_1, label=("role", "edge")) == set()


def test_namespaces_shared_in_a_row_and_in_a_circle() -> None:
    first, second = container("first", mode="container:second"), container("second", mode="container:web")
    assert chosen(first, second, *ALL, name="first") == {"10.1.0.2", "10.2.0.2", "fd00:2::2"}
    circle = dataclasses.replace(second, network_mode="container:first")
    assert chosen(first, circle, name="first") == set()
    itself = container("self", FRONT, mode="container:self")
    assert chosen(itself, name="self") == set()


@pytest.mark.parametrize("reference", ["", "gone", "7765", "web-"])
def test_a_reference_to_no_one_container_gives_nothing(reference: str) -> None:
    """7765 is how the ids of all three begin."""
    assert all(each.id.startswith("7765") for each in ALL)
    assert chosen(container("side", mode=f"container:{reference}"), *ALL, name="side") == set()


@given(
    st.lists(
        st.builds(
            container,
            st.sampled_from(["a", "b", "c", "d"]),
            st.sampled_from([FRONT, BACK, ("none", "", "")]),
            mode=st.sampled_from(["host", "front", *(f"container:{name}" for name in "abcde")]),
        )
    )
)
def test_any_web_of_references_ends(containers: list[Container]) -> None:
    v4, v6 = container_addresses(containers, (Selector(name="*"),))
    assert v4 <= {"10.1.0.2", "10.2.0.2"}
    assert v6 <= {"fd00:2::2"}
