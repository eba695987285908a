"""Certificates from a real ACME server: the first, after a restart, renewed, and when none is to be had."""

from __future__ import annotations

import asyncio
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from support.eventually import eventually
from support.pebble import Pebble, pebble
from warren_runtime.acme.keeper import OrderResult
from warren_runtime.acme.schedule import Attempts
from warren_runtime.acme.service import AcmeService, prepare
from warren_runtime.acme.settings import AcmeSettings, ExternalAccount
from warren_runtime.listener import Listener
from warren_runtime.settings import Listen

NAMES = ("relay.example.net", "relay-too.example.net")


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[Pebble]:
    with pebble(tmp_path) as server:
        yield server


def settings(
    ca: Pebble, *names: str, plain: bool = False, account: ExternalAccount | None = None
) -> AcmeSettings:
    return AcmeSettings(
        names=names or NAMES,
        directory_url=ca.directory,
        contacts=("operator@example.net",),
        ca_file=ca.own.certificate,
        http_listen=Listen("127.0.0.1", ca.http_port) if plain else None,
        external_account=account,
    )


async def page(_: web.Request) -> web.Response:
    return web.Response(text="here\n")


@asynccontextmanager
async def serving(ca: Pebble, wanted: AcmeSettings, folder: Path) -> AsyncIterator[AcmeService]:
    """A service with its TLS port where the CA checks."""
    await asyncio.to_thread(prepare, wanted, folder)
    service = AcmeService(wanted, folder)
    app = web.Application()
    app.router.add_get("/", page)
    listener = Listener(app, {}, tls=service.tls)
    await listener.start("127.0.0.1", ca.tls_port)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(listener.close)
        await service.start(stack)
        yield service


