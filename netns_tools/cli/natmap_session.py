"""Who does what a command of ``netns-natmap`` asks for: the daemon of its NAME, or the command itself."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass

from netns_tools.cli.natmap_text import print_changes
from netns_tools.cli.output import print_json
from netns_tools.errors import NetnsToolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from netns_tools.host.lock import Lock
    from netns_tools.kernel.listener import Place
    from netns_tools.natmap.api import Operation
    from netns_tools.natmap.mapper import Mapper
    from netns_tools.paths import Paths

    Json = dict[str, Any]

_TYPE = "natmap"

_OTHERS = 10.0
"""Seconds to wait for one who has the lock and does not answer: another command, or a daemon that starts."""

_ANSWER = 60.0
"""Seconds to wait for the daemon's answer."""

_DOCKER = "/var/run/docker.sock"


@dataclass(frozen=True)
class Session:
    """Where a command works, and how it prints. ``socket``: of a daemon elsewhere; "" is the usual one."""

    name: str
    paths: Paths
    socket: str
    as_json: bool

    def change(self, operation: Operation) -> int:
        """Have something changed, and say what."""
        is_chosen = any(place.port == 0 for place in _places(operation))
        self._print(self.ask(operation), lambda answer: print_changes(answer, with_entries=is_chosen))
        return 0

    def show(self, operation: Operation, as_text: Callable[[Json], None]) -> Json:
        """Have something looked at, and print it; what there is."""
        answer = self.ask(operation)
        self._print(answer, as_text)
        return answer

    def _print(self, answer: Json, as_text: Callable[[Json], None]) -> None:
        if self.as_json:
            print_json(answer)
        else:
            as_text(answer)

    # Commands

    def ask(self, operation: Operation) -> Json:
        """Have an operation done, by the daemon if there is one. Raises ``NetnsToolsError``."""
        from netns_tools.host.lock import Held

        deadline, holder = time.monotonic() + _OTHERS, 0
        while True:
            answer = self._ask_daemon(operation)
            if answer is not None:
                return answer
            if self.socket:
                hint = "leave out --socket to do without a daemon"
                raise NetnsToolsError(f"nobody listens on {self.socket}", hint=hint)
            lock = self._lock()
            try:
                lock.acquire()
            except Held as held:
                if held.pid != holder:  # they are many, and each gets its work done
                    deadline, holder = time.monotonic() + _OTHERS, held.pid
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            try:
                return self._do(operation)
            finally:
                lock.release()

    def _lock(self) -> Lock:
        from netns_tools.host.runtime import lock_of

        return lock_of(_TYPE, self.name, self.paths)

    def _ask_daemon(self, operation: Operation) -> Json | None:
        """The daemon's answer; None when there is no daemon."""
        from netns_tools.host.httpclient import request
        from netns_tools.host.httpmessage import CONFLICT, error_of
        from netns_tools.host.runtime import socket_path
        from netns_tools.natmap.api import request_for

        path = self.socket or socket_path(_TYPE, self.name, self.paths)
        found = request(path, *request_for(operation), timeout=_ANSWER)
        if found is None:
            return None
        status, said = found
        if status < 400 and isinstance(said, dict):
            return said
        error = error_of(status, said)
        if status == CONFLICT and (who := self._listeners(operation)):
            error.message += f" ({who})"
        raise error

    def _listeners(self, operation: Operation) -> str:
        """Which programs listen on the ports that an operation wants, as far as we may know.

        The daemon itself cannot look into other processes.
        """
        from netns_tools.host.lock import Held
        from netns_tools.kernel import listener, netns

        lock = self._lock()
        try:
            lock.acquire()
            lock.release()
            return ""  # the daemon that answered is another one, or gone by now
        except Held as held:
            daemon = held.pid
        except NetnsToolsError:  # not root
            return ""
        netns.enter(self.name, self.paths)
        found = listener.in_the_way(listener.observe_listeners(), _places(operation))
        known = listener.processes({one.inode for _, one in found})
        lines = {
            f"{one} is {known[one.inode]}"
            for _, one in found
            if one.inode in known and known[one.inode].pid != daemon
        }
        return ", ".join(sorted(lines))

    def _do(self, operation: Operation) -> Json:
        """Do it in this process, which holds the lock."""
        gc.disable()  # this process ends soon: to look for cycles in 10,000 mappings takes longer
        mapper = self._mapper()
        mapper.load()
        self._look_for_containers(mapper, operation)
        return operation.do(mapper)

    def purge(self) -> None:
        """Take everything out of the kernel, whatever is wanted. Raises ``NetnsToolsError``."""
        from netns_tools.host.lock import Held
        from netns_tools.names import unit

        try:
            lock = self._lock_of_daemon()
        except Held as held:
            hint = f"stop it first: systemctl stop {unit(_TYPE, self.name)}"
            raise NetnsToolsError(held.message, hint=hint) from None
        try:
            mapper = self._mapper()
            try:
                mapper.load()
            except NetnsToolsError as error:
                mapper.journal.warning(f"{error.message}; everything is taken out all the same")
            mapper.withdraw()
        finally:
            lock.release()

    def _mapper(self) -> Mapper:
        """What works on the namespace, in which this process is from now on."""
        from netns_tools.host.journal import Journal
        from netns_tools.kernel import netns
        from netns_tools.natmap.mapper import Mapper

        class Warnings(Journal):
            """What is done is in the answer."""

            def info(self, text: str, *, subject: str = "") -> None:
                pass

        netns.enter(self.name, self.paths)
        return Mapper(self.name, self.paths, Warnings())

    def _look_for_containers(self, mapper: Mapper, operation: Operation) -> None:
        """Ask Docker where the containers are, if that matters."""
        asked = operation.arguments.get("entries", ())
        if not mapper.uses_containers() and not any(getattr(entry, "container", "") for entry in asked):
            return
        from netns_tools.host.docker import DockerWatch

        docker = DockerWatch(docker_socket(), lambda: None)
        try:
            docker.list_now()
        except NetnsToolsError as error:
            mapper.journal.warning(f"{error.message}; their mappings lead to where they were last")
        mapper.containers = docker.containers

    # The daemon

    def run_daemon(self, *, flush: bool) -> int:
        """Be the daemon of NAME until SIGTERM; the exit code. Raises ``NetnsToolsError``."""
        from netns_tools.host.daemon import Daemon
        from netns_tools.host.http import HttpServer
        from netns_tools.host.journal import Journal
        from netns_tools.kernel import netns
        from netns_tools.natmap.service import GROUP, NatMapper

        lock = self._lock_of_daemon()
        try:
            journal = Journal()
            netns.enter(self.name, self.paths)
            service = NatMapper(self.name, self.paths, docker_socket(), journal, flush=flush)
            server = HttpServer(service.handle)
            return Daemon(_TYPE, self.name, self.paths, service, journal, server=server, group=GROUP).run()
        finally:
            lock.release()

    def _lock_of_daemon(self) -> Lock:
        """The lock, after commands that have it are done. Raises ``Held``: there is a daemon already."""
        from netns_tools.host.lock import Held

        deadline = time.monotonic() + _OTHERS
        while True:
            lock = self._lock()
            try:
                lock.acquire()
            except Held:
                if self._is_daemon_there() or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            if self._is_daemon_there():  # somebody removed the file of its lock
                lock.release()
                raise Held(lock.what, 0)
            return lock

    def _is_daemon_there(self) -> bool:
        from netns_tools.host.httpclient import request
        from netns_tools.host.runtime import socket_path

        return request(socket_path(_TYPE, self.name, self.paths), "GET", "/health") is not None


