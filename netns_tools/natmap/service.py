"""The daemon of a NAT mapper: what happens, and when the kernel is made right again."""

from __future__ import annotations

import asyncio
import gc
import resource
import time

from netns_tools.errors import NetnsToolsError
from netns_tools.host.control import Answer
from netns_tools.host.docker import DockerWatch
from netns_tools.host.httpmessage import Request, Response
from netns_tools.kernel.addresswatch import AddressWatch, Nobody
from netns_tools.kernel.listener import Reservations
from netns_tools.kernel.nftmonitor import NftMonitor
from netns_tools.natmap import api
from netns_tools.natmap.mapper import Mapper
from netns_tools.natmap.table import FAMILY, TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.host.journal import Journal
    from netns_tools.paths import Paths

GROUP = "netns-natmap"
"""Whose members may use the socket."""

_CALM = 0.05
"""Seconds in which what happens is gathered before it is acted upon; a table that is gone cannot wait."""

_GLANCE = 0.25
"""Seconds from a change of anybody's rules to a look at Docker's chain."""

_RETRY = 5.0
"""Seconds until what failed is tried again without a reason."""

_SAFETY = 60.0
"""Seconds between looks at everything, in case that an event was lost."""

_MANY = 1000
"""Entries that come or go before the garbage collector is told of them."""

_STUCK = 20.0
"""Seconds that work may be due before the watchdog is no longer fed."""

_SPARE = 256
"""Descriptors that are not for keeping ports free: clients, Docker, the kernel."""


