"""Certificates, keys and tokens of one cluster, made anew for each run.

Knows what Kubernetes wants to find in them; not where the files go.
"""

from __future__ import annotations

import datetime
import secrets
from dataclasses import dataclass
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from warren_lab.cluster.spec import ClusterSpec

_LIFETIME = datetime.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key with its certificate, as PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPair(hidden)"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything secret of one cluster."""

    ca: KeyPair
    api_server: KeyPair
    api_client: KeyPair
    """What the API server shows to the kubelet, for ``exec`` and ``logs``."""
    service_account_key: bytes
    service_account_public: bytes
    tokens: dict[str, str]
    """User name to bearer token."""

    def __repr__(self) -> str:
        return "Credentials(hidden)"


def users(node: str) -> dict[str, str]:
    """Who may call the API: user name to group, as ``--authorization-mode=Node,RBAC`` knows them."""
    return {
        "admin": "system:masters",
        "system:kube-controller-manager": "",
        "system:kube-scheduler": "",
        "system:kube-proxy": "",
        f"system:node:{node}": "system:nodes",
    }


def generate(spec: ClusterSpec, now: datetime.datetime) -> Credentials:
    """All credentials of one cluster."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{spec.name} cluster CA")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [
        x509.DNSName(name)
        for name in (
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        )
    ]
    names += [
        x509.IPAddress(address) for address in (spec.node_ip, spec.api_service_ip, IPv4Address("127.0.0.1"))
    ]
    account = ec.generate_private_key(ec.SECP256R1())
    return Credentials(
        ca=KeyPair(_pem(ca), _key_pem(ca_key)),
        api_server=_leaf(ca, ca_key, "kube-apiserver", None, names, now),
        api_client=_leaf(ca, ca_key, "kube-apiserver-kubelet-client", "system:masters", [], now),
        service_account_key=_key_pem(account),
        service_account_public=account.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        tokens={user: secrets.token_hex(16) for user in users(spec.name)},
    )


def token_file(credentials: Credentials, node: str) -> str:
    """The API server's ``--token-auth-file``: token, user, uid, groups."""
    return "".join(
        f'{credentials.tokens[user]},{user},{user},"{group}"\n' for user, group in users(node).items()
    )


def _leaf(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    common_name: str,
    organization: str | None,
    names: list[x509.GeneralName],
    now: datetime.datetime,
) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    builder = _builder(x509.Name(attributes), ca.subject, key.public_key(), now).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
        critical=False,
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return KeyPair(_pem(builder.sign(ca_key, hashes.SHA256())), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # Programs of one run start within seconds of each other; a clock that steps back must not break them.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
