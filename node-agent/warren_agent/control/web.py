"""Plain HTTPS requests beside the Noise channel: the server's key, and signs of life it asks for."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

import aiohttp

from warren_agent.control.address import ServerAddress
from warren_agent.control.connection import marked_socket, reason_of
from warren_agent.control.registration import CAPABILITY_VERSION, readable
from warren_agent.errors import ControlError
from warren_wire.control.messages import ControlKey, decode
from warren_wire.errors import DecodeError
from warren_wire.keys import MachinePublic

KEY_SECONDS: Final = 10.0
PING_SECONDS: Final = 15.0
_MAX_KEY_BYTES: Final = 64 * 1024


class Web:
    """An HTTP client whose packets stay out of the tunnel."""

    def __init__(self, ssl_context: ssl.SSLContext, mark: int) -> None:
        self._ssl = ssl_context
        self._mark = mark

    def _session(self, seconds: float) -> aiohttp.ClientSession:
        def make(info: tuple[Any, ...]) -> socket.socket:
            return marked_socket(info[0], info[1], info[2], self._mark)

        connector = aiohttp.TCPConnector(ssl=self._ssl, force_close=True, socket_factory=make)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=seconds))

    async def server_key(self, address: ServerAddress) -> MachinePublic:
        """The key that everything else is trusted by; raises `ControlError`."""
        url = f"{address.url}/key?v={CAPABILITY_VERSION}"
        try:
            async with self._session(KEY_SECONDS) as session, session.get(url) as response:
                body = await response.content.read(_MAX_KEY_BYTES)
                if response.status != 200:
                    text = readable(body.decode(errors="replace"))
                    raise ControlError(f"{url} answered with status {response.status}: {text}")
                return decode(ControlKey, body).public_key
        except aiohttp.ClientConnectorError as error:
            raise ControlError(f"cannot reach {address.url}: {_connector_reason(error)}") from error
        except aiohttp.ClientError as error:
            raise ControlError(
                f"cannot read {url}: {readable(str(error)) or type(error).__name__}"
            ) from error
        except TimeoutError as error:
            raise ControlError(f"{address.url} does not answer within {KEY_SECONDS:.0f} s") from error
        except DecodeError as error:
            raise ControlError(f"{url} does not hold a control server's key") from error

    async def answer(self, url: str, body: bytes | None) -> bool:
        """What a control server asks for: a HEAD request as a sign of life, or the result of a ping."""
        if not url.startswith(("http://", "https://")):
            return False
        try:
            async with (
                self._session(PING_SECONDS) as session,
                session.request("HEAD" if body is None else "POST", url, data=body, allow_redirects=True),
            ):
                return True
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False


def _connector_reason(error: aiohttp.ClientConnectorError) -> str:
    certificate = getattr(error, "certificate_error", None)
    cause = certificate if isinstance(certificate, OSError) else error.os_error
    return reason_of(cause)
