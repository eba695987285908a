"""One TCP connection between two hosts that is always busy: blocks go there and come back, in order.

It shows an interruption as a program would feel it: retransmissions and their back-off included.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final, Self

from warren_lab.errors import ProcessError
from warren_lab.net import namespaces

PORT: Final = 7070
BLOCK_BYTES: Final = 4096
EVERY_SECONDS: Final = 0.01
CONNECT_SECONDS: Final = 30.0
_NUMBER: Final = struct.Struct("!Q")


class Exchange:
    """From a namespace to an address that another one has, as long as it is open."""

    def __init__(self, near: str, far: str, address: str, port: int = PORT) -> None:
        self._server = namespaces.inside(far, lambda: socket.create_server(("0.0.0.0", port)))
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self._arrivals: list[float] = []
        self._fault = ""
        self._threads = [self._begin(self._echo)]
        self._client = namespaces.inside(
            near, lambda: socket.create_connection((address, port), CONNECT_SECONDS)
        )
        self._client.settimeout(None)
        self._threads += [self._begin(self._send), self._begin(self._receive)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for sock in (self._client, self._server):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    @property
    def blocks(self) -> int:
        """How many have come back."""
        with self._moved:
            return len(self._arrivals)

    def wait_for_block(self, since: float, timeout_seconds: float) -> float:
        """When the first block after `since` came back. Raises `ProcessError`."""
        deadline = time.monotonic() + timeout_seconds
        with self._moved:
            while True:
                for arrived in reversed(self._arrivals):
                    if arrived <= since:
                        break
                    found = arrived
                if self._arrivals and self._arrivals[-1] > since:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self._fault:
                    raise ProcessError(self._fault or f"no block came back for {timeout_seconds:.0f} s")
                self._moved.wait(left)

    def longest_stall(self, since: float, until: float) -> float:
        """Seconds of the longest silence that began or ended in this time."""
        with self._moved:
            times = list(self._arrivals)
        gaps = [
            later - earlier
            for earlier, later in itertools.pairwise(times)
            if later >= since and earlier <= until
        ]
        return max(gaps, default=0.0)

    def _begin(self, work: object) -> threading.Thread:
        assert callable(work)
        thread = threading.Thread(target=work, name="exchange", daemon=True)
        thread.start()
        return thread

    def _send(self) -> None:
        number = 0
        while not self._stopping.wait(EVERY_SECONDS):
            try:
                self._client.sendall(_NUMBER.pack(number) + bytes(BLOCK_BYTES - _NUMBER.size))
            except OSError as error:
                self._fail(f"the connection broke: {error}")
                return
            number += 1

    def _receive(self) -> None:
        expected = 0
        while True:
            try:
                block = _whole(self._client)
            except OSError as error:
                self._fail(f"the connection broke: {error}")
                return
            if not block:
                return
            number = _NUMBER.unpack_from(block)[0]
            if number != expected:
                self._fail(f"block {number} came back where {expected} was due")
                return
            expected += 1
            with self._moved:
                self._arrivals.append(time.monotonic())
                self._moved.notify_all()

    def _echo(self) -> None:
        try:
            sock, _ = self._server.accept()
            with sock:
                while data := sock.recv(65536):
                    sock.sendall(data)
        except OSError:
            return

    def _fail(self, reason: str) -> None:
        with self._moved:
            if not self._stopping.is_set():
                self._fault = reason
            self._moved.notify_all()


def _whole(sock: socket.socket) -> bytes:
    """One block, or nothing at the end."""
    parts, left = [], BLOCK_BYTES
    while left:
        part = sock.recv(left)
        if not part:
            return b""
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
