"""A real control server on loopback, and clients for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from support import postgres
from support.certificates import Pair, self_signed
from support.control_client import ControlClient, Identity
from support.described import Description
from warren_control import config
from warren_control.app import ControlServer
from warren_control.metrics import ControlMetrics
from warren_control.store import utc_now
from warren_runtime.tls import client_context

TOKEN = "token-of-the-administrator"
BOOTSTRAP = "bootstrap-secret-of-the-cluster"


@dataclass
class Running:
    """A server under test that can be stopped and started again on the same files."""

    folder: Path
    pair: Pair
    database: str
    settings: dict[str, Any] = field(default_factory=dict)
    server: ControlServer | None = None
    task: asyncio.Task[None] | None = None
    clients: list[ControlClient] = field(default_factory=list)
    clock: Callable[[], datetime] = utc_now
    description: Description | None = None
    port: int = 0
    """Kept when the server starts again, as clients only know the old one."""

    def config(self) -> config.Config:
        return config.parse(
            {
                "server_url": "https://127.0.0.1:8443",
                "listen": f"127.0.0.1:{self.port}",
                "tls": {"certificate": str(self.pair.certificate), "key": str(self.pair.key)},
                "database": self.database,
                "noise_key_file": str(self.folder / "state/noise.key"),
                "derp_key_file": str(self.folder / "state/derp.key"),
                "admin_token_file": str(self.folder / "token"),
                "relay": {"enabled": True, "host": "127.0.0.1", "stun_listen": "127.0.0.1:0"},
                "bootstrap_keys": [
                    {"secret_file": str(self.folder / "bootstrap"), "approve_routes": ["10.1.0.0/16"]}
                ],
                **self.settings,
            }
        )

    async def start(self) -> None:
        metrics = ControlMetrics(CollectorRegistry())
        server = ControlServer(self.config(), metrics=metrics, clock=self.clock)
        await server.start()
        self.server = server
        self.port = server.port
        self.task = asyncio.create_task(server.run(), name="control server")

    async def stop(self) -> None:
        assert self.server is not None
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.server.stop()

    async def client(self, identity: Identity | str) -> ControlClient:
        """A connected client."""
        who = Identity(identity) if isinstance(identity, str) else identity
        client = ControlClient(who, self.port, client_context(self.pair.certificate))
        await client.connect()
        self.clients.append(client)
        return client

    async def member(self, identity: Identity | str, **poll: Any) -> ControlClient:
        """A registered client with an open map stream."""
        client = await self.client(identity)
        assert (await client.register(BOOTSTRAP)).error == ""
        await client.poll(**poll)
        return client

    async def api(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str = TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """A call of the admin API: status and document, which is what the server's description says of it."""
        if self.description is None:
            _, document = await self._call(
                "GET", "/api/v1/openapi.json", None, {"Authorization": f"Bearer {TOKEN}"}
            )
            self.description = Description(document) if "components" in document else None
        given = {"Authorization": f"Bearer {token}", **(headers or {})}
        status, answer = await self._call(method, path, body, given)
        if self.description is not None:
            self.description.check(method, path.partition("?")[0], status, answer)
        return status, answer

    async def _call(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        url = f"https://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, url, json=body, headers=headers, ssl=client_context(self.pair.certificate)
            ) as response,
        ):
            text = await response.text()
            return response.status, await response.json(content_type=None) if text else None


StartServer = Callable[..., Awaitable[Running]]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database; whatever a server does, it does on both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state/control.db"
        return
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    url = server.new_database()
    yield url
    server.drop(url)


@pytest.fixture
async def start_server(tmp_path: Path, database: str) -> AsyncIterator[StartServer]:
    """Starts a server with settings over the usual ones."""
    running: list[Running] = []
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "bootstrap").write_text(BOOTSTRAP)
    pair = self_signed(tmp_path, "control")

    async def start(clock: Callable[[], datetime] = utc_now, **settings: Any) -> Running:
        server = Running(tmp_path, pair, database, settings, clock=clock)
        await server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        for client in server.clients:
            await client.close()
        with contextlib.suppress(AssertionError):
            await server.stop()


@pytest.fixture
async def server(start_server: StartServer) -> Running:
    return await start_server()
