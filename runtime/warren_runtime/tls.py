"""TLS contexts of servers and clients, with certificates reloaded when their files change."""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

RELOAD_SECONDS: Final = 10.0
"""How often files are looked at. A Secret volume changes about a minute after its Secret."""


EXTRA_SECONDS: Final = 7 * 86400.0


class TlsError(Exception):
    """A certificate, key or CA file cannot be used; the text says which and why."""


class TlsFault(enum.Enum):
    """Why a client and a server did not agree."""

    VERSION = "version"
    NOT_TLS = "not_tls"
    REFUSED_BY_CLIENT = "refused_by_client"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    OTHER = "other"


def tls_fault(error: ssl.SSLError) -> TlsFault:
    reason = error.reason or ""
    if reason in ("UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "VERSION_TOO_LOW"):
        return TlsFault.VERSION
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
        return TlsFault.NOT_TLS
    return TlsFault.REFUSED_BY_CLIENT if "ALERT" in reason else TlsFault.OTHER


def server_context(certificate: Path, key: Path, extra: bytes = b"") -> ssl.SSLContext:
    """TLS 1.2 or newer with one certificate chain; `extra` is PEM to send after it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Tickets of many short connections cost more than they save: relay and control connections live for days.
    context.num_tickets = 0
    _load(context, certificate, key, extra)
    return context


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Verifying context with the system's CAs, and the CAs of `ca_file` beside them."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        # A certificate in the file is trusted as it is, also where its issuer is not there.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"cannot read CA certificates from {ca_file}: {_reason(error)}") from error
    return context


class ReloadingTrust:
    """Client contexts that trust what the newest readable `ca_file` holds, beside the system's CAs."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._seen = self._fingerprint()
        self._context = client_context(ca_file)

    def context(self) -> ssl.SSLContext:
        """For the next connection (TlsError). Reads files: not for the event loop's thread."""
        found = self._fingerprint()
        if found != self._seen:
            self._context = client_context(self._ca_file)
            self._seen = found
        return self._context

    def _fingerprint(self) -> tuple[tuple[int, int, int], ...]:
        return _fingerprint(self._ca_file) if self._ca_file else ()


class ReloadingContext:
    """A server context whose new connections use the newest readable pair of files; old connections stay."""

    def __init__(self, certificate: Path, key: Path, extra: Callable[[], bytes] | None = None) -> None:
        """`extra` gives PEM to send after the chain; it is asked again each week."""
        self._certificate = certificate
        self._key = key
        self._make_extra = extra
        self._extra = extra() if extra else b""
        self._extra_at = time.monotonic()
        self._seen = _fingerprint(certificate, key)
        self.context = server_context(certificate, key, self._extra)

    def reload_if_changed(self) -> bool:
        """Load changed files. A pair that does not fit is refused, the old one stays (TlsError)."""
        found = _fingerprint(self._certificate, self._key)
        now = time.monotonic()
        is_extra_old = self._make_extra is not None and now - self._extra_at > EXTRA_SECONDS
        if found == self._seen and not is_extra_old:
            return False
        self._seen = found
        if self._make_extra is not None:
            self._extra, self._extra_at = self._make_extra(), now
        # Tried on a throw-away context first: a half-written pair must not touch the one in use.
        server_context(self._certificate, self._key, self._extra)
        _load(self.context, self._certificate, self._key, self._extra)
        return True

    async def watch(self, interval_seconds: float = RELOAD_SECONDS) -> None:
        """Reload for ever; a bad pair is logged and tried again when it changes again."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                if await asyncio.to_thread(self.reload_if_changed):
                    logger.info("certificate reloaded")
            except TlsError as error:
                logger.warning("changed certificate refused, the old one stays", extra={"reason": str(error)})


def _load(context: ssl.SSLContext, certificate: Path, key: Path, extra: bytes) -> None:
    try:
        if not extra:
            _load_chain(context, certificate, key)
            return
        with tempfile.NamedTemporaryFile(suffix=".pem") as chain:
            # OpenSSL's wrapper reads a chain only from one file.
            chain.write(certificate.read_bytes() + b"\n" + extra)
            chain.flush()
            _load_chain(context, Path(chain.name), key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"cannot use certificate {certificate} with key {key}: {_reason(error)}") from error


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    # The password callback keeps OpenSSL from asking on the terminal for an encrypted key.
    context.load_cert_chain(certificate, key, password=lambda: "")


def _fingerprint(*files: Path) -> tuple[tuple[int, int, int], ...]:
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _reason(error: OSError | ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)