async def shown(port: int, name: str) -> bytes:
    """The certificate that a client gets, in DER."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


async def curl(*arguments: str) -> tuple[int, str]:
    running = await asyncio.create_subprocess_exec(
        "curl", "-sS", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await running.communicate()
    return running.returncode or 0, output.decode()


def issued(service: AcmeService, count: int = 1) -> Callable[[], bool]:
    return lambda: service.keeper.results[OrderResult.ISSUED] == count


async def test_the_first_certificate_replaces_the_placeholder_and_a_restart_keeps_it(
    ca: Pebble, tmp_path: Path
) -> None:
    ca.start()
    folder = tmp_path / "acme"
    async with serving(ca, settings(ca), folder) as service:
        placeholder = await shown(ca.tls_port, NAMES[0])
        assert any("placeholder" in note for note in service.notes())
        await eventually(issued(service), 60)
        assert service.notes() == []
        first = await shown(ca.tls_port, NAMES[0])
        assert first != placeholder
        # A program that we did not write trusts it under both names, and no other.
        root = await asyncio.to_thread(ca.root, tmp_path / "root.pem")
        for name in NAMES:
            at = ("--cacert", str(root), "--resolve", f"{name}:{ca.tls_port}:127.0.0.1")
            assert await curl(*at, f"https://{name}:{ca.tls_port}/") == (0, "here\n")
        at = ("--cacert", str(root), "--resolve", f"other.example.net:{ca.tls_port}:127.0.0.1")
        assert (await curl(*at, f"https://other.example.net:{ca.tls_port}/"))[0] == 60
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"certificate.pem", "account.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    ca.stop()
    async with serving(ca, settings(ca), folder) as service:
        assert await shown(ca.tls_port, NAMES[0]) == first
        assert service.notes() == []
        assert service.keeper.results == {}


async def test_a_plain_port_is_checked_and_sends_people_to_tls(ca: Pebble, tmp_path: Path) -> None:
    ca.start()
    async with (
        serving(ca, settings(ca, plain=True), tmp_path / "acme") as service,
        aiohttp.ClientSession() as http,
    ):
        await eventually(issued(service), 60)
        for host, target in ((NAMES[1], NAMES[1]), ("evil.example", NAMES[0])):
            url = f"http://127.0.0.1:{ca.http_port}/derp?x=1"
            async with http.get(url, headers={"Host": host}, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (308, f"https://{target}/derp?x=1")
        for token in ("unknown", "..%2Faccount", "a" * 300):
            url = f"http://127.0.0.1:{ca.http_port}/.well-known/acme-challenge/{token}"
            async with http.get(url) as answer:
                assert answer.status == 404


async def test_it_is_renewed_in_time_and_clients_get_the_new_one(ca: Pebble, tmp_path: Path) -> None:
    ca.validity_seconds = 6
    ca.start()
    async with serving(ca, settings(ca), tmp_path / "acme") as service:
        await eventually(issued(service), 60)
        first = await shown(ca.tls_port, NAMES[0])
        await eventually(issued(service, 2), 60)
        assert await shown(ca.tls_port, NAMES[0]) != first


async def test_other_names_are_ordered_at_once(ca: Pebble, tmp_path: Path) -> None:
    ca.start()
    async with serving(ca, settings(ca, NAMES[0]), tmp_path / "acme") as service:
        await eventually(issued(service), 60)
    async with serving(ca, settings(ca, *NAMES), tmp_path / "acme") as service:
        await eventually(issued(service), 60)


async def test_without_the_ca_the_service_serves_and_waits(ca: Pebble, tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    async with serving(ca, settings(ca), folder) as service:
        await eventually(lambda: service.keeper.results[OrderResult.FAILED] == 1, 60)
        assert any(ca.directory in note for note in service.notes())
        assert await shown(ca.tls_port, NAMES[0])
        assert service.keeper.is_failing
    ca.start()
    # A restart does not shorten the wait.
    async with serving(ca, settings(ca), folder) as service:
        await shown(ca.tls_port, NAMES[0])
        assert service.keeper.results == {}
    # Changed settings deserve a try at once.
    async with serving(ca, settings(ca, NAMES[0]), folder) as service:
        await eventually(issued(service), 60)
        assert not service.keeper.is_failing


async def test_a_name_that_cannot_be_checked_is_told_with_its_reason(
    ca: Pebble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca.start()
    wrong = settings(ca, "blocked.example.net")
    async with serving(ca, wrong, tmp_path / "acme") as service:
        await eventually(lambda: service.keeper.results.total() == 1, 60)
        assert any("blocked" in note for note in service.notes())
    ca.tls_port, real = ca.http_port, ca.tls_port
    async with serving(ca, settings(ca, NAMES[1]), tmp_path / "acme") as service:
        # The service listens where the CA does not look.
        await eventually(lambda: service.keeper.results.total() == 1, 60)
        assert any(NAMES[1] in note for note in service.notes())
    assert real
    assert "no certificate was issued" in caplog.text
    assert not (tmp_path / "acme" / "challenges").exists()


async def test_an_external_account_is_bound(ca: Pebble, tmp_path: Path) -> None:
    ca.external_accounts = {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
    ca.start()
    secret = tmp_path / "eab.key"
    async with serving(ca, settings(ca), tmp_path / "acme") as service:
        await eventually(lambda: service.keeper.results[OrderResult.FAILED] == 1, 60)
    secret.write_text(ca.external_accounts["kid-1"] + "\n")
    bound = settings(ca, account=ExternalAccount("kid-1", secret))
    async with serving(ca, bound, tmp_path / "acme") as service:
        await eventually(issued(service), 60)


async def test_what_a_crash_left_is_put_right(ca: Pebble, tmp_path: Path) -> None:
    ca.start()
    folder = tmp_path / "acme"
    (folder / "challenges").mkdir(parents=True)
    (folder / "challenges" / "old.txt").write_text("left")
    (folder / "certificate.pem").write_text("-----BEGIN PRIVATE KEY-----\ncut")
    (folder / "attempts.json").write_text("{")
    async with serving(ca, settings(ca), folder) as service:
        await eventually(issued(service), 60)
    assert not (folder / "challenges").exists()
    assert Attempts() == service.keeper._folder.attempts()
