"""What both kinds of database must do alike beyond what the other tests ask of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from warren_control.db.engine import connect, migrate, open_engine, parse_url
from warren_control.db.repository import Repository
from warren_control.errors import ConfigError
from warren_control.keyfiles import noise_key

from .conftest import Running


async def test_everything_stored_comes_back_equal(server: Running) -> None:
    await server.member("web")
    await server.member("office")
    assert server.server is not None
    before = server.server.store.snapshot
    await server.stop()
    repository = Repository(await open_engine(parse_url(server.database)))
    after = await repository.load(datetime.now(UTC))
    await repository.close()
    assert after.keys == before.keys
    assert after.next_node_id == before.next_node_id
    assert {node.id: (node.name, node.v4, node.v6, node.node_key) for node in after.nodes.values()} == {
        node.id: (node.name, node.v4, node.v6, node.node_key) for node in before.nodes.values()
    }


async def test_a_failing_migration_leaves_nothing_behind(database: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    raw = create_async_engine(parse_url(database))
    async with raw.begin() as connection:
        # The last of the first tables; those before it are made by then.
        await connection.execute(sa.text("CREATE TABLE counters (id INTEGER)"))
    with pytest.raises(ConfigError, match="counters"):
        await open_engine(parse_url(database))
    async with raw.connect() as connection:
        tables = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    await raw.dispose()
    assert tables == ["counters"]


async def test_a_database_without_its_noise_key_is_refused(server: Running) -> None:
    await server.stop()
    (server.folder / "state/noise.key").unlink()
    with pytest.raises(ConfigError, match="restore the file"):
        await open_engine(
            parse_url(server.database),
            before_tables=lambda empty: noise_key(server.folder / "state/noise.key", first_start=empty),
        )


async def test_a_database_of_a_newer_version_is_refused_as_it_is(database: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    engine = await open_engine(parse_url(database))
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(ConfigError, match="newer version"):
        await open_engine(parse_url(database))


async def test_the_first_schema_is_brought_up_to_date_with_its_records(database: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    old = connect(parse_url(database))
    async with old.begin() as connection:
        await connection.run_sync(migrate, "0001")
        await connection.execute(
            sa.text(
                "INSERT INTO auth_keys (id, secret_hash, created, reusable, ephemeral, tags,"
                " approve_routes, bootstrap)"
                " VALUES ('old', 'hash', '2027-01-01 00:00:00', true, false, '[]', '[]', false)"
            )
        )
    await old.dispose()
    repository = Repository(await open_engine(parse_url(database)))
    snapshot = await repository.load(datetime.now(UTC))
    await repository.close()
    assert snapshot.keys["old"].owner == 1
    assert snapshot.users[1].name == "members"
