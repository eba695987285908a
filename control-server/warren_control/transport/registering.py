"""Shell of registration: takes the decision under the writer's lock, stores what follows, answers."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from warren_control.admission import admitted_node, consumed, rebound
from warren_control.allocation import Pools
from warren_control.errors import PoolExhaustedError
from warren_control.metrics import ControlMetrics, Registration
from warren_control.model import Node
from warren_control.netmap import profile_of
from warren_control.registration import (
    Admitted,
    ExpiryShortened,
    LoggedOut,
    NewNodeKeyWanted,
    Outcome,
    Refusal,
    Refused,
    Unchanged,
    decide,
    presented_hash,
)
from warren_control.store import Store, Writer
from warren_control.transport.exchange import Exchange
from warren_wire.control.messages import Login, RegisterRequest, RegisterResponse, User, encode

logger = logging.getLogger(__name__)

RECENT_FAILURES: Final = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A machine that was not admitted, for the people who wonder why it does not appear."""

    at: datetime
    hostname: str
    reason: str


class Registrar:
    """Serves `/machine/register`."""

    def __init__(
        self,
        store: Store,
        pools: Pools,
        clock: Callable[[], datetime],
        metrics: ControlMetrics,
    ) -> None:
        self._store = store
        self._pools = pools
        self._clock = clock
        self._metrics = metrics
        self.failures: deque[Failure] = deque(maxlen=RECENT_FAILURES)
        self.results: dict[Registration, int] = dict.fromkeys(Registration, 0)

    async def register(self, exchange: Exchange, request: RegisterRequest) -> None:
        now = self._clock()
        async with self._store.writing() as writer:
            outcome = decide(request, exchange.machine, writer.snapshot, now)
            if outcome == Refused(Refusal.UNKNOWN_KEY) and await writer.learn_key(presented_hash(request)):
                outcome = decide(request, exchange.machine, writer.snapshot, now)
            try:
                response, result = await self._apply(writer, outcome, exchange, request, now)
            except PoolExhaustedError as error:
                response, result = self._refused(request, str(error), now)
        self.results[result] += 1
        self._metrics.registrations.labels(result.value).inc()
        exchange.reply(200, encode(response))

    async def _apply(
        self, writer: Writer, outcome: Outcome, exchange: Exchange, request: RegisterRequest, now: datetime
    ) -> tuple[RegisterResponse, Registration]:
        match outcome:
            case Refused(refusal=refusal):
                return self._refused(request, refusal.value, now)
            case LoggedOut(node=node, delete=delete):
                await self._log_out(writer, node, now, delete=delete)
                return RegisterResponse(node_key_expired=True), Registration.LOGOUT
            case ExpiryShortened(node=node, expiry=expiry):
                shortened = dataclasses.replace(node, expiry=expiry)
                await writer.put(shortened)
                return _success(shortened), Registration.EXPIRY
            case Unchanged(node=node, rebind=key):
                if key is not None:
                    node = rebound(node, key)
                    await writer.put(node)
                return _success(node), Registration.UNCHANGED
            case NewNodeKeyWanted():
                return RegisterResponse(node_key_expired=True), Registration.EXPIRED
            case Admitted(key=key, existing=existing):
                node = admitted_node(outcome, request, exchange.machine, writer.snapshot, self._pools, now)
                used = consumed(key, now)
                await writer.put(node, keys=[used] if used is not None else [])
                logger.info(
                    "node registered" if existing is None else "node renewed",
                    extra={"node": node.name, "peer": node.node_key.short(), "address": str(node.v4)},
                )
                return _success(node), Registration.ADMITTED if existing is None else Registration.RENEWED
            case _:
                assert_never(outcome)

    async def _log_out(self, writer: Writer, node: Node | None, now: datetime, *, delete: bool) -> None:
        if node is None:
            return
        if delete:
            await writer.remove(node, now)
        else:
            await writer.put(dataclasses.replace(node, expiry=now))
        logger.info("node logged out", extra={"node": node.name})

    def _refused(
        self, request: RegisterRequest, reason: str, now: datetime
    ) -> tuple[RegisterResponse, Registration]:
        hostname = request.hostinfo.hostname[:253] if request.hostinfo is not None else ""
        if not self.failures or (self.failures[-1].hostname, self.failures[-1].reason) != (hostname, reason):
            # Stock clients repeat a refused registration within milliseconds; one line tells it all.
            logger.warning("registration refused", extra={"hostname": hostname, "reason": reason})
        elif self.failures:
            self.failures.pop()
        self.failures.append(Failure(now, hostname, reason))
        return RegisterResponse(error=reason), Registration.REFUSED


def _success(node: Node) -> RegisterResponse:
    profile = profile_of(node)
    return RegisterResponse(
        user=User(id=profile.id, display_name=profile.display_name),
        login=Login(
            id=profile.id,
            provider="warren",
            login_name=profile.login_name,
            display_name=profile.display_name,
        ),
        machine_authorized=True,
    )
