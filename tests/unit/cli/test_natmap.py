"""Words and flags of netns-natmap: what the daemon is asked, and what is said of its answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netns_tools.cli import natmap, natmap_session
from netns_tools.cli.natmap_session import Session
from netns_tools.host.http import HttpServer
from netns_tools.host.httpmessage import UNKNOWN, Refused, Request, Response
from netns_tools.host.lock import Held
from netns_tools.natmap import api
from netns_tools.natmap.fields import render_entry
from netns_tools.paths import Paths

from .conftest import Machine, Output

CHANGED = api.written(["add element"], [{"command": "dnat 8080:10.0.0.10:80/tcp"}])


class Daemon:
    """Hears what it is asked by HTTP, and answers what it was told to."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.path = str(directory / "natmap.sock")
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: Any = CHANGED

    def __getattr__(self, name: str) -> Any:
        def do(**arguments: Any) -> Any:
            self.asked.append((name, arguments))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return do

    async def handle(self, request: Request) -> Response:
        return api.answer(self, request)

    def run(self, line: str) -> Output:
        """A command, its words without the program."""
        words = line.split()
        return self.machine.run_bare(*words, "--socket", self.path, command=natmap.command)

    def entries(self, line: str) -> list[str]:
        """The entries that a command asks to have."""
        self.asked.clear()
        result = self.run(line)
        assert result.code == 0, result.err
        (_, arguments), *more = self.asked
        assert more == []
        return [render_entry(entry) for entry in arguments["entries"]]

    def operation(self, line: str) -> tuple[str, dict[str, Any]]:
        """The operation that a command asks for, with the arguments that are not empty."""
        self.asked.clear()
        assert self.run(line).code == 0
        ((name, arguments),) = self.asked
        empty = {key for key, value in arguments.items() if value == "" or value is False}
        return name, {key: value for key, value in arguments.items() if key not in empty}


@pytest.fixture
def daemon(machine: Machine, tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(machine, tmp_path)
    listening, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        server = HttpServer(one.handle)
        await server.listen(one.path)
        listening.set()
        await asyncio.to_thread(ended.wait)
        server.close_all()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(20)
    yield one
    ended.set()
    thread.join()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dnat 8080:10.0.0.10:80", ["dnat 8080:10.0.0.10:80/tcp"]),
        ("dnat [2001:db8::1]:53:[fd00::1]:53/udp", ["dnat [2001:db8::1]:53:[fd00::1]:53/udp"]),
        ("dnat --int-ip 10.0.0.1 --ports 80,443", ["dnat 80:10.0.0.1:80/tcp", "dnat 443:10.0.0.1:443/tcp"]),
        ("dnat 8:10.0.0.1 --ext-if e0 --masquerade", ["dnat 8:10.0.0.1:8/tcp --ext-if e0 --masquerade"]),
        ("dnat 80:10.0.0.10 --no-masquerade", ["dnat 80:10.0.0.10:80/tcp"]),
        (
            "snat --int-ip 10.0.0.5 --ext-if eth0 --ext-ip 192.0.2.1",
            ["snat --int-ip 10.0.0.5/32 --ext-if eth0 --ext-ip 192.0.2.1"],
        ),
        ("masquerade --int-ip 10.0.0.0/24 --ext-if eth0", ["masquerade --int-ip 10.0.0.0/24 --ext-if eth0"]),
        (
            "hairpin --ext-ip 192.0.2.1 --int-ip 10.0.0.10 --ports 80 --lan-cidr 10.0.0.0/24",
            ["hairpin --ext-ip 192.0.2.1 --int-ip 10.0.0.10 --proto tcp --ports 80 --lan-cidr 10.0.0.0/24"],
        ),
        (
            "policy-route --src-ip 10.0.0.5 --via 192.0.2.254",
            ["policy-route --src-ip 10.0.0.5/32 --via 192.0.2.254 --table 100"],
        ),
        ("docker add web 127.0.0.1:8888:80/udp", ["docker add web 127.0.0.1:8888:80/udp"]),
        ("docker add /w [::]:80 [::]:81", ["docker add w [::]:80:80/tcp", "docker add w [::]:81:81/tcp"]),
        ("docker add web 80:10.0.0.5:81", ["dnat 80:10.0.0.5:81/tcp"]),
    ],
)  # fmt: skip
def test_entries(daemon: Daemon, line: str, expected: list[str]) -> None:
    assert daemon.entries(line) == expected
    assert daemon.asked[0][0] == "apply"


