"""A backup brings every machine back, also to the other kind of database; nothing is overwritten."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.postgres import Postgres
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


async def _furnish(server: Running) -> None:
    """Some of every kind of record."""
    region = {"RegionID": 901, "RegionCode": "far", "RegionName": "Far", "Nodes": []}
    region["Nodes"] = [{"Name": "901a", "RegionID": 901, "HostName": "relay.example.net"}]
    for method, path, body in (
        ("POST", "/api/v1/users", {"name": "alice"}),
        ("POST", "/api/v1/keys", {"user": "alice", "expires_in_seconds": 3600, "tags": ["tag:web"]}),
        ("POST", "/api/v1/tokens", {"name": "ci", "scope": "join-only"}),
        ("PUT", "/api/v1/relays/901", region),
        ("PUT", "/api/v1/policy", {"text": '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}'}),
        ("PATCH", "/api/v1/nodes/1", {"name": "front", "approved_routes": ["10.9.0.0/16"]}),
    ):
        status, answer = await server.api(method, path, body)
        assert status < 400, answer


async def _everything(server: Running) -> dict[str, Any]:
    """What the API tells of all records, without what a connection changes."""
    paths = ("nodes", "users", "keys", "tokens", "relays", "policy")
    found = {path: (await server.api("GET", f"/api/v1/{path}"))[1] for path in paths}
    for node in found["nodes"]["nodes"]:
        for volatile in ("online", "last_seen", "endpoints"):
            node.pop(volatile, None)
    found["nodes"].pop("revision")
    return found


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_records_move_to_the_other_kind_of_database_and_back(
    server: Running, tmp_path: Path, postgres_server: Postgres
) -> None:
    web = await server.member("web")
    await server.member("office")
    await _furnish(server)
    before = await _everything(server)
    postgres = postgres_server.new_database()
    for number, target in enumerate((postgres, f"sqlite:///{tmp_path}/back/control.db")):
        file = tmp_path / f"{number}.tar.gz"
        # What machines report is stored a little later, and at the end at the latest.
        await server.stop()
        made = await backup.make(server.config(), file, NOW)
        server.database = target
        assert (await backup.restore(server.config(), file)).tables == made.tables
        await server.start()
        again = await server.client(web.identity)
        assert await again.poll() == 200
        assert again.peer("office") is not None
        assert await _everything(server) == before
        # The counters moved too: no id is given twice.
        late = await server.member(f"late{number}")
        assert late.netmap.self_node is not None
        assert late.netmap.self_node.id == 3 + number
        await server.api("DELETE", f"/api/v1/nodes/{3 + number}")
    await server.stop()
    postgres_server.drop(postgres)


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
