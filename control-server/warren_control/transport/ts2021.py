"""The upgrade to `/ts2021`: answers the handshake, then a `Connection` has the transport."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from typing import Final

from warren_control.metrics import ConnectionEnd, ControlMetrics
from warren_control.transport.connection import Connection, RequestHandler
from warren_control.transport.liveness import Liveness
from warren_control.transport.sources import Sources
from warren_runtime.listener import RequestHead
from warren_wire.control.session import ServerSession, upgrade_response
from warren_wire.errors import WireError
from warren_wire.keys import ChallengePublic, MachinePrivate

logger = logging.getLogger(__name__)

HANDSHAKE_HEADER: Final = "x-tailscale-handshake"
CHALLENGE_BYTES: Final = 32


class Ts2021:
    """Serves `/ts2021` upgrades."""

    def __init__(
        self,
        key: MachinePrivate,
        handler: RequestHandler,
        metrics: ControlMetrics,
        sources: Sources,
        liveness: Liveness,
    ) -> None:
        self._key = key
        self._handler = handler
        self._metrics = metrics
        self._sources = sources
        self._liveness = liveness

    async def upgrade(self, head: RequestHead, transport: asyncio.Transport, rest: bytes) -> None:
        """The listener's upgrade handler; owns the transport until the connection ends."""
        try:
            text = head.headers.get(HANDSHAKE_HEADER, "")
            session = ServerSession(
                server=self._key,
                initiation=base64.b64decode(text, validate=True),
                ephemeral_seed=os.urandom(32),
                challenge=ChallengePublic(os.urandom(CHALLENGE_BYTES)),
            )
        except (binascii.Error, ValueError, WireError) as error:
            self._metrics.ends.labels(ConnectionEnd.PROTOCOL_ERROR.value).inc()
            logger.debug("handshake refused", extra={"endpoint": head.peer[0], "reason": str(error)})
            transport.write(_bad_request("X-Tailscale-Handshake is missing or not a valid initiation"))
            return
        connection = Connection(
            session, self._handler, self._sources.of(head.peer[0], head.headers), self._liveness
        )
        self._metrics.connections.inc()
        transport.write(upgrade_response() + session.data_to_send())
        try:
            end = await connection.run(transport, rest)
        finally:
            self._metrics.connections.dec()
        self._metrics.ends.labels(end.value).inc()
        if end is not ConnectionEnd.CLOSED:
            logger.debug("connection ended", extra={"endpoint": head.peer[0], "reason": end.value})


def _bad_request(text: str) -> bytes:
    body = f"{text}\n".encode()
    lines = (
        "HTTP/1.1 400 Bad Request",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
