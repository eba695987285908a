"""Plain HTTPS requests beside the Noise channel: the server's key, and answers it asks for.

One request a connection, read to its end and parsed by the standard library: a whole client takes longer
to load than these requests take.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import ssl
from typing import Final
from urllib.parse import urljoin, urlsplit

from warren_agent.control.address import ServerAddress
from warren_agent.control.connection import dial, reason_of
from warren_agent.control.registration import CAPABILITY_VERSION, readable
from warren_agent.errors import ControlError
from warren_wire.control.messages import ControlKey, decode
from warren_wire.errors import DecodeError
from warren_wire.keys import MachinePublic

KEY_SECONDS: Final = 10.0
PING_SECONDS: Final = 15.0
MAX_REDIRECTS: Final = 5
_MAX_ANSWER_BYTES: Final = 64 * 1024
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_PORTS: Final = {"http": 80, "https": 443}


class Web:
    """An HTTP client whose packets stay out of the tunnel."""

    def __init__(self, ssl_context: ssl.SSLContext, mark: int) -> None:
        self._ssl = ssl_context
        self._mark = mark

    async def server_key(self, address: ServerAddress) -> MachinePublic:
        """The key that everything else is trusted by; raises `ControlError`."""
        url = f"{address.url}/key?v={CAPABILITY_VERSION}"
        try:
            async with asyncio.timeout(KEY_SECONDS):
                status, body = await self._request("GET", url, None)
            if status != 200:
                text = readable(body.decode(errors="replace"))
                raise ControlError(f"{url} answered with status {status}: {text}")
            return decode(ControlKey, body).public_key
        except TimeoutError as error:
            raise ControlError(f"{address.url} does not answer within {KEY_SECONDS:.0f} s") from error
        except OSError as error:
            raise ControlError(f"cannot reach {address.url}: {reason_of(error)}") from error
        except (http.client.HTTPException, ValueError) as error:
            raise ControlError(
                f"cannot read {url}: {readable(str(error)) or type(error).__name__}"
            ) from error
        except DecodeError as error:
            raise ControlError(f"{url} does not hold a control server's key") from error

    async def answer(self, url: str, body: bytes | None) -> bool:
        """What a control server asks for: a HEAD request as a sign of life, or the result of a ping."""
        method = "HEAD" if body is None else "POST"
        try:
            async with asyncio.timeout(PING_SECONDS):
                for _ in range(MAX_REDIRECTS):
                    status, moved = await self._request(method, url, body)
                    if status not in _MOVED or not moved:
                        return True
                    url = urljoin(url, moved.decode("ascii"))
        except (http.client.HTTPException, OSError, ValueError):
            pass
        return False

    async def _request(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and body, or where it moved to."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or not url.isascii() or not url.isprintable():
            raise ValueError(f"not an HTTP address: {readable(url)}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n{length}\r\n"
        secure = parts.scheme == "https"
        sock = await dial(parts.hostname, parts.port or _PORTS[parts.scheme], self._mark)
        try:
            reader, writer = await asyncio.open_connection(
                sock=sock,
                ssl=self._ssl if secure else None,
                server_hostname=parts.hostname if secure else None,
            )
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(head.encode() + (body or b""))
            answer = bytearray()
            while len(answer) < _MAX_ANSWER_BYTES and (part := await reader.read(_MAX_ANSWER_BYTES)):
                answer += part
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return _parsed(bytes(answer), method)


class _Recorded:
    """Bytes of an answer in the shape that the standard library reads answers from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parsed(answer: bytes, method: str) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(_Recorded(answer), method=method)  # type: ignore[arg-type]
    response.begin()
    if response.status in _MOVED:
        return response.status, response.headers.get("Location", "").encode()
    return response.status, response.read()
