"""Shell of registration: takes the decision under the writer's lock, stores what follows, answers."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from warren_control import model
from warren_control.admission import admitted_node, consumed, predecessor, rebound, retagged
from warren_control.allocation import Pools
from warren_control.errors import ConflictError, PoolExhaustedError, UnavailableError
from warren_control.limits import FailureLimit
from warren_control.metrics import ControlMetrics, Registration
from warren_control.model import Node, Snapshot
from warren_control.netmap.owners import profile_of
from warren_control.pending import REJECTED, Pending, PendingLogins
from warren_control.registration import (
    Admitted,
    ApprovalWanted,
    ExpiryShortened,
    Grant,
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
from warren_wire.keys import MachinePublic

logger = logging.getLogger(__name__)

RECENT_FAILURES: Final = 20
RETRY_SECONDS: Final = 30
_WRONG_KEY: Final = frozenset({Refusal.UNKNOWN_KEY, Refusal.EXPIRED_KEY, Refusal.USED_KEY})


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """How machines come in."""

    server_url: str
    web_approval: bool = True
    """A machine without a key is given a link; otherwise it is refused."""
    node_expiry: timedelta | None = None
    """After this time a machine without tags must log in again."""


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
        pending: PendingLogins,
        settings: RegistrationSettings,
    ) -> None:
        self._store = store
        self._pools = pools
        self._clock = clock
        self._metrics = metrics
        self._pending = pending
        self._settings = settings
        self._limit = FailureLimit()
        self.failures: deque[Failure] = deque(maxlen=RECENT_FAILURES)
        self.results: dict[Registration, int] = dict.fromkeys(Registration, 0)

    async def register(self, exchange: Exchange, request: RegisterRequest) -> None:
        started = self._clock()
        if request.auth is not None and self._limited(exchange, request, started):
            return
        rejected = await self._followed_up(exchange, request)
        now = self._clock()
        async with self._store.writing() as writer:
            owners = self._store.enforcer.tag_owners
            outcome = decide(request, exchange.machine, writer.snapshot, now, owners)
            try:
                if outcome == Refused(Refusal.UNKNOWN_KEY) and await writer.learn_key(
                    presented_hash(request)
                ):
                    outcome = decide(request, exchange.machine, writer.snapshot, now, owners)
                if rejected:
                    response, result = self._refused(request, REJECTED, now)
                else:
                    response, result = await self._apply(writer, outcome, exchange, request, now)
            except UnavailableError as error:
                # Stock clients try again by themselves.
                self._count(Registration.UNAVAILABLE)
                exchange.refuse(503, str(error))
                return
            except PoolExhaustedError as error:
                response, result = self._refused(request, str(error), now)
        if isinstance(outcome, Refused) and outcome.refusal in _WRONG_KEY:
            self._limit.failed(exchange.source, now.timestamp())
        self._count(result)
        exchange.reply(200, encode(response))

    async def approve(self, pending: Pending, grant: Grant) -> Node:
        """A person lets a waiting machine in; its own request is answered then."""
        now, request, machine = self._clock(), pending.request, pending.machine
        async with self._store.writing() as writer:
            same = writer.snapshot.node_by_key(request.node_key)
            if same is not None and (same.machine_key != machine or same.owner != grant.owner):
                raise ConflictError("the machine's node key belongs to another node by now")
            existing = same or writer.snapshot.node_by_machine(machine, grant.owner)
            if existing is not None and existing.disabled:
                raise ConflictError(f"{existing.name} is disabled: enable it instead")
            node = await self._admit(writer, Admitted(grant, existing), request, machine, now)
        self._count(Registration.ADMITTED if existing is None else Registration.RENEWED)
        self._pending.drop(pending)
        return node

    def _count(self, result: Registration) -> None:
        self.results[result] += 1
        self._metrics.registrations.labels(result.value).inc()

    def _limited(self, exchange: Exchange, request: RegisterRequest, now: datetime) -> bool:
        # A logout repeats the key of its login, and a client that may not log out gives up.
        if request.expiry is not None or not self._limit.exhausted(exchange.source, now.timestamp()):
            return False
        self._count(Registration.LIMITED)
        exchange.reply_later(RETRY_SECONDS, "too many wrong keys from this address")
        return True

    async def _followed_up(self, exchange: Exchange, request: RegisterRequest) -> bool:
        """Holds a follow-up request until its login is decided; whether a person refused it."""
        if not request.followup or request.expiry is not None:
            return False
        pending = self._pending.find(request.followup.rpartition("/")[2])
        if (
            pending is None
            or pending.machine != exchange.machine
            or pending.request.node_key != request.node_key
        ):
            return False
        await self._pending.decided(pending)
        return pending.rejected

    async def _admit(
        self,
        writer: Writer,
        outcome: Admitted,
        request: RegisterRequest,
        machine: MachinePublic,
        now: datetime,
    ) -> Node:
        lifetime = self._settings.node_expiry
        yielding = predecessor(request, writer.snapshot, now) if outcome.existing is None else None
        snapshot, yielded = writer.snapshot, () if yielding is None else (yielding,)
        if yielded:
            snapshot, _ = model.with_nodes(snapshot, put=yielded)
        grant = outcome.grant
        pools = self._store.enforcer.address_pools(grant.owner, grant.tags)
        node = admitted_node(outcome, request, machine, snapshot, self._pools, now, lifetime, pools)
        key = grant.key
        used = consumed(key, now) if key is not None else None
        await writer.put(*yielded, node, keys=[used] if used is not None else [])
        logger.info(
            "node registered" if outcome.existing is None else "node renewed",
            extra={"node": node.name, "peer": node.node_key.short(), "address": str(node.addresses[0])},
        )
        return node

    async def _apply(
        self, writer: Writer, outcome: Outcome, exchange: Exchange, request: RegisterRequest, now: datetime
    ) -> tuple[RegisterResponse, Registration]:
        match outcome:
            case Refused():
                return self._refused(request, outcome.reason, now)
            case LoggedOut(node=node, delete=delete):
                await self._log_out(writer, node, now, delete=delete)
                return RegisterResponse(node_key_expired=True), Registration.LOGOUT
            case ExpiryShortened(node=node, expiry=expiry):
                shortened = dataclasses.replace(node, expiry=expiry)
                await writer.put(shortened)
                return _success(writer.snapshot, shortened), Registration.EXPIRY
            case Unchanged(node=node, rebind=key, tags=tags):
                wanted = node if key is None else rebound(node, key)
                if tags is not None:
                    wanted = retagged(wanted, tags)
                if wanted is not node:
                    await writer.put(wanted)
                    node = wanted
                return _success(writer.snapshot, node), Registration.UNCHANGED
            case NewNodeKeyWanted():
                return RegisterResponse(node_key_expired=True), Registration.EXPIRED
            case ApprovalWanted():
                return self._at_the_door(exchange, request, now)
            case Admitted(existing=existing):
                node = await self._admit(writer, outcome, request, exchange.machine, now)
                result = Registration.ADMITTED if existing is None else Registration.RENEWED
                return _success(writer.snapshot, node), result
            case _:
                assert_never(outcome)

    def _at_the_door(
        self, exchange: Exchange, request: RegisterRequest, now: datetime
    ) -> tuple[RegisterResponse, Registration]:
        if not self._settings.web_approval:
            return self._refused(request, Refusal.NO_KEY.value, now)
        waiting = len(self._pending)
        pending = self._pending.ask(exchange.machine, request, exchange.source)
        if len(self._pending) > waiting:
            logger.info("machine waits for approval", extra={"hostname": pending.hostinfo.hostname})
        url = f"{self._settings.server_url}/register/{pending.id}"
        return RegisterResponse(auth_url=url), Registration.PENDING

    async def _log_out(self, writer: Writer, node: Node | None, now: datetime, *, delete: bool) -> None:
        if node is None:
            return
        if delete:
            await writer.remove(node, now)
        else:
            # Gone on purpose: its peers need not wait whether it comes back.
            await writer.put(dataclasses.replace(node, expiry=now, online=False, last_seen=now))
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


def _success(snapshot: Snapshot, node: Node) -> RegisterResponse:
    profile = profile_of(snapshot, node.user_id)
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
