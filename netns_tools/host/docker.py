"""Docker's running containers, always up to date: the Engine API over its unix socket.

Events say that something may have changed, never what: each leads to a new list. A list now
and then mends events that were lost. Podman's compatible API works as well.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple, cast

from netns_tools.errors import NetnsToolsError

LIST_SECONDS = 5.0
"""How long one request for the list may take altogether."""

LIST_BYTES = 16 << 20
"""Longest list that is read; a container takes about 3 KiB of it."""

EVENT_BYTES = 1 << 20
"""Longest event that is read: it carries all labels of its container."""

_EVERY = 1.5  # seconds between lists without an event: lost ones are mended within 2 s
_SHARE = 20  # and at least so many times as long as a list takes, so that Docker has other work too
_BACKOFF = (0.1, 1.0)  # seconds before the first and before every later attempt, doubled in between
_STOP_SECONDS = 1.0

# Unversioned paths: Docker 29 refuses /v1.24, Docker 20.10 knows nothing above /v1.41.
_LIST = "/containers/json"
_EVENTS = "/events"


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the list shows it.

    ``networks`` holds (network, IPv4 address, IPv6 address); an address that is not there, or
    is none, is empty. ``network_mode`` is HostConfig.NetworkMode: ``host``, ``container:X``, ...
    """

    id: str
    name: str
    labels: tuple[tuple[str, str], ...]
    running: bool
    network_mode: str
    networks: tuple[tuple[str, str, str], ...]

    def label(self, key: str) -> str | None:
        """The value of a label; None when the container does not have it."""
        return next((value for name, value in self.labels if name == key), None)


class _Seen(NamedTuple):
    """What is known, replaced as a whole: readers are in another thread."""

    containers: tuple[Container, ...] | None = None
    connected: bool = False
    error: str = ""
    since: float = 0.0


