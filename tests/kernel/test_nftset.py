"""Sets of real nftables: read as they are, changed as one, every change by others heard of."""

from __future__ import annotations

import os
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import nftset
from netns_tools.kernel.nftmonitor import NftMonitor, Seen
from netns_tools.kernel.nftset import LiveSet, Nft, NftError, SetId
from tests.kernel.isolated import isolated, nft

MANY = [f"10.{n >> 8}.{n & 255}.1" for n in range(10_000)]

RULES = """
table inet filter {
  set plain { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
  set six { type ipv6_addr; elements = { 2001:db8::1, ::ffff:192.0.2.1 }; }
  set ranges { type ipv4_addr; flags interval; elements = { 10.0.0.0/24, 10.1.0.5-10.1.0.9, 10.2.0.1 }; }
  set merged { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/24, 10.0.1.0/24 }; }
  set like { typeof ip saddr; }
  set like6 { typeof ip6 daddr; }
  set noted {
    type ipv4_addr; counter;
    elements = { 192.0.2.1 counter packets 5 bytes 100 comment "front; door" };
  }
  set notedranges {
    type ipv4_addr; flags interval; counter;
    elements = { 10.0.0.0/24 counter packets 7 bytes 700 comment "lan" };
  }
  set times { type ipv4_addr; flags timeout; timeout 1h; elements = { 192.0.2.1, 192.0.2.2 timeout 5m }; }
  set caught { type ipv4_addr; flags dynamic, timeout; size 100; timeout 60s; }
  set fixed { type ipv4_addr; flags constant; elements = { 192.0.2.1 }; }
  set limited { type ipv4_addr; size 2; elements = { 192.0.2.1, 192.0.2.2 }; }
  set pair { type ipv4_addr . inet_service; elements = { 192.0.2.1 . 80 }; }
  set any { type ipv4_addr; elements = { 192.0.2.1, * comment "rest" }; }
  set names { type ifname; elements = { "eth0" }; }
  map ports { type ipv4_addr : inet_service; elements = { 192.0.2.1 : 80 }; }
}
table ip filter {
  flags dormant;
  set plain { type ipv4_addr; elements = { 203.0.113.1 }; }
}
"""


def named(name: str, table: str = "filter", family: str = "inet") -> SetId:
    return SetId(family, table, name)


def read(tool: Nft, id: SetId) -> LiveSet:
    found = tool.read(id)
    assert found is not None
    return found


def texts(tool: Nft, id: SetId) -> set[str]:
    return set(read(tool, id).elements)


@contextmanager
def monitoring() -> Iterator[NftMonitor]:
    monitor = NftMonitor()
    try:
        yield monitor
    finally:
        monitor.close()


@isolated
def test_every_kind_of_set() -> None:
    nft(RULES)
    tool = Nft()

    def facts(name: str) -> tuple[str, set[str], set[str]]:
        found = read(tool, named(name))
        return found.type, set(found.flags), set(found.elements)

    assert facts("plain") == ("ipv4_addr", set(), {"192.0.2.1", "192.0.2.2"})
    assert facts("six") == ("ipv6_addr", set(), {"2001:db8::1", "::ffff:192.0.2.1"})
    assert facts("ranges") == ("ipv4_addr", {"interval"}, {"10.0.0.0/24", "10.1.0.5-10.1.0.9", "10.2.0.1"})
    assert facts("merged") == ("ipv4_addr", {"interval"}, {"10.0.0.0/23"})
    assert facts("like") == ("ipv4_addr", set(), set())
    assert facts("like6") == ("ipv6_addr", set(), set())
    assert facts("noted") == ("ipv4_addr", set(), {"192.0.2.1"})
    assert facts("times") == ("ipv4_addr", {"timeout"}, {"192.0.2.1", "192.0.2.2"})
    assert facts("caught") == ("ipv4_addr", {"timeout", "dynamic"}, set())
    assert facts("fixed") == ("ipv4_addr", {"constant"}, {"192.0.2.1"})
    assert facts("pair") == ("ipv4_addr . inet_service", set(), {"192.0.2.1 . 80"})
    assert facts("any") == ("ipv4_addr", set(), {"192.0.2.1", "*"})
    assert facts("names") == ("ifname", set(), {"eth0"})
    assert facts("ports") == ("map", {"map"}, set())
    assert [name for name in ("plain", "ranges", "merged") if read(tool, named(name)).auto_merge] == [
        "merged"
    ]
    assert (read(tool, named("limited")).size, read(tool, named("plain")).size) == (2, 0)


