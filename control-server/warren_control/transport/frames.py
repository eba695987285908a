"""Frames of map streams, compressed once where many streams send the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from warren_wire.control.mapstream import KEEP_ALIVE, FrameEncoder, encode_frame

# Above this, compressing takes milliseconds and leaves the loop.
_LARGE_BYTES: Final = 1024 * 1024
_REMEMBERED: Final = 64


class Frames:
    """Encodes frames and remembers the last ones that are shared."""

    def __init__(self) -> None:
        self._encoder = FrameEncoder()
        self._known: OrderedDict[tuple[bytes, bool], bytes] = OrderedDict()
        self._keep_alive = {
            compress: self._encoder.encode(KEEP_ALIVE, compress=compress) for compress in (False, True)
        }

    def keep_alive(self, compress: bool) -> bytes:
        """Always the same bytes: stock clients recognise them without decompressing."""
        return self._keep_alive[compress]

    def shared(self, json: bytes, compress: bool) -> bytes:
        """The frame of a message that others may be sent too."""
        key = (json, compress)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._encoder.encode(json, compress=compress)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    async def once(self, json: bytes, compress: bool) -> bytes:
        """The frame of a message for one receiver."""
        if len(json) > _LARGE_BYTES:
            return await asyncio.to_thread(encode_frame, json, compress=compress)
        return self._encoder.encode(json, compress=compress)
