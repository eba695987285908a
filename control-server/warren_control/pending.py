"""Machines that wait for a person's approval. Any stranger may ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from warren_control.hosts import usable_hostinfo, usable_version
from warren_control.waiting import Waiting, WaitingRoom
from warren_wire.control.messages import Hostinfo, RegisterRequest
from warren_wire.keys import MachinePublic

LIFETIME: Final = timedelta(minutes=15)
MAX_PENDING: Final = 1024
# Machines behind one address; a stranger with many keys must not push everybody else's link out.
MAX_PENDING_OF_SOURCE: Final = 64
REJECTED: Final = "an administrator refused this machine"


@dataclass(slots=True, kw_only=True)
class Pending(Waiting):
    """A machine at the door."""

    machine: MachinePublic
    request: RegisterRequest
    rejected: bool = False

    @property
    def hostinfo(self) -> Hostinfo:
        return self.request.hostinfo or Hostinfo()


class PendingLogins(WaitingRoom[Pending]):
    """Who waits, oldest first."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock, MAX_PENDING, MAX_PENDING_OF_SOURCE)
        self._by_machine: dict[MachinePublic, str] = {}

    def ask(self, machine: MachinePublic, request: RegisterRequest, source: str) -> Pending:
        """The machine's place at the door; the same one while it asks for the same node key."""
        known = self.find(self._by_machine.get(machine, ""))
        if known is not None and known.request.node_key == request.node_key:
            return known
        if known is not None:
            self.drop(known)
        now = self._clock()
        kept = RegisterRequest(
            version=usable_version(request.version),
            node_key=request.node_key,
            expiry=request.expiry,
            hostinfo=usable_hostinfo(request.hostinfo or Hostinfo()),
            ephemeral=request.ephemeral,
        )
        pending = Pending(source, now, now + LIFETIME, machine=machine, request=kept)
        self.add(pending)
        self._by_machine[machine] = pending.id
        return pending

    def reject(self, pending: Pending) -> None:
        """The machine's user reads that it was refused."""
        pending.rejected = True
        self.drop(pending)

    def drop(self, waiting: Pending) -> None:
        super().drop(waiting)
        if self._by_machine.get(waiting.machine) == waiting.id:
            del self._by_machine[waiting.machine]
