"""Settings of any relay, by itself or inside another service."""

from __future__ import annotations

from typing import Final

from .derp_connection import RateLimit
from .settings import Section

MINIMUM_BURST_BYTES: Final = 32 + 64 * 1024
"""Less than one packet of the largest size would hold a client for ever."""


def read_limit(root: Section) -> RateLimit | None:
    """The section `limit`: what one client may send; None if it is left out."""
    if not root.has("limit"):
        root.raw("limit")
        return None
    section = root.section("limit")
    rate = section.integer("bytes_per_second", 0, low=10_000, high=1 << 40)
    burst = section.integer(
        "burst_bytes", max(rate, MINIMUM_BURST_BYTES), low=MINIMUM_BURST_BYTES, high=1 << 40
    )
    section.finish()
    return RateLimit(rate, burst) if rate else None
