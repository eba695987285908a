"""A DERP relay as part of a service: upgrade handler, admission, forwarding, and the paths clients probe.

Who may use it is asked from outside; where packets go is decided by `warren_wire.derp.router`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, Protocol

from aiohttp import web

from warren_wire import websocket
from warren_wire.derp.frames import PROTOCOL_VERSION, PeerGoneReason
from warren_wire.derp.router import ConnectionId, DropReason, Kind, Router
from warren_wire.derp.server import (
    ClientIntroduced,
    CloseRequested,
    DerpServerConnection,
    PacketForwarded,
    PacketsSent,
    PreferredNoted,
    ServerEvent,
    WatchRequested,
)
from warren_wire.errors import DecodeError
from warren_wire.keys import NodePrivate, NodePublic

from .derp_connection import ClientConnection, CloseReason, DerpTimes, RateLimit
from .listener import RequestHead, UpgradeHandler, adopt
from .pulse import Pulse
from .websocket_transport import WebSocketCarrier

logger = logging.getLogger(__name__)

Admit = Callable[[NodePublic, str], Awaitable[bool]]
"""Whether the owner of a key, coming from an IP address, may use the relay."""

PATH: Final = "/derp"
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9.\-_:]{1,64}")
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_UPGRADE_REQUIRED: Final = b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


QUEUE_DELAY_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histogram, in seconds."""


@dataclass(frozen=True, slots=True)
class DerpStats:
    """Gauges and counters since the start."""

    clients: int
    remote_clients: int
    watchers: int
    connections: int
    home_clients: int
    queued_bytes: int
    accepted: int
    fast_starts: int
    websockets: int
    pings: int
    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_sent: int
    packet_bytes_sent: int
    forwarded_in: int
    forwarded_out: int
    unknown_frames: int
    drops: Mapping[DropReason, int]
    closes: Mapping[CloseReason, int]
    handshake_failures: Mapping[CloseReason, int]
    peer_gone: Mapping[PeerGoneReason, int]
    queue_delays: tuple[int, ...]
    """Writes by how long their oldest packet had waited; one more than QUEUE_DELAY_BOUNDS."""
    queue_delay_seconds: float


class Outlet(Protocol):
    """A connection of any kind that the router has something for."""

    def flush(self) -> None: ...


