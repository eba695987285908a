"""The host's own addresses, and when they change."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from warren_agent.kernel.addresses import change_socket, reachable, read_addresses
from warren_agent.paths.actions import IPAddress

SETTLE_SECONDS: Final = 0.3
POLL_SECONDS: Final = 30.0
"""Also without a signal: one that was lost must not leave us with wrong addresses for ever."""


class AddressWatch:
    """`current` are the addresses worth offering to peers; `on_change` is awaited when they changed."""

    def __init__(
        self, own_interface: str, on_change: Callable[[frozenset[IPAddress]], Awaitable[None]]
    ) -> None:
        """`on_change` gets the addresses that are gone."""
        self._own_interface = own_interface
        self._on_change = on_change
        self._changed = asyncio.Event()
        self.current: tuple[IPAddress, ...] = ()

    async def read(self) -> None:
        """Look now."""
        self.current = await asyncio.to_thread(lambda: reachable(read_addresses(), own=self._own_interface))

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        with change_socket() as sock:
            loop.add_reader(sock.fileno(), self._readable, sock)
            try:
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._changed.wait()
                    await asyncio.sleep(SETTLE_SECONDS)
                    self._changed.clear()
                    before = frozenset(self.current)
                    await self.read()
                    if before != frozenset(self.current):
                        await self._on_change(before - frozenset(self.current))
            finally:
                loop.remove_reader(sock.fileno())

    def _readable(self, sock: socket.socket) -> None:
        self._changed.set()
        while True:
            try:
                if not sock.recv(65536):
                    return
            except OSError as error:
                # ENOBUFS: messages were lost. What they said does not matter, only that they came.
                if error.errno != errno.ENOBUFS:
                    return
