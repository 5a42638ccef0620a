"""HTTP on Unix sockets: both sides with each other, and each with hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netns_tools.errors import ConfigError, NetnsToolsError, Problem
from netns_tools.host import http, httpclient, unixserver, unixsocket
from netns_tools.host.http import BODY_MAX, HEAD_MAX, HttpServer
from netns_tools.host.httpclient import request
from netns_tools.host.httpmessage import Peer, Refused, Request, Response, error_of, refusal

NOBODY = 65534
BIG = "x" * (4 << 20)
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


class Server:
    """An HTTP server in a loop of its own."""

    def __init__(self, handle: Callable[[Request], Awaitable[Response]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.unforeseen: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.unforeseen.append(context))
        self.http = HttpServer(handle)
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def listen(self, path: Path, group: str = "") -> None:
        asyncio.run_coroutine_threadsafe(self.http.listen(str(path), group), self.loop).result(20)

    def close(self) -> None:
        async def end() -> None:
            self.http.close_all()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        self.loop.close()


async def answer(request: Request) -> Response:
    """What the server of these tests does."""
    match request.path:
        case ("echo", *_):
            peer = request.peer
            return Response(
                200,
                {
                    "method": request.method,
                    "path": request.path,
                    "query": request.query,
                    "body": request.body,
                    "peer": [peer.pid, peer.uid, peer.gid],
                },
            )
        case ("big",):
            return Response(200, BIG)
        case ("long", size):
            return Response(200, "x" * int(size))
        case ("busy",):
            raise Refused("port 80 is busy", hint="choose another")
        case ("bad",):
            raise ConfigError([Problem("no port", path="f", line=3, column=4, hint="give one")])
        case ("broken",):
            raise NetnsToolsError("nft failed")
        case ("mistake",):
            raise KeyError("lost")
        case ("unsayable",):
            return Response(200, {1, 2})
    raise Refused("nothing here", status=404)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(answer)
    yield made
    made.close()


@pytest.fixture
def path(server: Server, tmp_path: Path) -> Path:
    """A socket that the server listens on."""
    path = tmp_path / "s.sock"
    server.listen(path)
    return path


def connect(path: Path) -> socket.socket:
    connection = unixsocket.connect(str(path), 20)
    assert connection
    return connection


def everything(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def said(path: Path, data: bytes) -> tuple[int, Any]:
    """Status and JSON of the only answer to raw bytes after which nothing comes."""
    with connect(path) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        head, _, body = everything(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), head[:80]
        return int(head.split()[1]), json.loads(body)


def is_served(path: Path) -> bool:
    found = request(str(path), "GET", "/echo", timeout=20)
    return found is not None and found[0] == 200


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_and_its_answer(path: Path) -> None:
    found = request(str(path), "PUT", "/echo/a%2Fb/%C3%BC?x=1&y=%20", {"ports": [80, "90"]})
    assert found == (
        200,
        {
            "method": "PUT",
            "path": ["echo", "a/b", "ü"],
            "query": {"x": "1", "y": " "},
            "body": {"ports": [80, "90"]},
            "peer": [os.getpid(), os.getuid(), os.getgid()],
        },
    )


def test_without_a_body_there_is_none(path: Path) -> None:
    found = request(str(path), "GET", "/echo")
    assert found is not None
    assert found[1]["body"] is None


def test_a_long_answer(path: Path) -> None:
    assert request(str(path), "GET", "/big", timeout=60) == (200, BIG)


@pytest.mark.parametrize(
    ("word", "status", "said"),
    [
        ("busy", 409, {"error": "port 80 is busy", "hint": "choose another", "code": 1}),
        ("nowhere", 404, {"error": "nothing here", "code": 1}),
        ("broken", 500, {"error": "nft failed", "code": 1}),
    ],
)
def test_errors_as_json(path: Path, word: str, status: int, said: dict[str, Any]) -> None:
    assert request(str(path), "GET", f"/{word}") == (status, said)


def test_a_bad_configuration_keeps_its_problems(path: Path) -> None:
    found = request(str(path), "GET", "/bad")
    assert found is not None
    error = error_of(*found)
    assert isinstance(error, ConfigError)
    assert error.render() == "f:3:4: error: no port\n  hint: give one"
    assert error.exit_code == 2


@pytest.mark.parametrize("word", ["mistake", "unsayable"])
def test_a_mistake_of_ours_is_told_but_shows_no_traceback(server: Server, path: Path, word: str) -> None:
    found = request(str(path), "GET", f"/{word}")
    assert found is not None
    assert found[0] == 500
    assert found[1]["error"].startswith("internal error: ")
    assert "Traceback" not in found[1]["error"]
    assert [context["message"] for context in server.unforeseen] == [f"GET /{word}"]
    assert is_served(path)


def test_curl(path: Path) -> None:
    """A client that is not ours, with what it does by itself: form type, 100-continue, one line for two."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    body = json.dumps({"text": "y" * 100_000})
    command = ["curl", "-sS", "--max-time", "50", "--unix-socket", str(path), "-X", "POST", "-d", "@-"]
    done = subprocess.run(
        [*command, "-H", "Expect: 100-continue", "http://d/echo", "http://d/busy"],
        input=body,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert json.loads(first)["body"] == json.loads(body)
    assert json.loads(second)["error"] == "port 80 is busy"


def test_one_line_for_many_requests_at_once(path: Path) -> None:
    many = b"".join(b"GET /echo/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50))
    with connect(path) as connection:
        connection.sendall(many)
        connection.shutdown(socket.SHUT_WR)
        answers = everything(connection).split(b"HTTP/1.1 ")[1:]
    paths = [json.loads(text.partition(b"\r\n\r\n")[2])["path"][1] for text in answers]
    assert paths == [str(number) for number in range(50)]


def test_the_answer_comes_whole_to_one_who_said_everything_at_once(path: Path) -> None:
    status, body = said(path, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, body) == (200, BIG)


@pytest.mark.parametrize("size", range(100_000, 600_000, 40_000))
def test_the_last_piece_waits_for_its_reader(path: Path, size: int) -> None:
    """Some of these sizes leave a rest that neither the kernel nor ``drain`` holds up."""
    with connect(path) as connection:
        connection.sendall(b"GET /long/%d HTTP/1.1\r\nHost: x\r\n\r\n" % size)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1, socket.MSG_PEEK) == b"H"
        assert is_served(path)
        assert len(everything(connection).partition(b"\r\n\r\n")[2]) == size + 3


def test_head_and_http_1_0(path: Path) -> None:
    """No body after HEAD, and the line stays usable; HTTP/1.0 ends it."""
    with connect(path) as connection:
        connection.sendall(b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\nGET /echo HTTP/1.0\r\n\r\n")
        nothing, first, second = everything(connection).split(b"HTTP/1.1 200")
    assert nothing == b""
    assert first.endswith(b"\r\n\r\n")
    assert json.loads(second.partition(b"\r\n\r\n")[2])["method"] == "GET"


def test_a_chunked_body(path: Path) -> None:
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert said(path, head + b"3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n")[1]["body"] == [1, 2]


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"status\n", 400, "no HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "no HTTP"),
        (b"GET /echo HTTP/1.1\r\n\r\n", 400, "no HTTP"),  # no Host
        (b"GET /" + b"x" * HEAD_MAX + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "at most 16384 bytes"),
        (b"GET /echo HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"Host: x\r\n\r\n", 431, "at most"),
        (b"\xff" * (1 << 20), 431, "at most"),
        (b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "path"),
        (b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "path"),
        (b"GET /echo?a=1&a=2 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "twice"),
        (b"GET /echo?" + b"&a=" * 99 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400, "path"),
        (POST + b"Content-Length: 9999999\r\n\r\n", 413, "at most 4194304 bytes"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "no HTTP"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "no HTTP"),
        (POST + b"Content-Length: 10\r\n\r\nabc", 400, "no HTTP"),
    ],
)  # fmt: skip
def test_what_is_no_request(path: Path, data: bytes, status: int, word: str) -> None:
    found, body = said(path, data)
    assert (found, word in body["error"]) == (status, True), body
    assert is_served(path)


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe", b"[" * 300_000, b'{"a":1,"a":2}', b"NaN", b"-Infinity", b"1" * 5000, b"a=1&b=2"],
)
def test_what_is_no_json(path: Path, body: bytes) -> None:
    head = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    status, answer = said(path, head + body)
    assert status == 400
    assert "the body of the request" in answer["error"]


def test_a_body_that_is_too_long_whoever_counts(path: Path) -> None:
    found = request(str(path), "POST", "/echo", "x" * BODY_MAX, timeout=60)
    assert found == (413, {"error": f"the body of a request has at most {BODY_MAX} bytes", "code": 1})
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert said(path, head + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 65)[0] == 413
    fits = "x" * (BODY_MAX - 2)
    found = request(str(path), "POST", "/echo", fits, timeout=60)
    assert found is not None
    assert found[1]["body"] == fits


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_bytes_at_random(path: Path, data: bytes) -> None:
    """Whatever is said: an answer or none, and the next one is served."""
    with connect(path) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(POST + data)
            connection.shutdown(socket.SHUT_WR)
        assert everything(connection)[:9] in (b"", b"HTTP/1.1 ")
    assert is_served(path)


def test_many_long_bodies_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held of them is bounded, and given back with the connection."""
    monkeypatch.setattr(http, "_BODIES_MAX", 3_000_000)
    head = POST + b"Content-Length: 1000001\r\n\r\n"
    held = [connect(path) for _ in range(4)]
    for connection in held:
        connection.sendall(head + b" " * 1_000_000)
    for connection in held:
        connection.settimeout(0.01)
    wait_until(lambda: b"503" in b"".join(map(heard, held)))
    for connection in held:
        connection.close()
    text = "x" * 2_500_000
    wait_until(lambda: (request(str(path), "POST", "/echo", text, timeout=60) or (0,))[0] == 200)


def heard(connection: socket.socket) -> bytes:
    """What has come by now."""
    try:
        return connection.recv(4096)
    except (TimeoutError, ConnectionResetError):
        return b""


def test_slow_clients_harm_nobody(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They say nothing, or not all, or never read: they lose their line, and nobody waits for them."""
    monkeypatch.setattr(http, "_IDLE", 2.0)
    monkeypatch.setattr(http, "_LINGER", 0.2)
    silent = [connect(path) for _ in range(20)]
    half = connect(path)
    half.sendall(POST + b"Content-Length: 5\r\n\r\n12")
    deaf = connect(path)
    deaf.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: is_served(path))
    for connection in silent:
        assert everything(connection) == b""
        connection.close()
    assert b"408" in everything(half)
    half.close()
    wait_until(lambda: not server.http._clients)
    assert len(everything(deaf)) < len(BIG)
    deaf.close()


def test_drop_by_drop_is_too_slow_as_well(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_IDLE", 2.0)
    monkeypatch.setattr(http, "_LINGER", 0.2)
    with connect(path) as connection:
        connection.settimeout(0.05)
        received = b""
        deadline = time.monotonic() + 20
        while b"408" not in received:
            assert time.monotonic() < deadline
            with contextlib.suppress(TimeoutError):
                connection.sendall(b"X")
                received += connection.recv(4096)


def test_more_clients_than_there_is_room_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have been silent for the longest time make room."""
    monkeypatch.setattr(http, "_IDLE", 60.0)
    silent = [connect(path) for _ in range(unixserver._CLIENTS_MAX)]
    wait_until(lambda: is_served(path))
    assert everything(silent[0]) == b""
    silent[-1].sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert everything(silent[-1]).startswith(b"HTTP/1.1 200")
    for connection in silent:
        connection.close()


def test_mode_group_and_end(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    server.listen(path, "no-such-group-here")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert path.stat().st_gid == os.getgid()
    assert server.http.is_found(str(path))
    server.loop.call_soon_threadsafe(server.http.close, str(path))
    wait_until(lambda: not path.exists())
    assert request(str(path), "GET", "/echo") is None


def as_nobody(gid: int, what: Callable[[], str]) -> str:
    """What a process without any right of root's, in a group, has to say."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = "it failed"
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            text = what()
        except NetnsToolsError as error:
            text = error.render()
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may enter and write to."""
    with tempfile.TemporaryDirectory(prefix="netns-tools-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def group() -> grp.struct_group:
    return next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, NOBODY, os.getgid()))


@needs_root
def test_who_is_in_the_group_may_and_others_may_not(
    server: Server, public: Path, group: grp.struct_group
) -> None:
    path = public / "s.sock"
    server.listen(path, group.gr_name)
    assert path.stat().st_gid == group.gr_gid
    assert stat.S_IMODE(path.stat().st_mode) == 0o660

    def outcome() -> str:
        return json.dumps(request(str(path), "GET", "/echo", timeout=20))

    found = json.loads(as_nobody(group.gr_gid, outcome))
    assert found[0] == 200
    assert found[1]["peer"][1:] == [NOBODY, group.gr_gid]
    refused = as_nobody(NOBODY, outcome)
    assert f"not allowed to use {path}" in refused
    assert f"member of the group {group.gr_name}" in refused


@needs_root
def test_a_socket_that_cannot_be_given_to_its_group_is_none(public: Path, group: grp.struct_group) -> None:
    path = public / "s.sock"

    def outcome() -> str:
        unixsocket.bind(str(path), group.gr_name)[0].close()
        return "bound"

    assert f"cannot give {path} to the group {group.gr_name}" in as_nobody(NOBODY, outcome)
    assert not path.exists()
    assert as_nobody(group.gr_gid, outcome) == "bound"


def test_what_is_in_the_way(path: Path, tmp_path: Path) -> None:
    other = Server(answer)
    try:
        with pytest.raises(NetnsToolsError, match="somebody else does"):
            other.listen(path)
        plain = tmp_path / "file"
        plain.write_text("mine")
        with pytest.raises(NetnsToolsError, match="no socket"):
            other.listen(plain)
        assert plain.read_text() == "mine"
        with pytest.raises(NetnsToolsError, match="No such file"):
            other.listen(tmp_path / "none" / "s.sock")
        stale = tmp_path / "stale"
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(stale))
        other.listen(stale)
        assert is_served(stale)
    finally:
        other.close()
    assert is_served(path)


def test_a_socket_that_was_removed_is_made_again(server: Server, path: Path) -> None:
    path.unlink()
    assert not server.http.is_found(str(path))
    server.listen(path)
    assert is_served(path)


def test_nobody_there(tmp_path: Path) -> None:
    assert request(str(tmp_path / "none"), "GET", "/") is None
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(dead))
    assert request(str(dead), "GET", "/") is None


@contextlib.contextmanager
def answering(path: Path, serve: Callable[[socket.socket], object]) -> Iterator[None]:
    """A server for one client."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: "


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\n",
        b'{"code": 0}\n',
        OK + b"9\r\n\r\n{",
        OK + b"1\r\n\r\n{",
        OK + b"2\r\n\r\n\xff\xff",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        OK + b"30\r\n\r\n" + b" " * 30,
        None,
    ],
)
def test_a_daemon_that_answers_nonsense_or_nothing(tmp_path: Path, said: bytes | None) -> None:
    path = tmp_path / "s.sock"
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        if said is None:
            ended.wait(20)
        else:
            connection.sendall(said)

    with answering(path, serve):
        with pytest.raises(NetnsToolsError, match="did not answer GET /status"):
            request(str(path), "GET", "/status", timeout=0.5 if said is None else 20)
        ended.set()


