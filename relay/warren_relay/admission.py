"""Who may use the relay: everyone, a list of keys, or the members that the control server knows.

A member stays a member for a day while the control server cannot be reached: relayed traffic must survive
its restarts.
"""

from __future__ import annotations

import enum
import json
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, assert_never

import aiohttp

from warren_wire.errors import DecodeError
from warren_wire.keys import NodePublic

from .config import WhenUnreachable

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 5.0
FRESH_SECONDS: Final = 60.0
"""An allowed key is not asked about again for this long: clients reconnect in bursts."""
UNREACHABLE_SECONDS: Final = 86400.0
"""Long enough to mend a control server; who was removed before must know that it is down to profit."""
MAX_REMEMBERED: Final = 100_000
_MAX_ANSWER_BYTES: Final = 4096


class AdmissionResult(enum.Enum):
    """How a client's request to use the relay ended."""

    ALLOWED = "allowed"
    ALLOWED_FROM_MEMORY = "allowed_from_memory"
    ALLOWED_UNREACHABLE = "allowed_unreachable"
    REFUSED = "refused"
    REFUSED_UNREACHABLE = "refused_unreachable"
    ALLOWED_BY_LIST = "allowed_by_list"
    REFUSED_BY_LIST = "refused_by_list"


_REFUSALS: Final = frozenset(
    (AdmissionResult.REFUSED, AdmissionResult.REFUSED_UNREACHABLE, AdmissionResult.REFUSED_BY_LIST)
)


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
        when_unreachable: WhenUnreachable = WhenUnreachable.REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self._session = session
        self._url = verify_url
        self._when_unreachable = when_unreachable
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=ask_seconds)
        self._allowed = AllowedKeys()
        self._reachable = True
        self.results: Counter[AdmissionResult] = Counter()

    async def admit(self, key: NodePublic, source: str) -> bool:
        result = await self._decide(key, source)
        self.results[result] += 1
        return result not in _REFUSALS

    async def _decide(self, key: NodePublic, source: str) -> AdmissionResult:
        if self._allowed.allowed_within(key, FRESH_SECONDS, self._clock()):
            return AdmissionResult.ALLOWED_FROM_MEMORY
        try:
            allowed = await self._ask(key, source)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._note_reachable(False, str(error) or type(error).__name__)
            return self._without_answer(key)
        self._note_reachable(True, "")
        if not allowed:
            self._allowed.forget(key)
            return AdmissionResult.REFUSED
        self._allowed.remember(key, self._clock())
        return AdmissionResult.ALLOWED

    def _without_answer(self, key: NodePublic) -> AdmissionResult:
        match self._when_unreachable:
            case WhenUnreachable.REMEMBERED:
                allowed = self._allowed.allowed_within(key, UNREACHABLE_SECONDS, self._clock())
            case WhenUnreachable.ALLOW:
                allowed = True
            case WhenUnreachable.REFUSE:
                allowed = False
            case _:
                assert_never(self._when_unreachable)
        return AdmissionResult.ALLOWED_UNREACHABLE if allowed else AdmissionResult.REFUSED_UNREACHABLE

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


class KeyListError(Exception):
    """The list of keys cannot be used; the text says why."""


class ListAdmission:
    """Mode `list`: the node keys in a file, one a line; `#` begins a comment. Read again when it changes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, int] | None = None
        self._keys: frozenset[NodePublic] = frozenset()
        self.results: Counter[AdmissionResult] = Counter()
        self._read_if_changed()

    async def admit(self, key: NodePublic, source: str) -> bool:
        try:
            self._read_if_changed()
        except KeyListError as error:
            logger.warning("changed list of keys refused, the old one stays", extra={"reason": str(error)})
        allowed = key in self._keys
        result = AdmissionResult.ALLOWED_BY_LIST if allowed else AdmissionResult.REFUSED_BY_LIST
        self.results[result] += 1
        return allowed

    def _read_if_changed(self) -> None:
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyListError(f"cannot read {self._file}: {error}") from error
        keys = set()
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            try:
                if text:
                    keys.add(NodePublic.parse(text))
            except DecodeError:
                raise KeyListError(f"{self._file}: line {number} is no node key") from None
        self._keys = frozenset(keys)


def _allows(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("Allow") is True
