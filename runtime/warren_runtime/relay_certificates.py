"""Certificates that only relays need: the one that announces the relay's key, and self-signed ones.

Knows nothing of listeners; `tls` loads what is made here.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from warren_wire.derp.frames import PROTOCOL_VERSION
from warren_wire.keys import NodePublic

from .key_files import write_private
from .self_signed import self_signed

ANNOUNCEMENT_DAYS: Final = 30
SELF_SIGNED_DAYS: Final = 3650
"""Long, because whoever pins it must be told of a new one."""


@dataclass(frozen=True, slots=True)
class PinnedPair:
    """Files of a self-signed pair, and what a relay map says in `CertName` to pin it."""

    certificate: Path
    key: Path
    cert_name: str


def announcement(key: NodePublic, now: datetime.datetime | None = None) -> bytes:
    """PEM of the extra certificate from which stock clients learn the relay's key inside TLS 1.3.

    They then send their first frame with the request, which saves a round trip.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    signer = ed25519.Ed25519PrivateKey.generate()
    # 71 characters are more than X.509 allows; clients look for exactly this.
    text = f"derpkey{key.raw.hex()}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _validate=False)])
    lifetime = datetime.timedelta(days=ANNOUNCEMENT_DAYS)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signer.public_key())
        .serial_number(PROTOCOL_VERSION)
        .not_valid_before(now - lifetime)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(signer, None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def pinned_pair(folder: Path, names: Sequence[str]) -> PinnedPair:
    """The pair kept in `folder`, made anew when there is none or it is for other names."""
    certificate, key = folder / "self-signed.crt", folder / "self-signed.key"
    found = _read(certificate) if key.exists() else None
    if found is None or _names(found) != list(names):
        found = _make(certificate, key, names)
    return PinnedPair(certificate, key, cert_name(found))


def cert_name(certificate: x509.Certificate) -> str:
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    return f"sha256-raw:{digest}"


def _make(certificate: Path, key: Path, names: Sequence[str]) -> x509.Certificate:
    signer = ec.generate_private_key(ec.SECP256R1())
    public = signer.public_key()
    made = self_signed(
        signer,
        names[0][:64],
        [_alternative(each) for each in names],
        SELF_SIGNED_DAYS,
        (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            # Relays of one region may have the same names: these tell their certificates apart.
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ),
    )
    private = signer.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key, private)
    write_private(certificate, made.public_bytes(serialization.Encoding.PEM))
    return made


def _read(certificate: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return None


def _names(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(each.value) for each in extension.value]


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
