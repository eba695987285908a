"""Files of one service's certificate: all readable by their owner only, each written whole or not at all.

Key and chain share a file, so that no reader ever sees one without the other.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from warren_runtime.key_files import write_private
from warren_runtime.self_signed import self_signed

from .schedule import Attempts, Held
from .settings import AcmeSettings

PLACEHOLDER_DAYS = 30


class AcmeFolder:
    """`certificate.pem`, `account.json`, `attempts.json` and, while the CA checks, `challenges/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.certificate = path / "certificate.pem"
        self.account = path / "account.json"
        self.challenges = path / "challenges"
        self._attempts = path / "attempts.json"

    def prepare(self, names: Sequence[str]) -> None:
        """Make a placeholder where no certificate can be read (OSError if that is not possible)."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self.held()
        except (OSError, ValueError):
            write_private(self.certificate, _placeholder(names))

    def held(self) -> Held:
        """The certificate in use; OSError or ValueError if there is none."""
        data = self.certificate.read_bytes()
        serialization.load_pem_private_key(data, password=None)
        leaf = x509.load_pem_x509_certificates(data)[0]
        try:
            extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = frozenset(extension.value.get_values_for_type(x509.DNSName))
        except x509.ExtensionNotFound:
            names = frozenset()
        return Held(
            names=names,
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            serial=leaf.serial_number,
            is_placeholder=leaf.issuer == leaf.subject,
        )

    def store(self, pem: bytes) -> None:
        """A new key and chain take the place of the old."""
        write_private(self.certificate, pem)

    def attempts(self) -> Attempts:
        try:
            found = json.loads(self._attempts.read_bytes())
            return Attempts(
                int(found["failures"]),
                datetime.datetime.fromisoformat(found["not_before"]).astimezone(datetime.UTC),
                str(found["settings"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return Attempts()

    def note(self, attempts: Attempts) -> None:
        if not attempts.failures:
            self._attempts.unlink(missing_ok=True)
            return
        text = {
            "failures": attempts.failures,
            "not_before": attempts.not_before.isoformat(),
            "settings": attempts.settings,
        }
        write_private(self._attempts, json.dumps(text).encode())


def mark_of(settings: AcmeSettings) -> str:
    """Changes with any setting that another attempt may depend on."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def _placeholder(names: Sequence[str]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    made = self_signed(key, "placeholder", [x509.DNSName(name) for name in names], PLACEHOLDER_DAYS)
    return private_pem(key) + made.public_bytes(serialization.Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