@pytest.mark.parametrize(
    "clients",
    [
        "--allow-from 10.1.0.0/16 --allow-from 10.2.0.0/16",
        "--allow-from 10.1.0.0/16,10.2.0.0/16",
        "--allow-from 10.1.0.0/16 10.2.0.0/16",
        "--allow-from=10.1.0.0/16 --allow-from 10.2.0.0/16",
    ],
)
@pytest.mark.parametrize(
    "line", ["dnat 80:10.0.0.10 {}", "dnat {} 80:10.0.0.10", "dnat {} --dry-run 80:10.0.0.10"]
)
def test_several_clients(daemon: Daemon, line: str, clients: str) -> None:
    assert daemon.entries(line.format(clients)) == [
        "dnat 80:10.0.0.10:80/tcp --allow-from 10.1.0.0/16 --allow-from 10.2.0.0/16"
    ]


def test_several_destinations_are_excluded(daemon: Daemon) -> None:
    line = "masquerade --int-ip 10.0.0.0/24 --exclude 10.0.0.0/8 192.168.0.0/16 --ext-if eth0"
    assert daemon.entries(line) == [
        "masquerade --int-ip 10.0.0.0/24 --ext-if eth0 --exclude 10.0.0.0/8 --exclude 192.168.0.0/16"
    ]


@pytest.mark.parametrize(
    ("line", "name", "arguments"),
    [
        ("docker rm web 8888", "remove", {"container": "web", "port": 8888}),
        ("docker rm w 53/udp", "remove", {"container": "w", "port": 53, "proto": "udp"}),
        ("docker rm web --all", "remove", {"container": "web", "port": 0}),
        ("docker rm --all", "remove", {"port": 0}),
        ("docker rm --id 7", "remove_id", {"id": 7}),
        ("docker remap web 80:0", "remap", {"container": "web", "host_port": 80, "new_host_port": 0}),
        (
            "remap 53:5353/udp --ext-ip 192.0.2.1",
            "remap",
            {"host_ip": "192.0.2.1", "host_port": 53, "new_host_port": 5353, "proto": "udp"},
        ),
        (
            "remap 80:81 --replace --force",
            "remap",
            {"host_port": 80, "new_host_port": 81, "replace": True, "force": True},
        ),
        ("clear", "clear", {}),
        ("fwd --dry-run", "forward", {"dry_run": True}),
        ("reload", "reload", {}),
    ],
)  # fmt: skip
def test_operations(daemon: Daemon, line: str, name: str, arguments: dict[str, Any]) -> None:
    found = daemon.operation(line)
    assert found == (name, arguments)


