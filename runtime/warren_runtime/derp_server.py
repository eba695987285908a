"""A DERP relay as part of a service: upgrade handler, admission, forwarding, and the paths clients probe.

Who may use it is asked from outside; where packets go is decided by `warren_wire.derp.router`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from warren_wire.derp.frames import PROTOCOL_VERSION, PeerGoneReason
from warren_wire.derp.router import ConnectionId, DropReason, Router
from warren_wire.derp.server import DerpServerConnection, PacketSent, PreferredNoted, ServerEvent
from warren_wire.keys import NodePrivate, NodePublic

from .derp_connection import ClientConnection, CloseReason, DerpTimes
from .listener import RequestHead, UpgradeHandler, adopt

logger = logging.getLogger(__name__)

Admit = Callable[[NodePublic, str], Awaitable[bool]]
"""Whether the owner of a key, coming from an IP address, may use the relay."""

PATH: Final = "/derp"
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9.\-_:]{1,64}")
_UPGRADE_REQUIRED: Final = b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class DerpStats:
    """Gauges and counters since the start."""

    clients: int
    connections: int
    home_clients: int
    queued_bytes: int
    accepted: int
    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_sent: int
    packet_bytes_sent: int
    unknown_frames: int
    drops: Mapping[DropReason, int]
    closes: Mapping[CloseReason, int]
    peer_gone: Mapping[PeerGoneReason, int]


class DerpService:
    """One relay: give `upgrades()` and an application with `routes` to a `Listener`; `close` it first."""

    def __init__(
        self,
        server_key: NodePrivate,
        admit: Admit,
        *,
        times: DerpTimes | None = None,
        router: Router | None = None,
    ) -> None:
        self._key = server_key
        self._admit = admit
        self._times = times or DerpTimes()
        self._router = router or Router()
        self._all: set[ClientConnection] = set()
        self._admitted: dict[ConnectionId, ClientConnection] = {}
        self._flush_planned = False
        self._accepted = 0
        self._packets_received = 0
        self._past_received = 0
        self._past_sent = 0
        self._past_unknown = 0
        self._closes: Counter[CloseReason] = Counter()

    @property
    def public_key(self) -> NodePublic:
        return self._key.public

    def upgrades(self) -> dict[tuple[str, str], UpgradeHandler]:
        """For a listener. Old clients say `websocket` and mean the same raw frames."""
        return {(PATH, "derp"): self.upgrade, (PATH, "websocket"): self.upgrade}

    def routes(self, app: web.Application) -> None:
        """The plain HTTP paths that clients use to find out whether a relay is there and how far."""
        app.router.add_get(PATH, _upgrade_required)
        app.router.add_get("/derp/probe", _probe)
        app.router.add_get("/derp/latency-check", _probe)
        app.router.add_get("/generate_204", _generate_204)

    async def upgrade(self, head: RequestHead, transport: asyncio.Transport, leftover: bytes) -> None:
        """Serve one client until its connection ends."""
        if head.method != "GET" or _is_real_websocket(head):
            transport.write(_UPGRADE_REQUIRED)
            transport.close()
            return
        if head.headers.get("derp-fast-start") != "1":
            transport.write(self._switching_protocols())
        connection = ClientConnection(self, DerpServerConnection(self._key, os.urandom(24)), self._times)
        self._all.add(connection)
        try:
            adopt(transport, connection, leftover)
            introduced = await connection.introduced
            if introduced is None:
                return
            if await self._is_admitted(introduced.key, head.peer[0]):
                self._enter(connection, introduced.key)
            else:
                logger.info("relay client refused", extra={"peer": introduced.key.short()})
                connection.end(CloseReason.REFUSED)
            await connection.closed
        finally:
            connection.end(CloseReason.SERVER)

    def disconnect(self, key: NodePublic) -> int:
        """Close every connection of a key that is no longer allowed; how many there were."""
        ended = [
            connection
            for identity, connection in self._admitted.items()
            if self._router.key_of(identity) == key
        ]
        for connection in ended:
            connection.end(CloseReason.REFUSED)
        return len(ended)

    def close(self, reconnect_in_ms: int = 1000, try_for_ms: int = 60_000) -> None:
        """Tell every client that the relay restarts, and close."""
        for connection in list(self._all):
            connection.announce_restart(reconnect_in_ms, try_for_ms)

    def stats(self) -> DerpStats:
        router = self._router
        return DerpStats(
            clients=router.clients,
            connections=len(self._all),
            home_clients=router.home_clients,
            queued_bytes=router.queued_bytes,
            accepted=self._accepted,
            bytes_received=self._past_received + sum(item.bytes_received for item in self._all),
            bytes_sent=self._past_sent + sum(item.bytes_sent for item in self._all),
            packets_received=self._packets_received,
            packets_sent=router.forwarded_packets,
            packet_bytes_sent=router.forwarded_bytes,
            unknown_frames=self._past_unknown + sum(item.unknown_frames for item in self._all),
            drops={reason: router.drops[reason] for reason in DropReason},
            closes={reason: self._closes[reason] for reason in CloseReason},
            peer_gone={reason: router.peer_gone[reason] for reason in PeerGoneReason},
        )

    # What follows is called by connections.

    def connection_events(self, connection: ClientConnection, events: Sequence[ServerEvent]) -> None:
        identity = connection.identity
        assert identity is not None, "only admitted clients get this far"
        router = self._router
        router.note_active(identity)
        now = asyncio.get_running_loop().time()
        for event in events:
            if isinstance(event, PacketSent):
                self._packets_received += 1
                router.forward(identity, event.destination, event.packet, now)
            elif isinstance(event, PreferredNoted):
                router.note_preferred(identity, event.preferred)
        self._plan_flush()

    def connection_ended(self, connection: ClientConnection, reason: CloseReason) -> None:
        self._closes[reason] += 1
        self._all.discard(connection)
        self._past_received += connection.bytes_received
        self._past_sent += connection.bytes_sent
        self._past_unknown += connection.unknown_frames
        if connection.identity is not None:
            del self._admitted[connection.identity]
            self._router.disconnect(connection.identity)
            self._plan_flush()

    def take(self, identity: ConnectionId, max_bytes: int) -> bytes:
        return self._router.take(identity, max_bytes)

    def has_waiting(self, identity: ConnectionId) -> bool:
        return self._router.has_waiting(identity)

    async def _is_admitted(self, key: NodePublic, source: str) -> bool:
        try:
            async with asyncio.timeout(self._times.admission):
                return await self._admit(key, source)
        except TimeoutError:
            logger.warning("admission took too long, client refused", extra={"peer": key.short()})
            return False

    def _enter(self, connection: ClientConnection, key: NodePublic) -> None:
        if connection.is_ended:
            return
        identity, surplus = self._router.connect(key)
        self._accepted += 1
        self._admitted[identity] = connection
        for old in surplus:
            self._admitted[old].end(CloseReason.TOO_MANY)
        connection.accept(identity)

    def _plan_flush(self) -> None:
        # Once per turn of the loop: packets of many senders for one client leave in one write.
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        for identity in self._router.take_due():
            connection = self._admitted.get(identity)
            if connection is not None:
                connection.flush()

    def _switching_protocols(self) -> bytes:
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: DERP",
            "Connection: Upgrade",
            f"Derp-Version: {PROTOCOL_VERSION}",
            f"Derp-Public-Key: {self.public_key.raw.hex()}",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _is_real_websocket(head: RequestHead) -> bool:
    """Browsers wrap the frames in WebSocket messages, which is not served."""
    protocols = head.headers.get("sec-websocket-protocol", "").split(",")
    return head.upgrade == "websocket" and "derp" in {name.strip() for name in protocols}


async def _upgrade_required(_: web.Request) -> web.Response:
    return web.Response(status=426, text="DERP requires an upgrade of the connection\n")


async def _probe(_: web.Request) -> web.Response:
    return web.Response(headers={"Access-Control-Allow-Origin": "*"})


async def _generate_204(request: web.Request) -> web.Response:
    """What captive portals get wrong: an empty answer that repeats the challenge."""
    headers = {"Cache-Control": "no-cache, no-store, must-revalidate, no-transform, max-age=0"}
    challenge = request.headers.get("X-Tailscale-Challenge", "")
    if _CHALLENGE.fullmatch(challenge):
        headers["X-Tailscale-Response"] = f"response {challenge}"
    return web.Response(status=204, headers=headers)
