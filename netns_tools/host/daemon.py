"""What all daemons of ours have in common: one loop, sd_notify, a watchdog, signals, a control socket.

The work of a daemon is a ``Service``. Its effects run in the loop's own thread, so a service that
hangs feeds no watchdog, and systemd starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import traceback

from netns_tools.errors import NetnsToolsError
from netns_tools.host.control import Answer, ControlServer
from netns_tools.host.journal import Journal
from netns_tools.host.lock import make_directory
from netns_tools.host.notify import Notifier
from netns_tools.host.runtime import socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, Protocol

    from netns_tools.host.unixserver import UnixServer
    from netns_tools.paths import Paths

    class Service(Protocol):
        """What a daemon does. ``sockets``: paths beside the standard one on which it wants to be heard.

        ``socket_problems`` is filled by the daemon: path → why nobody listens there, "" where all is well.
        """

        socket_problems: dict[str, str]

        def start(self, loop: asyncio.AbstractEventLoop) -> None:
            """Begin: everything is applied once when this returns. Raises ``NetnsToolsError``."""

        def stop(self) -> None:
            """End; what was applied stays."""

        def reload(self) -> Answer:
            """Take the configuration anew and apply it. Raises ``NetnsToolsError`` if it is refused:
            then nothing has changed. That something in it could not be done is for the answer to say.
            """

        def answer(self, command: str) -> Answer:
            """Answer a command of the control socket."""

        def summary(self) -> str:
            """The state in a line, for ``systemctl status``."""

        def is_well(self) -> bool:
            """Whether work gets done; the watchdog is fed only then."""

        def sockets(self) -> list[str]:
            """Where to listen, beside the standard place."""


class Daemon:
    """Runs a service until SIGTERM.

    ``server``: what speaks on its sockets, unless it is commands of a line each. ``group``: whose
    members may use them.
    """

    def __init__(
        self,
        nstype: str,
        name: str,
        paths: Paths,
        service: Service,
        journal: Journal,
        *,
        server: UnixServer | None = None,
        group: str = "",
    ) -> None:
        self.path = socket_path(nstype, name, paths)
        self.service = service
        self.journal = journal
        self._notifier = Notifier()
        self._control = server or ControlServer(self._answer)
        self._group = group
        self._extra: set[str] = set()
        self._status = ""
        self._tasks: set[asyncio.Task[object]] = set()
        self._next_beat: asyncio.TimerHandle | None = None

    def run(self) -> int:
        """Run; the exit code. The caller holds the lock."""
        faulthandler.enable()  # systemd ends what hangs by SIGABRT: the journal should say where it hung
        return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unforeseen)
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        await self._control.listen(self.path, self._group)
        try:
            self.service.start(loop)
            await self._listen()
            self._status = self.service.summary()
            self._notifier.send("READY=1", f"STATUS={self._status}")
            self._beat()
            await ended.wait()
            self._notifier.send("STOPPING=1")
        finally:
            if self._next_beat is not None:
                self._next_beat.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._control.close_all()
            self.service.stop()
        return 0

    def _beat(self) -> None:
        """Tell systemd that we live and how it goes, several times within its patience."""
        interval = min(self._notifier.watchdog / 4, 10) if self._notifier.watchdog else 10
        self._next_beat = asyncio.get_running_loop().call_later(interval, self._beat)
        if self._notifier.watchdog and self.service.is_well():
            self._notifier.send("WATCHDOG=1")
        self.tell_status()
        if not all(map(self._control.is_found, {self.path, *self.service.sockets()})):
            self._begin(self._listen_again())

    def tell_status(self) -> None:
        """Tell systemd the state in a line, when it is another one."""
        status = self.service.summary()
        if status != self._status:
            self._status = status
            self._notifier.send(f"STATUS={status}")

    async def _listen_again(self) -> None:
        """Somebody removed a socket: without it a daemon that works seems not to run."""
        try:
            with contextlib.suppress(OSError):
                make_directory(os.path.dirname(self.path))
            await self._control.listen(self.path, self._group)
            self.journal.well(self.path, f"listening on {self.path}")
        except NetnsToolsError as error:
            self.journal.error(f"{error.message}; {error.hint}", subject=self.path)
        await self._listen()

    async def _listen(self) -> None:
        """Listen where the configuration says, and no longer where it said before."""
        wanted = set(self.service.sockets()) - {self.path}
        for path in self._extra - wanted:
            self._control.close(path)
        self._extra &= wanted
        problems = {}
        for path in sorted(wanted):
            try:
                await self._control.listen(path, self._group)
                self._extra.add(path)
                problems[path] = ""
                self.journal.well(path, f"listening on {path}")
            except NetnsToolsError as error:
                problems[path] = error.message
                self.journal.error(f"{error.message}; {error.hint}", subject=path)
        self.service.socket_problems = problems

    async def _answer(self, command: str) -> Answer:
        try:
            if command == "ping":
                return Answer("pong")
            if command == "reload":
                return await self._reload()
            return self.service.answer(command)
        except NetnsToolsError as error:
            return Answer(error.render(), error.exit_code)
        except Exception as error:
            self._unforeseen(asyncio.get_running_loop(), {"exception": error})
            return Answer(f"error: internal error: {type(error).__name__}: {error}", 1)

    async def _reload(self) -> Answer:
        try:
            answer = self.service.reload()
        except NetnsToolsError as error:
            self.journal.error(f"configuration not reloaded, the old one stays in force\n{error.render()}")
            raise
        await self._listen()
        self.journal.info("configuration reloaded")
        self.tell_status()
        return answer

    def _hangup(self) -> None:
        """SIGHUP: reload, as a task that nobody waits for."""
        self._begin(self._answer("reload"))

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unforeseen(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody expected: say where, and go on; the watchdog ends what cannot go on."""
        error = context.get("exception")
        text = str(context.get("message", "")) or "error"
        if isinstance(error, BaseException):
            frames = traceback.extract_tb(error.__traceback__)
            place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
            text = f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
            if os.environ.get("NETNS_TOOLS_TRACEBACK"):
                traceback.print_exception(error)
        self.journal.error(f"internal error: {text}; this is a mistake in netns-tools", subject="internal")