def test_what_is_added_can_be_deleted_by_the_same_words(daemon: Daemon) -> None:
    for line in (
        "dnat 8080:10.0.0.10:80 --allow-from 10.0.0.0/8",
        "masquerade --int-ip 10.0.0.0/24 --ext-if eth0",
    ):
        added = daemon.entries(line)
        assert daemon.entries(f"{line} --delete --dry-run") == added
        assert daemon.asked[0][0] == "delete"
        assert daemon.asked[0][1]["dry_run"] is True


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dnat", ["--int-ip is not given", "hint: add --int-ip", "--ports is not given"]),
        ("dnat 80:10.0.0.10 --int-ip 10.0.0.11", ["--int-ip: the mapping says this already"]),
        ("dnat 80:[::1]:80", ["systemd-socket-proxyd"]),
        ("dnat 192.0.2.1:80:[fd00::1]:80", ["IPv4", "IPv6"]),
        ("dnat 80:10.0.0.10 --allow-from 10.0.0.1/8", ["--allow-from: '10.0.0.1/8' has bits beyond"]),
        ("dnat 0:10.0.0.10:80 --delete", ["host port 0"]),
        ("dnat 80:10.0.0.10 --delete --force", ["--force has no meaning with --delete"]),
        ("docker add web 80 80", ["cannot both be"]),
        ("docker add -- -web 80", ["is no name or id of a container"]),
        ("docker rm web", ["CONTAINER and HOST_PORT"]),
        ("docker rm web 80 --all", ["CONTAINER and HOST_PORT"]),
        ("docker rm web 80/sctp", ["no protocol"]),
        ("remap 80", ["OLD:NEW"]),
        ("remap 80:81/icmp", ["no protocol"]),
        ("policy-route --src-ip 10.0.0.5 --via 192.0.2.1 --table main", ["--table: 'main' is no number"]),
        ("ls --name a/b", ["no namespace name"]),
        ("apply /nonexistent.yaml", ["cannot be read: No such file"]),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(daemon: Daemon, line: str, words: list[str]) -> None:
    result = daemon.run(line)
    assert result.code == 2
    for word in words:
        assert word in result.err
    assert daemon.asked == []


def test_a_file(daemon: Daemon) -> None:
    path = daemon.machine.write(
        "some.yaml", "dnat: ['80:10.0.0.1']\nsnat: []\ndocker: [{container: web, map: '[::]:1:2'}]\n"
    )
    assert daemon.entries(f"apply --exact {path}") == [
        "dnat 80:10.0.0.1:80/tcp",
        "docker add web [::]:1:2/tcp",
    ]
    assert daemon.asked[0][1]["exact"] is True
    assert daemon.asked[0][1]["dry_run"] is False
    daemon.entries(f"plan {path}")
    assert daemon.asked[0][1]["dry_run"] is True
    path.write_text("dnat: ['80:10.0.0.1', '80:10.0.0.2']\n")
    result = daemon.run(f"apply {path}")
    assert (result.code, len(daemon.asked)) == (2, 1)
    assert "some.yaml:1:" in result.err


def test_an_import_says_what_it_does_not_take(daemon: Daemon) -> None:
    text = (
        '{"dnats": [{"ext_ip": "192.0.2.1", "int_ip": "10.0.0.1", "proto": "tcp", "ports": "80"}], "odd": 1}'
    )
    path = daemon.machine.write("state.json", text)
    result = daemon.run(f"import {path}")
    assert result.code == 1
    assert "'odd' is not taken over" in result.err
    assert [render_entry(entry) for entry in daemon.asked[0][1]["entries"]] == [
        "dnat 192.0.2.1:80:10.0.0.1:80/tcp"
    ]
    path.write_text("[]")
    assert "is no state of natmap" in daemon.run(f"import {path}").err


def test_changes_are_printed(daemon: Daemon) -> None:
    assert daemon.run("dnat 80:10.0.0.1").out == "add element\n"
    assert daemon.run("dnat 0:10.0.0.1:80").out == "# dnat 8080:10.0.0.10:80/tcp\nadd element\n"
    assert daemon.run("dnat 80:10.0.0.1 --json").json == CHANGED
    assert daemon.run("--json dnat 80:10.0.0.1").json == CHANGED
    assert daemon.run("docker --json add web 80").json == CHANGED
    daemon.answer = api.written([])
    assert daemon.run("clear").out == "# nothing to do\n"