@isolated
def test_tables_of_other_families_are_other_tables() -> None:
    nft(RULES)
    tool = Nft()
    found = read(tool, named("plain", family="ip"))
    assert set(found.elements) == {"203.0.113.1"}
    assert found.table_flags == {"dormant"}
    assert read(tool, named("plain")).table_flags == set()


@isolated
def test_what_is_missing() -> None:
    tool = Nft()
    assert tool.read(named("plain")) is None
    nft("table inet filter {\n}\n")
    assert tool.read(named("plain")) is None
    nft(RULES)
    assert tool.read(named("plain")) is not None
    assert tool.read(named("plain", family="ip6")) is None
    with pytest.raises(NetnsToolsError, match="no family"):
        tool.read(named("plain", family="inte"))
    for id in (named("nowhere"), named("plain", table="nowhere")):
        with pytest.raises(NftError) as caught:
            tool.apply([nftset.add_elements(id, ["192.0.2.9"])])
        assert caught.value.errno == "missing"


@isolated
def test_a_set_made_anew_has_other_handles() -> None:
    tool, seen = Nft(), set()
    for table in ("filter", "filter", "other"):
        nft(f"table inet {table} {{\n set plain {{ type ipv4_addr; }}\n}}\n")
        seen.add(read(tool, named("plain", table)).handles)
        nft(f"delete set inet {table} plain; add set inet {table} plain {{ type ipv4_addr; }}")
        seen.add(read(tool, named("plain", table)).handles)
        again = read(tool, named("plain", table)).handles
        assert again in seen
        nft("flush ruleset")
    assert len(seen) == 6


@isolated
def test_one_transaction_or_nothing() -> None:
    nft(RULES)
    tool = Nft()
    good = nftset.add_elements(named("plain"), ["192.0.2.7"])
    with pytest.raises(NftError, match="nft: ") as caught:
        tool.apply([good, nftset.add_elements(named("limited"), ["192.0.2.8"])])
    assert caught.value.errno == "full"
    assert "size" in caught.value.hint
    assert texts(tool, named("plain")) == {"192.0.2.1", "192.0.2.2"}
    tool.apply([good, *nftset.delete_elements(named("plain"), ["192.0.2.1"])])
    assert texts(tool, named("plain")) == {"192.0.2.7", "192.0.2.2"}
    tool.apply([])


@isolated
def test_deleting_what_has_vanished() -> None:
    nft(RULES)
    tool = Nft()
    tool.apply(nftset.delete_elements(named("plain"), ["192.0.2.1", "192.0.2.77"]))
    assert texts(tool, named("plain")) == {"192.0.2.2"}
    tool.apply(nftset.delete_elements(named("noted"), ["192.0.2.1"]))
    assert texts(tool, named("noted")) == set()


@isolated
def test_intervals_are_written_as_a_whole() -> None:
    nft(RULES)
    tool = Nft()
    for name in ("ranges", "merged"):
        tool.apply(
            [
                nftset.flush_set(named(name)),
                nftset.add_elements(
                    named(name), ["192.0.2.1", "10.9.0.0/16", "10.1.0.1-10.1.0.6", "0.0.0.0/8"]
                ),
            ]
        )
        assert texts(tool, named(name)) == {"192.0.2.1", "10.9.0.0/16", "10.1.0.1-10.1.0.6", "0.0.0.0/8"}
    with pytest.raises(NftError) as caught:
        tool.apply([nftset.add_elements(named("ranges"), ["10.9.9.9"])])
    assert caught.value.errno == "exists"
    tool.apply([nftset.flush_set(named("ranges")), nftset.add_elements(named("ranges"), ["0.0.0.0/0"])])
    assert texts(tool, named("ranges")) == {"0.0.0.0/0"}


