"""Tracked connections: exactly those of a mapping are forgotten, by the thousand in less than a second."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel.conntrack import Flows, delete_flows
from netns_tools.kernel.netlink import NETLINK_NETFILTER
from netns_tools.kernel.netlinkbatch import BatchRequester
from tests.kernel.isolated import ip, isolated, nft

HOSTS = {4: ("192.0.2.1", "10.0.0.1", "10.0.0.2"), 6: ("2001:db8::1", "fd00::1", "fd00::2")}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
TRACK = "table inet track { chain c { type filter hook output priority 0; ct state new counter; }; }"


def with_addresses() -> None:
    for host in (*HOSTS[4], "192.0.2.2"):
        ip(f"address add {host}/32 dev lo")
    for host in HOSTS[6]:
        ip(f"address add {host}/128 dev lo nodad")


def udp(host: str, port: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, port))
    made.settimeout(10)
    return made


@contextmanager
def client(source: str, *destinations: tuple[str, int]) -> Iterator[socket.socket]:
    """Someone who has sent a datagram to each destination."""
    with udp(source) as sender:
        for destination in destinations:
            sender.sendto(b"x", destination)
        yield sender


def tracked(family: int = 4) -> set[tuple[str, str, int, int]]:
    """Protocol, destination, port and zone of what is tracked, as /proc tells it."""
    with open("/proc/self/net/nf_conntrack", encoding="ascii") as file:
        lines = file.read().splitlines()
    found = set()
    for line in lines:
        words = line.split()
        if words[0] != f"ipv{family}":
            continue
        values: dict[str, str] = {}
        for key, _, value in (word.partition("=") for word in words if "=" in word):
            values.setdefault(key, value)  # the original direction comes first
        host = socket.inet_ntop(FAMILIES[family], socket.inet_pton(FAMILIES[family], values["dst"]))
        zone = int(values.get("zone", values.get("zone-orig", "0")))
        found.add((words[2], host, int(values.get("dport", 0)), zone))
    return found


def mapping(family: int, target: str) -> None:
    host = HOSTS[family][0]
    word = "ip" if family == 4 else "ip6"
    shown = f"[{target}]" if family == 6 else target
    nft(f"""
        table inet t {{}}
        delete table inet t
        table inet t {{ chain c {{ type nat hook output priority -105;
            ct mark set ct mark or 0x00400000
            {word} daddr {host} udp dport 53 dnat {word} to {shown}:1053
            ct mark set ct mark and 0xffbfffff
        }}; }}""")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("by_target", [True, False])
@isolated
def test_udp_follows_a_remap_at_once(family: int, by_target: bool) -> None:
    with_addresses()
    host, old, new = HOSTS[family]
    mapping(family, old)
    with udp(old, 1053) as first, udp(new, 1053) as second, client(host, (host, 53)) as sender:
        assert first.recvfrom(10)[0] == b"x"
        mapping(family, new)
        sender.sendto(b"stale", (host, 53))
        assert first.recv(10) == b"stale"  # else there is nothing to prove
        flows = Flows("udp", family, host, 53, 53, *((old, 1053) if by_target else ()))
        assert delete_flows([flows]) == 1
        sender.sendto(b"fresh", (host, 53))
        assert second.recv(10) == b"fresh"


@isolated
def test_only_the_connections_of_the_mapping_go() -> None:
    with_addresses()
    nft(TRACK)
    kept = {("udp", "192.0.2.1", 5353), ("udp", "192.0.2.2", 53), ("udp", "192.0.2.1", 52)}
    listener = socket.create_server(("192.0.2.1", 53))
    with client("10.0.0.1", ("192.0.2.1", 53), *((host, port) for _, host, port in kept)), listener:
        with socket.create_connection(("192.0.2.1", 53)) as connection:
            assert ("tcp", "192.0.2.1", 53, 0) in tracked()
            assert ("udp", "192.0.2.1", 53, 0) in tracked()
            assert delete_flows([Flows("udp", 4, "192.0.2.1", 53, 53)]) == 1
            left = {(proto, host, port) for proto, host, port, _ in tracked()}
            assert left == {*kept, ("tcp", "192.0.2.1", 53)}
            accepted, _ = listener.accept()
            connection.sendall(b"still there")
            with accepted:
                assert accepted.recv(20) == b"still there"
        assert delete_flows([Flows("udp", 4, "192.0.2.1", 53, 53)]) == 0


@isolated
def test_tcp_goes_when_asked() -> None:
    with_addresses()
    nft(TRACK)
    with socket.create_server(("192.0.2.1", 53)), socket.create_connection(("192.0.2.1", 53)):
        assert delete_flows([Flows("tcp", 4, "192.0.2.1", 53, 53)]) == 1
        assert not tracked()


@isolated
def test_any_local_address_is_no_address_beyond() -> None:
    with_addresses()
    nft(TRACK)
    ip("link add eth0 type veth peer name far0", "link set eth0 up", "link set far0 up")
    ip("address add 198.51.100.1/24 dev eth0", "neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 dev eth0")
    ip("route add local 203.0.113.0/24 dev lo")
    sent = ["127.0.0.1", "127.0.0.53", "192.0.2.1", "198.51.100.1", "203.0.113.77", "198.51.100.9"]
    beyond = [(host, 53) for host in sent if not host.startswith("127.")]
    with client("198.51.100.1", *beyond), client("127.0.0.1", ("127.0.0.1", 53), ("127.0.0.53", 53)):
        assert {host for _, host, _, _ in tracked()} == set(sent)
        assert delete_flows([Flows("udp", 4, "", 53, 53)]) == 5
        assert tracked() == {("udp", "198.51.100.9", 53, 0)}


@isolated
def test_any_local_ipv6_address() -> None:
    with_addresses()
    nft(TRACK)
    ip("link add eth0 type veth peer name far0", "link set eth0 up", "link set far0 up")
    ip("address add 2001:db8:1::1/64 dev eth0 nodad")
    ip("neigh add 2001:db8:1::9 lladdr 02:00:00:00:00:09 dev eth0")
    with client("2001:db8:1::1", ("2001:db8::1", 53), ("2001:db8:1::1", 53), ("2001:db8:1::9", 53)):
        assert delete_flows([Flows("udp", 6, "", 53, 53)]) == 2
        assert ("udp", "2001:db8:1::9", 53, 0) in tracked(6)


@isolated
def test_a_family_leaves_the_other_alone() -> None:
    with_addresses()
    nft(TRACK)
    with client("10.0.0.1", ("192.0.2.1", 53)), client("fd00::1", ("2001:db8::1", 53)):
        assert delete_flows([Flows("udp", 6, "", 1, 65535)]) == 1
        assert tracked() == {("udp", "192.0.2.1", 53, 0)}
        assert not tracked(6)


@isolated
def test_by_target_source_and_mark() -> None:
    with_addresses()
    nft("""table inet t { chain c { type nat hook output priority -105;
        udp dport 7001 ct mark set 0x00400000 dnat ip to 10.0.0.1:9001
        udp dport 7002 ct mark set 0x00400001 dnat ip to 10.0.0.1:9003
        udp dport 7003 dnat ip to 10.0.0.2:9003
    }; }""")
    others = [("192.0.2.1", port) for port in (7000, 7001, 7002, 7003)]
    with client("10.0.0.1", *others), client("192.0.2.2", ("192.0.2.1", 7000)):
        ports = Flows("udp", 4, "192.0.2.1", 7000, 7003)
        shifted = Flows("udp", 4, "192.0.2.1", 7000, 7003, "10.0.0.1", 9000)
        assert delete_flows([shifted]) == 1  # 7002 does not go to 9002, 7003 not to 10.0.0.1
        assert {port for _, _, port, _ in tracked()} == {7000, 7002, 7003}
        narrow = Flows("udp", 4, "192.0.2.1", 7000, 7003, sources=("192.0.2.0/28",))
        assert delete_flows([narrow]) == 1
        assert {port for _, _, port, _ in tracked()} == {7000, 7002, 7003}  # the other client's
        unmarked = Flows("udp", 4, "192.0.2.1", 7000, 7003, without_mark=0x00400000)
        assert delete_flows([unmarked]) == 2
        assert {port for _, _, port, _ in tracked()} == {7002}
        assert delete_flows([ports]) == 1


@isolated
def test_entries_in_a_zone() -> None:
    with_addresses()
    nft("""table inet t { chain c { type filter hook output priority -300;
        udp dport 53 ct zone set 5
        udp dport 54 ct original zone set 6
    }; chain d { type filter hook input priority -300; ct state new counter; }; }""")
    with client("10.0.0.1", ("192.0.2.1", 53), ("192.0.2.1", 54), ("192.0.2.1", 55)):
        assert {(port, zone) for _, _, port, zone in tracked()} >= {(53, 5), (54, 6), (55, 0)}
        before = len(tracked())
        assert delete_flows([Flows("udp", 4, "192.0.2.1", 53, 54)]) >= 2
        assert not {(53, 5), (54, 6)} & {(port, zone) for _, _, port, zone in tracked()}
        assert ("udp", "192.0.2.1", 55, 0) in tracked()
        assert before > len(tracked())


@isolated
def test_twenty_thousand() -> None:
    """Of 20,000 connections to one mapping and 20,000 others none too many and none too few go."""
    nft(TRACK)
    with udp("127.0.0.1") as sender:
        for n in range(20_000):
            sender.sendto(b"", (f"127.1.{n >> 8}.{n & 255}", 53))
            sender.sendto(b"", (f"127.1.{n >> 8}.{n & 255}", 54))
        assert len({host for _, host, port, _ in tracked() if port == 53}) == 20_000
        started = time.monotonic()
        assert delete_flows([Flows("udp", 4, "", 53, 53)]) == 20_000
        print(f"20,000 of 40,000 entries deleted in {time.monotonic() - started:.3f} s")
        assert {port for _, _, port, _ in tracked()} == {54}
        assert len(tracked()) == 20_000


@isolated
def test_nothing_asked_nothing_done() -> None:
    assert delete_flows([]) == 0


@isolated
def test_each_failure_of_a_batch_is_told() -> None:
    """Of 250 requests only every third is one that the kernel knows."""
    unknown, get = 1 << 8 | 99, 1 << 8 | 2
    body = bytes([socket.AF_INET, 0, 0, 0])
    with BatchRequester(NETLINK_NETFILTER, "try a batch") as kernel:
        requests = [(get if n % 3 == 0 else unknown, 0, body) for n in range(250)]
        codes = kernel.run(requests)
        assert codes == [0 if n % 3 == 0 else errno.EINVAL for n in range(250)]
        assert kernel.run([]) == []


@isolated
def test_without_rights_it_says_what_is_missing() -> None:
    nft(TRACK)
    with udp("127.0.0.1") as sender:
        sender.sendto(b"", ("127.0.0.1", 53))
    os.setresuid(65534, 65534, 65534)
    with pytest.raises(NetnsToolsError, match="change the tracked connections") as caught:
        delete_flows([Flows("udp", 4, "127.0.0.1", 53, 53)])
    assert "CAP_NET_ADMIN" in caught.value.hint
