"""A netns-natmap of a test: its daemon, its socket, and real clients and servers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netns_tools.errors import NetnsToolsError
from netns_tools.host.httpclient import request
from tests.kernel.addrset import wait_for
from tests.kernel.conftest import REPOSITORY

NATMAP = ("/usr/bin/python3", "-P", "-m", "netns_tools.cli.natmap")

Spawn = Callable[..., "subprocess.Popen[str]"]

# Says "NAME SOURCE" to who connects or sends, on IPv4 and IPv6; TCP then echoes.
_SERVER = """
import selectors, socket, sys
proto, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
waiting = selectors.DefaultSelector()
for family in (socket.AF_INET, socket.AF_INET6):
    one = socket.socket(family, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind(("", port))
    if proto == "tcp":
        one.listen(256)
    waiting.register(one, selectors.EVENT_READ, True)
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        one = key.fileobj
        if proto == "udp":
            _, source = one.recvfrom(64)
            one.sendto(f"{name} {source[0]}".encode(), source)
        elif key.data:
            taken, source = one.accept()
            taken.sendall(f"{name} {source[0]}\\n".encode())
            waiting.register(taken, selectors.EVENT_READ, False)
        else:
            try:
                said = one.recv(64)
            except OSError:
                said = b""
            if said:
                one.sendall(said)
            else:
                waiting.unregister(one)
                one.close()
"""

_CLIENT = """
import socket, sys
proto, address, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
one = socket.socket(family, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
one.settimeout(seconds)
try:
    one.connect((address, port))
    if proto == "udp":
        one.send(b"?")
    print(one.recv(64).decode().strip())
except ConnectionRefusedError:
    print("refused")
except TimeoutError:
    print("silence")
except OSError as error:
    print(error.strerror)
"""

# One connection (or one UDP socket) for good: a byte there and back, over and over, a line for each.
_TALK = """
import socket, sys
one = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
print(one.recv(64).decode().strip(), flush=True)
for line in sys.stdin:
    one.sendall(b"x")
    print(one.recv(1).decode(), flush=True)
"""

_DATAGRAMS = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(10)
one.connect((sys.argv[1], int(sys.argv[2])))
for line in sys.stdin:
    one.send(b"?")
    print(one.recv(64).decode().split()[0], flush=True)
"""

# Connects again and again, until its input ends; says how often, and what went wrong.
_CONNECTS = """
import select, socket, sys
done, wrong = 0, []
while not select.select([sys.stdin], [], [], 0.001)[0]:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as one:
            assert one.recv(64)
        done += 1
    except (OSError, AssertionError) as error:
        wrong.append(repr(error))
    if done == 20:
        print("going", flush=True)
print(done, flush=True)
print("; ".join(wrong), flush=True)
"""


class Namespace:
    """Where programs of a test run: ``words`` come before each command."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = [*words]
        self._running: list[subprocess.Popen[str]] = []

    def run(self, *command: str, check: bool = True, **options: Any) -> str:
        """What a command prints; with ``check`` a failure shows what it said."""
        done = subprocess.run(
            [*self.words, *command], capture_output=True, text=True, timeout=60, check=False, **options
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return str(done.stdout)

    def spawn(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A program that runs until ``close``."""
        made = subprocess.Popen([*self.words, *command], text=True, **options)
        self._running.append(made)
        return made

    def close(self) -> None:
        """End all programs."""
        for one in self._running:
            one.kill()
            one.communicate()
        self._running.clear()

    def serve(self, port: int, name: str, proto: str = "tcp") -> subprocess.Popen[str]:
        """Answer at a port with ``NAME SOURCE``."""
        one = self.spawn("python3", "-c", _SERVER, proto, str(port), name, stdout=subprocess.PIPE)
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        return one

    def reach(self, address: str, port: int, proto: str = "tcp", seconds: float = 10.0) -> str:
        """What is answered: ``NAME SOURCE``, ``refused``, ``silence`` after so many seconds, an error."""
        return self.run("python3", "-c", _CLIENT, proto, address, str(port), str(seconds)).strip()

    def talk(self, address: str, port: int) -> Talk:
        """A connection that lasts."""
        return Talk(self._piped(_TALK, address, port))

    def datagrams(self, address: str, port: int) -> Talk:
        """A UDP socket that goes on sending; ``again`` is who answers."""
        return Talk(self._piped(_DATAGRAMS, address, port), greeted=False)

    def connects(self, address: str, port: int) -> Connects:
        """Connect all the time, as long as something is done."""
        return Connects(self._piped(_CONNECTS, address, port))

    def _piped(self, program: str, address: str, port: int) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return self.spawn("python3", "-c", program, address, str(port), **pipes)


class Talk:
    """One connection that lasts."""

    def __init__(self, process: subprocess.Popen[str], *, greeted: bool = True) -> None:
        self._process = process
        self.greeting = self._line() if greeted else ""

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def again(self) -> str:
        """Send, and get the answer; "" when the connection has broken."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()


class Connects:
    """New connections, all the time: ``end`` says what went wrong."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"

    def end(self) -> str:
        """Stop; the errors there were."""
        return self._process.communicate("", timeout=60)[0].splitlines()[-1]


class Natmap:
    """The daemon of NAME and its socket. ``top``: the path of its / as the test sees it."""

    def __init__(self, spawn: Spawn, top: str, *words: str, docker: str = "", name: str = "host") -> None:
        self._spawn = spawn
        self._words = words
        self.name = name
        self.top = top
        self.socket = f"{top}/run/netns-tools/natmap-{name}.sock"
        self.state = f"{top}/var/lib/netns-tools/natmap-{name}.json"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("NETNS_", "DOCKER_"))},
            "PYTHONPATH": str(REPOSITORY),
            "DOCKER_HOST": docker or "/nonexistent/docker.sock",
        }
        self.process: subprocess.Popen[str] | None = None
        self.log = Path("/dev/null")

    def command(self, *words: str) -> list[str]:
        """The words of a command of netns-natmap."""
        return [*NATMAP, *self._words, "--name", self.name, *words]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return dict(self._environment)

    def launch(self, log: Path, *words: str) -> None:
        """Start the daemon, and do not wait."""
        self.log = log
        with log.open("a") as file:
            self.process = self._spawn(
                *self.command("daemon", *words), stderr=file, env=self._environment, cwd="/"
            )

    def start(self, log: Path, *words: str) -> None:
        """Start the daemon, and wait until it answers."""
        self.launch(log, *words)
        wait_for(self._is_up, "the daemon answers", 30)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return request(self.socket, "GET", "/health") is not None
        except NetnsToolsError:  # it ended meanwhile
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the daemon; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(timeout=30)
        self.process = None
        return status

    def end(self) -> int:
        """Wait until a daemon that was launched ends; its exit status."""
        assert self.process is not None
        status = self.process.wait(timeout=30)
        self.process = None
        return status

    def close(self) -> None:
        """Have nothing left behind."""
        if self.process is not None:
            self.stop(signal.SIGKILL)

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        found = request(self.socket, method, target, body, timeout=30)
        assert found is not None, f"nobody listens: {self.log.read_text()}"
        return found

    def do(self, method: str, target: str, body: Any = None) -> Any:
        """The JSON of an answer that has to be a good one."""
        status, said = self.ask(method, target, body)
        assert status == 200, said
        return said

    def add(self, *words: str, **more: object) -> Any:
        """Map ports by their words."""
        return self.do("POST", "/apply", {"dnat": [*words], **more})

    def states(self) -> dict[str, str]:
        """Command → state."""
        listed = self.do("GET", "/mappings")
        return {
            row["command"]: row["state"]
            for rows in listed.values()
            if isinstance(rows, list)
            for row in rows
            if isinstance(row, dict)
        }

    def mapping(self, container: str, port: int) -> str:
        """The state of the mapping of a host port to a container; it waits if both families do."""
        found = {
            row["state"]
            for row in self.do("GET", "/mappings")["docker"]
            if row["container_name"] == container and row["request"]["host_addr"].endswith(f":{port}")
        }
        return "waiting" if found == {"waiting"} else " ".join(sorted(found - {"waiting"}))


def soon(question: Callable[[], Any], answer: Any, seconds: float = 20.0) -> float:
    """Ask until the answer is this; how long that took, in seconds."""
    began = time.monotonic()
    while (said := question()) != answer:
        assert time.monotonic() - began < seconds, f"{said!r} instead of {answer!r} after {seconds:g} s"
        time.sleep(0.005)
    return time.monotonic() - began
