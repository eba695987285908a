"""Waiting for what another task or thread brings about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from warren_lab.patience import patient


async def eventually(check: Callable[[], bool], within_seconds: float = 20.0) -> None:
    """Return as soon as `check()` holds; TimeoutError if it never does."""
    async with asyncio.timeout(patient(within_seconds)):
        while not check():  # noqa: ASYNC110 - what is watched has no event to wait for
            await asyncio.sleep(0.001)
