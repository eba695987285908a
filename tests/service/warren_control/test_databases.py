"""What both kinds of database must do alike beyond what the other tests ask of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from warren_control.db.engine import open_engine, parse_url
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