@isolated
def test_elements_of_others_are_written_back_as_they_were() -> None:
    nft(RULES)
    nft('add element inet filter notedranges { 10.3.0.0/24 comment "back\\slash" }')
    tool = Nft()
    for name in ("noted", "notedranges", "any"):
        before = read(tool, named(name)).elements
        added = [*before.items(), ("192.0.2.99", "192.0.2.99")]
        tool.apply([nftset.flush_set(named(name)), nftset.add_raw_elements(named(name), added)])
        after = read(tool, named(name)).elements
        assert after.pop("192.0.2.99")
        if name == "notedranges":  # such a comment cannot be written as text, and JSON loses counters
            comments = {text: raw["elem"]["comment"] for text, raw in after.items() if isinstance(raw, dict)}
            assert comments == {"10.0.0.0/24": "lan", "10.3.0.0/24": "back\\slash"}
        else:
            assert after == before
    nft(RULES.replace("table", "delete table inet filter; delete table ip filter; table", 1))
    before = read(tool, named("notedranges")).elements
    add = nftset.add_raw_elements(named("notedranges"), before.items())
    tool.apply([nftset.flush_set(named("notedranges")), add])
    after = read(tool, named("notedranges")).elements
    assert after == before
    assert '"packets": 7' in str(after).replace("'", '"')


@isolated
def test_a_comment_that_is_not_utf8_harms_nobody() -> None:
    nft("table inet filter {\n set plain { type ipv4_addr; }\n}\n")
    command = b'add element inet filter plain { 192.0.2.1 comment "\xff\xfe", 192.0.2.2 }'
    subprocess.run(["nft", "-f", "-"], input=command, check=True, timeout=20)
    assert texts(Nft(), named("plain")) == {"192.0.2.1", "192.0.2.2"}


@isolated
def test_a_table_of_its_own() -> None:
    tool = Nft()
    id = named("wan_ips", "netns_addrset_blue")
    commands = [
        nftset.add_table(id.family, id.table),
        nftset.add_set(id, "ipv4_addr", ["interval"]),
        nftset.add_elements(id, ["10.0.0.0/24"]),
    ]
    tool.apply(commands)
    tool.apply(commands)  # there already
    assert texts(tool, id) == {"10.0.0.0/24"}
    with pytest.raises(NftError) as caught:
        tool.apply([nftset.add_set(id, "ipv4_addr")])
    assert caught.value.errno == "exists"
    nft(f"table inet {id.table} {{\n chain c {{\n ip saddr @wan_ips drop;\n }}\n}}\n")
    with pytest.raises(NftError) as caught:
        tool.apply([nftset.delete_set(id)])
    assert caught.value.errno == "busy"
    tool.apply([nftset.delete_table(id.family, id.table)])
    assert tool.read(id) is None


@isolated
def test_the_rendered_lines_do_what_the_commands_do() -> None:
    tool = Nft()
    id = named("lan", "mine")
    commands = [
        nftset.add_table(id.family, id.table),
        nftset.add_set(id, "ipv4_addr", ["interval"]),
        nftset.flush_set(id),
        nftset.add_elements(id, ["10.0.0.0/24", "10.1.0.1-10.1.0.9", "192.0.2.1"]),
    ]
    nft("\n".join(map(nftset.render, commands)))
    assert texts(tool, id) == {"10.0.0.0/24", "10.1.0.1-10.1.0.9", "192.0.2.1"}
    nft("\n".join(map(nftset.render, [nftset.delete_set(id), nftset.delete_table("inet", "mine")])))
    assert tool.read(id) is None


