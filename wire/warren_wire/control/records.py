"""Records: the encrypted byte stream after the handshake.

Their boundaries mean nothing: what comes out is one stream. The nonce counts big-endian, unlike in the Noise
specification, so the second record of an off-the-shelf Noise library does not open here.
"""

from typing import Final

from warren_wire.crypto import AEAD_TAG_BYTES, Aead
from warren_wire.errors import LocalProtocolError, RemoteProtocolError
from warren_wire.noise import HEADER_BYTES, TYPE_RECORD, header

MAX_FRAME_BYTES: Final = 4096
MAX_CIPHERTEXT_BYTES: Final = MAX_FRAME_BYTES - HEADER_BYTES
MAX_PLAINTEXT_BYTES: Final = MAX_CIPHERTEXT_BYTES - AEAD_TAG_BYTES
_LAST_COUNTER: Final = 2**64 - 2


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")


class RecordWriter:
    def __init__(self, key: bytes) -> None:
        self._cipher = Aead(key)
        self._counter = 0

    def seal(self, plaintext: bytes) -> bytes:
        """The stream bytes as records, each as full as it may be."""
        view = memoryview(plaintext)
        frames: list[bytes] = []
        for start in range(0, len(view), MAX_PLAINTEXT_BYTES):
            if self._counter > _LAST_COUNTER:
                raise LocalProtocolError("the record counter is used up")
            sealed = self._cipher.seal(_nonce(self._counter), view[start : start + MAX_PLAINTEXT_BYTES])
            self._counter += 1
            frames.append(header(TYPE_RECORD, len(sealed)))
            frames.append(sealed)
        return b"".join(frames)


class RecordReader:
    """Holds back no more than one incomplete record."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Aead(key)
        self._counter = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All stream bytes that are complete now; records of nothing are allowed."""
        buffer = self._buffer
        buffer += data
        plaintexts: list[bytes] = []
        offset = 0
        with memoryview(buffer) as view:
            while len(view) - offset >= HEADER_BYTES:
                end = offset + HEADER_BYTES + self._length(view, offset)
                if len(view) < end:
                    break
                plaintexts.append(self._open(view[offset + HEADER_BYTES : end]))
                offset = end
        del buffer[:offset]
        return b"".join(plaintexts)

    @staticmethod
    def _length(view: memoryview, offset: int) -> int:
        length = view[offset + 1] << 8 | view[offset + 2]
        if view[offset] != TYPE_RECORD:
            raise RemoteProtocolError(f"a frame of type {view[offset]} stands where a record is expected")
        if not AEAD_TAG_BYTES <= length <= MAX_CIPHERTEXT_BYTES:
            raise RemoteProtocolError(f"a record of {length} bytes is not allowed")
        return length

    def _open(self, ciphertext: memoryview) -> bytes:
        with ciphertext:
            if self._counter > _LAST_COUNTER:
                raise RemoteProtocolError("the record counter is used up")
            plaintext = self._cipher.open(_nonce(self._counter), ciphertext)
            self._counter += 1
            return plaintext
