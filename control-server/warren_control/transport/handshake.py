"""The beginning of an encrypted connection, whichever way it came: the client's first Noise message."""

from __future__ import annotations

import base64
import binascii
import logging
import os
from typing import Final

from warren_control.metrics import ConnectionEnd, ControlMetrics
from warren_wire.control.session import ServerSession
from warren_wire.errors import WireError
from warren_wire.keys import ChallengePublic, MachinePrivate

logger = logging.getLogger(__name__)

HANDSHAKE_HEADER: Final = "X-Tailscale-Handshake"
REFUSAL: Final = f"{HANDSHAKE_HEADER} is missing or not a valid initiation"
_CHALLENGE_BYTES: Final = 32


class Handshakes:
    """Answers first messages with the server's key."""

    def __init__(self, key: MachinePrivate, metrics: ControlMetrics) -> None:
        self._key = key
        self._metrics = metrics

    def accept(self, text: str, source: str, *, early_payload: bool) -> ServerSession | None:
        """The session that a header's value begins; None, counted, if it begins none.

        Clients in browsers take no early payload.
        """
        challenge = ChallengePublic(os.urandom(_CHALLENGE_BYTES)) if early_payload else None
        try:
            return ServerSession(
                server=self._key,
                initiation=base64.b64decode(text, validate=True),
                ephemeral_seed=os.urandom(32),
                challenge=challenge,
            )
        except (binascii.Error, ValueError, WireError) as error:
            self._metrics.ends.labels(ConnectionEnd.PROTOCOL_ERROR.value).inc()
            logger.debug("handshake refused", extra={"endpoint": source, "reason": str(error)})
            return None