def docker_socket() -> str:
    """The path of Docker's socket, by the environment as Docker's own commands have it. Raises
    ``NetnsToolsError``.
    """
    text = os.environ.get("DOCKER_HOST") or _DOCKER
    path = text.removeprefix("unix://")
    if not path.startswith("/"):
        message = f"DOCKER_HOST of the environment: {text!r} is no Unix socket of this machine"
        raise NetnsToolsError(message, hint="unset DOCKER_HOST: mappings lead to containers of this machine")
    return path


def _places(operation: Operation) -> Iterator[Place]:
    """The host ports that an operation wants; port 0 is one that is to be chosen."""
    from netns_tools.kernel.listener import Place
    from netns_tools.natmap.model import PROTOCOLS, Dnat

    given = operation.arguments
    if operation.name == "remap":
        host = given["host_ip"]
        families = (6 if ":" in host else 4,) if host else (4, 6)
        for proto in (given["proto"],) if given["proto"] else PROTOCOLS:
            for family in families:
                yield Place(proto, family, host, "", given["new_host_port"])
    elif operation.name == "apply":
        for entry in given["entries"]:
            if isinstance(entry, Dnat):
                for port in range(entry.ports.first, entry.ports.last + 1):
                    yield Place(entry.proto, entry.family, entry.host, entry.iface, port)
