"""The certificate that announces a relay's key, and self-signed pairs that relay maps pin."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from warren_runtime.relay_certificates import announcement, pinned_pair
from warren_wire.keys import NodePrivate

KEY = NodePrivate.from_seed(b"\x33" * 32).public
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_the_announcement_has_what_stock_clients_look_for() -> None:
    certificate = x509.load_pem_x509_certificate(announcement(KEY, NOW))
    with pytest.warns(UserWarning, match="must be >= 1 and <= 64"):
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == f"derpkey{KEY.raw.hex()}"
    assert certificate.serial_number == 2
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    certificate.verify_directly_issued_by(certificate)


def test_a_pair_is_kept_until_its_names_change(tmp_path: Path) -> None:
    first = pinned_pair(tmp_path, ["203.0.113.5", "relay.example.net"])
    assert pinned_pair(tmp_path, ["203.0.113.5", "relay.example.net"]) == first
    other = pinned_pair(tmp_path, ["203.0.113.6"])
    assert other.cert_name != first.cert_name
    certificate = x509.load_pem_x509_certificate(other.certificate.read_bytes())
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert other.cert_name == f"sha256-raw:{hashlib.sha256(der).hexdigest()}"
    assert other.key.stat().st_mode & 0o777 == 0o600


def test_a_broken_file_is_replaced(tmp_path: Path) -> None:
    first = pinned_pair(tmp_path, ["relay.example.net"])
    first.certificate.write_text("half a cert")
    assert pinned_pair(tmp_path, ["relay.example.net"]).cert_name != first.cert_name
