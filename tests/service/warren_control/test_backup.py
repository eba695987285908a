"""A backup brings every machine back, also to the other kind of database; nothing is overwritten."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from warren_control import backup
from warren_control.config import Config
from warren_control.errors import ConfigError

from .conftest import Running

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def _elsewhere(config: Config, folder: Path) -> Config:
    return replace(
        config,
        database=f"sqlite:///{folder}/new/control.db",
        noise_key_file=folder / "new/noise.key",
        derp_key_file=folder / "new/derp.key",
    )


async def test_machines_come_back_to_a_restored_server_without_a_login(
    server: Running, tmp_path: Path
) -> None:
    await server.api("POST", "/api/v1/users", {"name": "alice"})
    web = await server.member("web")
    await server.member("office")
    file = tmp_path / "backup.tar.gz"
    made = await backup.make(server.config(), file, NOW)
    assert (made.tables["nodes"], made.tables["users"]) == (2, 2)
    assert file.stat().st_mode & 0o777 == 0o600
    noise = server.config().noise_key_file.read_bytes()
    await server.stop()
    there = _elsewhere(server.config(), tmp_path)
    restored = await backup.restore(there, file)
    assert restored.tables == made.tables
    assert there.noise_key_file.read_bytes() == noise
    shutil.copytree(tmp_path / "new", tmp_path / "state", dirs_exist_ok=True)
    server.database = there.database
    await server.start()
    again = await server.client(web.identity)
    assert await again.poll() == 200
    assert again.peer("office") is not None
    _, document = await server.api("GET", "/api/v1/users")
    assert [user["name"] for user in document["users"]] == ["members", "alice"]


async def test_a_sqlite_backup_fills_the_database_under_test(
    server: Running, tmp_path: Path, database: str
) -> None:
    await server.member("web")
    file = tmp_path / "backup.tar.gz"
    await backup.make(server.config(), file, NOW)
    between = _elsewhere(server.config(), tmp_path)
    await backup.restore(between, file)
    second = tmp_path / "second.tar.gz"
    assert (await backup.make(between, second, NOW)).tables["nodes"] == 1


async def test_nothing_that_is_there_is_overwritten(server: Running, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    await backup.make(server.config(), file, NOW)
    with pytest.raises(ConfigError, match="not empty"):
        await backup.restore(server.config(), file)
    there = _elsewhere(server.config(), tmp_path)
    there.noise_key_file.parent.mkdir()
    shutil.copy(there.noise_key_file.parent.parent / "state/derp.key", there.noise_key_file)
    with pytest.raises(ConfigError, match="another key"):
        await backup.restore(there, file)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x1f\x8b" + bytes(30)])
async def test_what_is_no_backup_is_refused(server: Running, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "backup.tar.gz"
    file.write_bytes(content)
    with pytest.raises(ConfigError):
        await backup.restore(_elsewhere(server.config(), tmp_path), file)
