"""DockerWatch and a real dockerd: the addresses that are known are those that the kernel has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from netns_tools.addrset.config import Selector
from netns_tools.addrset.containers import container_addresses
from netns_tools.errors import NetnsToolsError
from netns_tools.host.docker import DockerWatch
from tests.docker.conftest import Docker

EXACT = 2.0
"""Seconds within which all must be right, whatever happened."""


class Watch:
    """A DockerWatch, and a wait that its callback ends: what is right unannounced does not count."""

    def __init__(self, socket: str) -> None:
        self._told = threading.Event()
        self.docker = DockerWatch(socket, self._told.set)

    def addresses(self, **chosen: object) -> set[str]:
        """What a selector chooses; without one, all containers."""
        words = {"label": None, "name": None, "network": None, "compose_project": None, **chosen}
        selector = Selector(**words)  # type: ignore[arg-type]
        v4, v6 = container_addresses(self.docker.containers or (), (selector,))
        return set(v4 | v6)

    def until(self, true: Callable[[], bool], seconds: float = EXACT) -> None:
        """Wait for calls of ``changed`` until something is true."""
        deadline = time.monotonic() + seconds
        while True:
            self._told.clear()
            if true():
                return
            if not self._told.wait(max(0.0, deadline - time.monotonic())):
                known, error = self.docker.containers, self.docker.error
                raise AssertionError(f"not within {seconds:g} s; known: {known}; error: {error!r}")

    def shows(self, expected: set[str], **chosen: object) -> None:
        """Wait until a selector chooses exactly these addresses."""
        self.until(lambda: self.addresses(**chosen) == expected)


@contextmanager
def watching(socket: str) -> Iterator[Watch]:
    """A watch that follows."""
    watch = Watch(socket)
    watch.docker.start()
    try:
        yield watch
    finally:
        watch.docker.stop()
        assert not [t.name for t in threading.enumerate() if t.name.startswith("docker-")]


@pytest.fixture
def watch(docker: Docker) -> Iterator[Watch]:
    with watching(docker.socket) as watch:
        watch.until(lambda: watch.docker.containers is not None)
        assert watch.docker.connected
        assert watch.addresses() == set()
        yield watch


@pytest.fixture(params=["events", "events lost"])
def any_watch(request: pytest.FixtureRequest, docker: Docker, deaf_socket: str) -> Iterator[Watch]:
    """The same with and without events: at most 2 s late in both cases."""
    with watching(docker.socket if request.param == "events" else deaf_socket) as watch:
        watch.until(lambda: watch.docker.containers is not None)
        yield watch


def test_start_restart_kill_and_removal(docker: Docker, any_watch: Watch) -> None:
    docker.run("web")
    first = docker.addresses("web")
    assert len(first) == 1
    any_watch.shows(first, name="web")
    docker.cli("stop", "web")
    any_watch.shows(set())
    docker.run("other")  # takes the address that web had
    docker.cli("start", "web")
    second = docker.addresses("web")
    assert second != first
    any_watch.shows(second, name="web")
    docker.cli("restart", "web")
    any_watch.shows(docker.addresses("web"), name="web")
    docker.cli("kill", "web")
    any_watch.shows(set(), name="web")
    docker.cli("rm", "--force", "other")
    any_watch.shows(set())


def test_a_container_that_docker_restarts_by_itself(docker: Docker, watch: Watch) -> None:
    docker.run("web", "--restart=always")
    pid = docker.cli("inspect", "--format={{.State.Pid}}", "web")
    watch.shows(docker.addresses("web"))
    docker.kill_container("web")

    def again() -> bool:
        new, status = docker.cli("inspect", "--format={{.State.Pid}} {{.State.Status}}", "web").split()
        return status == "running" and new != pid

    docker.wait_until(again)
    watch.shows(docker.addresses("web"))


def test_a_pause_keeps_the_address(docker: Docker, watch: Watch) -> None:
    docker.run("web")
    addresses = docker.addresses("web")
    watch.shows(addresses)
    docker.cli("pause", "web")
    watch.until(lambda: docker.cli("ps", "--filter=status=paused", "--quiet") != "")
    docker.run("later")
    watch.shows(docker.addresses("later"), name="later")
    assert watch.addresses(name="web") == addresses


def test_rename(docker: Docker, any_watch: Watch) -> None:
    docker.run("blue-1")
    docker.run("blue-10")
    one, ten = docker.addresses("blue-1"), docker.addresses("blue-10")
    any_watch.shows(one | ten, name="blue-*")
    any_watch.shows(one, name="blue-1")
    docker.cli("rename", "blue-10", "green")
    any_watch.shows(ten, name="green")
    any_watch.shows(one, name="blue-*")


def test_several_networks_with_ipv6_connected_by_hand(docker: Docker, any_watch: Watch) -> None:
    docker.cli("network", "create", "--subnet=10.201.0.0/24", "front")
    docker.cli("network", "create", "--ipv6", "--subnet=10.202.0.0/24", "--subnet=fd00:202::/64", "back")
    docker.run("web", "--network=front")
    front = docker.addresses("web")
    any_watch.shows(front)
    docker.cli("network", "connect", "back", "web")
    both = docker.addresses("web")
    assert len(both) == 3
    any_watch.shows(both)
    assert any_watch.addresses(network="front") == front
    assert any_watch.addresses(network="back") == both - front
    docker.cli("network", "disconnect", "front", "web")
    any_watch.shows(both - front)
    docker.cli("network", "disconnect", "back", "web")
    any_watch.shows(set())
    docker.cli("network", "connect", "--ip=10.202.0.77", "back", "web")
    any_watch.shows({"10.202.0.77", *(a for a in docker.addresses("web") if ":" in a)})
    assert len(any_watch.addresses()) == 2


def test_host_mode_and_no_network_have_none(docker: Docker, watch: Watch) -> None:
    docker.run("in-host", "--network=host")
    docker.run("alone", "--network=none")
    docker.run("web")
    watch.until(lambda: len(watch.docker.containers or ()) == 3)
    watch.shows(docker.addresses("web"))
    assert watch.addresses(name="in-host") == watch.addresses(name="alone") == set()


def test_a_container_in_the_namespace_of_another(docker: Docker, watch: Watch) -> None:
    docker.cli("network", "create", "--subnet=10.201.0.0/24", "front")
    docker.run("web", "--network=front")
    docker.run("sidecar", "--network=container:web", "--label=role=edge")
    web = docker.addresses("web")
    assert docker.addresses("sidecar") == web
    watch.shows(web, label=("role", "edge"))
    assert watch.addresses(label=("role", "edge"), network="front") == web
    assert watch.addresses(label=("role", "edge"), network="bridge") == set()
    docker.cli("rename", "web", "site")
    docker.run("web")
    docker.cli("network", "connect", "bridge", "site")
    watch.shows(docker.addresses("sidecar"), name="sidecar")
    docker.cli("stop", "site")
    watch.shows(set(), name="sidecar")


def test_labels_of_compose(docker: Docker, watch: Watch) -> None:
    docker.run("shop-web-1", "--label=com.docker.compose.project=shop", "--label=role=edge")
    docker.run("shop2-web-1", "--label=com.docker.compose.project=shop2", "--label=role=core")
    watch.until(lambda: len(watch.docker.containers or ()) == 2)
    shop = docker.addresses("shop-web-1")
    watch.shows(shop, compose_project="shop")
    watch.shows(shop, label=("role", "edge"))
    watch.shows(shop | docker.addresses("shop2-web-1"), label=("role", None))


def test_docker_stops_and_starts(docker: Docker, watch: Watch) -> None:
    docker.run("web")
    docker.run("always", "--restart=always")
    web, always = docker.addresses("web"), docker.addresses("always")
    watch.shows(web | always)
    docker.stop_daemon()
    watch.until(lambda: not watch.docker.connected)
    assert docker.socket in watch.docker.error
    assert watch.addresses(name="web") in (web, set())  # the last good list
    docker.start_daemon()
    watch.until(lambda: watch.docker.connected)
    docker.wait_until(lambda: docker.cli("ps", "--filter=name=always", "--quiet") != "")
    watch.shows(docker.addresses("always"))
    assert watch.docker.error == ""


def test_containers_outlive_docker_with_live_restore(docker: Docker, watch: Watch) -> None:
    docker.stop_daemon()
    docker.start_daemon(live_restore=True)
    docker.run("web")
    addresses = docker.addresses("web")
    watch.shows(addresses)
    docker.stop_daemon()
    watch.until(lambda: not watch.docker.connected)
    assert watch.addresses() == addresses
    docker.start_daemon(live_restore=True)
    watch.until(lambda: watch.docker.connected)
    assert docker.addresses("web") == addresses
    watch.shows(addresses)
    docker.cli("rm", "--force", "web")
    watch.shows(set())
    docker.stop_daemon()  # the next test has one without live-restore


def test_docker_is_killed(docker: Docker, watch: Watch) -> None:
    docker.run("web")
    watch.shows(docker.addresses("web"))
    docker.kill_daemon()
    watch.until(lambda: "Connection refused" in watch.docker.error)
    assert not watch.docker.connected
    docker.start_daemon()  # without live-restore it ends the containers it finds
    watch.shows(set())
    docker.cli("start", "web")
    watch.shows(docker.addresses("web"))


def test_docker_hangs(docker: Docker, watch: Watch) -> None:
    docker.run("web")
    watch.shows(docker.addresses("web"))
    with docker.frozen():
        watch.until(lambda: not watch.docker.connected, 10)
        assert "no answer within 5 s" in watch.docker.error
    watch.until(lambda: watch.docker.connected)


def test_a_hanging_docker_does_not_hold_up_the_end(docker: Docker) -> None:
    watch = Watch(docker.socket)
    watch.docker.start()
    watch.until(lambda: watch.docker.containers is not None)
    with docker.frozen():
        listed = watch.docker.since
        time.sleep(1.7)  # until a request hangs, for sure: one is due every 1.5 s
        began = time.monotonic()
        watch.docker.stop()
        assert time.monotonic() - began < 1
        assert watch.docker.since == listed
    assert not [t.name for t in threading.enumerate() if t.name.startswith("docker-")]


def test_docker_comes_later(docker: Docker) -> None:
    docker.stop_daemon()
    with watching(docker.socket) as watch:
        watch.until(lambda: watch.docker.error != "")
        assert watch.docker.containers is None
        docker.start_daemon()
        watch.until(lambda: watch.docker.containers == ())
        docker.run("web")
        watch.shows(docker.addresses("web"))


def test_one_list_without_threads(docker: Docker) -> None:
    watch = Watch(docker.socket)
    docker.run("web")
    watch.docker.list_now()
    assert watch.addresses() == docker.addresses("web")
    docker.stop_daemon()
    with pytest.raises(NetnsToolsError, match="cannot list the containers of Docker") as caught:
        watch.docker.list_now()
    assert "start Docker" in caught.value.hint
    assert watch.docker.containers


def test_many_containers_at_once(docker: Docker, watch: Watch) -> None:
    names = [f"web-{number}" for number in range(8)]
    starts = [threading.Thread(target=docker.run, args=(name,)) for name in names]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    everything = set[str]().union(*map(docker.addresses, names))
    assert len(everything) == len(names)
    watch.shows(everything)
    docker.cli("rm", "--force", *names)
    watch.shows(set())
