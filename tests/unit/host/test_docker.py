"""DockerWatch and servers that are not Docker: it survives each of them, says why, and recovers."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.errors import NetnsToolsError
from netns_tools.host import docker
from netns_tools.host.docker import Container, DockerWatch, read_containers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Answer = Callable[[socket.socket], None]


def entry(name: str = "web", **more: object) -> dict[str, object]:
    """A container as Docker lists it."""
    return {
        "Id": name,
        "Names": [f"/{name}"],
        "Labels": {},
        "State": "running",
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}},
        **more,
    }


def body(*entries: object) -> bytes:
    return json.dumps(entries).encode()


def says(text: bytes) -> Answer:
    """An answer of exactly these bytes, then the end."""
    return lambda connection: connection.sendall(text)


def plain(text: bytes) -> Answer:
    """A whole answer with its length."""
    return says(HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text)


def stays_silent(connection: socket.socket) -> None:
    """Keep the connection open until the client ends it."""
    while connection.recv(4096):
        pass


def quiet_events(connection: socket.socket) -> None:
    """An event stream without events."""
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    stays_silent(connection)


def endless(start: bytes, piece: bytes) -> Answer:
    """An answer that goes on as long as somebody reads."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return answer


def drips(connection: socket.socket) -> None:
    """A byte now and then: a timeout that starts anew with each byte never ends it."""
    text = HEAD + b"Content-Length: 1000000\r\n\r\n["
    for byte in itertools.chain(text, itertools.repeat(32)):
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


class Server:
    """A server on a unix socket that answers each request as it is told."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.list: Answer = plain(b"[]")
        self.events: Answer = quiet_events
        self.lists: list[float] = []
        """When each list was asked for, in seconds of ``time.monotonic``."""
        self.streams = 0
        self.requests: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for connection in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        Path(self.path).unlink()

    def cut(self) -> None:
        """End all connections there are."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.add(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = connection.recv(65536)
            self.requests.append(request)
            if request.startswith(b"GET /events "):
                self.streams += 1
                self.events(connection)
            else:
                self.lists.append(time.monotonic())
                self.list(connection)
        self._open.discard(connection)


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(f"{directory}/s")
        yield server
        server.close()


class Watch:
    """A DockerWatch and a wait for its calls."""

    def __init__(self, path: str) -> None:
        self._told = threading.Event()
        self.calls = 0
        self.docker = DockerWatch(path, self._tell)

    def _tell(self) -> None:
        self.calls += 1
        self._told.set()

    def until(self, true: Callable[[], bool], seconds: float = 5) -> None:
        """Wait for calls of ``changed`` until something is true."""
        deadline = time.monotonic() + seconds
        while True:
            self._told.clear()
            if true():
                return
            left = deadline - time.monotonic()
            assert self._told.wait(max(0, left)), (self.docker.containers, self.docker.error)

    def names(self) -> list[str] | None:
        known = self.docker.containers
        return None if known is None else [container.name for container in known]


@pytest.fixture
def watch(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(docker, "LIST_SECONDS", 0.5)
    watch = Watch(server.path)
    yield watch
    began = time.monotonic()
    watch.docker.stop()
    assert time.monotonic() - began < 1
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("docker-")]


