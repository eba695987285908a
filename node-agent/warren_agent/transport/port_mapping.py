"""Asks the home router for a port mapping: the socket and the clock of `paths.portmap`, and UPnP where the
router knows nothing better."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Final

from warren_agent.kernel.gateways import home_router
from warren_agent.paths import portmap_codec
from warren_agent.paths.counters import TransportCounters
from warren_agent.paths.portmap import MappingProtocol, PortMapper, Router
from warren_agent.transport.upnp_keeper import UpnpKeeper
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
        self,
        *,
        node: NodePrivate,
        listen_port: int,
        mark: int,
        protocols: frozenset[MappingProtocol],
        counters: TransportCounters,
        on_change: Callable[[], None],
    ) -> None:
        self._protocols = protocols
        self._mapper = PortMapper(internal_port=listen_port, nonce=nonce_of(node), protocols=protocols)
        self._upnp = UpnpKeeper(internal_port=listen_port, mark=mark, on_change=self._tell)
        self._mark = mark
        self._counters = counters
        self._on_change = on_change
        self._router: Router | None = None
        self._told: AddrPort | None = None
        self._socket: socket.socket | None = None
        self._look = asyncio.Event()
        self._wake = asyncio.Event()
        self._look.set()

    @property
    def external(self) -> AddrPort | None:
        return self._mapper.external or self._upnp.external

    def seen(self, protocol: MappingProtocol) -> bool:
        """Whether the router speaks it, as far as we asked."""
        match protocol:
            case MappingProtocol.NAT_PMP:
                return self._mapper.seen_pmp
            case MappingProtocol.PCP:
                return self._mapper.seen_pcp
            case MappingProtocol.UPNP:
                return self._upnp.seen

    def document(self) -> dict[str, Any]:
        """For people."""
        by = MappingProtocol.UPNP if self._mapper.external is None else self._mapper.by
        return {
            "enabled": [protocol.value for protocol in MappingProtocol if protocol in self._protocols],
            "router": None if self._router is None else str(self._router.gateway),
            "seen": [protocol.value for protocol in MappingProtocol if self.seen(protocol)],
            "external": None if self.external is None else str(self.external),
            "by": None if self.external is None or by is None else by.value,
        }

    def network_changed(self) -> None:
        """Look for the router anew."""
        self._look.set()
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled. The mapping stays then, since traffic goes on without the agent."""
        if not self._protocols:
            await asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_mapper(), name="nat-pmp-and-pcp")
            group.create_task(self._upnp.run(), name="upnp")

    async def release(self) -> None:
        """Give the mapping back: this node leaves the host."""
        self._mapper.release(time.monotonic())
        if self._socket is not None:
            self._step(self._socket)
        self._upnp.want(None)
        await self._upnp.release()

    async def _run_mapper(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            self._socket = sock
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
            loop.add_reader(sock.fileno(), self._readable, sock)
            try:
                while True:
                    if self._look.is_set():
                        self._look.clear()
                        found = await asyncio.to_thread(home_router, self._mark)
                        self._router = None if found is None else Router(*found)
                        self._mapper.set_router(self._router, time.monotonic())
                    self._step(sock)
                    await self._until(self._mapper.next_timeout())
                    self._mapper.handle_timeout(time.monotonic())
            finally:
                self._socket = None
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
        if MappingProtocol.UPNP in self._protocols:
            self._upnp.want(self._router if self._mapper.is_unanswered else None)
        self._tell()

    def _tell(self) -> None:
        self._counters.port_mapping_refused = self._mapper.malformed + self._upnp.refused
        if self.external != self._told:
            self._told = self.external
            logger.info("port mapping changed", extra={"endpoint": str(self._told or "")})
            self._on_change()

    def _readable(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, source = sock.recvfrom(_MAX_ANSWER_BYTES)
                if source[1] == portmap_codec.PORT:
                    self._mapper.receive_datagram(data, IPv4Address(source[0]), time.monotonic())
        self._wake.set()
