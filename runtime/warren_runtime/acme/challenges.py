"""What the CA checks before it issues. In files: any process of the service may get its connection."""

from __future__ import annotations

import hashlib
import re
import shutil
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from warren_runtime.key_files import write_private
from warren_runtime.self_signed import self_signed
from warren_wire.client_hello import ClientHello

from .storage import private_pem

ALPN_PROTOCOL: Final = b"acme-tls/1"
_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_OCTET_STRING_OF_32: Final = b"\x04\x20"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NAME: Final = re.compile(r"[a-z0-9.-]{1,253}")


class ChallengeFolder:
    """Exists only while a check is to be expected."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def offer_certificate(self, name: str, key_authorization: str) -> None:
        """TLS-ALPN-01 (RFC 8737)."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        write_private(self._path / f"{name}.pem", _certificate(name, key_authorization))

    def offer_text(self, token: str, key_authorization: str) -> None:
        """HTTP-01."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        write_private(self._path / f"{token}.txt", key_authorization.encode())

    def clear(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)

    def text(self, token: str) -> str | None:
        """What to answer at the path of a token."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            return (self._path / f"{token}.txt").read_text()
        except OSError:
            return None

    def pending(self) -> bool:
        return self._path.exists()

    def context_for(self, hello: ClientHello) -> ssl.SSLContext | None:
        if ALPN_PROTOCOL not in hello.protocols or not _NAME.fullmatch(hello.server_name):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._path / f"{hello.server_name}.pem")
        except OSError:
            return None
        context.set_alpn_protocols([ALPN_PROTOCOL.decode()])
        return context


def _certificate(name: str, key_authorization: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    proof = _OCTET_STRING_OF_32 + hashlib.sha256(key_authorization.encode()).digest()
    extension = x509.UnrecognizedExtension(_IDENTIFIER, proof)
    made = self_signed(key, "check of a name", [x509.DNSName(name)], 1, [(extension, True)])
    return private_pem(key) + made.public_bytes(serialization.Encoding.PEM)
