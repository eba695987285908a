"""Frames of the map stream: a little-endian length, then JSON, in zstd where the client asked for it.

Sizes are checked before anything is allocated for them; what the JSON means is `messages`' business.
"""

from typing import Final

import zstandard

from warren_wire.errors import DecodeError

KEEP_ALIVE: Final = b'{"KeepAlive":true}'
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_HEADER_BYTES: Final = 4
# More than a frame may hold; above it a header alone could make the decoder allocate for nothing.
_MAX_WINDOW_BYTES: Final = 32 * 1024 * 1024
# Maps are keys and addresses, in which a longer search finds nothing: level 3 takes twice as long, and what
# comes out is larger.
_COMPRESSION_LEVEL: Final = 1


class FrameEncoder:
    """Makes frames with one compressor, whose making costs most for a small frame. Not thread-safe."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL)

    def encode(self, json: bytes, *, compress: bool) -> bytes:
        """One frame. The same JSON gives the same bytes, so a keep-alive can be encoded once and reused."""
        payload = self._compressor.compress(json) if compress else json
        return len(payload).to_bytes(_HEADER_BYTES, "little") + payload


def encode_frame(json: bytes, *, compress: bool) -> bytes:
    """One frame, from any thread."""
    return FrameEncoder().encode(json, compress=compress)


class FrameDecoder:
    """Cuts a response body into the JSON documents it carries."""

    def __init__(self, *, compressed: bool, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._compressed = compressed
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer
        buffer += data
        frames: list[bytes] = []
        offset = 0
        while len(buffer) - offset >= _HEADER_BYTES:
            start = offset + _HEADER_BYTES
            length = int.from_bytes(buffer[offset:start], "little")
            if not 0 < length <= self._max_frame_bytes:
                raise DecodeError(f"a map frame of {length} bytes is not allowed")
            if len(buffer) - start < length:
                break
            offset = start + length
            payload = bytes(memoryview(buffer)[start:offset])
            frames.append(self._decompress(payload) if self._compressed else payload)
        del buffer[:offset]
        return frames

    @property
    def buffered_bytes(self) -> int:
        """What is held of a frame that is not complete."""
        return len(self._buffer)

    def _decompress(self, payload: bytes) -> bytes:
        try:
            size = zstandard.frame_content_size(payload)
            if size > self._max_frame_bytes:
                raise DecodeError(f"a map frame of {size} bytes is not allowed")
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
            return decompressor.decompress(payload, max_output_size=self._max_frame_bytes)
        except (zstandard.ZstdError, MemoryError) as error:
            raise DecodeError("a map frame is not valid zstd") from error
