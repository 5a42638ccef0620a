"""The daemon of an address set: what happens, and when it is acted upon."""

from __future__ import annotations

import asyncio
import json
import os
import time

from netns_tools.addrset.config import load_settings
from netns_tools.addrset.engine import Engine
from netns_tools.addrset.observed import Observed
from netns_tools.addrset.plan import ERROR, WAITING
from netns_tools.addrset.record import Record, record_path
from netns_tools.addrset.status import Process, metrics_of, status_of, summary_of
from netns_tools.errors import NetnsToolsError
from netns_tools.host.control import Answer
from netns_tools.host.docker import DockerWatch
from netns_tools.kernel import netns
from netns_tools.kernel.addresswatch import AddressWatch
from netns_tools.kernel.nftmonitor import NftMonitor
from netns_tools.kernel.nftset import Nft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.addrset.config import Settings
    from netns_tools.addrset.plan import SetPlan
    from netns_tools.host.journal import Journal
    from netns_tools.paths import Paths

_CALM = 0.02
"""Seconds between two changes while much happens; the first one of a burst is applied at once."""

_SHARE = 4
"""After a change that took a time, this many times that is left to others."""

_FIGHTS = 20
"""Repairs of what others do to our sets before it is taken for a fight, and slowed down."""

_TRUCE = 0.3
"""Seconds between repairs in a fight; every tenth of a minute without one ends it."""

_RETRY = 5.0
"""Seconds until what failed is tried again without a reason."""

_SAFETY = 60.0
"""Seconds between looks at everything, in case that an event was lost in a way nobody foresaw."""

_STUCK = 20.0
"""Seconds that work may be due before the watchdog is no longer fed."""


