"""The control socket, with clients of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.host import control, unixsocket
from netns_tools.host.control import Answer, ControlServer, ask

BIG = "x" * (4 << 20)


async def answer(command: str) -> Answer:
    """What the server of these tests knows."""
    if command == "big":
        return Answer(BIG)
    return Answer("pong") if command == "ping" else Answer(f"error: unknown command {command!r}", 2)


class Server:
    """A control server in a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.control = ControlServer(answer)
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def listen(self, path: Path) -> None:
        asyncio.run_coroutine_threadsafe(self.control.listen(str(path)), self.loop).result(5)

    def close(self) -> None:
        async def end() -> None:
            self.control.close_all()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def path(server: Server, tmp_path: Path) -> Path:
    """A socket that the server listens on."""
    path = tmp_path / "s.sock"
    server.listen(path)
    return path


def connect(path: Path) -> socket.socket:
    connection = unixsocket.connect(str(path), 5)  # waits while too many wait
    assert connection is not None
    return connection


def everything(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(1 << 16):
        received += piece
    return received


def test_words_of_a_person(path: Path) -> None:
    with connect(path) as connection:
        connection.sendall(b"ping\n\nping\r\nnonsense\n")
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b"pong\npong\nerror: unknown command 'nonsense'\n"


def test_a_word_without_its_line_break(path: Path) -> None:
    with connect(path) as connection:
        connection.sendall(b"ping")
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b"pong\n"


def test_our_own_commands(path: Path) -> None:
    assert ask(str(path), "ping") == Answer("pong")
    assert ask(str(path), "what") == Answer("error: unknown command 'what'", 2)
    big = ask(str(path), "big")
    assert big is not None
    assert big.text == BIG


def test_nobody_there(tmp_path: Path, path: Path) -> None:
    assert ask(str(tmp_path / "none"), "ping") is None
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(dead))
    assert ask(str(dead), "ping") is None


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"x" * 5000 + b"\n",
        b"x" * (1 << 20),
        b"\0\xff\xfe\n",
        b'{"command": 5}\n',
        b'{"command"\n',
        b"[" * 3000 + b"\n",
        b"{" * 4000 + b"\n",
        b"{" + b'"a":{' * 700 + b"\n",
    ],
)
def test_hostile_requests(path: Path, request_bytes: bytes) -> None:
    with connect(path) as connection:
        try:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            assert b"error" in everything(connection)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was cut off while it sent on
    assert ask(str(path), "ping") == Answer("pong")


def test_slow_clients_harm_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that say nothing, and one that never reads a long answer: they lose their line, nobody waits."""
    monkeypatch.setattr(control, "_IDLE", 2.0)
    silent = [connect(path) for _ in range(20)]
    deaf = connect(path)
    deaf.sendall(b"big\n")
    assert ask(str(path), "ping") == Answer("pong")
    assert not select.select(silent, [], [], 0)[0]  # nobody had to go for that
    for connection in silent:
        assert everything(connection) == b""
        connection.close()
    gone = select.poll()
    gone.register(deaf, 0)
    assert gone.poll(20_000) == [(deaf.fileno(), select.POLLHUP)]
    with contextlib.suppress(ConnectionResetError):
        assert len(everything(deaf)) < len(BIG)
    deaf.close()


def test_more_clients_than_there_is_room_for(path: Path) -> None:
    """The one that is silent longest makes room, not the one that wants something now."""
    clients = [connect(path) for _ in range(200)]
    clients[0].close()
    assert ask(str(path), "ping") == Answer("pong")
    with contextlib.suppress(ConnectionResetError):
        assert clients[1].recv(1) == b""
    clients[-1].sendall(b"ping\n")
    assert clients[-1].recv(9) == b"pong\n"
    for connection in clients:
        connection.close()


def test_one_who_asks_without_end_lets_others_have_their_turn(path: Path) -> None:
    with connect(path) as connection:
        connection.sendall(b"ping\n" * 1500)
        assert ask(str(path), "ping") == Answer("pong")
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b"pong\n" * 1500


def test_a_socket_that_was_removed_is_made_again(server: Server, path: Path) -> None:
    assert server.control.is_found(str(path))
    path.unlink()
    assert not server.control.is_found(str(path))
    server.listen(path)
    assert server.control.is_found(str(path))
    assert ask(str(path), "ping") == Answer("pong")


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_mode_and_end(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    server.listen(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    server.loop.call_soon_threadsafe(server.control.close, str(path))
    wait_until(lambda: not path.exists())


def test_a_socket_that_took_the_place_of_ours_stays(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    server.listen(path)
    os.rename(path, tmp_path / "away")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        server.loop.call_soon_threadsafe(server.control.close_all)
        with pytest.raises(TimeoutError):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(5), server.loop).result(0.2)
        assert path.exists()


def test_what_is_in_the_way(server: Server, path: Path, tmp_path: Path) -> None:
    other = Server()
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
        assert ask(str(stale), "ping") == Answer("pong")
    finally:
        other.close()
    assert ask(str(path), "ping") == Answer("pong")


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"[]\n", b'{"text": "x"}\n', None])
def test_a_daemon_that_answers_nonsense_or_nothing(tmp_path: Path, said: bytes | None) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                if said is None:
                    time.sleep(0.5)
                else:
                    connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NetnsToolsError, match="did not answer 'ping'"):
            ask(str(path), "ping", timeout=0.2)
        thread.join()


def test_json_survives_everything(path: Path) -> None:
    with connect(path) as connection:
        connection.sendall(json.dumps({"command": "\ud800 \n\x1b"}).encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        assert json.loads(everything(connection))["code"] == 2
