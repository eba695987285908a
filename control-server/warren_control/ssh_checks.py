"""SSH connections that a `check` rule holds until somebody approves them, and approvals that still last.

An approval is for one login name from one machine to one other. Nothing is durable: after a restart the next
connection is checked anew, which is the safe side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from warren_control.waiting import Waiting, WaitingRoom

LIFETIME: Final = timedelta(minutes=10)
MAX_CHECKS: Final = 1024
# A machine says itself who is at its door; one that invents much must not push out what others wait for.
MAX_CHECKS_OF_DESTINATION: Final = 32
MAX_APPROVALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants in where: ids of nodes, and the name of the local user."""

    source: int
    destination: int
    user: str


@dataclass(slots=True, kw_only=True)
class SshCheck(Waiting):
    """A connection that is held."""

    login: Login
    approved: bool | None = None
    """None until somebody has decided."""


class SshChecks(WaitingRoom[SshCheck]):
    """What is held and what was approved."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock, MAX_CHECKS, MAX_CHECKS_OF_DESTINATION)
        self._by_login: dict[Login, str] = {}
        self._approvals: OrderedDict[Login, datetime] = OrderedDict()

    def undecided(self) -> list[SshCheck]:
        return [check for check in self if check.approved is None]

    def ask(self, login: Login) -> SshCheck:
        """The check of a login; a second connection waits for the same decision as the first."""
        known = self.find(self._by_login.get(login, ""))
        if known is not None and known.approved is None:
            return known
        now = self._clock()
        check = SshCheck(str(login.destination), now, now + LIFETIME, login=login)
        self.add(check)
        self._by_login[login] = check.id
        return check

    def decide(self, check: SshCheck, approved: bool) -> None:
        """Whoever waits for it goes on; an approval is remembered for later connections."""
        check.approved = approved
        check.decided.set()
        if approved:
            self._approvals[check.login] = self._clock()
            self._approvals.move_to_end(check.login)
            if len(self._approvals) > MAX_APPROVALS:
                self._approvals.popitem(last=False)
        else:
            self._approvals.pop(check.login, None)

    def still_approved(self, login: Login, period: timedelta) -> bool:
        """Whether an approval is younger than `period`."""
        approved = self._approvals.get(login)
        return approved is not None and self._clock() < approved + period

    def drop(self, waiting: SshCheck) -> None:
        super().drop(waiting)
        if self._by_login.get(waiting.login) == waiting.id:
            del self._by_login[waiting.login]