@isolated
def test_a_table_with_an_owner() -> None:
    with subprocess.Popen(
        ["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdin is not None
        with monitoring() as monitor:
            owner.stdin.write("add table inet own { flags owner; }\nadd set inet own s { type ipv4_addr; }\n")
            owner.stdin.flush()
            seen = 0
            while seen < 2:
                assert select.select([monitor.fileno()], [], [], 10)[0]
                seen += monitor.read().generations
        tool = Nft()
        assert read(tool, named("s", "own")).table_flags == {"owner"}
        with pytest.raises(NftError) as caught:
            tool.apply([nftset.add_elements(named("s", "own"), ["192.0.2.1"])])
        assert caught.value.errno == "permission"
        assert "owner" in caught.value.hint
        owner.stdin.close()


@isolated
def test_without_rights() -> None:
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
    with pytest.raises(NetnsToolsError) as caught:
        Nft().read(named("plain"))
    assert "root" in caught.value.hint


@isolated
def test_names_are_never_looked_up() -> None:
    with pytest.raises(ValueError, match="no numeric address"):
        Nft().apply([nftset.add_elements(named("plain"), ["localhost"])])


@isolated
def test_a_name_that_the_grammar_would_take_for_a_word() -> None:
    """Only JSON can write it, counters or not."""
    tool = Nft()
    id = named("set", "counter")
    tool.apply([nftset.add_table("inet", "counter"), nftset.add_set(id, "ipv4_addr")])
    raw = {"elem": {"val": "192.0.2.1", "counter": {"packets": 1, "bytes": 1}}}
    tool.apply([nftset.add_raw_elements(id, [("192.0.2.1", raw)])])
    assert texts(tool, id) == {"192.0.2.1"}


@isolated
def test_our_own_transaction_is_one_generation_right_after_it() -> None:
    nft(RULES)
    tool = Nft()
    with monitoring() as monitor:
        for n in range(200):
            monitor.read()
            tool.apply(
                [
                    nftset.add_elements(named("plain"), [f"198.51.100.{n}"]),
                    *nftset.delete_elements(named("limited"), ["192.0.2.1" if n % 2 else "192.0.2.2"]),
                    nftset.flush_set(named("limited")),
                    nftset.add_elements(named("limited"), ["192.0.2.1", "192.0.2.2"]),
                ]
            )
            assert monitor.read() == Seen({("inet", "filter")}, 1, False)
        assert monitor.read() == Seen(set(), 0, False)
        # What changes nothing, or fails, is no generation; reading is none either.
        tool.apply([nftset.add_elements(named("plain"), ["198.51.100.1"])])
        with pytest.raises(NftError):
            tool.apply(
                [nftset.add_elements(named("plain"), ["198.51.100.201"]), nftset.flush_set(named("no"))]
            )
        tool.read(named("plain"))
        assert monitor.read() == Seen(set(), 0, False)


@isolated
def test_a_large_transaction_is_one_generation() -> None:
    nft(RULES)
    tool = Nft()
    with monitoring() as monitor:
        tool.apply([nftset.add_elements(named("plain"), MANY)])
        began = time.process_time()
        assert monitor.read() == Seen({("inet", "filter")}, 1, False)
        assert time.process_time() - began < 0.2


@isolated
def test_what_others_do_is_seen() -> None:
    both = {("inet", "filter"), ("ip", "filter")}
    with monitoring() as monitor:
        nft(RULES)
        assert monitor.read() == Seen(both, 1, False)
        nft("add element inet filter plain { 192.0.2.50 }")
        assert monitor.read() == Seen({("inet", "filter")}, 1, False)
        nft("delete element ip filter plain { 203.0.113.1 }")
        assert monitor.read() == Seen({("ip", "filter")}, 1, False)
        nft("flush set inet filter plain")
        assert monitor.read() == Seen({("inet", "filter")}, 1, False)
        nft("delete set inet filter plain")
        assert monitor.read() == Seen({("inet", "filter")}, 1, False)
        nft("add chain inet filter c; add rule inet filter c accept")
        assert monitor.read() == Seen(set(), 1, False)
        nft("flush ruleset")
        assert monitor.read() == Seen(both, 1, False)
        nft(RULES)
        nft(f"flush ruleset\n{RULES}")
        assert monitor.read() == Seen(both, 2, False)


@isolated
def test_lost_messages_are_reported_and_the_monitor_goes_on() -> None:
    nft(RULES)
    tool = Nft()
    with monitoring() as monitor:
        with socket.socket(fileno=os.dup(monitor.fileno())) as events:
            events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for n in range(200):
            tool.apply([nftset.add_elements(named("plain", family="ip"), [MANY[n]])])
        assert monitor.read().lost
        # At once: the kernel queues again only when all of the old has been read.
        tool.apply([nftset.flush_set(named("limited"))])
        assert monitor.read() == Seen({("inet", "filter")}, 1, False)


@isolated
def test_a_set_that_is_remade_while_it_is_read_is_read_whole() -> None:
    nft("table inet filter {\n set plain { type ipv4_addr; elements = { 192.0.2.1 }; }\n}\n")
    one, two = (
        "{ type ipv4_addr; elements = { 192.0.2.1 }; }",
        "{ type ipv6_addr; elements = { 2001:db8::1 }; }",
    )
    table, only_set = "delete table inet filter; add table inet filter;", "delete set inet filter plain;"
    script = "".join(
        f"{remove} add set inet filter plain {body}\n"
        for _ in range(200)
        for remove in (table, only_set)
        for body in (one, two)
    )
    tool, seen = Nft(), set()
    with subprocess.Popen(
        ["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as other:
        assert other.stdin is not None
        other.stdin.write(script)
        other.stdin.close()
        while other.poll() is None:
            with suppress(NetnsToolsError):  # "it is made anew all the time"
                found = read(tool, named("plain"))
                seen.add((found.type, *found.elements))
    assert seen <= {("ipv4_addr", "192.0.2.1"), ("ipv6_addr", "2001:db8::1")}
    assert len(seen) == 2


@isolated
def test_one_context_serves_for_long() -> None:
    """20,000 transactions and 2,000 reads leave no memory behind."""
    nft(RULES)
    tool = Nft()

    def work(count: int) -> None:
        for n in range(count):
            address = f"198.51.100.{n % 200}"
            tool.apply(
                [nftset.add_elements(named("plain"), [address])]
                if n % 2
                else nftset.delete_elements(named("plain"), [address])
            )
            if n % 10 == 0:
                tool.read(named("plain"))

    work(2000)
    before = resident()
    work(20_000)
    assert resident() - before < 1024, "KiB grew"


def resident() -> int:
    """Resident memory in KiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@isolated
def test_large_sets_are_fast() -> None:
    nft(RULES.replace("plain", "small"))
    nft("add set inet filter plain { type ipv4_addr; }")
    tool = Nft()

    def took(count: int, commands: list[list[dict[str, object]]]) -> float:
        times = []
        for n in range(count):
            began = time.perf_counter()
            tool.apply(commands[n % len(commands)])
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    bulk = took(1, [[nftset.add_elements(named("plain"), MANY)]])
    add, delete = (
        [nftset.add_elements(named("plain"), ["198.51.100.1"])],
        nftset.delete_elements(named("plain"), ["198.51.100.1"]),
    )
    single = took(100, [add, delete])
    began = time.perf_counter()
    assert len(read(tool, named("plain")).elements) == 10_000
    whole = time.perf_counter() - began
    assert single < 0.002, f"one element took {single * 1000:.2f} ms"
    assert bulk < 0.5, f"10,000 elements took {bulk * 1000:.0f} ms"
    assert whole < 0.2, f"reading 10,000 elements took {whole * 1000:.0f} ms"
