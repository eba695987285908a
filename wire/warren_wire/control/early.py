"""The early payload: what a server may say inside the records before its first HTTP/2 byte.

A client tells it from HTTP/2 by its first nine bytes, which would be a frame header of an impossible length.
"""

from dataclasses import dataclass, field
from typing import Final

from warren_wire.control.codec import Message, decode, encode
from warren_wire.errors import DecodeError
from warren_wire.keys import ChallengePublic

MAGIC: Final = b"\xff\xff\xffTS"
HEADER_BYTES: Final = 9
# The protocol allows 10 MiB; what is in it today has a hundred bytes.
MAX_BYTES: Final = 64 * 1024
MIN_VERSION: Final = 49


class EarlyPayload(Message, frozen=True, kw_only=True, rename={"node_key_challenge": "nodeKeyChallenge"}):
    node_key_challenge: ChallengePublic | None = None


def encode_early_payload(challenge: ChallengePublic) -> bytes:
    json = encode(EarlyPayload(node_key_challenge=challenge))
    return MAGIC + len(json).to_bytes(4, "big") + json


@dataclass(slots=True)
class EarlyPayloadReader:
    """Eats the start of the stream until it knows whether there is an early payload and has all of it."""

    done: bool = False
    challenge: ChallengePublic | None = None
    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> bytes:
        """What of the stream belongs to HTTP/2."""
        if self.done:
            return data
        self._buffer += data
        if len(self._buffer) < HEADER_BYTES:
            return b""
        if not self._buffer.startswith(MAGIC):
            return self._finish(0)
        length = int.from_bytes(self._buffer[len(MAGIC) : HEADER_BYTES], "big")
        if length > MAX_BYTES:
            raise DecodeError(f"an early payload of {length} bytes is not allowed")
        end = HEADER_BYTES + length
        if len(self._buffer) < end:
            return b""
        self.challenge = decode(EarlyPayload, bytes(self._buffer[HEADER_BYTES:end])).node_key_challenge
        return self._finish(end)

    def _finish(self, end: int) -> bytes:
        self.done = True
        rest = bytes(self._buffer[end:])
        self._buffer.clear()
        return rest