def test_a_refusal_is_told_as_it_would_be_without_a_daemon(daemon: Daemon) -> None:
    for status, code in ((UNKNOWN, 1), (400, 2)):
        daemon.answer = Refused("not so", status=status, hint="but so")
        result = daemon.run("remap 1:2")
        assert (result.code, result.out) == (code, "")
        assert result.err == "error: not so\n  hint: but so\n"


def test_ls(daemon: Daemon) -> None:
    line = daemon.entries("dnat 80:10.0.0.1")[0]
    (mapping,) = daemon.asked[0][1]["entries"]
    daemon.answer = api.listed([(mapping, {"state": api.MISSING, "origin": api.FILE})], ["tcp . 9"])
    result = daemon.run("ls 10.0.0.1")
    assert daemon.asked[-1] == ("list_mappings", {"filter": "10.0.0.1"})
    assert result.out.splitlines()[:3] == [
        "STATE    FROM  ENTRY",
        f"missing  file  {line}",
        "foreign: tcp . 9",
    ]
    assert "drifted" in result.out
    assert daemon.run("ls --json").json["drift"] is True
    daemon.answer = api.listed([], [])
    assert daemon.run("ls").out == "# nothing is wanted, and nothing is there\n"


def test_doctor(daemon: Daemon) -> None:
    daemon.answer = {"findings": [{"message": "drops it", "where": "table ip x", "command": "nft -f y"}]}
    result = daemon.run("doctor")
    assert result.code == 3
    assert result.out == "table ip x: drops it\n    nft -f y\n"
    assert daemon.run("doctor --json").code == 3
    daemon.answer = {"findings": []}
    result = daemon.run("doctor")
    assert (result.code, result.out) == (0, "# nothing is in the way\n")


def test_status_and_save(daemon: Daemon) -> None:
    daemon.answer = {
        "last_error": None,
        "drift": False,
        "count": 0,
        "path": "/x",
        "some": [1, 2],
        "in": {"a": 1},
    }
    assert daemon.run("status").out.splitlines() == [
        "last error: -", "drift: no", "count: 0", "path: /x", "some: 1, 2", "in:", "  a: 1",
    ]  # fmt: skip
    assert daemon.run("save").out == "/x\n"


def test_without_a_daemon_at_the_socket(machine: Machine) -> None:
    result = machine.run_bare("ls", "--socket", "/nonexistent.sock", command=natmap.command)
    assert result.code == 1
    assert "nobody listens on /nonexistent.sock" in result.err


def _commands() -> list[str]:
    inner = natmap.docker_group.commands
    return [*natmap.command.commands, *(f"docker {name}" for name in inner)]


@pytest.mark.parametrize("name", _commands())
def test_help(machine: Machine, name: str) -> None:
    result = machine.run_bare(*name.split(), "--help", command=natmap.command)
    assert result.code == 0
    examples = result.out.partition("Examples:\n")[2].partition("\n\n")[0]
    assert "netns-natmap" in examples
    assert max(map(len, result.out.splitlines())) <= 100


class _Queue:
    """A lock that others have, one after the other, before it can be had; each for three looks."""

    def __init__(self, others: int) -> None:
        self.looks = 0
        self.others = others

    def acquire(self) -> None:
        number, self.looks = self.looks // 3, self.looks + 1
        if number < self.others or self.others == 0:
            raise Held("netns-natmap@host", 100 + (number if self.others else 0))

    def release(self) -> None:
        pass


def test_a_command_waits_as_long_as_others_come_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are; but one that has the lock for good is told."""
    monkeypatch.setattr(natmap_session, "_OTHERS", 0.5)
    monkeypatch.setattr(Session, "_do", lambda _self, _operation: {"done": True})
    session = Session("host", Paths(str(tmp_path)), "", True)
    queue = _Queue(6)
    monkeypatch.setattr(Session, "_lock", lambda _self: queue)
    assert session.ask(api.Operation("status", {})) == {"done": True}
    queue = _Queue(0)
    with pytest.raises(Held, match="process 100"):
        session.ask(api.Operation("status", {}))
