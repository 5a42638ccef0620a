"""The commands of netns-natmap with a daemon and without: real kernel, real sockets, real files."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.addrset import wait_for
from tests.kernel.conftest import REPOSITORY, FakeHost

NATMAP = ("/usr/bin/python3", "-P", "-m", "netns_tools.cli.natmap")


class NatMap:
    """The commands on a host, and its daemon if there is one."""

    def __init__(self, host: FakeHost, log: Path) -> None:
        self.host = host
        self.log = log
        self.process: subprocess.Popen[str] | None = None
        host.run("ip", "link", "add", "br0", "type", "bridge")
        host.run("ip", "address", "add", "10.0.0.1/24", "dev", "br0")
        host.run("ip", "link", "set", "br0", "up")

    def do(self, *words: str, code: int = 0, text: str | None = None) -> str:
        """What a command says; it must end with this exit status."""
        done = self.host.run(*NATMAP, *words, check=False, env=_environment(), cwd="/", input=text)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        return done.stdout + done.stderr if code else done.stdout

    def entries(self, name: str = "host") -> dict[str, str]:
        """What is wanted, as commands, and its state."""
        answer = json.loads(self.do("ls", "--json", "--name", name))
        return {
            row["command"]: row["state"]
            for rows in answer.values()
            if isinstance(rows, list)
            for row in rows
            if isinstance(row, dict)
        }

    def start(self, name: str = "host", *words: str) -> None:
        """Start a daemon and wait until it answers."""
        with self.log.open("a") as log:
            self.process = self.host.spawn(
                *NATMAP, "daemon", "--name", name, *words, stderr=log, env=_environment(), cwd="/"
            )
        wait_for(lambda: self.is_up(name), f"the daemon answers; {self.log}")

    def is_up(self, name: str) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        found = self.host.run("test", "-S", f"/run/netns-tools/natmap-{name}.sock", check=False)
        return found.returncode == 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(timeout=20)
        self.process = None
        return status

    def ruleset(self) -> str:
        return self.host.run("nft", "list", "ruleset").stdout


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NETNS_", "DOCKER_"))}
    return {**kept, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def natmap(host: FakeHost, tmp_path: Path) -> Iterator[NatMap]:
    one = NatMap(host, tmp_path / "log")
    yield one
    if one.process is not None:
        one.stop(signal.SIGKILL)


@pytest.fixture(params=["direct", "daemon"])
def either(request: pytest.FixtureRequest, natmap: NatMap) -> NatMap:
    """The same must happen with a daemon and without."""
    if request.param == "daemon":
        natmap.start()
    return natmap


@contextmanager
def listening(host: FakeHost, port: int) -> Iterator[subprocess.Popen[str]]:
    """A program on the host that listens on a port."""
    lines = (
        "import signal, socket",
        f"kept = socket.create_server(('', {port}))",
        "print('up', flush=True)",
        "signal.pause()",
    )
    program = "\n".join(lines)
    process = host.spawn("/usr/bin/python3", "-c", program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_mapping_comes_and_goes(either: NatMap) -> None:
    said = either.do("dnat", "8080:10.0.0.10:80")
    assert "netns_natmap" in said
    assert either.entries() == {"dnat 8080:10.0.0.10:80/tcp": "live"}
    assert either.do("dnat", "8080:10.0.0.10:80") == "# nothing to do\n"
    assert "10.0.0.10 . 80" in either.ruleset()
    assert "8080:10.0.0.10:80/tcp" in either.host.run("cat", "/var/lib/netns-tools/natmap-host.json").stdout
    either.do("dnat", "8080:10.0.0.10:80", "--delete")
    assert either.entries() == {}
    assert "10.0.0.10" not in either.ruleset()


def test_flags_of_natmap_and_lists_of_clients(either: NatMap) -> None:
    either.do(
        "dnat", "--ext-ip", "10.0.0.1", "--int-ip", "10.0.0.10", "--ports", "80,90-91", "--no-masquerade"
    )
    either.do("dnat", "81:10.0.0.10:80", "--allow-from", "10.1.0.0/16", "10.2.0.0/16", "--ext-if", "br0")
    assert set(either.entries()) == {
        "dnat 10.0.0.1:80:10.0.0.10:80/tcp",
        "dnat 10.0.0.1:90-91:10.0.0.10:90-91/tcp",
        "dnat 81:10.0.0.10:80/tcp --ext-if br0 --allow-from 10.1.0.0/16 --allow-from 10.2.0.0/16",
    }


def test_all_kinds_of_entries(either: NatMap) -> None:
    commands = [
        "snat --int-ip 10.0.0.0/24 --ext-if br0 --ext-ip 10.0.0.1 --exclude 10.0.0.0/8",
        "masquerade --int-ip 10.0.1.0/24 --ext-if br0",
        "hairpin --ext-ip 10.0.0.1 --int-ip 10.0.0.10 --proto tcp --ports 80",
        "policy-route --src-ip 10.0.0.5/32 --via 10.0.0.254 --table 1000",
    ]
    for command in commands:
        either.do(*command.split())
    assert either.entries() == dict.fromkeys(commands, "live")
    for command in commands:
        assert either.do(*command.split()) == "# nothing to do\n"
        either.do(*command.split(), "--delete")
    assert either.entries() == {}
    assert "1000" not in either.host.run("ip", "rule").stdout


def test_conflicts_are_refused_and_replaced(either: NatMap) -> None:
    either.do("dnat", "8080:10.0.0.10:80")
    assert "--replace" in either.do("dnat", "8080:10.0.0.11:80", code=1)
    either.do("dnat", "8080:10.0.0.11:80", "--replace")
    assert list(either.entries()) == ["dnat 8080:10.0.0.11:80/tcp"]


def test_a_port_with_a_listener_is_refused_by_name_of_its_program(either: NatMap) -> None:
    with listening(either.host, 8080) as program:
        said = either.do("dnat", "8080:10.0.0.10:80", code=1)
        assert f"(pid {program.pid})" in said
        assert "--force" in said
        assert either.entries() == {}
        either.do("dnat", "8081:10.0.0.10:80")
        assert f"(pid {program.pid})" in either.do("remap", "8081:8080", code=1)
        either.do("dnat", "8080:10.0.0.10:80", "--force")
    assert len(either.entries()) == 2


def test_a_free_port_is_told(either: NatMap) -> None:
    said = either.do("dnat", "0:10.0.0.10:80").splitlines()[0]
    assert list(either.entries()) == [said.removeprefix("# ")]
    answer = json.loads(either.do("--json", "dnat", "10.0.0.1:0:10.0.0.10:80"))
    assert answer["entries"][0]["command"] in either.entries()


def test_remap(either: NatMap) -> None:
    either.do("dnat", "8080:10.0.0.10:80")
    either.do("dnat", "8080:10.0.0.10:80/udp")
    either.do("remap", "8080:8081/udp")
    assert set(either.entries()) == {"dnat 8080:10.0.0.10:80/tcp", "dnat 8081:10.0.0.10:80/udp"}
    assert "no mapping of host port 9" in either.do("remap", "9:10", code=1)


def test_containers_without_docker_wait(either: NatMap) -> None:
    either.do("docker", "add", "web", "8888:80", "8443:443")
    assert set(either.entries().values()) == {"waiting"}
    assert len(either.entries()) == 4  # IPv4 and IPv6
    either.do("docker", "remap", "web", "8888:9999")
    either.do("docker", "rm", "web", "9999")
    assert set(either.entries()) == {
        "docker add web 0.0.0.0:8443:443/tcp",
        "docker add web [::]:8443:443/tcp",
    }
    assert "9999" in either.do("docker", "rm", "web", "9999", code=1)
    either.do("docker", "rm", "--all")
    assert either.entries() == {}


FILE = """
dnat:
  - 8080:10.0.0.10:80
  - {int_ip: 10.0.0.11, ports: [90, 91]}
