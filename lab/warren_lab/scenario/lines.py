"""A TCP connection between two hosts that says whether it lives: a line goes there and comes back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from warren_lab.net import namespaces

PORT: Final = 7
CONNECT_SECONDS: Final = 20.0


class Lines:
    """An open connection from inside a namespace."""

    def __init__(self, namespace: str, address: str, port: int = PORT) -> None:
        self._socket = namespaces.inside(
            namespace, lambda: socket.create_connection((address, port), CONNECT_SECONDS)
        )
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def alive(self, timeout_seconds: float) -> bool:
        """Whether a line comes back in time over the same connection."""
        self._sent += 1
        line = f"{self._sent}\n".encode()
        self._socket.settimeout(timeout_seconds)
        try:
            self._socket.sendall(line)
            received = b""
            while not received.endswith(line):
                data = self._socket.recv(4096)
                if not data:
                    return False
                received += data
        except OSError:
            return False
        return True


@contextmanager
def echo_lines(namespace: str, port: int = PORT) -> Iterator[None]:
    """Answers each connection with what it sends."""
    server = namespaces.inside(namespace, lambda: socket.create_server(("0.0.0.0", port)))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), name="lines", daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                return

    thread = threading.Thread(target=serve, name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
