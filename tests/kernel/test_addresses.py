"""Addresses and links are followed exactly: in storms, after overruns, through every kind of change."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import netns
from netns_tools.kernel.address import Address, Link, decode
from netns_tools.kernel.addresswatch import AddressWatch
from netns_tools.kernel.netlink import Requester
from netns_tools.paths import Paths
from tests.kernel.isolated import ip, isolated

STORM = 5000


class Model:
    """What the watch has told."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.addresses: dict[object, Address] = {}
        self.replaced = 0

    def put_link(self, link: Link) -> None:
        self.links[link.index] = link

    def drop_link(self, index: int) -> None:
        self.links.pop(index, None)
        self.addresses = {key: a for key, a in self.addresses.items() if a.ifindex != index}

    def put_address(self, address: Address) -> None:
        self.addresses[address.key] = address

    def drop_address(self, address: Address) -> None:
        self.addresses.pop(address.key, None)

    def replace(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        self.links = {link.index: link for link in links}
        self.addresses = {address.key: address for address in addresses}
        self.replaced += 1

    def names(self) -> dict[str, bool]:
        return {link.name: link.up for link in self.links.values()}

    def on(self, name: str) -> set[str]:
        """The addresses of a link, with their prefix lengths; no link-local ones."""
        index = next(link.index for link in self.links.values() if link.name == name)
        found = [a for a in self.addresses.values() if a.ifindex == index and a.scope != 253]
        return {f"{a.host}/{a.prefix_length}" for a in found}


def actual() -> set[tuple[str, str, int, bool]]:
    """What ``ip`` says: device, address, prefix length, whether it is usable."""
    out = subprocess.run(["ip", "-j", "address", "show"], capture_output=True, check=True, timeout=60).stdout
    return {
        (
            link["ifname"],
            a["local"],
            a["prefixlen"],
            a["scope"] not in ("link", "host") and not (a.get("tentative") or a.get("dadfailed")),
        )
        for link in json.loads(out)
        for a in link.get("addr_info", [])
        if "local" in a
    }


def told(model: Model) -> set[tuple[str, str, int, bool]]:
    return {
        (model.links[a.ifindex].name, a.host, a.prefix_length, a.usable) for a in model.addresses.values()
    }


@contextmanager
def watching() -> Iterator[tuple[AddressWatch, Model]]:
    model = Model()
    watch = AddressWatch(model)
    try:
        watch.resync()
        yield watch, model
    finally:
        watch.close()


def drain(watch: AddressWatch) -> bool:
    """Read to the end of the queue; whether anything was there."""
    changed = False
    while select.select([watch.fileno()], [], [], 0)[0]:
        changed = watch.read() or changed
    return changed


def until(watch: AddressWatch, condition: Callable[[], bool], seconds: float = 10) -> None:
    """Read what comes until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        left = end - time.monotonic()
        assert left > 0, "it did not come true"
        if select.select([watch.fileno()], [], [], left)[0]:
            watch.read()


def with_link() -> None:
    """A link ``eth0`` with a carrier, and without a link-local address, which would come when it likes."""
    ip(
        "link add eth0 type veth peer name far0",
        *(f"link set {name} {what}" for name in ("far0", "eth0") for what in ("addrgenmode none", "up")),
    )


def storm(verb: str, first: int = 0, count: int = STORM) -> list[str]:
    return [f"address {verb} 10.{n >> 8}.{n & 255}.1/32 dev eth0" for n in range(first, first + count)]


def shrink(watch: AddressWatch) -> None:
    """Give the watch the smallest receive buffer there is."""
    with socket.socket(fileno=os.dup(watch.fileno())) as events:
        events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


@isolated
def test_what_is_there_at_the_start() -> None:
    with_link()
    ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")
    with watching() as (watch, model):
        assert model.names() == {"lo": True, "eth0": True, "far0": True}
        assert model.on("eth0") == {"192.0.2.1/24", "2001:db8::1/64"}
        until(watch, lambda: told(model) == actual())


@isolated
def test_the_first_read_does_what_resync_does() -> None:
    ip("address add 192.0.2.1/24 dev lo")
    model = Model()
    watch = AddressWatch(model)
    assert watch.read()
    assert "192.0.2.1/24" in model.on("lo")


@isolated
def test_changes_come_at_once() -> None:
    with_link()
    with watching() as (watch, model):
        drain(watch)
        ip("address add 192.0.2.1/24 dev eth0")
        # Announced before the request is answered: nothing has to be awaited.
        assert drain(watch)
        assert model.on("eth0") == {"192.0.2.1/24"}
        ip("address add 192.0.2.1/25 dev eth0", "address add 192.0.2.2/24 dev eth0")
        drain(watch)
        assert model.on("eth0") == {"192.0.2.1/24", "192.0.2.1/25", "192.0.2.2/24"}
        ip("address del 192.0.2.1/24 dev eth0")
        drain(watch)
        # .2/24 was secondary to .1/24 and went with it, or was promoted: whatever the kernel did.
        assert told(model) == actual()
        assert "192.0.2.1/25" in model.on("eth0")
        assert "192.0.2.1/24" not in model.on("eth0")
        ip("address flush dev eth0 scope global")
        drain(watch)
        assert model.on("eth0") == set()


@isolated
def test_nothing_to_read() -> None:
    with watching() as (watch, _model):
        drain(watch)
        assert not watch.read()


@isolated
def test_a_storm_loses_nothing() -> None:
    with_link()
    with watching() as (watch, model):
        ip(*storm("add"))
        ip(*storm("del", 0, STORM - 10))
        began = time.monotonic()
        drain(watch)
        took = time.monotonic() - began
        assert watch.overruns == 0
        assert model.replaced == 1
        assert told(model) == actual()
        assert len(model.on("eth0")) == 10
        assert took < 0.5, f"10,000 messages took {took:.3f} s"


@isolated
def test_a_call_handles_a_bounded_number() -> None:
    with_link()
    with watching() as (watch, model):
        ip(*storm("add"), *storm("add", STORM, 500))
        watch.read()
        assert len(model.on("eth0")) < STORM + 500
        drain(watch)
        assert len(model.on("eth0")) == STORM + 500


@isolated
def test_decoding_is_fast() -> None:
    with_link()
    ip(*storm("add", 0, 10_000))
    requester = Requester(socket.NETLINK_ROUTE, "test")
    data = [data for data, _interrupted in requester.dump(22, b"\2" + bytes(7))]
    began = time.process_time()
    count = sum(1 for piece in data for _event in decode(piece))
    took = time.process_time() - began
    assert count >= 10_000
    assert took < 0.2, f"{count} messages took {took:.3f} s"


@isolated
def test_an_overrun_is_mended() -> None:
    with_link()
    with watching() as (watch, model):
        ip("address add 192.0.2.9/24 dev eth0")
        drain(watch)
        shrink(watch)
        ip("address del 192.0.2.9/24 dev eth0", *storm("add", 0, 300), *storm("del", 0, 100))
        assert watch.read()
        assert watch.overruns >= 1
        drain(watch)
        assert told(model) == actual()
        assert len(model.on("eth0")) == 200
        # And events flow again.
        ip("address add 192.0.2.10/24 dev eth0")
        drain(watch)
        assert "192.0.2.10/24" in model.on("eth0")


@isolated
def test_a_watcher_that_was_stopped_during_a_storm_is_exact_afterwards() -> None:
    with_link()
    reports, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _report_for_ever(writer)
    try:
        os.close(writer)
        lines = os.fdopen(reports, encoding="utf-8")
        assert lines.readline() == "ready\n"
        os.kill(child, signal.SIGSTOP)
        # More than the receive buffer holds.
        for _ in range(3):
            ip(*storm("add"))
            ip(*storm("del", 0, STORM - 7))
            ip(*storm("del", STORM - 7, 7))
        ip(*storm("add", 0, 5))
        began = time.monotonic()
        os.kill(child, signal.SIGCONT)
        for line in lines:
            report = json.loads(line)
            if len(report["addresses"]) == 5:
                break
        assert time.monotonic() - began < 2
        assert report["addresses"] == sorted(f"10.0.{n}.1/32" for n in range(5))
        assert report["overruns"] >= 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _report_for_ever(writer: int) -> None:
    try:
        with watching() as (watch, model):
            os.write(writer, b"ready\n")
            while True:
                select.select([watch.fileno()], [], [])
                watch.read()
                report = {"addresses": sorted(model.on("eth0")), "overruns": watch.overruns}
                os.write(writer, json.dumps(report).encode() + b"\n")
    finally:
        os._exit(1)


@isolated
def test_renames() -> None:
    with_link()
    ip("address add 192.0.2.1/24 dev eth0")
    with watching() as (watch, model):
        ip("link set eth0 down", "link set eth0 name wan0", "link set wan0 up")
        drain(watch)
        assert "eth0" not in model.names()
        assert model.names()["wan0"]
        assert "192.0.2.1/24" in model.on("wan0")


@isolated
def test_down_and_up() -> None:
    with_link()
    ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")
    with watching() as (watch, model):
        ip("link set eth0 down")
        drain(watch)
        assert not model.names()["eth0"]
        assert model.on("eth0") == {"192.0.2.1/24"}
        ip("link set eth0 up")
        drain(watch)
        assert model.names()["eth0"]


@isolated
def test_a_deleted_link_takes_its_addresses_along() -> None:
    with_link()
    ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")
    with watching() as (watch, model):
        ip("link del eth0")
        drain(watch)
        assert model.names() == {"lo": True}
        assert {a.host for a in model.addresses.values()} == {"127.0.0.1", "::1"}


@isolated
def test_addresses_of_a_deleted_link_are_dropped_one_by_one() -> None:
    """A receiver that forgets only what it is told to forget is exact, too."""
    with_link()
    ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")
    with watching() as (watch, model):
        model.drop_link = lambda index: None  # type: ignore[method-assign]
        ip("link del eth0")
        drain(watch)
        assert {a.host for a in model.addresses.values()} == {"127.0.0.1", "::1"}


@isolated
def test_a_port_that_leaves_its_bridge_stays_a_link() -> None:
    with_link()
    ip("link add br0 type bridge", "link set eth0 master br0", "address add 192.0.2.1/24 dev eth0")
    with watching() as (watch, model):
        drain(watch)
        ip("link set eth0 nomaster")  # the bridge announces RTM_DELLINK, family AF_BRIDGE
        assert drain(watch)
        assert model.on("eth0") == {"192.0.2.1/24"}


@isolated
def test_peers() -> None:
    with_link()
    with watching() as (watch, model):
        ip(
            "address add 192.0.2.1 peer 198.51.100.1/32 dev eth0",
            "address add 192.0.2.1 peer 198.51.100.2/32 dev eth0",
            "address add 2001:db8::1 peer 2001:db8::2/128 dev eth0 nodad",
        )
        # IPv6 announces from a work queue, even with nodad.
        until(watch, lambda: model.on("eth0") == {"192.0.2.1/32", "2001:db8::1/128"})
        # Two addresses for the kernel: while one is there, 192.0.2.1 is ours.
        ip("address del 192.0.2.1 peer 198.51.100.1/32 dev eth0")
        drain(watch)
        assert model.on("eth0") == {"192.0.2.1/32", "2001:db8::1/128"}
        ip("address del 192.0.2.1 peer 198.51.100.2/32 dev eth0")
        # IPv6 changes the peer of the address that is there.
        ip("address change 2001:db8::1 peer 2001:db8::3/128 dev eth0")
        drain(watch)
        assert model.on("eth0") == {"2001:db8::1/128"}
        ip("address del 2001:db8::1 peer 2001:db8::3/128 dev eth0")
        drain(watch)
        assert model.on("eth0") == set()


@isolated
def test_tentative_becomes_usable_by_an_event() -> None:
    with_link()
    with watching() as (watch, model):
        ip("address add 2001:db8::1/64 dev eth0")

        def usable() -> list[bool]:
            return [a.usable for a in model.addresses.values() if a.host == "2001:db8::1"]

        until(watch, lambda: usable() == [False])
        until(watch, lambda: usable() == [True])


@isolated
def test_a_duplicate_is_never_usable() -> None:
    with_link()
    ip("address add 2001:db8::1/64 dev far0 nodad")
    with watching() as (watch, model):
        ip("address add 2001:db8::1/64 dev eth0")
        eth0 = next(link.index for link in model.links.values() if link.name == "eth0")

        def flags() -> list[int]:
            return [
                a.flags for a in model.addresses.values() if a.host == "2001:db8::1" and a.ifindex == eth0
            ]

        until(watch, lambda: any(value & 0x08 for value in flags()))
        assert [a.usable for a in model.addresses.values() if a.ifindex == eth0] == [False]
        assert told(model) == actual()


@isolated
def test_deprecated_addresses_stay() -> None:
    with_link()
    with watching() as (watch, model):
        ip("address add 2001:db8::1/64 dev eth0 nodad preferred_lft 0 valid_lft 100")
        until(watch, lambda: model.on("eth0") == {"2001:db8::1/64"})
        assert [a.usable for a in model.addresses.values() if a.host == "2001:db8::1"] == [True]
        ip("address change 2001:db8::1/64 dev eth0 preferred_lft 0 valid_lft 1")
        until(watch, lambda: model.on("eth0") == set())


@isolated
def test_a_dump_that_changes_on_the_way_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with_link()
    ip(*storm("add"))
    real, pieces, interruptions = Requester.dump, 0, 0

    def meddled(self: Requester, kind: int, body: bytes) -> Iterator[tuple[bytes, bool]]:
        nonlocal pieces, interruptions
        for data, interrupted in real(self, kind, body):
            pieces += 1
            interruptions += interrupted
            if pieces == 4:  # some hundred addresses are told, the others not yet
                ip(*storm("del", 0, 1000))
            yield data, interrupted

    monkeypatch.setattr(Requester, "dump", meddled)
    with watching() as (watch, model):
        assert interruptions == 1
        assert model.replaced == 1
        drain(watch)
        assert len(model.on("eth0")) == STORM - 1000
        assert told(model) == actual()


@isolated
def test_when_no_dump_is_consistent_the_next_read_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with_link()
    real, troubled = Requester.dump, True

    def meddled(self: Requester, kind: int, body: bytes) -> Iterator[tuple[bytes, bool]]:
        if troubled:
            ip("address replace 192.0.2.1/24 dev eth0")
        for data, interrupted in real(self, kind, body):
            yield data, interrupted or troubled

    monkeypatch.setattr(Requester, "dump", meddled)
    with watching() as (watch, model):
        assert model.replaced == 0
        assert select.select([watch.fileno()], [], [], 0)[0]
        troubled = False
        watch.read()
        assert model.replaced == 1
        assert told(model) == actual()


@isolated
def test_what_comes_during_a_dump_is_handed_over_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with_link()
    ip("address add 192.0.2.1/24 dev eth0")
    real = AddressWatch._dump

    def slow(self: AddressWatch) -> tuple[list[Link], list[Address]] | None:
        found = real(self)
        ip("address add 192.0.2.2/24 dev eth0", "address del 192.0.2.1/24 dev eth0")
        return found

    monkeypatch.setattr(AddressWatch, "_dump", slow)
    with watching() as (_watch, model):
        assert told(model) == actual()


@isolated
def test_only_the_kernel_is_believed() -> None:
    with_link()
    with watching() as (watch, model), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as liar:
        drain(watch)
        ip("address add 192.0.2.1/24 dev eth0")
        (index,) = (link.index for link in model.links.values() if link.name == "eth0")
        with socket.socket(fileno=os.dup(watch.fileno())) as events:
            port = events.getsockname()[0]
        body = bytes([2, 32, 0, 0]) + index.to_bytes(4, "little") + b"\x08\x00\x02\x00" + bytes([6, 6, 6, 6])
        lie = (16 + len(body)).to_bytes(4, "little") + b"\x14\x00" + bytes(10) + body
        liar.sendto(lie, (port, 0))
        drain(watch)
        assert model.on("eth0") == {"192.0.2.1/24"}


@isolated
def test_a_namespace_is_entered_before_watching(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    os.makedirs(paths.netns)
    blue = f"{paths.netns}/blue"
    Path(blue).touch()
    keeper = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 60"], stdout=-1
    )
    try:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=20)
        subprocess.run(["mount", "--bind", f"/proc/{keeper.pid}/ns/net", blue], check=True, timeout=20)
        ip("address add 192.0.2.1/24 dev lo")
        here = netns.identity()
        netns.enter("host", paths)
        assert netns.identity() == here
        netns.enter("blue", paths)
        inside = os.stat(blue)
        assert netns.identity() == (inside.st_dev, inside.st_ino) != here
        netns.enter("blue", paths)  # again: nothing to do
        with watching() as (_watch, model):
            assert model.on("lo") == {"127.0.0.1/8", "::1/128"}
    finally:
        keeper.kill()
        keeper.wait()


@isolated
def test_a_namespace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path))
    os.makedirs(paths.netns)
    here = netns.identity()
    with pytest.raises(NetnsToolsError, match="there is no namespace blue") as caught:
        netns.enter("blue", paths)
    assert "netns_name@blue" in caught.value.hint
    assert os.listdir(paths.netns) == []
    Path(paths.netns, "blue").touch()
    with pytest.raises(NetnsToolsError, match="ordinary file"):
        netns.enter("blue", paths)
    with pytest.raises(NetnsToolsError, match="no namespace name"):
        netns.enter("../blue", paths)
    assert netns.identity() == here
