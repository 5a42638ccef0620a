"""A socket in front of Docker's that swallows events."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading


class DeafProxy:
    """Passes on requests and answers; a request for events is answered with a stream that stays empty."""

    def __init__(self, path: str, behind: str) -> None:
        self.path = path
        self.swallowed = 0
        """How many event streams were asked for."""
        self._behind = behind
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        for connection in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                piece = connection.recv(65536)
                if not piece:
                    break
                request += piece
            if b"/events" in request.split(b"\r\n", 1)[0]:
                self.swallowed += 1
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                return  # and stays open
            with socket.socket(socket.AF_UNIX) as docker:
                docker.connect(self._behind)
                docker.sendall(request)
                with docker.makefile("rb") as answer, connection.makefile("wb") as back:
                    shutil.copyfileobj(answer, back)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
