"""Certificates that change while a server runs."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest

from support.certificates import Pair, self_signed
from warren_runtime.tls import ReloadingContext, TlsError, client_context


async def served_certificate(context: ssl.SSLContext) -> bytes:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        await reader.read()
        writer.close()
        try:
            await writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass
    return found


def der(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


async def test_new_connections_get_the_new_certificate(tmp_path: Path) -> None:
    first, second = self_signed(tmp_path, "first"), self_signed(tmp_path, "second")
    used = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    shutil.copy(first.certificate, used.certificate)
    shutil.copy(first.key, used.key)
    reloading = ReloadingContext(used.certificate, used.key)
    assert await served_certificate(reloading.context) == der(first.certificate)
    assert not reloading.reload_if_changed()
    second.certificate.replace(used.certificate)
    with pytest.raises(TlsError):
        reloading.reload_if_changed()
    assert await served_certificate(reloading.context) == der(first.certificate)
    expected = der(used.certificate)
    second.key.replace(used.key)
    assert reloading.reload_if_changed()
    assert await served_certificate(reloading.context) == expected


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"none\.crt.*No such file"):
        ReloadingContext(tmp_path / "none.crt", tmp_path / "none.key")
    (tmp_path / "bad.crt").write_text("no certificate")
    with pytest.raises(TlsError, match=r"bad\.crt"):
        ReloadingContext(tmp_path / "bad.crt", tmp_path / "bad.crt")
    with pytest.raises(TlsError, match=r"bad\.crt"):
        client_context(tmp_path / "bad.crt")
