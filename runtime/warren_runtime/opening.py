"""What happens to an accepted connection before its first request: the proxy's word, then TLS.

Every step is bounded in time, and each failure has a reason.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from warren_wire import client_hello, proxy_protocol
from warren_wire.client_hello import ClientHello
from warren_wire.errors import DecodeError
from warren_wire.proxy_protocol import ProxyHeader

from .http_head import HeadFault
from .peeking import peek
from .proxies import Proxies
from .tls import TlsFault, tls_fault

OPEN_SECONDS: Final = 10.0
"""For the proxy's header, and again for the handshake."""
_SHUTDOWN_SECONDS: Final = 2.0


class Challenges(Protocol):
    """Certificates that only a certificate authority's check gets to see (RFC 8737)."""

    def pending(self) -> bool:
        """Whether a check may come; only then the first bytes of connections are looked at."""

    def context_for(self, hello: ClientHello) -> ssl.SSLContext | None:
        """The context for a check; None for every other client."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a listener needs to end TLS."""

    context: ssl.SSLContext
    challenges: Challenges | None = None


class OpeningError(Exception):
    """A connection that did not get as far as a request, and why."""

    def __init__(self, fault: HeadFault | TlsFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


async def read_proxy_header(
    sock: socket.socket, peer: tuple[str, int], proxies: Proxies, seconds: float
) -> tuple[str, int]:
    """Whose connection it is, with the header taken off (`OpeningError`, and the socket is closed)."""
    try:
        async with asyncio.timeout(seconds):
            if not proxies.trusts(peer[0]):
                # Whoever is not our proxy speaks for itself, and must not try otherwise.
                if await peek(sock, _who, proxy_protocol.SHORTEST_BYTES) is _Speaks.FOR_ANOTHER:
                    raise OpeningError(HeadFault.PROXY_UNTRUSTED)
                return peer
            header = await peek(sock, _header, proxy_protocol.MAX_BYTES)
            sock.recv(header.length)
    except BaseException as error:
        sock.close()
        fault = _fault_before_tls(error)
        if fault is None:
            raise
        raise OpeningError(fault) from None
    return peer if header.source is None else (str(header.source.ip), header.source.port)


async def begin(
    sock: socket.socket,
    protocol: Callable[[], asyncio.Protocol],
    tls: ServerTls | None,
    seconds: float,
) -> None:
    """Put a protocol on the connection, behind TLS if there is any (`OpeningError`). Owns the socket."""
    loop = asyncio.get_running_loop()
    if tls is None:
        await loop.connect_accepted_socket(protocol, sock)
        return
    began = loop.time()
    context = await _context(sock, tls, seconds)
    try:
        await loop.connect_accepted_socket(
            protocol,
            sock,
            ssl=context,
            ssl_handshake_timeout=max(seconds - (loop.time() - began), 0.001),
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        )
    except ssl.SSLError as error:
        raise OpeningError(tls_fault(error)) from None
    except OSError as error:
        # The event loop tells the end of the time as an aborted connection, a hang-up as a reset one.
        is_late = isinstance(error, ConnectionAbortedError)
        raise OpeningError(TlsFault.TIMEOUT if is_late else TlsFault.CLOSED) from None


async def _context(sock: socket.socket, tls: ServerTls, seconds: float) -> ssl.SSLContext:
    """The certificate for whoever this is (`OpeningError`, and the socket is closed)."""
    if tls.challenges is None or not tls.challenges.pending():
        return tls.context
    try:
        async with asyncio.timeout(seconds):
            hello = await peek(sock, client_hello.decode, client_hello.MAX_BYTES)
    except DecodeError:
        # Whatever it is, the handshake says so in the protocol's own words.
        return tls.context
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            late = isinstance(error, TimeoutError)
            raise OpeningError(TlsFault.TIMEOUT if late else TlsFault.CLOSED) from None
        raise
    return tls.challenges.context_for(hello) or tls.context


def _fault_before_tls(error: BaseException) -> HeadFault | None:
    match error:
        case OpeningError(fault=HeadFault() as fault):
            return fault
        case TimeoutError():
            return HeadFault.TIMEOUT
        case DecodeError():
            return HeadFault.PROXY_MALFORMED
        case OSError():
            return HeadFault.CLOSED
    return None


def _header(data: bytes) -> ProxyHeader | int:
    return proxy_protocol.decode(data)


class _Speaks(enum.Enum):
    FOR_ITSELF = enum.auto()
    FOR_ANOTHER = enum.auto()


def _who(data: bytes) -> _Speaks | int:
    if not proxy_protocol.begins(data):
        return _Speaks.FOR_ITSELF
    wanted = proxy_protocol.SHORTEST_BYTES
    return wanted if len(data) < wanted else _Speaks.FOR_ANOTHER
