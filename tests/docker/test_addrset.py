"""netns-addrset and a real dockerd: the addresses of containers are in the sets, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import Docker
from tests.kernel.addrset import AddrSet, running, wait_for
from tests.kernel.conftest import FakeHost

RULES = """
table inet filter {
    set edge_ips { type ipv4_addr; }
    set edge_ips6 { type ipv6_addr; }
    set front_ips { type ipv4_addr; }
    set shop_ips { type ipv4_addr; flags interval; }
    set wan_ips { type ipv4_addr; }
}
"""
CONFIG = """
interfaces: [{{name: wan0, nftables_zone: wan}}]
docker: {socket}
zones:
  edge: {{containers: ["label=role=edge"]}}
  front: {{containers: ["network=front"]}}
  shop: {{containers: ["compose_project=shop"]}}
"""
SECONDS = 2.0


@pytest.fixture
def host() -> Iterator[FakeHost]:
    """A host with the link wan0."""
    fake = FakeHost(Path("/nonexistent"))
    fake.run("ip", "link", "add", "wan0", "type", "bridge")
    yield fake
    fake.close()


@pytest.fixture(params=["events", "events lost"])
def daemon(
    request: pytest.FixtureRequest, host: FakeHost, docker: Docker, deaf_socket: str, tmp_path: Path
) -> Iterator[AddrSet]:
    """A daemon that follows Docker, with and without its events."""
    socket = docker.socket if request.param == "events" else deaf_socket
    with running(host, tmp_path, CONFIG.format(socket=socket), RULES) as found:
        wait_for(lambda: (found.status()["docker"] or {})["connected"], "Docker is there")
        yield found


def test_containers_in_sets(daemon: AddrSet, docker: Docker) -> None:
    docker.cli("network", "create", "front")
    docker.run("web", "--label=role=edge", "--network=front")
    docker.cli("network", "connect", "bridge", "web")
    docker.run("db", "--label=com.docker.compose.project=shop")
    docker.run("sidecar", "--label=role=edge", "--network=container:db")
    docker.run("bare", "--label=role=edge", "--network=host")
    web, db = docker.addresses("web"), docker.addresses("db")
    front = docker.cli("inspect", "--format={{.NetworkSettings.Networks.front.IPAddress}}", "web")
    daemon.wait_elements("edge_ips", *web, *db, seconds=SECONDS)
    daemon.wait_elements("front_ips", front, seconds=SECONDS)
    daemon.wait_elements("shop_ips", *db, seconds=SECONDS)
    docker.cli("restart", "web")
    daemon.wait_elements("edge_ips", *docker.addresses("web"), *db, seconds=SECONDS)
    docker.cli("network", "disconnect", "front", "web")
    daemon.wait_elements("front_ips", seconds=SECONDS)
    docker.cli("stop", "web", "sidecar")
    daemon.wait_elements("edge_ips", seconds=SECONDS)
    assert daemon.elements("wan_ips") == set()


def test_docker_ends_and_comes_back(daemon: AddrSet, docker: Docker, host: FakeHost) -> None:
    docker.run("web", "--label=role=edge")
    web = docker.addresses("web")
    daemon.wait_elements("edge_ips", *web, seconds=SECONDS)
    docker.kill_daemon()
    wait_for(lambda: not daemon.status()["docker"]["connected"], "the end is noticed")
    # The container goes on, and so does everything else.
    host.run("ip", "address", "add", "192.0.2.1/24", "dev", "wan0")
    daemon.wait_elements("wan_ips", "192.0.2.1")
    assert daemon.elements("edge_ips") == web
    assert daemon.status()["state"] == "degraded"
    docker.start_daemon()
    docker.cli("rm", "--force", "web")
    daemon.wait_elements("edge_ips", seconds=SECONDS)
    wait_for(lambda: daemon.status()["state"] == "ok", "all is well")


def test_a_start_without_docker_takes_nothing_out(docker: Docker, host: FakeHost, tmp_path: Path) -> None:
    """What containers put there stays until Docker says what is; what others put there goes."""
    with running(host, tmp_path, CONFIG.format(socket=docker.socket), RULES) as daemon:
        docker.run("web", "--label=role=edge")
        web = docker.addresses("web")
        daemon.wait_elements("edge_ips", *web, seconds=SECONDS)
        daemon.stop()
        docker.kill_daemon()
        host.run("nft", "add element inet filter edge_ips { 203.0.113.9 }")
        daemon.start(tmp_path)
        assert daemon.elements("edge_ips") == web
        docker.start_daemon()
        docker.cli("rm", "--force", "web")
        daemon.wait_elements("edge_ips", seconds=SECONDS)


def test_once(docker: Docker, host: FakeHost) -> None:
    docker.run("web", "--label=role=edge")
    host.run("nft", "-f", "-", input=RULES)
    host.configure("addrset-host.yaml", CONFIG.format(socket=docker.socket))
    command = AddrSet(host)
    command.command("run", "--once")
    assert command.elements("edge_ips") == docker.addresses("web")
