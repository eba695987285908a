"""Machines that wait for a person's approval. Bounded and forgotten in time: any stranger may ask.

Nothing here is durable: a machine whose server has restarted asks again and is shown another link.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from warren_control.hosts import usable_hostinfo, usable_version
from warren_wire.control.messages import Hostinfo, RegisterRequest
from warren_wire.keys import MachinePublic

LIFETIME: Final = timedelta(minutes=15)
MAX_PENDING: Final = 1024
# Machines behind one address; a stranger with many keys must not push everybody else's link out.
MAX_PENDING_OF_SOURCE: Final = 64
REJECTED: Final = "an administrator refused this machine"


@dataclass(slots=True)
class Pending:
    """A machine at the door."""

    id: str
    machine: MachinePublic
    request: RegisterRequest
    source: str
    since: datetime
    expires: datetime
    rejected: bool = False
    decided: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def hostinfo(self) -> Hostinfo:
        return self.request.hostinfo or Hostinfo()


class PendingLogins:
    """Who waits, oldest first."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._pending: OrderedDict[str, Pending] = OrderedDict()
        self._by_machine: dict[MachinePublic, str] = {}

    def __len__(self) -> int:
        self._forget_old()
        return len(self._pending)

    def __iter__(self) -> Iterator[Pending]:
        self._forget_old()
        return iter(list(self._pending.values()))

    def ask(self, machine: MachinePublic, request: RegisterRequest, source: str) -> Pending:
        """The machine's place at the door; the same one while it asks for the same node key."""
        self._forget_old()
        known = self._pending.get(self._by_machine.get(machine, ""))
        if known is not None and known.request.node_key == request.node_key:
            return known
        if known is not None:
            self.drop(known)
        self._make_room(source)
        now = self._clock()
        kept = RegisterRequest(
            version=usable_version(request.version),
            node_key=request.node_key,
            expiry=request.expiry,
            hostinfo=usable_hostinfo(request.hostinfo or Hostinfo()),
            ephemeral=request.ephemeral,
        )
        pending = Pending(secrets.token_urlsafe(24), machine, kept, source, now, now + LIFETIME)
        self._pending[pending.id] = pending
        self._by_machine[machine] = pending.id
        return pending

    def find(self, pending_id: str) -> Pending | None:
        self._forget_old()
        return self._pending.get(pending_id)

    def reject(self, pending: Pending) -> None:
        """The machine's user reads that it was refused."""
        pending.rejected = True
        self.drop(pending)

    def drop(self, pending: Pending) -> None:
        """It waits no longer; whoever holds its request looks again at what it is now."""
        self._pending.pop(pending.id, None)
        if self._by_machine.get(pending.machine) == pending.id:
            del self._by_machine[pending.machine]
        pending.decided.set()

    async def decided(self, pending: Pending) -> None:
        """Waits until it is approved, rejected, or out of time."""
        left = (pending.expires - self._clock()).total_seconds()
        try:
            async with asyncio.timeout(max(left, 0)):
                await pending.decided.wait()
        except TimeoutError:
            self.drop(pending)

    def _forget_old(self) -> None:
        now = self._clock()
        while self._pending and (oldest := next(iter(self._pending.values()))).expires <= now:
            self.drop(oldest)

    def _make_room(self, source: str) -> None:
        of_source = Counter(pending.source for pending in self._pending.values())
        if of_source[source] >= MAX_PENDING_OF_SOURCE:
            self.drop(next(pending for pending in self._pending.values() if pending.source == source))
        elif len(self._pending) >= MAX_PENDING:
            busiest = of_source.most_common(1)[0][0]
            self.drop(next(pending for pending in self._pending.values() if pending.source == busiest))