def eventually(true: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


HOSTILE: dict[str, tuple[Answer, str]] = {
    "nothing": (says(b""), "Remote end closed connection|RemoteDisconnected|no HTTP"),
    "garbage": (says(bytes(range(256)) * 10), "no HTTP"),
    "status 500": (says(b"HTTP/1.1 500 Oh\x1b[2J no\r\nContent-Length: 2\r\n\r\n[]"), r"status 500 'Oh\\x1b"),
    "redirect": (says(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n"), "status 302"),
    "no content": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), "status 204"),
    "no JSON": (plain(b"<html>"), "no JSON"),
    "no UTF-8": (plain(b'["\xff\xfe"]'), "no JSON"),
    "deep JSON": (plain(b"[" * 100_000), "no JSON"),
    "huge number": (plain(b"[" + b"9" * 10_000 + b"]"), "no JSON"),
    "not a number": (plain(b"[NaN]"), "no container"),
    "an object": (plain(b'{"message": "no"}'), "no JSON list"),
    "no containers": (plain(body("web", 1)), "no container"),
    "no id": (plain(body({"Names": ["/web"]})), "no container"),
    "cut short": (says(HEAD + b"Content-Length: 100\r\n\r\n[]"), "ends in the middle"),
    "cut chunks": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"), "IncompleteRead"),
    "cut chunk": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n[]"), "IncompleteRead"),
    "no chunk": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n[]"), "IncompleteRead|no HTTP"),
    "negative chunk": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n[]\r\n"), "cannot list"),
    "huge chunk": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n[]"), "cannot list"),
    "silence": (stays_silent, "no answer within 0.5 s"),
    "slow": (drips, "no answer within 0.5 s"),
    "endless body": (endless(HEAD + b"\r\n[", b" " * 65536), "longer than|no answer"),
    "endless chunks": (
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n[]\r\n"),
        "no answer|longer",
    ),
    "endless line": (endless(b"", b"H" * 65536), "LineTooLong|no HTTP"),
    "endless head": (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), "no HTTP"),
    "endless continue": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "no answer"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bad_answer_keeps_the_last_good_list(kind: str, server: Server, watch: Watch) -> None:
    answer, reason = HOSTILE[kind]
    server.list = plain(body(entry("web")))
    watch.docker.start()
    watch.until(lambda: watch.names() == ["web"])
    server.list = answer
    server.cut()  # the end of the event stream asks for a list
    watch.until(lambda: re.search(reason, watch.docker.error) is not None)
    since = watch.docker.since
    assert not watch.docker.connected
    assert watch.names() == ["web"]
    assert watch.docker.error.startswith(f"cannot list the containers of Docker at {server.path}: ")
    assert watch.docker.error.isprintable()
    server.list = plain(body(entry("api"), entry("web")))
    watch.until(lambda: watch.names() == ["api", "web"])
    assert watch.docker.connected
    assert watch.docker.error == ""
    assert watch.docker.since > since


HOSTILE_EVENTS: dict[str, Answer] = {
    "nothing": says(b""),
    "garbage": says(bytes(range(256)) * 10),
    "status 500": says(b"HTTP/1.1 500 Oh no\r\nContent-Length: 0\r\n\r\n"),
    "redirect": says(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n"),
    "no JSON": endless(HEAD + b"\r\n", b"<html>\n"),
    "no objects": endless(HEAD + b"\r\n", b"[1]\n"),
    "deep JSON": endless(HEAD + b"\r\n", b"[" * 100_000 + b"\n"),
    "cut chunk": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{}"),
    "no chunk": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}"),
    "endless line": endless(HEAD + b"\r\n", b"x" * 65536),
    "slow": drips,
    "a storm": endless(HEAD + b"\r\n", b'{"Type": "container", "Action": "start"}\n' * 100),
}


@pytest.mark.parametrize("kind", HOSTILE_EVENTS)
def test_bad_events_only_cost_the_hint(kind: str, server: Server, watch: Watch) -> None:
    server.events = HOSTILE_EVENTS[kind]
    watch.docker.start()
    watch.until(lambda: watch.names() == [])
    server.list = plain(body(entry("web")))
    watch.until(lambda: watch.names() == ["web"], 2)
    assert watch.docker.connected
    assert watch.docker.error == ""
    # When the server is itself again, an event is a hint again.
    happens = threading.Event()

    def events(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"\r\n")
        happens.wait(10)
        connection.sendall(b'{"Type": "container", "Action": "die"}\n')
        stays_silent(connection)

    before = server.streams
    server.events = events
    server.cut()
    eventually(lambda: server.streams > before)
    server.list = plain(body(entry("api")))
    happens.set()
    watch.until(lambda: watch.names() == ["api"], 2)


def test_reconnects_back_off(server: Server, watch: Watch) -> None:
    """A server that hangs up at once is asked for events after 0.1, 0.3, 0.7, 1.5 s, not in a tight loop."""
    server.events = says(b"")
    watch.docker.start()
    eventually(lambda: server.streams >= 2)
    time.sleep(1)
    assert server.streams <= 6
    assert len(server.lists) <= 14


def test_each_event_leads_to_a_list_at_once(server: Server, watch: Watch) -> None:
    send: list[socket.socket] = []

    def events(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        send.append(connection)
        stays_silent(connection)

    server.events = events
    watch.docker.start()
    eventually(lambda: bool(send))
    watch.until(lambda: watch.names() == [])
    for number in range(5):
        server.list = plain(body(entry(f"web{number}")))
        text = b'{"Type": "network", "Action": "connect"}\n'
        began = time.monotonic()
        for byte in b"%x\r\n" % len(text) + text + b"\r\n":
            send[0].sendall(bytes([byte]))  # a chunk may come in pieces
        watch.until(lambda wanted=f"web{number}": watch.names() == [wanted], 1)  # type: ignore[misc]
        assert time.monotonic() - began < 1


def test_events_that_change_no_address_are_passed_over(server: Server, watch: Watch) -> None:
    told = threading.Event()

    def events(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"\r\n")
        told.wait(10)
        for event in (
            {"Type": "container", "Action": "exec_create: sh -c true"},
            {"Type": "container", "Action": "exec_die"},
            {"Type": "container", "Action": "health_status: healthy"},
            {"Type": "image", "Action": "pull"},
            {"Type": "volume", "Action": "mount"},
        ):
            connection.sendall(json.dumps(event).encode() + b"\n")
            time.sleep(0.05)  # or several would lead to one list
        connection.sendall(b"\r\n\n")
        told.clear()
        stays_silent(connection)

    server.events = events
    watch.docker.start()
    eventually(lambda: bool(server.lists) and time.monotonic() - server.lists[-1] > 0.2)
    before = len(server.lists)
    told.set()
    eventually(lambda: not told.is_set())
    time.sleep(0.2)
    assert len(server.lists) <= before + 1  # the one that comes every 1.5 s


def test_a_lost_event_is_mended_within_two_seconds(server: Server, watch: Watch) -> None:
    watch.docker.start()
    # The lists of the start are over.
    eventually(lambda: bool(server.lists) and time.monotonic() - server.lists[-1] > 0.2)
    server.list = plain(body(entry("web")))
    watch.until(lambda: watch.names() == ["web"], 2)


def test_an_event_without_an_end_is_not_collected(server: Server, watch: Watch) -> None:
    server.events = HOSTILE_EVENTS["endless line"]
    watch.docker.start()
    eventually(lambda: server.streams >= 2)  # the watch has ended the first


def test_the_end_of_docker_is_seen_at_once(watch: Watch, server: Server) -> None:
    watch.docker.start()
    eventually(lambda: bool(server.lists) and time.monotonic() - server.lists[-1] > 0.2)
    Path(server.path).rename(f"{server.path}.gone")
    began = time.monotonic()
    server.cut()
    watch.until(lambda: not watch.docker.connected)
    assert time.monotonic() - began < 0.5
    Path(f"{server.path}.gone").rename(server.path)


def test_podman_sends_the_head_with_the_first_event(server: Server, watch: Watch) -> None:
    event = threading.Event()

    def events(connection: socket.socket) -> None:
        event.wait(10)
        connection.sendall(HEAD + b'\r\n{"Type": "container", "Action": "died", "status": "died"}\n')
        stays_silent(connection)

    server.events = events
    server.list = plain(body(entry("web")))
    watch.docker.start()
    watch.until(lambda: watch.names() == ["web"])
    time.sleep(0.7)  # longer than a request for the list may take
    assert server.streams == 1
    server.list = plain(body())
    event.set()
    watch.until(lambda: watch.names() == [], 1)
    assert server.streams == 1


def test_changed_is_called_for_changes_alone(server: Server, watch: Watch) -> None:
    server.list = plain(body(entry("web", Status="Up 1 minute")))
    watch.docker.start()
    watch.until(lambda: watch.names() == ["web"])
    known, calls = watch.docker.containers, watch.calls
    server.list = plain(body(entry("web", Status="Up 2 minutes")))
    before = len(server.lists)
    since = watch.docker.since
    eventually(lambda: len(server.lists) > before + 1 and watch.docker.since > since)
    assert watch.calls == calls == 1
    assert watch.docker.containers == known


def test_a_callback_whose_loop_is_closed_ends_nothing(server: Server) -> None:
    def changed() -> None:
        raise RuntimeError("Event loop is closed")

    watch = DockerWatch(server.path, changed)
    watch.start()
    eventually(lambda: watch.containers == ())
    server.list = plain(body(entry("web")))
    eventually(lambda: len(watch.containers or ()) == 1)
    watch.stop()


@pytest.mark.parametrize("hang", ["list", "events"])
def test_stop_waits_for_nobody(hang: str, server: Server) -> None:
    if hang == "list":
        server.list = stays_silent
    else:
        server.events = stays_silent
    watch = DockerWatch(server.path, lambda: None)
    watch.start()
    eventually(lambda: server.streams > 0)
    began = time.monotonic()
    watch.stop()
    assert time.monotonic() - began < 1
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("docker-")]


def test_stop_without_a_start() -> None:
    DockerWatch("/nonexistent", lambda: None).stop()


def test_what_is_asked(server: Server) -> None:
    DockerWatch(server.path, lambda: None).list_now()
    [request] = server.requests
    assert request.startswith(b"GET /containers/json HTTP/1.1\r\nHost: docker\r\n")
    assert request.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("path", "reason", "hint"),
    [
        ("/nonexistent/docker.sock", "No such file or directory", "start Docker"),
        ("/dev/null", "Connection refused", "start Docker"),
        ("/" + "x" * 200, "AF_UNIX path too long", "docker ps"),
    ],
)
def test_a_socket_that_is_none(path: str, reason: str, hint: str) -> None:
    watch = DockerWatch(path, lambda: None)
    with pytest.raises(NetnsToolsError, match=reason) as caught:
        watch.list_now()
    assert hint in caught.value.hint
    assert watch.containers is None


