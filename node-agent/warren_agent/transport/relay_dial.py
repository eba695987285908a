"""Reaching one relay node by TLS: which addresses, which name, and what proves that it is the right one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from cryptography import x509

from warren_wire.control.messages import DERPNode

CONNECT_SECONDS: Final = 3.0
"""TCP to one address; the next one is tried then."""
HANDSHAKE_SECONDS: Final = 8.0

PIN_PREFIX: Final = "sha256-raw:"
DISABLED: Final = "none"
DEFAULT_PORT: Final = 443

KEEPALIVE_IDLE_SECONDS: Final = 10
KEEPALIVE_INTERVAL_SECONDS: Final = 5
KEEPALIVE_PROBES: Final = 3
UNACKNOWLEDGED_MILLISECONDS: Final = 15000
"""A relay that vanished without a word is noticed after this long, not after the 120 s of the protocol."""


class RelayDialError(Exception):
    """A relay cannot be reached or is not who it should be; the text says why."""


@dataclass(frozen=True, slots=True)
class TlsPlan:
    """How to verify one node. `check` gets the certificate in DER and raises RelayDialError."""

    context: ssl.SSLContext
    server_hostname: str
    check: Callable[[bytes], None]


class RelayTls:
    """The contexts for the kinds of verification a relay map can ask for."""

    def __init__(self, base: ssl.SSLContext) -> None:
        self._base = base
        self._chain_only: ssl.SSLContext | None = None
        self._unverified: ssl.SSLContext | None = None

    def plan(self, node: DERPNode) -> TlsPlan:
        name = node.host_name or node.ipv4 or node.ipv6
        if node.insecure_for_tests:
            return TlsPlan(self._no_verification(), name, lambda certificate: None)
        if node.cert_name.startswith(PIN_PREFIX):
            pin = node.cert_name.removeprefix(PIN_PREFIX).lower()
            return TlsPlan(self._no_verification(), name, lambda certificate: check_pin(certificate, pin))
        if node.cert_name:
            wanted = node.cert_name
            return TlsPlan(self._any_name(), name, lambda certificate: check_name(certificate, wanted))
        return TlsPlan(self._base, name, lambda certificate: None)

    def _no_verification(self) -> ssl.SSLContext:
        if self._unverified is None:
            self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._unverified.check_hostname = False
            self._unverified.verify_mode = ssl.CERT_NONE
        return self._unverified

    def _any_name(self) -> ssl.SSLContext:
        """The chain is verified here and the name by us: `ssl` verifies only the name that it also asks
        for."""
        if self._chain_only is None:
            context = ssl.create_default_context()
            authorities = self._base.get_ca_certs(binary_form=True)
            if authorities:
                context.load_verify_locations(cadata=b"".join(authorities))
            context.check_hostname = False
            self._chain_only = context
        return self._chain_only


def check_pin(certificate: bytes, pin: str) -> None:
    """The certificate must be exactly this one, and valid today."""
    if not hmac.compare_digest(hashlib.sha256(certificate).hexdigest(), pin):
        raise RelayDialError("the certificate is not the one that the relay map pins")
    parsed = x509.load_der_x509_certificate(certificate)
    if not parsed.not_valid_before_utc <= datetime.now(UTC) <= parsed.not_valid_after_utc:
        raise RelayDialError("the certificate is not valid today")


def check_name(certificate: bytes, name: str) -> None:
    """The certificate must be for `name`; one wildcard label is understood."""
    parsed = x509.load_der_x509_certificate(certificate)
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise RelayDialError("the certificate names no host") from None
    wanted = name.lower().rstrip(".")
    parent = "*." + wanted.partition(".")[2]
    if not any(have.lower() in (wanted, parent) for have in names.get_values_for_type(x509.DNSName)):
        raise RelayDialError(f"the certificate is not for {name}")


async def addresses(node: DERPNode, *, ipv6: bool) -> list[tuple[socket.AddressFamily, str]]:
    """Where a node may be reached, in the order to try."""
    fixed: list[tuple[socket.AddressFamily, str]] = []
    if node.ipv4 and node.ipv4 != DISABLED:
        fixed.append((socket.AF_INET, node.ipv4))
    if ipv6 and node.ipv6 and node.ipv6 != DISABLED:
        fixed.append((socket.AF_INET6, node.ipv6))
    if fixed:
        return [entry for entry in fixed if _is_address(entry[1])]
    if not node.host_name:
        return []
    allowed = {socket.AF_INET: node.ipv4 != DISABLED, socket.AF_INET6: ipv6 and node.ipv6 != DISABLED}
    try:
        found = await asyncio.get_running_loop().getaddrinfo(node.host_name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RelayDialError(f"cannot resolve {node.host_name}: {error}") from error
    entries = [(entry[0], str(entry[4][0])) for entry in found]
    return sorted((e for e in entries if allowed.get(e[0])), key=lambda e: e[0] == socket.AF_INET6)


async def connect(node: DERPNode, *, mark: int, ipv6: bool) -> socket.socket:
    """A TCP connection to the first address that answers."""
    failures: list[str] = []
    for family, address in await addresses(node, ipv6=ipv6):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _prepare(sock, mark)
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (address, node.derp_port or DEFAULT_PORT))
        except (OSError, TimeoutError) as error:
            sock.close()
            failures.append(f"{address}: {error or 'no answer'}")
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            return sock
    raise RelayDialError("; ".join(failures) or f"{node.name or node.host_name} has no usable address")


def _prepare(sock: socket.socket, mark: int) -> None:
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


async def https_latency_seconds(node: DERPNode, tls: RelayTls, *, mark: int, ipv6: bool) -> float:
    """From request to answer of `/derp/latency-check`, connection set-up excluded."""
    plan = tls.plan(node)
    sock = await connect(node, mark=mark, ipv6=ipv6)
    try:
        reader, writer = await asyncio.open_connection(
            sock=sock,
            ssl=plan.context,
            server_hostname=plan.server_hostname,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
        )
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise RelayDialError(str(error) or type(error).__name__) from error
        raise
    try:
        plan.check(peer_certificate(writer.transport))
        # Not the loop's time, which stands still within a turn of the loop.
        began = time.monotonic()
        writer.write(f"GET /derp/latency-check HTTP/1.1\r\nHost: {plan.server_hostname}\r\n\r\n".encode())
        status = await reader.readline()
        if b" 200" not in status:
            raise RelayDialError("the latency check is refused")
        return time.monotonic() - began
    except OSError as error:
        raise RelayDialError(str(error)) from error
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def peer_certificate(transport: asyncio.BaseTransport) -> bytes:
    """The server's certificate in DER."""
    ssl_object = transport.get_extra_info("ssl_object")
    certificate = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    if not certificate:
        raise RelayDialError("the server showed no certificate")
    return bytes(certificate)