masquerade:
  - {int_ip: 10.0.0.0/24, ext_if: br0}
"""


def test_files_are_applied_as_a_whole(either: NatMap) -> None:
    either.host.write("/run/a.yaml", FILE)
    planned = either.do("plan", "/run/a.yaml")
    assert either.entries() == {}
    assert "netns_natmap" in planned
    either.do("apply", "/run/a.yaml")
    assert len(either.entries()) == 4
    assert either.do("plan", "/run/a.yaml") == "# nothing to do\n"
    either.do("dnat", "7:10.0.0.10:7")
    either.do("apply", "--exact", "-", text="dnat: ['8080:10.0.0.10:80']\n")
    assert list(either.entries()) == ["dnat 8080:10.0.0.10:80/tcp"]


def test_a_batch_with_one_bad_entry_changes_nothing(either: NatMap) -> None:
    either.do("dnat", "8080:10.0.0.10:80")
    before = either.ruleset()
    for text, code in (
        ("dnat: ['81:10.0.0.10:80', '82:10.0.0.10:99999']\n", 2),
        ("dnat: ['81:10.0.0.10:80', '81:10.0.0.11:80']\n", 2),
        ("dnat: ['81:10.0.0.10:80']\nfoo: 1\n", 2),
        ("dnat: ['81:10.0.0.10:80', '8080:10.0.0.11:80']\n", 1),
    ):
        assert "error:" in either.do("apply", "-", code=code, text=text)
        assert "error:" in either.do("plan", "-", code=code, text=text)
        assert either.ruleset() == before
        assert list(either.entries()) == ["dnat 8080:10.0.0.10:80/tcp"]


def test_clear_restores_everything(natmap: NatMap) -> None:
    before = natmap.ruleset(), natmap.host.run("ip", "rule").stdout
    forward = natmap.host.run("cat", "/proc/sys/net/ipv4/ip_forward").stdout
    natmap.do("apply", "-", text=FILE)
    natmap.do("policy-route", "--src-ip", "10.0.0.5", "--via", "10.0.0.254")
    natmap.do("fwd")
    assert natmap.host.run("cat", "/proc/sys/net/ipv4/ip_forward").stdout == "1\n"
    natmap.do("clear")
    assert (natmap.ruleset(), natmap.host.run("ip", "rule").stdout) == before
    assert natmap.host.run("cat", "/proc/sys/net/ipv4/ip_forward").stdout == forward
    assert natmap.entries() == {}


def test_purge_takes_out_what_is_declared_too(natmap: NatMap) -> None:
    natmap.host.configure("natmap.yaml", "dnat: ['8080:10.0.0.10:80']\n")
    before = natmap.ruleset()
    natmap.start()
    wait_for(lambda: "10.0.0.10" in natmap.ruleset(), "what is declared is there")
    assert "stop it first" in natmap.do("purge", code=1)
    assert natmap.stop() == 0
    assert "10.0.0.10" in natmap.ruleset()
    natmap.do("purge")
    assert natmap.ruleset() == before


def test_flush_on_stop(natmap: NatMap) -> None:
    natmap.start("host", "--flush-on-stop")
    natmap.do("dnat", "8080:10.0.0.10:80")
    assert natmap.stop() == 0
    assert natmap.ruleset() == ""
    assert natmap.entries() == {"dnat 8080:10.0.0.10:80/tcp": "missing"}
    assert "add" in natmap.do("reload")
    assert natmap.entries() == {"dnat 8080:10.0.0.10:80/tcp": "live"}


def test_a_reload_with_a_mistake_changes_nothing(either: NatMap) -> None:
    either.host.configure("natmap-host.yaml", "dnat: ['8080:10.0.0.10:80']\n")
    either.do("reload")
    assert either.entries() == {"dnat 8080:10.0.0.10:80/tcp": "live"}
    before = either.ruleset()
    either.host.configure("natmap-host.yaml", "dnat: ['8080:10.0.0.10']\nfoo: 1\n")
    said = either.do("reload", code=2)
    assert "/etc/conf.d/netns/natmap-host.yaml:2:" in said
    assert either.ruleset() == before


def test_what_is_declared_is_not_removed_by_commands(either: NatMap) -> None:
    either.host.configure("natmap-host.yaml", "dnat: ['8080:10.0.0.10:80']\n")
    either.do("reload")
    said = either.do("dnat", "8080:10.0.0.10:80", "--delete", code=1)
    assert "/etc/conf.d/netns/natmap-host.yaml" in said


def test_a_corrupt_state_is_refused_and_kept(natmap: NatMap) -> None:
    natmap.do("dnat", "8080:10.0.0.10:80")
    before = natmap.ruleset()
    natmap.host.write("/var/lib/netns-tools/natmap-host.json", '{"version": 1')
    said = natmap.do("dnat", "8081:10.0.0.10:80", code=1)
    assert "natmap-host.json: the state file is corrupt" in said
    assert natmap.ruleset() == before
    assert natmap.host.run("cat", "/var/lib/netns-tools/natmap-host.json").stdout == '{"version": 1'


def test_import_of_a_state_of_natmap(either: NatMap) -> None:
    state: dict[str, Any] = {
        "dnats": [{"ext_ip": "10.0.0.1", "int_ip": "10.0.0.10", "proto": "tcp", "ports": "80"}],
        "snats": [],
        "hairpins": [],
        "policy_routes": [],
        "mapping": {},
    }
    either.do("import", "-", text=json.dumps(state))
    assert either.entries() == {"dnat 10.0.0.1:80:10.0.0.10:80/tcp": "live"}
    state["dnats"].append({"ext_ip": "10.0.0.1"})
    assert "dnats, entry 2 is not taken over" in either.do("import", "-", code=1, text=json.dumps(state))


def test_a_named_namespace_is_another_one(natmap: NatMap) -> None:
    natmap.host.run("ip", "netns", "add", "blue")
    natmap.do("--name", "blue", "dnat", "8080:10.0.0.10:80")
    natmap.do("docker", "--name", "blue", "add", "web", "1:1")
    assert natmap.ruleset() == ""
    assert "10.0.0.10" in natmap.host.nft("blue", "list", "ruleset")
    assert natmap.entries() == {}
    assert len(natmap.entries("blue")) == 3
    assert "there is no namespace red" in natmap.do("ls", "--name", "red", code=1)


def test_clear_says_which_settings_it_puts_back(either: NatMap) -> None:
    lines = "sysctl -w net.ipv4.ip_forward=0\nsysctl -w net.ipv6.conf.all.forwarding=0\n"
    either.do("fwd")
    assert either.do("clear", "--dry-run") == lines
    assert either.do("clear") == lines
    assert either.do("clear") == "# nothing to do\n"


def test_a_container_that_does_not_run_is_told(either: NatMap) -> None:
    said = "# nothing to do as long as the container does not run\n"
    either.do("dnat", "8080:10.0.0.10:80")
    assert either.do("docker", "add", "web", "8888:80") == said
    assert either.do("docker", "remap", "web", "8888:9999") == said
    assert either.do("docker", "rm", "web", "9999") == said
    assert either.entries() == {"dnat 8080:10.0.0.10:80/tcp": "live"}


def test_save_and_status(either: NatMap) -> None:
    either.do("dnat", "8080:10.0.0.10:80")
    assert either.do("save") == "/var/lib/netns-tools/natmap-host.json\n"
    status: dict[str, Any] = json.loads(either.do("status", "--json"))
    assert (status["name"], status["desired"], status["drift"]) == ("host", 1, False)
    assert "desired: 1\n" in either.do("status")


def test_only_one_daemon(natmap: NatMap) -> None:
    natmap.start()
    assert "runs already" in natmap.do("daemon", code=1)


def test_who_may_ask_the_daemon(natmap: NatMap) -> None:
    natmap.host.run("groupadd", "--system", "netns-natmap")
    natmap.start()
    socket = "/run/netns-tools/natmap-host.sock"
    assert natmap.host.run("stat", "-c", "%a %U %G", socket).stdout == "660 root netns-natmap\n"
    program = ("setpriv", f"--reuid={pwd.getpwnam('nobody').pw_uid}", "--regid=65534")
    environment = {**_environment(), "PYTHONPATH": natmap.host.project_for_all()}
    for groups, code in (("--clear-groups", 1), ("--groups=netns-natmap", 0)):
        done = natmap.host.run(
            *program, groups, *NATMAP, "dnat", "8080:10.0.0.10:80", check=False, env=environment, cwd="/"
        )
        assert done.returncode == code, done.stderr
        if code:
            assert "become a member of the group netns-natmap" in done.stderr
    assert natmap.entries() == {"dnat 8080:10.0.0.10:80/tcp": "live"}
