"""Datagrams to a peer and back, fifty a second: when did the first answer come, when did traffic go on?

The answer to a datagram names when it was sent, so one that was under way at a change is told apart.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from warren_lab.errors import ProcessError
from warren_lab.net import namespaces

PORT: Final = 7
EVERY_SECONDS: Final = 0.02
_SENT: Final = struct.Struct("!d")


class Probe:
    """Sends from inside a namespace as long as it is open."""

    def __init__(self, namespace: str, address: str, port: int = PORT) -> None:
        self._target = (address, port)
        self._answered = threading.Condition()
        self._answers: list[tuple[float, float]] = []
        self._stop, self._wake = socket.socketpair()
        self._socket = namespaces.inside(namespace, _datagrams)
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        self._stop.close()
        self._socket.close()

    def wait_for_answer(self, since: float, timeout_seconds: float) -> float:
        """When the first datagram that was sent after `since` was answered. Raises `ProcessError`."""
        deadline = time.monotonic() + timeout_seconds
        with self._answered:
            while True:
                arrivals = [arrived for sent, arrived in self._answers if sent > since]
                if arrivals:
                    return min(arrivals)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ProcessError(f"{self._target[0]} answered nothing for {timeout_seconds:.0f} s")
                self._answered.wait(left)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                self._send(now)
                due = now + EVERY_SECONDS
            readable, _, _ = select.select([self._socket, self._stop], [], [], due - now if due > now else 0)
            if self._stop in readable:
                return
            if self._socket in readable:
                self._receive()

    def _send(self, now: float) -> None:
        try:
            self._socket.sendto(_SENT.pack(now), self._target)
        except OSError:
            # No way there yet: the interface is still to come.
            return

    def _receive(self) -> None:
        try:
            data = self._socket.recv(64)
        except OSError:
            return
        if len(data) == _SENT.size:
            with self._answered:
                self._answers.append((_SENT.unpack(data)[0], time.monotonic()))
                self._answered.notify_all()


@contextmanager
def echo(namespace: str, port: int = PORT) -> Iterator[None]:
    """Answers each datagram with itself."""
    sock = namespaces.inside(namespace, lambda: _datagrams(port))
    stop, wake = socket.socketpair()

    def serve() -> None:
        while True:
            readable, _, _ = select.select([sock, stop], [], [])
            if stop in readable:
                return
            try:
                data, source = sock.recvfrom(64)
                sock.sendto(data, source)
            except OSError:
                continue

    thread = threading.Thread(target=serve, name="echo", daemon=True)
    thread.start()
    try:
        yield
    finally:
        wake.close()
        thread.join()
        stop.close()
        sock.close()


def _datagrams(port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("0.0.0.0", port))
    return sock
