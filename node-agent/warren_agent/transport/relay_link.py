"""One TLS connection to a relay: the asyncio shell round `derp.client`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, cast

from warren_agent.paths.actions import IPAddress
from warren_agent.transport.relay_dial import (
    DEFAULT_PORT,
    HANDSHAKE_SECONDS,
    RelayDialError,
    TlsPlan,
    connect,
    peer_certificate,
)
from warren_wire.control.messages import DERPNode
from warren_wire.derp.client import ClientEvent, DerpClient, Ready
from warren_wire.errors import WireError
from warren_wire.keys import NodePrivate, NodePublic

WRITE_BUFFER_BYTES: Final = 256 * 1024
"""What a slow connection may owe; more is dropped, as a full queue of a router would."""

READY_SECONDS: Final = 10.0

OnEvents = Callable[[Sequence[ClientEvent]], None]


class RelayLink(asyncio.Protocol):
    """A connection. `ready` is done with "" when the relay has taken us in, else with the reason why not;
    `closed` is done, with the reason, when it has ended.
    """

    def __init__(self, client: DerpClient, host: str, plan: TlsPlan, on_events: OnEvents) -> None:
        loop = asyncio.get_running_loop()
        self._client = client
        self._host = host
        self._plan = plan
        self._on_events = on_events
        self._transport: asyncio.Transport | None = None
        self._failure = "connection closed"
        self._opened = False
        self.ready: asyncio.Future[str] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.heard_at = time.monotonic()
        self.asked_at: float | None = None
        """When a sign of life was asked for last."""

    @property
    def opened(self) -> bool:
        """Whether the socket is the connection's to close."""
        return self._opened

    @property
    def local(self) -> IPAddress | None:
        """The address of ours that the connection was made from."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return ip_address(name[0].partition("%")[0]) if name else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is one in all but its class.
        self._opened = True
        self._transport = cast(asyncio.Transport, transport)
        try:
            self._plan.check(peer_certificate(transport))
        except RelayDialError as error:
            self.abort(str(error))
            return
        self._transport.write(self._client.upgrade_request(self._host))

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        try:
            self._client.receive_data(data)
        except WireError as error:
            self.abort(f"the relay broke the protocol: {error}")
            return
        events = self._client.events()
        if not self.ready.done() and any(isinstance(event, Ready) for event in events):
            self.ready.set_result("")
        self._flush()
        if events:
            self._on_events(events)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._failure if exc is None else str(exc) or type(exc).__name__
        self._transport = None
        if not self.ready.done():
            self.ready.set_result(reason)
        if not self.closed.done():
            self.closed.set_result(reason)

    def send(self, peer: NodePublic, packets: Sequence[bytes]) -> bool:
        """Send all or, when the connection owes too much already, nothing."""
        if self._transport is None or self._transport.get_write_buffer_size() > WRITE_BUFFER_BYTES:
            return False
        for packet in packets:
            self._client.send_packet(peer, packet)
        self._flush()
        return True

    def note_preferred(self, preferred: bool) -> None:
        """Say whether this relay is our home."""
        if self._transport is not None and self._client.is_ready:
            self._client.note_preferred(preferred)
            self._flush()

    def probe(self) -> None:
        """Ask for a sign of life; `heard_at` shows whether it came."""
        if self._transport is not None and self._client.is_ready:
            self.asked_at = time.monotonic()
            self._client.send_ping(os.urandom(8))
            self._flush()

    def abort(self, reason: str) -> None:
        self._failure = reason
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        data = self._client.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)


async def open_link(
    node: DERPNode, plan: TlsPlan, key: NodePrivate, *, mark: int, ipv6: bool, on_events: OnEvents
) -> RelayLink:
    """Connect and wait until the relay has taken us in (RelayDialError)."""
    port = node.derp_port or DEFAULT_PORT
    host = plan.server_hostname if port == DEFAULT_PORT else f"{plan.server_hostname}:{port}"
    link = RelayLink(DerpClient(key, lambda: os.urandom(24)), host, plan, on_events)
    sock = await connect(node, mark=mark, ipv6=ipv6)
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: link,
            sock=sock,
            ssl=plan.context,
            server_hostname=plan.server_hostname,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
        )
        async with asyncio.timeout(READY_SECONDS):
            refused = await link.ready
    except BaseException as error:
        link.abort("gave up")
        if not link.opened:
            sock.close()
        if isinstance(error, OSError):
            raise RelayDialError(str(error) or "no answer in time") from error
        raise
    if refused:
        raise RelayDialError(refused)
    return link
