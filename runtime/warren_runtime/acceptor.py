"""Listening TCP sockets, and each accepted connection given away as a raw socket.

The event loop's own servers begin TLS before anybody can look at the first bytes or say no.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

OnConnection = Callable[[socket.socket, tuple[str, int]], None]
"""Gets a non-blocking socket, which it owns, and the address at its other end."""

BACKLOG: Final = 1024
_AT_ONCE: Final = 128
"""Connections taken in one turn of the loop: a flood must not keep it from everything else."""
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_PAUSE_SECONDS: Final = 1.0


class Acceptor:
    """Accepts until `close`."""

    def __init__(
        self, host: str, port: int, on_connection: OnConnection, *, reuse_port: bool = False
    ) -> None:
        """Listen; an empty host means every address of both families. OSError if that is not possible."""
        self._on_connection = on_connection
        self._loop = asyncio.get_running_loop()
        self._sockets = _listening(host, port, reuse_port)
        self._pauses: set[asyncio.TimerHandle] = set()
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    @property
    def port(self) -> int:
        """The port really used."""
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """The kernel refuses new connections; those given away go on. A second call does nothing."""
        for pause in self._pauses:
            pause.cancel()
        for listening in self._sockets:
            if listening.fileno() >= 0:
                self._loop.remove_reader(listening)
                listening.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(listening, error)
                    return
                # The connection ended before it was taken.
                continue
            accepted.setblocking(False)
            self._on_connection(accepted, (str(address[0]).removeprefix("::ffff:"), int(address[1])))

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        logger.warning("no connection can be accepted for now", extra={"reason": error.strerror})
        self._loop.remove_reader(listening)

        def resume() -> None:
            self._pauses.discard(pause)
            self._loop.add_reader(listening, self._accept, listening)

        pause = self._loop.call_later(_PAUSE_SECONDS, resume)
        self._pauses.add(pause)


def _listening(host: str, port: int, reuse_port: bool) -> list[socket.socket]:
    hosts = [host] if host else ["0.0.0.0", "::"]  # noqa: S104 - every address is what was asked for
    made: list[socket.socket] = []
    try:
        for each in hosts:
            family = socket.AF_INET6 if ":" in each else socket.AF_INET
            if family == socket.AF_INET6 and not host and not _has_v6():
                continue
            # Both families share the port that the first was given.
            wanted = made[0].getsockname()[1] if made else port
            made.append(
                socket.create_server((each, wanted), family=family, backlog=BACKLOG, reuse_port=reuse_port)
            )
            made[-1].setblocking(False)
    except OSError:
        for one in made:
            one.close()
        raise
    return made


def _has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