class DockerWatch:
    """Follows the running containers in two threads of its own.

    ``changed()`` is called from one of them whenever ``containers``, ``connected`` or ``error``
    is another than before.
    """

    def __init__(self, socket: str, changed: Callable[[], None]) -> None:
        self._socket = socket
        self._changed = changed
        self._seen = _Seen()
        self._body = b""  # of the last good list
        self._state = threading.Condition()
        self._noting = threading.Lock()
        self._asked = 0.0  # when the list that is known was asked for
        self._stopping = False
        self._wanted = False
        self._wires: set[_Wire] = set()
        self._threads = [
            threading.Thread(target=self._keep_listing, name="docker-list", daemon=True),
            threading.Thread(target=self._keep_listening, name="docker-events", daemon=True),
        ]

    @property
    def containers(self) -> tuple[Container, ...] | None:
        """The running containers, by id; the last good list while Docker is away; None before the first."""
        return self._seen.containers

    @property
    def connected(self) -> bool:
        """Whether the last request was answered."""
        return self._seen.connected

    @property
    def error(self) -> str:
        """Why it was not; empty when it was."""
        return self._seen.error

    @property
    def since(self) -> float:
        """When a list came last, in seconds of ``time.monotonic``; 0 before the first."""
        return self._seen.since

    def start(self) -> None:
        """Begin to follow. A Docker that is not there is no error: it may come."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads, within a second also when Docker hangs. There is no second start."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
            for wire in self._wires:
                wire.abort()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def list_now(self) -> None:
        """Fetch the list in this thread, within 5 s. Raises ``NetnsToolsError``; then all stays as it was."""
        try:
            self._note(time.monotonic(), self._fetch())
        except _ERRORS as error:
            raise NetnsToolsError(self._explain(error), hint=_hint(error)) from None

    # ---- the list

    def _keep_listing(self) -> None:
        pauses = _pauses()
        took: deque[float] = deque(maxlen=3)
        while self._await_turn():
            began = time.monotonic()
            try:
                self._note(began, self._fetch())
            except _ERRORS as error:
                if not self._stopping:
                    self._publish(self._seen._replace(connected=False, error=self._explain(error)))
                pause = next(pauses)
            else:
                pauses = _pauses()
                took.append(time.monotonic() - began)
                # One that was slow by chance, as the first after a start of Docker, does not count.
                pause = max(_EVERY, _SHARE * min(took) if len(took) == took.maxlen else 0.0)
                # In a storm of events Docker gets as much time for its own work as lists cost it.
                self._rest(took[-1])
            self._await_wish(pause)

    def _fetch(self) -> bytes:
        """The list as Docker wrote it."""
        with self._open(_LIST, LIST_SECONDS) as response:
            body = response.read(LIST_BYTES + 1)
            if len(body) > LIST_BYTES:
                raise _AnswerError(f"its list is longer than {LIST_BYTES >> 20} MiB")
            if response.length:
                raise _AnswerError("its answer ends in the middle")
            return body

    def _note(self, asked: float, body: bytes) -> None:
        """Take over a list, which is nearly always the one that is known; not after one asked for later."""
        with self._noting:
            if asked < self._asked:
                return
            containers = self._seen.containers
            if containers is None or body != self._body:
                containers = read_containers(body)
                self._body = body
            self._asked = asked
            self._publish(_Seen(containers, True, "", time.monotonic()))

    def _publish(self, seen: _Seen) -> None:
        before, self._seen = self._seen, seen
        if before[:3] != seen[:3]:
            # The loop that is to be told may be closed already.
            with contextlib.suppress(RuntimeError):
                self._changed()

    def _await_turn(self) -> bool:
        """Take the wish for a list as granted; False when all is to end."""
        with self._state:
            self._wanted = False
            return not self._stopping

    def _await_wish(self, seconds: float) -> None:
        with self._state:
            self._state.wait_for(lambda: self._wanted or self._stopping, seconds)

    def _rest(self, seconds: float) -> None:
        with self._state:
            self._state.wait_for(lambda: self._stopping, seconds)

    def _want(self) -> None:
        with self._state:
            self._wanted = True
            self._state.notify_all()

    # ---- the events

    def _keep_listening(self) -> None:
        pauses = _pauses()
        while not self._stopping:
            began = time.monotonic()
            # A list says the same, and says it to those who ask.
            with contextlib.suppress(*_ERRORS):
                self._listen()
            if time.monotonic() - began > _BACKOFF[1]:
                pauses = _pauses()
            # That the stream has ended is an event too.
            self._want()
            self._rest(next(pauses))

    def _listen(self) -> None:
        """Read events until the stream ends.

        Podman sends the head of its answer together with the first event: nothing here has a
        time limit, and the list that follows a reconnect does not wait for it.
        """
        with self._wire(None) as wire:
            wire.ask(_EVENTS)
            self._want()
            response = _answer(wire)
            self._want()
            for line in _lines(response):
                if _matters(line):
                    self._want()

    # ---- the connection

    @contextlib.contextmanager
    def _open(self, path: str, seconds: float) -> Iterator[HTTPResponse]:
        with self._wire(time.monotonic() + seconds) as wire:
            wire.ask(path)
            yield _answer(wire)

    @contextlib.contextmanager
    def _wire(self, deadline: float | None) -> Iterator[_Wire]:
        """A connection that ``stop`` can cut."""
        with _Wire(deadline) as wire:
            wire.settimeout(LIST_SECONDS)
            wire.connect(self._socket)
            # Only now: what is not connected yet cannot be shut down.
            with self._state:
                if self._stopping:
                    raise _AnswerError("the watch has ended")
                self._wires.add(wire)
            try:
                yield wire
            finally:
                with self._state:
                    self._wires.discard(wire)

    def _explain(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            reason = f"no answer within {LIST_SECONDS:g} s"
        elif isinstance(error, OSError):
            reason = error.strerror or str(error)
        elif isinstance(error, HTTPException):
            reason = f"its answer is no HTTP ({type(error).__name__})"
        else:
            reason = str(error)
        return f"cannot list the containers of Docker at {self._socket}: {reason}"


class _AnswerError(Exception):
    """An answer that is none; the text says why."""


# ValueError and AttributeError: http.client on a head or a chunk that it does not expect.
_ERRORS = (OSError, HTTPException, _AnswerError, ValueError, AttributeError)


class _Wire(socket.socket):
    """A connection whose answer must be complete at a deadline (``time.monotonic``; None: whenever).

    The timeout of a socket alone starts anew with each byte.
    """

    def __init__(self, deadline: float | None) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._deadline = deadline

    def ask(self, path: str) -> None:
        """Send a request."""
        request = (
            f"GET {path} HTTP/1.1\r\nHost: docker\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        )
        self.sendall(request.encode("ascii"))

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """recv(2) until the deadline. Raises ``TimeoutError``."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self.settimeout(left)
        return super().recv_into(buffer, nbytes, flags)

    def abort(self) -> None:
        """End the connection; who reads from it sees its end."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


def _answer(wire: _Wire) -> HTTPResponse:
    response = HTTPResponse(wire, method="GET")
    response.begin()
    if response.status != 200:
        raise _AnswerError(f"it answers with status {response.status} {response.reason[:80]!r}")
    return response


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    """The lines of a stream, as they come."""
    rest = b""
    while piece := response.read1(65536):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > EVENT_BYTES:
            raise _AnswerError(f"an event is longer than {EVENT_BYTES >> 20} MiB")


def _matters(line: bytes) -> bool:
    """Whether an event may have changed an address; a health check makes three every few seconds."""
    if not line.strip():
        return False
    event = _decode(line)
    if not isinstance(event, dict):
        raise _AnswerError("an event is no JSON object")
    if event.get("Type", "container") not in ("container", "network"):
        return False
    action = event.get("Action", event.get("status"))
    return not (isinstance(action, str) and action.startswith(("exec", "health_status")))


def _pauses() -> Iterator[float]:
    pause, longest = _BACKOFF
    while True:
        yield pause
        pause = min(2 * pause, longest)


def _hint(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "the socket belongs to root and group docker: run as one of them"
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return "start Docker, or name its socket with the key 'docker'"
    return "ask Docker yourself: docker ps"


# ---- what the answers mean


def read_containers(body: bytes) -> tuple[Container, ...]:
    """The containers of an answer to ``GET /containers/json``, by id. Raises ``ValueError``."""
    entries = _decode(body)
    if not isinstance(entries, list):
        raise ValueError("its list is no JSON list")
    return tuple(sorted((_container(entry) for entry in entries), key=lambda container: container.id))


def _container(entry: object) -> Container:
    if not isinstance(entry, dict) or not _text(entry, "Id"):
        raise ValueError("its list holds something that is no container")
    networks = _mapping(_mapping(entry, "NetworkSettings"), "Networks")
    return Container(
        id=_text(entry, "Id"),
        name=_name(entry.get("Names")),
        labels=tuple(
            sorted((key, _text(labels, key)) for labels in [_mapping(entry, "Labels")] for key in labels)
        ),
        running=_text(entry, "State") in ("running", "paused"),
        network_mode=_text(_mapping(entry, "HostConfig"), "NetworkMode"),
        networks=tuple(sorted(_network(networks, name) for name in networks)),
    )


def _name(names: object) -> str:
    """The container's own name: the others are ``/OTHER/ALIAS``, what a --link calls it."""
    if isinstance(names, list):
        for name in names:
            if isinstance(name, str) and "/" not in name.removeprefix("/"):
                return name.removeprefix("/")
    return ""


def _network(networks: dict[str, object], name: str) -> tuple[str, str, str]:
    endpoint = _mapping(networks, name)
    return name, _address(endpoint, "IPAddress", 4), _address(endpoint, "GlobalIPv6Address", 6)


def _address(endpoint: dict[str, object], key: str, version: int) -> str:
    """An address in its canonical form; empty when there is none, or not one of that family."""
    try:
        address = ipaddress.ip_address(_text(endpoint, key))
    except ValueError:
        return ""
    # A scope ("%eth0") is no part of an address in a set.
    return str(address) if address.version == version and "%" not in str(address) else ""


def _text(mapping: dict[str, object], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def _mapping(mapping: dict[str, object], key: str) -> dict[str, object]:
    """A part that is a mapping; Docker writes null for an empty one."""
    value = mapping.get(key)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _decode(text: bytes) -> object:
    try:
        return cast(object, json.loads(text))
    except (ValueError, RecursionError):
        raise ValueError("its answer is no JSON") from None
