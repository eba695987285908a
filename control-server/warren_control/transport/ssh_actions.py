"""`GET /machine/ssh/action/…`: the destination of an SSH connection asks whether a `check` rule is satisfied.

The client is told to hold and ask again until somebody has decided (control-protocol.md, 3.6). It repeats
whatever is not answered with 200 for half an hour, so a refusal is an action too.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qs, quote, urlencode

import msgspec

from warren_control.metrics import ControlMetrics, SshCheckResult
from warren_control.model import Node
from warren_control.policy.ssh_wire import ACCEPT, SSHAction
from warren_control.ssh_checks import Login, SshCheck, SshChecks
from warren_control.store import Store
from warren_control.transport.exchange import Exchange
from warren_wire.keys import MachinePublic

logger = logging.getLogger(__name__)

PREFIX: Final = "/machine/ssh/action/"
# Shorter than what proxies let a silent request live; the client asks again at once.
HOLD_SECONDS: Final = 50.0
# Below the requests that a connection may have in flight, so that the machine's map stream is not in danger.
MAX_HELD_OF_MACHINE: Final = 24
MAX_USER: Final = 128
_PATH: Final = re.compile(PREFIX + r"([0-9]{1,16})/to/([0-9]{1,16})")

CheckPeriod = Callable[[int, int, str], int | None]
"""Source, destination, local user; nanoseconds an approval lasts, or None where no rule asks for a check."""


class SshActions:
    """Serves the path."""

    def __init__(
        self,
        store: Store,
        checks: SshChecks,
        check_period: CheckPeriod,
        metrics: ControlMetrics,
        server_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._checks = checks
        self._check_period = check_period
        self._metrics = metrics
        self._server_url = server_url.rstrip("/")
        self._clock = clock
        self._held: Counter[MachinePublic] = Counter()

    async def serve(self, exchange: Exchange) -> None:
        path, _, query = exchange.path.partition("?")
        found = _PATH.fullmatch(path)
        fields = parse_qs(query[:1024])
        user = fields.get("local_user", [""])[0]
        if found is None or not 0 < len(user) <= MAX_USER:
            exchange.refuse(400, f"wanted {PREFIX}SOURCE/to/DESTINATION?local_user=NAME")
            return
        login = Login(int(found[1]), int(found[2]), user)
        destination = self._store.snapshot.nodes.get(login.destination)
        if destination is None or destination.machine_key != exchange.machine:
            exchange.refuse(403, "only the destination itself may ask")
            return
        action = await self._action(exchange, login, fields.get("check", [""])[0])
        exchange.reply(200, msgspec.json.encode(action))

    async def _action(self, exchange: Exchange, login: Login, check_id: str) -> SSHAction:
        refusal, period = self._judged(login)
        if refusal:
            return self._refused(login, refusal)
        check = self._checks.find(check_id) if check_id else None
        if check is None or check.login != login:
            if self._checks.still_approved(login, period):
                return self._counted(ACCEPT, SshCheckResult.REMEMBERED)
            return self._held_now(login)
        if self._held[exchange.machine] >= MAX_HELD_OF_MACHINE:
            return self._refused(login, "too many connections to this machine wait for approval")
        decided = await self._wait(exchange.machine, check)
        return self._decided(check) if decided else self._hold(check)

    async def _wait(self, machine: MachinePublic, check: SshCheck) -> bool:
        self._held[machine] += 1
        try:
            return await self._checks.decided(check, HOLD_SECONDS)
        finally:
            self._held[machine] -= 1
            if not self._held[machine]:
                del self._held[machine]

    def _judged(self, login: Login) -> tuple[str, timedelta]:
        """Why there is nothing to wait for, and how long an approval lasts."""
        now, snapshot = self._clock(), self._store.snapshot
        source = snapshot.nodes.get(login.source)
        if source is None or source.disabled or source.expired(now):
            return "this machine is not a member of the mesh any more", timedelta()
        if source.tags:
            return (
                "the policy asks for a check, and nobody stands behind a tagged machine to pass it",
                timedelta(),
            )
        period = self._check_period(login.source, login.destination, login.user)
        if period is None:
            return f"the policy has changed: connect as {login.user} again", timedelta()
        return "", timedelta(microseconds=period / 1000)

    def _held_now(self, login: Login) -> SSHAction:
        waiting = len(self._checks)
        check = self._checks.ask(login)
        if len(self._checks) > waiting:
            source, destination = self._names(login)
            logger.info(
                "ssh connection waits for approval",
                extra={"node": source, "target": destination, "user": login.user},
            )
        self._metrics.ssh_checks.labels(SshCheckResult.HELD.value).inc()
        link = f"{self._server_url}/ssh/check/{check.id}"
        return self._hold(
            check,
            f"# The policy of this mesh asks for an approval before {login.user} may log in.\r\n"
            f"# Open {link}\r\n"
            f"# or have an administrator run: warren ssh approve {check.id}\r\n",
        )

    def _hold(self, check: SshCheck, message: str = "") -> SSHAction:
        login = check.login
        query = urlencode({"local_user": login.user, "check": check.id}, quote_via=quote)
        path = f"{PREFIX}{login.source}/to/{login.destination}"
        return SSHAction(message=message, hold_and_delegate=f"{self._server_url}{path}?{query}")

    def _decided(self, check: SshCheck) -> SSHAction:
        """Every connection that waits for it goes on; one that comes later needs a lasting approval."""
        self._checks.drop(check)
        if check.approved is None:
            self._metrics.ssh_checks.labels(SshCheckResult.EXPIRED.value).inc()
            return _reject("nobody approved this connection in time: connect again")
        # The policy may have changed, or the machine been removed, while it waited.
        refusal, _ = self._judged(check.login)
        if refusal:
            return self._refused(check.login, refusal)
        if not check.approved:
            return self._counted(_reject("this connection was denied"), SshCheckResult.DENIED)
        return self._counted(ACCEPT, SshCheckResult.APPROVED)

    def _refused(self, login: Login, reason: str) -> SSHAction:
        source, destination = self._names(login)
        logger.info(
            "ssh connection refused",
            extra={"node": source, "target": destination, "user": login.user, "reason": reason},
        )
        return self._counted(_reject(reason), SshCheckResult.REFUSED)

    def _counted(self, action: SSHAction, result: SshCheckResult) -> SSHAction:
        self._metrics.ssh_checks.labels(result.value).inc()
        return action

    def _names(self, login: Login) -> tuple[str, str]:
        nodes = self._store.snapshot.nodes
        return _name(nodes.get(login.source)), _name(nodes.get(login.destination))


def _name(node: Node | None) -> str:
    return node.name if node is not None else "unknown"


def _reject(reason: str) -> SSHAction:
    return SSHAction(message=f"# {reason}\r\n", reject=True)