class NatMapper:
    """The service behind ``netns-natmap daemon`` (host.daemon.Service)."""

    def __init__(
        self, name: str, paths: Paths, docker: str, journal: Journal, *, flush: bool = False
    ) -> None:
        self.mapper = Mapper(name, paths, journal)
        self.mapper.reservations = Reservations(most=max(0, _descriptors() - _SPARE))
        self.journal = journal
        self.socket_problems: dict[str, str] = {}
        self._docker = DockerWatch(docker, self._containers_changed)
        self._docker_started = False
        self._flush = flush
        self._loaded = False
        self._monitor = NftMonitor(rules=True)
        self._watch = AddressWatch(Nobody())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._glance: asyncio.TimerHandle | None = None
        self._worked = 0.0
        self._counted = 0
        self._due = 0.0
        self._settled = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Apply what is wanted, then follow what happens."""
        self._loop = loop
        self.mapper.load()
        self._loaded = True
        self._watch.resync()
        self._follow_docker()
        self._work()
        self._settle()
        loop.add_reader(self._monitor.fileno(), self._hear)
        loop.add_reader(self._watch.fileno(), self._addresses_changed)
        loop.call_later(_SAFETY, self._look_again)

    def _settle(self) -> None:
        """Let the garbage collector not look at thousands of entries again and again: it takes 10 ms."""
        count = len(self.mapper.declared) + len(self.mapper.stored)
        if abs(count - self._settled) > _MANY:
            self._settled = count
            gc.collect()
            gc.freeze()

    def stop(self) -> None:
        """Follow nothing any more; mappings stay unless it was said otherwise."""
        if self._loop is not None:
            self._loop.remove_reader(self._monitor.fileno())
            self._loop.remove_reader(self._watch.fileno())
        for timer in (self._timer, self._glance):
            if timer is not None:
                timer.cancel()
        self._monitor.close()
        self._watch.close()
        if self._docker_started:
            self._docker.stop()
        if self._flush and self._loaded:  # what could not be read is not ours to take out
            self.mapper.withdraw()

    async def handle(self, request: Request) -> Response:
        """Answer a request of the socket. Raises ``NetnsToolsError``."""
        operation = api.read_request(request.method, request.path, request.query, request.body)
        if operation.names_containers():
            await self._look_for_containers()
        self._take_containers()
        self._hear()
        try:
            response = api.respond(operation, self.mapper)
            if operation.name == "status":
                response.body["docker"] = self._docker_status()
            return response
        finally:
            self._hear()
            self._follow_docker()
            self._settle()

    def reload(self) -> Answer:
        """Take the configuration anew."""
        self._take_containers()
        self.mapper.reload()
        self._follow_docker()
        return Answer("ok")

    def answer(self, command: str) -> Answer:
        """There are no words on this socket: it speaks HTTP."""
        return Answer(f"error: unknown command {command[:40]!r}", 2)

    def summary(self) -> str:
        """The state in a line."""
        mapper = self.mapper
        count = len(mapper.declared) + len(mapper.stored)
        parts = [f"{count} entr{'y' if count == 1 else 'ies'}"]
        if mapper.last_error:
            parts.append(f"not in force: {mapper.last_error}")
        if self._docker_started and not self._docker.connected:
            parts.append("Docker does not answer")
        return ", ".join(parts)

    def _docker_status(self) -> dict[str, object] | None:
        """None as long as no mapping is to a container."""
        docker = self._docker
        if not self._docker_started:
            return None
        return {
            "connected": docker.connected,
            "error": docker.error or None,
            "containers": len(docker.containers or ()),
        }

    def is_well(self) -> bool:
        """Whether work gets done."""
        return not self._due or time.monotonic() - self._due < _STUCK

    def sockets(self) -> list[str]:
        """None beside the standard one."""
        return []

    # what happens

    def _hear(self) -> None:
        """If somebody else changed rules since the last time, or may have, look at what that may be."""
        table = self.mapper.live.table
        own, self._counted = table.transactions - self._counted, table.transactions
        seen = self._monitor.read()
        if not (seen.lost or seen.generations > own):
            return
        self._ask_for_glance()
        if not (seen.lost or (FAMILY, TABLE) in seen.tables):
            return
        self.mapper.notice(True)
        # Connections break while the table is gone; but who fights us shall not have all our time.
        self._ask_for_work(max(0.0, self._worked + _CALM - time.monotonic()))

    def _addresses_changed(self) -> None:
        if self._watch.read():
            self._ask_for_work()

    def _containers_changed(self) -> None:
        """Called from a thread of Docker's watch."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._docker_told)

    def _docker_told(self) -> None:
        """Something about containers, or about Docker: a new one makes its chains anew."""
        self.mapper.live.forget_docker_user()
        self._ask_for_work()

    def _follow_docker(self) -> None:
        """Ask Docker from the first mapping to a container on."""
        if not self._docker_started and self.mapper.uses_containers():
            self._docker_started = True
            self._docker.start()

    async def _look_for_containers(self) -> None:
        """Have Docker say which containers there are now: its events may be on their way still."""
        try:
            await asyncio.to_thread(self._docker.list_now)
            self.journal.well("docker", "Docker answers again")
        except NetnsToolsError as error:
            self.journal.warning(f"{error.message}; {error.hint}", subject="docker")

    def _take_containers(self) -> None:
        self.mapper.containers = self._docker.containers

    def _look_again(self) -> None:
        assert self._loop is not None
        self._loop.call_later(_SAFETY, self._look_again)
        self.mapper.notice(True)
        self.mapper.live.forget_docker_user()
        self.mapper.look_at_ports()
        self._ask_for_work()

    def _ask_for_glance(self) -> None:
        """Somebody changed rules, maybe those of Docker's chain."""
        if self._glance is None and self._loop is not None:
            self._glance = self._loop.call_later(_GLANCE, self._look_at_docker_user)

    def _look_at_docker_user(self) -> None:
        self._glance = None
        self.mapper.live.forget_docker_user()
        self.mapper.live.docker_user()
        self._hear()

    def _ask_for_work(self, pause: float = _CALM) -> None:
        """Work in so many seconds at the latest."""
        assert self._loop is not None
        self._due = self._due or time.monotonic()
        when = self._loop.time() + pause
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._work)

    def _work(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._take_containers()
        self._hear()
        self._due = 0.0
        try:
            for line in self.mapper.reconcile():
                self.journal.info(line)
            self.journal.well("mappings", "all mappings are in force")
        except NetnsToolsError as error:
            text = f"not all mappings are in force: {error.message}"
            self.journal.error(f"{text}; {error.hint}" if error.hint else text, subject="mappings")
            self._ask_for_work(_RETRY)
        self._worked = time.monotonic()
        self._hear()


def _descriptors() -> int:
    """How many descriptors this process may have; as many as it is allowed to ask for."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
