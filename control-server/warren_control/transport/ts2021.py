"""The upgrade to `/ts2021`: answers the handshake, then a `Connection` has the transport."""

from __future__ import annotations

import asyncio
import logging

from warren_control.metrics import ConnectionEnd, ControlMetrics
from warren_control.transport.connection import Connection, RequestHandler
from warren_control.transport.handshake import HANDSHAKE_HEADER, REFUSAL, Handshakes
from warren_control.transport.liveness import Liveness
from warren_runtime.listener import RequestHead
from warren_wire.control.session import upgrade_response

logger = logging.getLogger(__name__)


class Ts2021:
    """Serves `/ts2021` upgrades."""

    def __init__(
        self, handshakes: Handshakes, handler: RequestHandler, metrics: ControlMetrics, liveness: Liveness
    ) -> None:
        self._handshakes = handshakes
        self._handler = handler
        self._metrics = metrics
        self._liveness = liveness

    async def upgrade(self, head: RequestHead, transport: asyncio.Transport, rest: bytes) -> None:
        """The listener's upgrade handler; owns the transport until the connection ends."""
        text, source = head.headers.get(HANDSHAKE_HEADER.lower(), ""), head.peer[0]
        session = self._handshakes.accept(text, source, early_payload=True)
        if session is None:
            transport.write(_bad_request(REFUSAL))
            return
        connection = Connection(session, self._handler, source, self._liveness)
        self._metrics.connections.inc()
        transport.write(upgrade_response() + session.data_to_send())
        try:
            end = await connection.run(transport, rest)
        finally:
            self._metrics.connections.dec()
        self._metrics.ends.labels(end.value).inc()
        if end is not ConnectionEnd.CLOSED:
            logger.debug("connection ended", extra={"endpoint": source, "reason": end.value})


def _bad_request(text: str) -> bytes:
    body = f"{text}\n".encode()
    lines = (
        "HTTP/1.1 400 Bad Request",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
