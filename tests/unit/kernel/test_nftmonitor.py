"""Messages of nftables: which table they are about; garbage is skipped."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from netns_tools.kernel.netlink import attribute
from netns_tools.kernel.nftmonitor import Seen, look

NEWTABLE, NEWCHAIN, NEWRULE, NEWSETELEM, DELSETELEM, NEWGEN = 0, 3, 6, 12, 14, 15
INET, IP6 = 1, 10


def message(kind: int, family: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BBH", family, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), 10 << 8 | kind, 0, 0, 99) + body


def table(name: str) -> bytes:
    return attribute(1, name.encode() + b"\0")


def element(name: str, number: int = 0) -> bytes:
    return attribute(2, name.encode() + b"\0") + attribute(3, struct.pack("=I", number))


def seen(*parts: bytes) -> Seen:
    return look(b"".join(parts), Seen(set(), 0, False))


def test_tables_and_generations() -> None:
    assert seen(
        message(NEWTABLE, INET, table("filter")),
        message(NEWSETELEM, IP6, table("six"), element("s")),
        message(NEWGEN, 0, attribute(1, b"\0\0\0\1")),
    ) == Seen({("inet", "filter"), ("ip6", "six")}, 1, False)


def test_rules_and_chains_are_ignored() -> None:
    assert (
        seen(message(NEWCHAIN, INET, table("filter")), message(NEWRULE, INET, table("filter"))).tables
        == set()
    )


def test_elements_of_several_tables_in_one_transaction() -> None:
    parts = [message(NEWSETELEM, INET, table("a"), element("s", n)) for n in range(3)]
    parts += [message(DELSETELEM, INET, table("ab"), element("s", n)) for n in range(3)]
    parts += [message(DELSETELEM, IP6, table("ab"), element("s", n)) for n in range(3)]
    assert seen(*parts).tables == {("inet", "a"), ("inet", "ab"), ("ip6", "ab")}


def test_messages_of_other_subsystems_are_ignored() -> None:
    data = bytearray(message(NEWTABLE, INET, table("filter")))
    struct.pack_into("=H", data, 4, 1 << 8)
    assert seen(bytes(data)).tables == set()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([NEWTABLE, NEWSETELEM, DELSETELEM]),
            st.sampled_from([INET, IP6]),
            st.text("ab", min_size=1, max_size=5),
        )
    )
)
@example([(NEWSETELEM, INET, "a"), (NEWSETELEM, INET, "aa"), (NEWSETELEM, INET, "a")])
def test_no_table_is_missed(changes: list[tuple[int, int, str]]) -> None:
    parts = [message(kind, family, table(name), element("s")) for kind, family, name in changes]
    names = {INET: "inet", IP6: "ip6"}
    assert seen(*parts).tables == {(names[family], name) for _kind, family, name in changes}


@given(st.binary(max_size=200), st.integers(0, 20), st.binary(max_size=60), st.integers(0, 100))
def test_garbage_raises_nothing(garbage: bytes, kind: int, body: bytes, cut: int) -> None:
    seen(garbage)
    seen((message(kind, INET, body) + garbage)[:cut])
