"""What is observed, against a plain reckoning of the same events; and what sets should hold by it."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from netns_tools.addrset.config import Selector, Zone
from netns_tools.addrset.observed import Observed
from netns_tools.addrset.wanted import Target, links_of, matches, wanted
from netns_tools.kernel.address import Address, Link
from netns_tools.kernel.nftset import SetId
from tests.unit.addrset.zones import WAN

UP, TENTATIVE, DADFAILED, TEMPORARY, DEPRECATED = 1, 0x40, 0x08, 0x01, 0x20


def v4(text: str, length: int = 24, *, index: int = 1, flags: int = 0, scope: int = 0) -> Address:
    return Address(index, 4, socket.inet_aton(text), length, flags, scope)


def v6(text: str, *, flags: int = 0, scope: int = 0) -> Address:
    return Address(1, 6, socket.inet_pton(socket.AF_INET6, text), 64, flags, scope)


ADDRESSES = st.builds(
    lambda host, length, index, flags, scope: v4(
        f"10.0.0.{host}", length, index=index, flags=flags, scope=scope
    ),
    st.integers(1, 4),
    st.sampled_from([24, 28]),
    st.integers(1, 2),
    st.sampled_from([0, TENTATIVE, DADFAILED, DEPRECATED]),
    st.sampled_from([0, 200, 253, 254]),
)


@given(st.lists(st.tuples(st.booleans(), ADDRESSES), max_size=30))
def test_counting_is_like_looking_at_all(events: list[tuple[bool, Address]]) -> None:
    observed = Observed()
    plain: dict[object, Address] = {}
    for gone, address in events:
        if gone:
            observed.drop_address(address)
            plain.pop(address.key, None)
        else:
            observed.put_address(address)
            plain[address.key] = address
    for index in (1, 2):
        usable = [a for a in plain.values() if a.ifindex == index and a.usable]
        assert set(observed.hosts(index, 4, temporary=False)) == {a.host for a in usable}
        assert set(observed.networks(index, 4, temporary=False)) == {a.network for a in usable}


def observed_with(*addresses: Address, links: tuple[Link, ...] = (Link(1, "wan0", UP),)) -> Observed:
    observed = Observed()
    observed.replace(links, addresses)
    return observed


def zone(**more: Any) -> Zone:
    return replace(WAN, **more)


def elements(observed: Observed, family: int, **more: Any) -> set[str]:
    target = Target(SetId("inet", "filter", "any"), zone(**more), family)
    return set(wanted(target, observed, ()).elements)


def test_what_counts() -> None:
    observed = observed_with(
        v4("192.0.2.1", flags=TEMPORARY),  # on IPv4 the bit means secondary
        v4("169.254.1.1", scope=253),
        v4("127.0.0.9", scope=254),
        v6("2001:db8::1"),
        v6("2001:db8::2", flags=TENTATIVE),
        v6("2001:db8::3", flags=DADFAILED),
        v6("2001:db8::4", flags=TEMPORARY),
        v6("2001:db8::5", flags=DEPRECATED),
        v6("fe80::1", scope=253),
    )
    assert elements(observed, 4) == {"192.0.2.1"}
    assert elements(observed, 6) == {"2001:db8::1", "2001:db8::5"}
    assert elements(observed, 6, temporary=True) == {"2001:db8::1", "2001:db8::4", "2001:db8::5"}
    assert elements(observed, 6, networks=True) == {"2001:db8::/64"}


def test_only_temporary_addresses() -> None:
    observed = observed_with(v6("2001:db8::4", flags=TEMPORARY))
    assert elements(observed, 6) == set()
    assert elements(observed, 6, temporary=True) == {"2001:db8::4"}


def test_the_other_end_is_never_meant() -> None:
    own = Address(1, 4, socket.inet_aton("10.9.9.1"), 32, 0, 0, socket.inet_aton("10.9.9.2"))
    observed = observed_with(own)
    assert elements(observed, 4) == {"10.9.9.1"}
    assert elements(observed, 4, networks=True) == {"10.9.9.1/32"}


def test_links() -> None:
    links = (Link(1, "wan0", UP), Link(2, "ppp0", 0), Link(3, "ppp1", UP), Link(4, "pppoe", UP))
    observed = observed_with(links=links)
    assert links_of(zone(interfaces=("ppp[0-9]",)), observed) == [2, 3]
    assert links_of(zone(interfaces=("ppp*", "wan0"), require_up=True), observed) == [1, 3, 4]
    assert matches(("a[b",), "a[b")  # a name that is no pattern is meant as it is


def test_containers_that_nobody_knows_yet() -> None:
    target = Target(SetId("inet", "filter", "any"), zone(containers=(Selector(name="web"),)), 4)
    assert not wanted(target, observed_with(), None).complete
    assert wanted(target, observed_with(), ()).complete


def test_a_pattern_follows_names_and_flags() -> None:
    """What fits is noted, and noted anew when a link comes, goes or is renamed."""
    one = zone(interfaces=("wan*",), require_up=True)
    observed = observed_with(links=(Link(1, "wan0", UP),))
    assert links_of(one, observed) == [1]
    observed.put_link(Link(2, "lan0", UP))
    assert links_of(one, observed) == [1]
    observed.put_link(Link(2, "wan1", UP))
    assert links_of(one, observed) == [1, 2]
    observed.put_link(Link(1, "wan0", 0))
    assert links_of(one, observed) == [2]
    observed.drop_link(2)
    assert links_of(one, observed) == []
    observed.replace([Link(3, "wan0", UP)], [])
    assert links_of(one, observed) == [3]


def test_hundreds_of_zones_and_links_cost_little() -> None:
    """A change of an address asks for the links of every zone, not whether each link fits each pattern."""
    links = tuple(Link(index, f"b{index}", UP) for index in range(1, 501))
    observed = observed_with(links=links)
    zones = [zone(interfaces=(f"b{number}", f"b{number}*")) for number in range(200)]

    def look() -> float:
        began = time.process_time()
        for one in zones:
            links_of(one, observed)
        return time.process_time() - began

    first = look()
    assert min(look() for _ in range(5)) < first / 20
