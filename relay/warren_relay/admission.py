"""Who may use the relay: everyone, or the members that the control server knows.

A member stays a member for an hour while the control server cannot be reached: relayed traffic must survive
its restarts.
"""

from __future__ import annotations

import enum
import json
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

import aiohttp

from warren_wire.keys import NodePublic

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 5.0
FRESH_SECONDS: Final = 60.0
"""An allowed key is not asked about again for this long: clients reconnect in bursts."""
UNREACHABLE_SECONDS: Final = 3600.0
MAX_REMEMBERED: Final = 100_000
_MAX_ANSWER_BYTES: Final = 4096


class AdmissionResult(enum.Enum):
    """How a client's request to use the relay ended."""

    ALLOWED = "allowed"
    ALLOWED_FROM_MEMORY = "allowed_from_memory"
    ALLOWED_UNREACHABLE = "allowed_unreachable"
    REFUSED = "refused"
    REFUSED_UNREACHABLE = "refused_unreachable"


class AllowedKeys:
    """When each key was last allowed, newest last; bounded."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._at: OrderedDict[NodePublic, float] = OrderedDict()
        self._limit = limit

    def remember(self, key: NodePublic, now: float) -> None:
        self._at[key] = now
        self._at.move_to_end(key)
        while len(self._at) > self._limit:
            self._at.popitem(last=False)

    def forget(self, key: NodePublic) -> None:
        self._at.pop(key, None)

    def allowed_within(self, key: NodePublic, seconds: float, now: float) -> bool:
        at = self._at.get(key)
        return at is not None and now - at <= seconds


async def admit_everyone(key: NodePublic, source: str) -> bool:
    """Mode `open`."""
    return True


class MemberAdmission:
    """Mode `members`: asks `verify_url` as stock relays do."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        verify_url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self._session = session
        self._url = verify_url
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=ask_seconds)
        self._allowed = AllowedKeys()
        self._reachable = True
        self.results: Counter[AdmissionResult] = Counter()

    async def admit(self, key: NodePublic, source: str) -> bool:
        result = await self._decide(key, source)
        self.results[result] += 1
        return result not in (AdmissionResult.REFUSED, AdmissionResult.REFUSED_UNREACHABLE)

    async def _decide(self, key: NodePublic, source: str) -> AdmissionResult:
        if self._allowed.allowed_within(key, FRESH_SECONDS, self._clock()):
            return AdmissionResult.ALLOWED_FROM_MEMORY
        try:
            allowed = await self._ask(key, source)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._note_reachable(False, str(error) or type(error).__name__)
            if self._allowed.allowed_within(key, UNREACHABLE_SECONDS, self._clock()):
                return AdmissionResult.ALLOWED_UNREACHABLE
            return AdmissionResult.REFUSED_UNREACHABLE
        self._note_reachable(True, "")
        if not allowed:
            self._allowed.forget(key)
            return AdmissionResult.REFUSED
        self._allowed.remember(key, self._clock())
        return AdmissionResult.ALLOWED

    async def _ask(self, key: NodePublic, source: str) -> bool:
        question = {"NodePublic": str(key), "Source": source}
        async with self._session.post(
            self._url, json=question, timeout=self._timeout, allow_redirects=False
        ) as response:
            if response.status >= 500:
                # What a proxy answers while the control server restarts is no verdict on the key.
                raise aiohttp.ClientError(f"status {response.status}")
            body = await response.content.read(_MAX_ANSWER_BYTES)
            return response.status == 200 and _allows(body)

    def _note_reachable(self, reachable: bool, reason: str) -> None:
        if reachable == self._reachable:
            return
        self._reachable = reachable
        if reachable:
            logger.info("control server answers admission again")
        else:
            logger.warning("control server cannot be asked about admission", extra={"reason": reason})


def _allows(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("Allow") is True
