"""Certificates that the operator makes where a person gave none.

A CA of ten years signs a certificate of a year, so that those who trust the CA need not be told of a renewal.
Pure but for the randomness inside the key generation; the time is an argument.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=397)
RENEW_BEFORE: Final = timedelta(days=30)
# Clocks of clients may be behind ours.
SKEW: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KeyPair:
    certificate: bytes
    """PEM"""
    key: bytes = field(repr=False)
    """PEM"""


def new_ca(name: str, now: datetime) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"{name} CA")
    certificate = (
        _builder(subject, subject, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def new_leaf(ca: KeyPair, hosts: Sequence[str], now: datetime) -> KeyPair:
    """A server certificate for these names and addresses."""
    issuer_key = serialization.load_pem_private_key(ca.key, password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _leaf_builder(issuer.subject, key.public_key(), hosts, now)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def new_self_signed(hosts: Sequence[str], now: datetime) -> KeyPair:
    """For a relay, whose certificate the relay map pins by its hash."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _leaf_builder(_name(hosts[0]), key.public_key(), hosts, now)
    certificate = builder.sign(key, hashes.SHA256())
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def needs_renewal(certificate: bytes, hosts: Sequence[str], now: datetime) -> bool:
    """Whether it is unreadable, near its end, or for other hosts."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return True
    return found.not_valid_after_utc - now < RENEW_BEFORE or set(names) != set(_alternative_names(hosts))


def pin(certificate: bytes) -> str:
    """How a relay map names exactly this certificate."""
    der = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
    return f"sha256-raw:{hashlib.sha256(der).hexdigest()}"


def _leaf_builder(
    issuer: x509.Name, public: ec.EllipticCurvePublicKey, hosts: Sequence[str], now: datetime
) -> x509.CertificateBuilder:
    return (
        _builder(_name(hosts[0]), issuer, public, now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(hosts)), critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