def test_a_list_that_fails_changes_nothing(server: Server) -> None:
    watch = DockerWatch(server.path, lambda: None)
    server.list = plain(body(entry("web")))
    watch.list_now()
    server.list = says(b"HTTP/1.1 500 no\r\n\r\n")
    with pytest.raises(NetnsToolsError, match="status 500"):
        watch.list_now()
    assert [container.name for container in watch.containers or ()] == ["web"]


# ---- what the answers mean


def read(**more: Any) -> Container:
    [container] = read_containers(body(entry(**more)))
    return container


def test_a_container_of_docker() -> None:
    networks = {
        "front": {"IPAddress": "10.1.0.2", "GlobalIPv6Address": "fd00:0::0002"},
        "back": {"IPAddress": "", "GlobalIPv6Address": ""},
    }
    container = read(Labels={"b": "2", "a": "1"}, NetworkSettings={"Networks": networks})
    assert container == Container(
        id="web",
        name="web",
        labels=(("a", "1"), ("b", "2")),
        running=True,
        network_mode="default",
        networks=(("back", "", ""), ("front", "10.1.0.2", "fd00::2")),
    )
    assert container.label("a") == "1"
    assert container.label("c") is None
    assert hash(container)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["/web"], "web"),
        (["/other/alias", "/web"], "web"),
        (["web"], "web"),
        ([], ""),
        (None, ""),
        ([1, None], ""),
        ("/web", ""),
    ],
)
def test_the_name(names: object, name: str) -> None:
    assert read(Names=names).name == name


