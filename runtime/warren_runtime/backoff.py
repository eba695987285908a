"""How long to wait before the next attempt: exponential, bounded, with jitter.

Jitter keeps many nodes that lost the same server from coming back in the same second.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Each `next_delay_seconds()` is about twice the one before; `reset()` after a success."""

    def __init__(
        self,
        initial_seconds: float = 0.5,
        maximum_seconds: float = 30.0,
        *,
        jitter: float = 0.5,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < initial_seconds <= maximum_seconds or not 0 <= jitter <= 1:
            raise ValueError("need 0 < initial <= maximum and 0 <= jitter <= 1")
        self._initial = initial_seconds
        self._maximum = maximum_seconds
        self._jitter = jitter
        self._uniform = uniform
        self._current = initial_seconds

    def next_delay_seconds(self) -> float:
        """The delay before the next attempt: `current` less up to `jitter` of it."""
        current = self._current
        self._current = min(current * 2, self._maximum)
        return current * (1 - self._jitter * self._uniform())

    def reset(self) -> None:
        self._current = self._initial
