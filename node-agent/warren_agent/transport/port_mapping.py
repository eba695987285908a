"""Asks the home router for a port mapping: the socket and the clock of `paths.portmap`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from warren_agent.kernel.gateways import home_router
from warren_agent.paths import portmap_codec
from warren_agent.paths.portmap import PortMapper, Router
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePrivate

logger = logging.getLogger(__name__)

_SO_MARK: Final = 36
_MAX_ANSWER_BYTES: Final = 1100


def nonce_of(node: NodePrivate) -> bytes:
    """The same for the life of the key: a router wants it back when a mapping is renewed after a restart."""
    return hashlib.blake2s(b"port mapping", key=node.raw, digest_size=12).digest()


class PortMapping:
    """`on_change` is called when `external` has changed."""

    def __init__(
        self, *, node: NodePrivate, listen_port: int, mark: int, on_change: Callable[[], None]
    ) -> None:
        self._mapper = PortMapper(internal_port=listen_port, nonce=nonce_of(node))
        self._mark = mark
        self._on_change = on_change
        self._told: AddrPort | None = None
        self._look = asyncio.Event()
        self._wake = asyncio.Event()
        self._look.set()

    @property
    def external(self) -> AddrPort | None:
        return self._mapper.external

    @property
    def seen_pmp(self) -> bool:
        return self._mapper.seen_pmp

    @property
    def seen_pcp(self) -> bool:
        return self._mapper.seen_pcp

    def network_changed(self) -> None:
        """Look for the router anew."""
        self._look.set()
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled. The mapping stays, since traffic goes on without the agent."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
            loop.add_reader(sock.fileno(), self._readable, sock)
            try:
                while True:
                    if self._look.is_set():
                        self._look.clear()
                        found = await asyncio.to_thread(home_router, self._mark)
                        self._mapper.set_router(None if found is None else Router(*found), time.monotonic())
                    self._step(sock)
                    await self._until(self._mapper.next_timeout())
                    self._mapper.handle_timeout(time.monotonic())
            finally:
                loop.remove_reader(sock.fileno())

    async def _until(self, deadline: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
                await self._wake.wait()
        self._wake.clear()

    def _step(self, sock: socket.socket) -> None:
        for data, gateway in self._mapper.datagrams_to_send():
            # A router that cannot be reached answers nothing, which the mapper waits for.
            with contextlib.suppress(OSError):
                sock.sendto(data, (str(gateway), portmap_codec.PORT))
        if self._mapper.external != self._told:
            self._told = self._mapper.external
            logger.info("port mapping changed", extra={"endpoint": str(self._told or "")})
            self._on_change()

    def _readable(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, source = sock.recvfrom(_MAX_ANSWER_BYTES)
                if source[1] == portmap_codec.PORT:
                    self._mapper.receive_datagram(data, IPv4Address(source[0]), time.monotonic())
        self._wake.set()
