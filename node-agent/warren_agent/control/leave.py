"""Leaving for good: the control server forgets this node, so that its name and addresses are free again."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final

from warren_agent.config import Config
from warren_agent.control.address import ServerAddress
from warren_agent.control.connection import ControlConnection
from warren_agent.control.registration import CAPABILITY_VERSION, leave_request, readable
from warren_agent.control.web import Web
from warren_agent.errors import ControlError
from warren_agent.keystore import Keys
from warren_wire.control.messages import encode
from warren_wire.errors import WireError

LEAVE_SECONDS: Final = 10.0
"""Whoever takes a host apart does not wait longer for a server that may be gone already."""
# A server whose clock is a little behind must still see a time that has passed.
_AGO: Final = timedelta(days=1)


async def leave(config: Config, keys: Keys, ssl_context: ssl.SSLContext) -> None:
    """Raises `ControlError` if the server could not be told."""
    try:
        async with asyncio.timeout(LEAVE_SECONDS):
            await _leave(config, keys, ssl_context)
    except TimeoutError as error:
        raise ControlError(f"{config.server_url} does not answer within {LEAVE_SECONDS:.0f} s") from error
    except WireError as error:
        raise ControlError(str(error)) from error


async def _leave(config: Config, keys: Keys, ssl_context: ssl.SSLContext) -> None:
    address = ServerAddress.parse(config.server_url)
    server = await Web(ssl_context, config.mark.value).server_key(address)
    connection = await ControlConnection.open(
        address,
        machine=keys.machine,
        server=server,
        version=CAPABILITY_VERSION,
        ssl_context=ssl_context,
        mark=config.mark.value,
    )
    try:
        request = leave_request(keys, datetime.now(UTC) - _AGO)
        answer = await connection.request("POST", "/machine/register", encode(request))
        if answer.status != 200:
            text = readable(answer.body.decode(errors="replace"))
            raise ControlError(f"leaving failed with status {answer.status}: {text}")
    finally:
        await connection.close()
