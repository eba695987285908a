"""Clients that stall, go silent or guess: dropped or slowed down, counted, and felt by nobody else."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from support.control_client import ControlClient, Identity
from support.eventually import eventually
from warren_control.metrics import ConnectionEnd, Registration
from warren_control.transport import connection
from warren_runtime.http_head import HeadFault
from warren_runtime.tls import TlsFault, client_context

from .conftest import BOOTSTRAP, Running, StartServer
from .test_transport import ProxiedClient

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
GUESS = "warren-auth-0123456789ab-not-the-secret"
GUESSES = 400


def never_reads(client: ControlClient) -> None:
    client._writer.transport.pause_reading()  # type: ignore[attr-defined]


def stops_within_a_record(client: ControlClient) -> None:
    never_reads(client)
    # The header of a record of 2048 bytes that never come.
    client.send_raw(b"\x04\x08\x00" + bytes(100))


@pytest.mark.parametrize("stall", [never_reads, stops_within_a_record])
async def test_a_client_that_goes_silent_is_dropped(
    server: Running, stall: Callable[[ControlClient], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PING_SECONDS", 1.0)
    monkeypatch.setattr(connection, "DEAD_SECONDS", 4.0)
    web = await server.member("web")
    silent = await server.member("silent")
    assert server.server is not None
    ends = server.server.metrics.ends.labels(ConnectionEnd.UNRESPONSIVE.value)
    stall(silent)
    for number in range(20):
        await server.api("PATCH", "/api/v1/nodes/1", {"name": f"name-{number}"})
    await eventually(lambda: ends._value.get() == 1)
    await web.until(lambda: web.netmap.self_node is not None and "name-19" in web.netmap.self_node.name)
    assert not web.disconnected


async def test_half_open_connections_do_not_keep_members_out(server: Running) -> None:
    web = await server.member("web")
    assert server.server is not None
    listener = server.server._listener
    assert listener is not None
    made = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    for sock in made[:100]:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    for sock in made[100:200]:
        sock.sendall(b"POST /ts2021 HTTP/1.1\r\n\r\n")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    assert not office.disconnected
    await eventually(lambda: listener.tls_faults[TlsFault.NOT_TLS] == 100)
    for sock in made:
        sock.close()
    await eventually(lambda: listener.tls_faults.total() == 300)
    assert listener.faults[HeadFault.TOO_MANY_CONNECTIONS] == 0


async def test_guessing_keys_is_slowed_down_for_that_address_alone(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server(trusted_proxies=["127.0.0.0/8"])
    assert server.server is not None

    async def connected(name: str, source: str) -> ProxiedClient:
        client = ProxiedClient(Identity(name), server.port, client_context(server.pair.certificate))
        client.forwarded_for = source
        await client.connect()
        server.clients.append(client)
        return client

    guessing = await connected("guessing", "203.0.113.66")
    answers = [await guessing.send_register(GUESS) for _ in range(GUESSES)]
    refused = [answer for answer in answers if answer.status == 429]
    # One try comes back each two seconds.
    assert len(refused) > GUESSES // 2
    counts = server.server.metrics.registrations
    assert counts.labels(Registration.LIMITED.value)._value.get() == len(refused)
    assert counts.labels(Registration.REFUSED.value)._value.get() == GUESSES - len(refused)
    assert "not-the-secret" not in caplog.text
    again = await connected("guessing-too", "203.0.113.66")
    assert (await again.send_register(BOOTSTRAP)).status == 429
    other = await connected("web", "203.0.113.67")
    assert (await other.register(BOOTSTRAP)).error == ""