class AddressSets:
    """The service behind ``netns-addrset run`` (host.daemon.Service), and the one-time commands.

    Made inside the namespace: its sockets belong to the namespace that they are made in.
    """

    def __init__(self, name: str, paths: Paths, settings: Settings, journal: Journal) -> None:
        self.name = name
        self.paths = paths
        self.settings = settings
        self.journal = journal
        self.reload_error = ""
        self.socket_problems: dict[str, str] = {}
        self.observed = Observed()
        self.watch = AddressWatch(self.observed)
        self.monitor = NftMonitor()
        record = Record(record_path(name, paths), netns.cookie())
        record.load()
        self.engine = Engine(Nft(), self.monitor, record, self.observed, journal)
        self.docker: DockerWatch | None = None
        self._docker_socket = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the work that is to be done was asked for; 0: none is
        self._ended = 0.0  # when the last work ended
        self._pause = 0.0  # how long it is to rest after it
        self._fight = 0.0  # repairs of late, forgotten by and by
        self._fight_seen = 0.0
        self._started = time.time()

    # once

    def observe(self) -> None:
        """Look at everything once, without a loop: for ``plan`` and ``run --once``."""
        self.engine.configure(self.settings)
        self.watch.resync()
        if self.settings.docker:
            docker = DockerWatch(self.settings.docker, lambda: None)
            try:
                docker.list_now()
            except NetnsToolsError as error:
                self.journal.warning(f"{error.message}; what containers put into sets stays as it is")
            self.engine.containers = docker.containers

    def plans(self) -> list[SetPlan]:
        """What is to be done now."""
        return self.engine.plan()

    def apply_once(self) -> Answer:
        """Do it."""
        self.engine.reconcile()
        return self._verdict()

    # as a daemon

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Apply everything, then follow what happens."""
        self._loop = loop
        self.engine.configure(self.settings)
        self.watch.resync()
        self._follow_docker()
        self._work()
        loop.add_reader(self.watch.fileno(), self._addresses_changed)
        loop.add_reader(self.monitor.fileno(), self._rules_changed)
        loop.call_later(_SAFETY, self._look_again)
        loop.call_later(_RETRY, self._try_again)

    def stop(self) -> None:
        """Follow nothing any more; the sets stay as they are."""
        if self._loop is not None:
            self._loop.remove_reader(self.watch.fileno())
            self._loop.remove_reader(self.monitor.fileno())
            self.engine.save()
        if self.docker is not None:
            self.docker.stop()
        self.watch.close()
        self.monitor.close()

    def reload(self) -> Answer:
        """Take the configuration anew and apply it; a bad one leaves everything as it was, and raises."""
        try:
            settings = load_settings(self.name, self.paths)
        except NetnsToolsError as error:
            self.reload_error = error.render()
            raise
        self.reload_error = ""
        self.settings = settings
        self.engine.configure(settings)
        self._follow_docker()
        self._work()
        return self._verdict()

    def answer(self, command: str) -> Answer:
        """Commands of the control socket beside those that every daemon knows."""
        if command == "status":
            return Answer(json.dumps(self.status(), indent=2))
        if command == "metrics":
            return Answer(metrics_of(self._process(), self.engine, self.docker))
        if command == "apply":
            self.engine.forget_all()
            self.watch.resync()
            self._work()
            return self._verdict()
        return Answer(
            f"error: unknown command {command[:40]!r}; there are: ping status reload metrics apply", 2
        )

    def status(self) -> dict[str, object]:
        """The whole state."""
        return status_of(self._process(), self.settings, self.engine, self.docker)

    def summary(self) -> str:
        """The state in a line."""
        return summary_of(self.engine, self.docker)

    def sockets(self) -> list[str]:
        """The socket that the configuration asks for, beside the standard one."""
        return [self.settings.socket_path] if self.settings.socket_path else []

    def is_well(self) -> bool:
        """Whether work gets done."""
        return not self._due or time.monotonic() - self._due < _STUCK

    def _process(self) -> Process:
        return Process(
            self.name,
            os.getpid(),
            self._started,
            self.reload_error,
            self.socket_problems,
            self.watch.overruns,
        )

    def _verdict(self) -> Answer:
        """How the sets are, after they have been worked on."""
        bad = [s for s in self.engine.states.values() if s.state == ERROR]
        lines = [
            f"error: set {s.target.id}: {s.error}" + (f"\n  hint: {s.hint}" if s.hint else "") for s in bad
        ]
        for state in self.engine.states.values():
            if state.state == WAITING:
                lines.append(f"waiting: set {state.target.id}: {state.error}")
        return Answer("\n".join(["failed" if bad else "ok", *lines]), 1 if bad else 0)

    # what happens

    def _addresses_changed(self) -> None:
        if self.watch.read():
            self._ask_for_work()

    def _rules_changed(self) -> None:
        if self.engine.notice(self.monitor.read()):
            self._ask_for_work()

    def _containers_changed(self) -> None:
        """Called from a thread of Docker's watch."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ask_for_work)

    def _look_again(self) -> None:
        assert self._loop is not None
        self._loop.call_later(_SAFETY, self._look_again)
        self.watch.resync()
        self.engine.forget_all()
        self.engine.save()
        self._ask_for_work()

    def _try_again(self) -> None:
        assert self._loop is not None
        self._loop.call_later(_RETRY, self._try_again)
        if self.engine.failed():
            self.engine.retry_failed()
            self._ask_for_work()

    def _follow_docker(self) -> None:
        """Watch the Docker that the configuration names, or none."""
        socket = self.settings.docker
        if self.docker is not None and self._docker_socket == socket:
            return
        if self.docker is not None:
            self.docker.stop()
        self.docker = None
        self._docker_socket = socket
        self.engine.containers = None
        if socket:
            self.docker = DockerWatch(socket, self._containers_changed)
            self.docker.start()

    def _ask_for_work(self) -> None:
        """Work at once when nothing was done of late, else when the rest is over."""
        assert self._loop is not None
        now = time.monotonic()
        self._due = self._due or now
        if self._timer is not None:
            return
        pause = max(self._pause, _TRUCE if self._fight > _FIGHTS else 0.0)
        rest = self._ended + pause - now
        if rest <= 0:
            self._work()
        else:
            self._timer = self._loop.call_later(rest, self._work)

    def _work(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = time.monotonic()
        if self.docker is not None:
            self.engine.containers = self.docker.containers
        repairs = self.engine.repairs
        self.engine.reconcile()
        self._due = 0.0
        self._ended = time.monotonic()
        self._pause = max(_CALM, _SHARE * (self._ended - began))
        if self.engine.repairs > repairs:
            self._fight = max(0.0, self._fight - (began - self._fight_seen) * 2) + 1
            self._fight_seen = began
        if self.engine.is_outrun() and self._loop is not None:
            self._ask_for_work()
