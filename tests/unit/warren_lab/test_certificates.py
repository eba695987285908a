"""The lab's certificates are accepted by an ordinary client, and private."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from warren_lab.certificates import Authority, KeyPair


def handshake(client: ssl.SSLContext, pair: KeyPair, name: str) -> None:
    """A TLS handshake in memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate, pair.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(to_client, to_server, server_hostname=name)
    right = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(6):
        for side in (left, right):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {left, right}


@pytest.mark.parametrize("name", ["web.example", "203.0.113.10", "2001:db8::a"])
def test_a_client_that_trusts_the_authority_accepts_each_name(tmp_path: Path, name: str) -> None:
    authority = Authority.create(tmp_path)
    pair = authority.issue(tmp_path, ["web.example", "203.0.113.10", "2001:db8::a"])
    handshake(ssl.create_default_context(cafile=str(authority.pair.certificate)), pair, name)


def test_another_name_is_refused(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    pair = authority.issue(tmp_path, ["web.example"])
    client = ssl.create_default_context(cafile=str(authority.pair.certificate))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, pair, "mail.example")


def test_files_are_named_after_the_first_name_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    pair = Authority.create(tmp_path).issue(tmp_path / "web", ["web.example"])
    assert pair.certificate.name == "web.example.crt"
    for path in (pair.certificate, pair.key, tmp_path / "ca.key"):
        assert path.stat().st_mode & 0o777 == 0o600
