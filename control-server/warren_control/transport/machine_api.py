"""The requests inside the encrypted channel, by path; stock clients put anything into the authority."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from warren_control.transport.exchange import Exchange
from warren_control.transport.polls import Polls
from warren_control.transport.registering import Registrar
from warren_control.transport.ssh_actions import PREFIX as SSH_ACTION
from warren_control.transport.ssh_actions import SshActions
from warren_wire.control.messages import MapRequest, RegisterRequest, decode
from warren_wire.errors import DecodeError

logger = logging.getLogger(__name__)

# Answers of a server without the feature that make no client repeat the call or write about it.
_NOT_OFFERED: Final = "this server does not offer that"
# `tailscale serve` and `funnel` ask when a capability is missing, and show this text.
_NO_FEATURE: Final = msgspec.json.encode(
    {"Complete": False, "ShouldWait": False, "Text": "This control server does not offer HTTPS certificates."}
)


class MachineApi:
    """Routes each request to what serves it."""

    def __init__(self, registrar: Registrar, polls: Polls, ssh_actions: SshActions) -> None:
        self._registrar = registrar
        self._polls = polls
        self._ssh_actions = ssh_actions

    async def handle(self, exchange: Exchange) -> None:
        path = exchange.path.partition("?")[0]
        try:
            match (exchange.method, path):
                case ("POST", "/machine/register"):
                    await self._registrar.register(exchange, decode(RegisterRequest, exchange.body))
                case ("POST", "/machine/map"):
                    await self._polls.serve(exchange, decode(MapRequest, exchange.body))
                case ("POST", "/machine/update-health"):
                    exchange.reply(204)
                case ("GET", "/machine/whoami"):
                    exchange.reply(200, f"{exchange.machine}\n".encode(), "text/plain; charset=utf-8")
                case ("POST", "/machine/feature/query"):
                    exchange.reply(200, _NO_FEATURE)
                case ("GET", _) if path.startswith(SSH_ACTION):
                    await self._ssh_actions.serve(exchange)
                case (_, _) if path.startswith("/machine/"):
                    exchange.refuse(501, _NOT_OFFERED)
                case _:
                    exchange.refuse(404, "not found")
        except DecodeError as error:
            logger.debug("request refused", extra={"path": path, "reason": str(error)})
            exchange.refuse(400, str(error)[:200])
