"""Frames of map streams, compressed once where many streams send the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from warren_wire.control.mapstream import KEEP_ALIVE, encode_frame

# Above this, compressing takes milliseconds and leaves the loop.
_LARGE_BYTES: Final = 128 * 1024
_REMEMBERED: Final = 64


class Frames:
    """Encodes frames and remembers the last ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bool], bytes] = OrderedDict()
        self._keep_alive = {
            compress: encode_frame(KEEP_ALIVE, compress=compress) for compress in (False, True)
        }

    def keep_alive(self, compress: bool) -> bytes:
        """Always the same bytes: stock clients recognise them without decompressing."""
        return self._keep_alive[compress]

    async def frame(self, json: bytes, compress: bool) -> bytes:
        if len(json) > _LARGE_BYTES:
            return await asyncio.to_thread(encode_frame, json, compress=compress)
        key = (json, compress)
        known = self._known.get(key)
        if known is not None:
            return known
        frame = encode_frame(json, compress=compress)
        self._known[key] = frame
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return frame
