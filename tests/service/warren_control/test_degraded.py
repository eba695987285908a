"""A database that takes nothing: everybody who is in is served, nothing is changed, and an alarm says so."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.postgres import Postgres
from warren_control.db.engine import connect, parse_url

from .conftest import BOOTSTRAP, Running, StartServer


@asynccontextmanager
async def locked(database: str) -> AsyncIterator[None]:
    """Another program holds the database's tables."""
    engine = connect(parse_url(database))
    async with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(sa.text("LOCK TABLE nodes, auth_keys, users IN EXCLUSIVE MODE"))
        else:
            await connection.execute(sa.text("UPDATE counters SET value = value"))
        yield
        await connection.rollback()
    await engine.dispose()


async def until_accepted(server: Running, method: str, path: str, body: dict[str, str]) -> None:
    """Repeats a change until the server stores it."""
    async with asyncio.timeout(30):
        while (await server.api(method, path, body))[0] == 503:  # noqa: ASYNC110 - a database has no event
            await asyncio.sleep(0.2)


def _failing(server: Running) -> float | None:
    assert server.server is not None
    return server.server.metrics.registry.get_sample_value("warren_control_database_failing")


async def test_a_locked_database_stops_changes_and_nothing_else(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    assert _failing(server) == 0
    async with locked(server.database):
        assert (await server.api("PATCH", "/api/v1/nodes/1", {"name": "front"}))[0] == 503
        assert _failing(server) == 1
        home = await server.client("home")
        assert (await home.send_register(BOOTSTRAP)).status == 503
        # Endpoints are no records: they still reach everyone, and those who are in can come back.
        await office.report(endpoints=("192.0.2.7:41641",))
        await web.until(
            lambda: (peer := web.peer("office")) is not None and peer.endpoints == ("192.0.2.7:41641",)
        )
        again = await server.client(office.identity)
        assert await again.poll() == 200
        assert (await again.register(BOOTSTRAP)).error == ""
        assert (await server.api("GET", "/api/v1/nodes/1"))[1]["name"] == "web"
    await until_accepted(server, "PATCH", "/api/v1/nodes/1", {"name": "front"})
    assert _failing(server) == 0
    await again.until(lambda: again.peer("front") is not None)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_full_disk_neither_ends_the_server_nor_keeps_it_from_starting(
    start_server: StartServer, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small"):
        server = await start_server(database=f"sqlite:///{tmp_path}/small/control.db")
        web = await server.member("web")
        filler = tmp_path / "small/filler"
        with pytest.raises(OSError), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        statuses = [(await server.api("POST", "/api/v1/users", {"name": f"u{n}"}))[0] for n in range(40)]
        assert statuses[-1] == 503
        assert _failing(server) == 1
        assert not web.poll_ended
        await server.stop()
        await server.start()
        again = await server.client(web.identity)
        assert await again.poll() == 200
        filler.unlink()
        await until_accepted(server, "POST", "/api/v1/users", {"name": "late"})
        await server.stop()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_database_that_is_away_is_no_wrong_key(
    start_server: StartServer, database: str, postgres_server: Postgres
) -> None:
    server = await start_server()
    web = await server.member("web")
    postgres_server.drop(database)
    home = await server.client("home")
    assert (await home.send_register("warren-auth-unknown")).status == 503
    assert (await home.send_register(BOOTSTRAP)).status == 503
    assert (await web.register(BOOTSTRAP)).error == ""
    assert not web.poll_ended