class DerpService:
    """One relay: give `upgrades()` and an application with `routes` to a `Listener`; `close` it first."""

    def __init__(
        self,
        server_key: NodePrivate,
        admit: Admit,
        *,
        times: DerpTimes | None = None,
        router: Router | None = None,
        mesh_key: str = "",
        limit: RateLimit | None = None,
    ) -> None:
        self._key = server_key
        self._admit = admit
        self._times = times or DerpTimes()
        self.pulse = Pulse(self._times.keep_alive, self._times.keep_alive_jitter)
        self._router = router or Router()
        self._mesh_key = mesh_key
        self.sibling_key = mesh_key
        """What other workers of this relay prove; the region's key unless set otherwise."""
        self.on_relay: Callable[[str], None] = _ignore
        """Told the address of each other relay of the region that has called us."""
        self._limit = limit
        self._all: set[ClientConnection] = set()
        self._admitted: dict[ConnectionId, ClientConnection] = {}
        self._links: dict[ConnectionId, Outlet] = {}
        self._flush_planned = False
        self._announced = False
        self._accepted = 0
        self._fast_starts = 0
        self._websockets = 0
        self._packets_received = 0
        self._past_received = 0
        self._past_sent = 0
        self._past_unknown = 0
        self._past_pings = 0
        self._closes: Counter[CloseReason] = Counter()
        self._handshake_failures: Counter[CloseReason] = Counter()
        self._delays = [0] * (len(QUEUE_DELAY_BOUNDS) + 1)
        self._delay_seconds = 0.0

    @property
    def key(self) -> NodePrivate:
        return self._key

    @property
    def public_key(self) -> NodePublic:
        return self._key.public

    @property
    def router(self) -> Router:
        return self._router

    def upgrades(self) -> dict[tuple[str, str], UpgradeHandler]:
        """For a listener. Old clients say `websocket` and mean the same raw frames."""
        return {(PATH, "derp"): self.upgrade, (PATH, "websocket"): self.upgrade}

    def sibling_upgrades(self) -> dict[tuple[str, str], UpgradeHandler]:
        """For a listener that only other workers of this relay reach."""
        return {(PATH, "derp"): self._upgrade_sibling}

    def routes(self, app: web.Application) -> None:
        """The plain HTTP paths that clients use to find out whether a relay is there and how far."""
        app.router.add_get(PATH, _upgrade_required)
        app.router.add_get("/derp/probe", _probe)
        app.router.add_get("/derp/latency-check", _probe)
        app.router.add_get("/generate_204", _generate_204)

    def upgrade(
        self, head: RequestHead, transport: asyncio.Transport, leftover: bytes
    ) -> Coroutine[object, object, None]:
        """Serve one client, or one relay of the region, until its connection ends."""
        return self._serve(head, transport, leftover, Kind.REGION)

    async def _upgrade_sibling(
        self, head: RequestHead, transport: asyncio.Transport, leftover: bytes
    ) -> None:
        await self._serve(head, transport, leftover, Kind.SIBLING)

    async def _serve(
        self, head: RequestHead, transport: asyncio.Transport, leftover: bytes, kind: Kind
    ) -> None:
        answer = self._answer(head)
        if answer:
            transport.write(answer)
        if answer in (_UPGRADE_REQUIRED, _BAD_REQUEST):
            transport.close()
            return
        machine = DerpServerConnection(self._key, os.urandom(24))
        connection = ClientConnection(self, machine, self._times, limit=self._limit, kind=kind)
        self._all.add(connection)
        try:
            carried = WebSocketCarrier(connection) if _is_real_websocket(head) else connection
            adopt(transport, carried, leftover)
            source = head.peer[0]
            # Most of a connection's life is idle: what only its beginning needs must not live as long.
            del head, leftover, machine, carried, transport
            introduced = await connection.introduced()
            if introduced is not None:
                await self._decide(connection, introduced, source)
            del introduced
            await connection.closed
        finally:
            connection.end(CloseReason.SERVER)

    def _answer(self, head: RequestHead) -> bytes:
        if head.method != "GET":
            return _UPGRADE_REQUIRED
        if _is_real_websocket(head):
            try:
                answer = websocket.upgrade_response(head.headers, "derp")
            except DecodeError:
                return _BAD_REQUEST
            self._websockets += 1
            return answer
        if head.headers.get("derp-fast-start") == "1":
            self._fast_starts += 1
            return b""
        return self._switching_protocols()

    async def _decide(self, connection: ClientConnection, introduced: ClientIntroduced, source: str) -> None:
        key, claimed = introduced.key, introduced.info.mesh_key
        expected = self.sibling_key if connection.kind is Kind.SIBLING else self._mesh_key
        if claimed and expected:
            if compare_digest(claimed.encode(), expected.encode()):
                self._enter_relay(connection, key, source)
            else:
                logger.warning("relay with a wrong mesh key refused", extra={"endpoint": source})
                connection.end(CloseReason.WRONG_MESH_KEY)
        elif connection.kind is not Kind.SIBLING and await self._is_admitted(key, source):
            self._enter(connection, key)
        else:
            logger.info("relay client refused", extra={"peer": key.short()})
            connection.end(CloseReason.REFUSED)

    def disconnect(self, key: NodePublic, reason: CloseReason = CloseReason.REFUSED) -> int:
        """Close every connection of a key that is no longer allowed; how many there were."""
        ended = self._router.connections_of(key.raw)
        for identity in ended:
            self._admitted[identity].end(reason)
        return len(ended)

    def open_link(self, link: Outlet, key: NodePublic, kind: Kind) -> ConnectionId:
        """We have called another relay or worker; the router's packets for it leave through `link`."""
        identity = self._router.connect_relay(key, kind)
        self._links[identity] = link
        return identity

    def close_link(self, identity: ConnectionId) -> None:
        del self._links[identity]
        self._router.disconnect(identity)
        self.plan_flush()

    def announce_restart(self, reconnect_in_ms: int = 1000, try_for_ms: int = 60_000) -> None:
        """Tell every client to move; they are served until `close`."""
        self._announced = True
        for connection in list(self._all):
            connection.announce_restart(reconnect_in_ms, try_for_ms)

    def close(self, reconnect_in_ms: int = 1000, try_for_ms: int = 60_000) -> None:
        """Tell every client that the relay restarts, and close."""
        if not self._announced:
            self.announce_restart(reconnect_in_ms, try_for_ms)
        for connection in list(self._all):
            connection.end(CloseReason.RESTARTING)

    def stats(self) -> DerpStats:
        router = self._router
        return DerpStats(
            clients=router.clients,
            remote_clients=router.remote_clients,
            watchers=router.watchers,
            connections=len(self._all),
            home_clients=router.home_clients,
            queued_bytes=router.queued_bytes,
            accepted=self._accepted,
            fast_starts=self._fast_starts,
            websockets=self._websockets,
            pings=self._past_pings + sum(item.pings for item in self._all),
            bytes_received=self._past_received + sum(item.bytes_received for item in self._all),
            bytes_sent=self._past_sent + sum(item.bytes_sent for item in self._all),
            packets_received=self._packets_received,
            packets_sent=router.forwarded_packets,
            packet_bytes_sent=router.forwarded_bytes,
            forwarded_in=router.forwarded_in,
            forwarded_out=router.forwarded_out,
            unknown_frames=self._past_unknown + sum(item.unknown_frames for item in self._all),
            drops={reason: router.drops[reason] for reason in DropReason},
            closes={reason: self._closes[reason] for reason in CloseReason},
            handshake_failures={reason: self._handshake_failures[reason] for reason in CloseReason},
            peer_gone={reason: router.peer_gone[reason] for reason in PeerGoneReason},
            queue_delays=tuple(self._delays),
            queue_delay_seconds=self._delay_seconds,
        )

    # What follows is called by connections and links.

    def connection_events(self, connection: ClientConnection, events: Sequence[ServerEvent]) -> None:
        identity = connection.identity
        assert identity is not None, "only admitted clients get this far"
        router = self._router
        router.note_active(identity)
        now = asyncio.get_running_loop().time()
        for event in events:
            if isinstance(event, PacketsSent):
                self._packets_received += len(event.payloads)
                router.forward_all(identity, event.payloads, now)
            elif isinstance(event, PacketForwarded):
                router.deliver(identity, event.source, event.destination, event.packet, now)
            elif isinstance(event, PreferredNoted):
                router.note_preferred(identity, event.preferred)
            elif isinstance(event, WatchRequested):
                router.watch(identity)
            elif isinstance(event, CloseRequested):
                self.disconnect(NodePublic(event.key), CloseReason.CLOSED_BY_RELAY)
        self.plan_flush()

    def connection_ended(self, connection: ClientConnection, reason: CloseReason) -> None:
        self._closes[reason] += 1
        self._all.discard(connection)
        self._past_received += connection.bytes_received
        self._past_sent += connection.bytes_sent
        self._past_unknown += connection.unknown_frames
        self._past_pings += connection.pings
        if connection.identity is None:
            self._handshake_failures[reason] += 1
        else:
            del self._admitted[connection.identity]
            self._router.disconnect(connection.identity)
            self.plan_flush()

    def take(self, identity: ConnectionId, max_bytes: int) -> bytes:
        since = self._router.waiting_since(identity)
        if since is not None:
            delay = asyncio.get_running_loop().time() - since
            self._delays[bisect_left(QUEUE_DELAY_BOUNDS, delay)] += 1
            self._delay_seconds += delay
        return self._router.take(identity, max_bytes)

    def has_waiting(self, identity: ConnectionId) -> bool:
        return self._router.has_waiting(identity)

    def plan_flush(self) -> None:
        # Once per turn of the loop: packets of many senders for one client leave in one write.
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

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
        self.plan_flush()

    def _enter_relay(self, connection: ClientConnection, key: NodePublic, source: str) -> None:
        if connection.is_ended:
            return
        identity = self._router.connect_relay(key, connection.kind)
        self._admitted[identity] = connection
        connection.accept(identity, as_relay=True)
        if connection.kind is Kind.REGION and key != self.public_key:
            self.on_relay(source)

    def _flush(self) -> None:
        self._flush_planned = False
        for identity in self._router.take_due():
            outlet = self._admitted.get(identity) or self._links.get(identity)
            if outlet is not None:
                outlet.flush()

    def _switching_protocols(self) -> bytes:
        lines = (
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: DERP",
            "Connection: Upgrade",
            f"Derp-Version: {PROTOCOL_VERSION}",
            f"Derp-Public-Key: {self.public_key.raw.hex()}",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _ignore(_: str) -> None:
    """Nobody wants to know."""


def _is_real_websocket(head: RequestHead) -> bool:
    """Browsers wrap the frames in WebSocket messages and name the protocol."""
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
