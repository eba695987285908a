"""When to order a certificate. Pure: the time and the random number are arguments."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

AT_ONCE: Final = datetime.min.replace(tzinfo=UTC)
FIRST_RETRY: Final = timedelta(minutes=5)
"""Doubled with each failure: four tries in the first hour, where Let's Encrypt allows five."""
LAST_RETRY: Final = timedelta(hours=12)
LIMITED_RETRY: Final = timedelta(hours=1)
"""The least after the CA said that there were too many."""
_RENEW_AFTER: Final = 2 / 3
_SPREAD: Final = 1 / 20
"""Of the life: servers set up together do not renew together."""


@dataclass(frozen=True, slots=True)
class Held:
    """The certificate in use; a placeholder is one of our own that the first start makes."""

    names: frozenset[str]
    not_before: datetime
    not_after: datetime
    serial: int
    is_placeholder: bool


@dataclass(frozen=True, slots=True)
class Attempts:
    """What failed since the last success, kept over restarts so that a crash loop does not bother the CA."""

    failures: int = 0
    not_before: datetime = AT_ONCE
    settings: str = ""
    """A mark of the settings they were made with: other settings deserve a try at once."""


def due(held: Held, names: Collection[str], attempts: Attempts, settings: str) -> datetime:
    """When to order next."""
    wanted = renew_at(held, names)
    return max(wanted, attempts.not_before) if attempts.settings == settings else wanted


def renew_at(held: Held, names: Collection[str]) -> datetime:
    """At two thirds of the life, a little later for some; at once if it is not what is wanted."""
    if held.is_placeholder or not held.names >= set(names):
        return AT_ONCE
    # The serial number is random, and the same after a restart.
    spread = _SPREAD * (held.serial % 1000) / 1000
    return held.not_before + (held.not_after - held.not_before) * (_RENEW_AFTER + spread)


def failed(attempts: Attempts, now: datetime, settings: str, *, limited: bool, random: float) -> Attempts:
    """After one more failure; `random` from 0 to 1 shortens the wait by up to a tenth."""
    failures = attempts.failures + 1 if attempts.settings == settings else 1
    wait = min(FIRST_RETRY * 2 ** min(failures - 1, 20), LAST_RETRY) * (1 - random / 10)
    if limited:
        wait = max(wait, LIMITED_RETRY)
    return Attempts(failures, now + wait, settings)
