"""sd_notify(3): what a service tells systemd, without libsystemd."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Speaks to the service manager that started us; says nothing to anybody when there is none.

    ``watchdog`` is the time in seconds within which a sign of life is expected
    (WATCHDOG_USEC, sd_watchdog_enabled(3)); 0 when none is.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # abstract (unix(7))
            self._address = "\0" + self._address[1:]
        meant_for_us = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        text = os.environ.pop("WATCHDOG_USEC", "")
        sensible = meant_for_us and text.isdecimal() and len(text) < 20  # the manager's own are 64 bits wide
        self.watchdog = int(text) / 1e6 if sensible and self._address else 0.0

    def send(self, *lines: str) -> None:
        """Send ``READY=1``, ``STATUS=...``, ``WATCHDOG=1``; that the manager is gone is no error.

        A manager that does not read makes us wait a tenth of a second, not for ever.
        """
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(0.1)
                connection.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return