def test_a_daemon_that_hangs_up(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    said = "did not answer GET /status: it closed the connection"
    with (
        answering(path, lambda connection: connection.recv(1000) and None),
        pytest.raises(NetnsToolsError, match=said),
    ):
        request(str(path), "GET", "/status")


def test_an_endless_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpclient, "_ANSWER_MAX", 1 << 20)
    path = tmp_path / "s.sock"

    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)

    with answering(path, pour), pytest.raises(NetnsToolsError, match="longer than"):
        request(str(path), "GET", "/status", timeout=20)


def test_an_answer_drop_by_drop_is_too_slow_as_well(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    never = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" ")
            never.wait(0.01)

    with answering(path, drip), pytest.raises(NetnsToolsError, match=r"no answer within 0\.5 s"):
        request(str(path), "GET", "/status", timeout=0.5)


def test_one_who_refuses_before_everything_is_said(tmp_path: Path) -> None:
    """It hangs up with most of the body unread: what it said is heard all the same."""
    path = tmp_path / "s.sock"
    said = b"HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\n{}"

    def refuse(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(said)

    with answering(path, refuse):
        assert request(str(path), "POST", "/apply", "x" * (8 << 20), timeout=20) == (413, {})


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(TEXT, TEXT, st.sampled_from([400, 403, 404, 409, 503]))
def test_a_refusal_is_the_same_at_the_other_end(message: str, hint: str, status: int) -> None:
    error = Refused(message, status=status, hint=hint)
    response = refusal(error)
    again = error_of(response.status, json.loads(json.dumps(response.body)))
    assert (again.render(), again.exit_code) == (error.render(), error.exit_code)
    assert response.status == status


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["error", "hint", "problems"]), inner)
        ),
        max_leaves=6,
    )
)
def test_an_error_is_made_of_whatever_was_answered(body: Any) -> None:
    error = error_of(400, body)
    assert isinstance(error.render(), str)
    assert error.exit_code


def test_h11_has_what_is_used() -> None:
    """The sentinels are compared by identity: a release without one would never end a connection."""
    assert Peer(1, 2, 3).uid == 2
    assert len({h11.IDLE, h11.SEND_RESPONSE, h11.DONE, h11.NEED_DATA}) == 4