@pytest.mark.parametrize(
    ("state", "running"),
    [
        ("running", True),
        ("paused", True),
        ("restarting", False),
        ("exited", False),
        ("dead", False),
        (None, False),
    ],
)
def test_states(state: object, running: bool) -> None:
    assert read(State=state).running is running


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "invalid IP",
        "fd00::1",
        "10.0.0.1/24",
        "010.0.0.1",
        " 10.0.0.1",
        "1",
        167772161,
        None,
        "",
        ["10.0.0.1"],
    ],
)
def test_what_is_no_ipv4_address_is_left_out(address: object) -> None:
    """libnftables would look up a name."""
    found = read(NetworkSettings={"Networks": {"n": {"IPAddress": address}}})
    assert found.networks == (("n", "", ""),)


@pytest.mark.parametrize("address", ["fe80::1%eth0", "10.0.0.1", "fd00::1/64", "::g"])
def test_what_is_no_ipv6_address_is_left_out(address: str) -> None:
    found = read(NetworkSettings={"Networks": {"n": {"GlobalIPv6Address": address}}})
    assert found.networks == (("n", "", ""),)


@pytest.mark.parametrize("missing", ["Names", "Labels", "State", "HostConfig", "NetworkSettings"])
def test_parts_that_are_missing_or_null(missing: str) -> None:
    whole = entry()
    whole[missing] = None
    assert len(read_containers(body(whole))) == 1
    del whole[missing]
    assert len(read_containers(body(whole))) == 1


def test_order_does_not_matter() -> None:
    assert read_containers(body(entry("a"), entry("b"))) == read_containers(body(entry("b"), entry("a")))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"Id": st.text(min_size=1)},
            optional=dict.fromkeys(("Names", "Labels", "State", "HostConfig", "NetworkSettings"), _JSON),
        )
    )
)
def test_any_json_in_any_place(entries: list[object]) -> None:
    found = read_containers(json.dumps(entries).encode())
    assert len(found) == len(entries)


@given(st.binary())
def test_any_bytes(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_containers(text)
