"""Everything a server cannot do without, in one file: all records and both keys.

Records are kept as plain values, so a backup of SQLite can be restored to PostgreSQL and the other way
round. The Noise key is always in it: without that key no client that ever joined would come back.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from warren_control.config import Config
from warren_control.db.engine import connect, has_tables, migrate, parse_url
from warren_control.errors import ConfigError
from warren_control.keyfiles import restore_key
from warren_wire import __version__

FORMAT: Final = 1
MAX_BACKUP_BYTES: Final = 1 << 30
_VERSION_TABLE: Final = "alembic_version"
_TIME: Final = "$time"
_NOISE, _DERP, _RECORDS = "noise.key", "derp.key", "records.json"


class Records(msgspec.Struct):
    """What is in `records.json`."""

    format: int
    made_by: str
    made: datetime
    schema_version: str
    tables: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup holds, for the person who makes or restores it."""

    made: datetime
    tables: Mapping[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.tables.items()) if count)
        return f"{self.made:%Y-%m-%d %H:%M:%S} UTC: both keys, {counts or 'no records'}"


async def make(config: Config, output: Path, now: datetime) -> Summary:
    """Writes a backup; the server may run meanwhile."""
    noise, derp = _read(config.noise_key_file), _read(config.derp_key_file, optional=True)
    engine = connect(parse_url(config.database))
    try:
        async with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                # All tables as they were at one moment.
                await connection.execution_options(isolation_level="REPEATABLE READ")
            records = await connection.run_sync(_dump, now)
    except sa.exc.SQLAlchemyError as error:
        raise ConfigError(f"database: cannot be read: {getattr(error, 'orig', error)}") from error
    finally:
        await engine.dispose()
    members = {_RECORDS: msgspec.json.encode(records), _NOISE: noise, _DERP: derp}
    _write(output, {name: data for name, data in members.items() if data is not None}, now)
    return _summary(records)


async def restore(config: Config, archive: Path) -> Summary:
    """Puts a backup where there is no state yet; `ConfigError` where there is."""
    members = _members(archive)
    try:
        records = msgspec.json.decode(members[_RECORDS], type=Records)
        noise = members[_NOISE]
    except (KeyError, msgspec.DecodeError) as error:
        raise ConfigError(f"{archive} is no backup of this program: {error}") from error
    if records.format != FORMAT:
        raise ConfigError(f"{archive} was made by {records.made_by}, whose format is not known here")
    engine = connect(parse_url(config.database))
    try:
        async with engine.begin() as connection:
            if await connection.run_sync(has_tables):
                raise ConfigError("database: it is not empty; restore into a new one")
            restore_key(config.noise_key_file, noise, "noise_key_file")
            if _DERP in members:
                restore_key(config.derp_key_file, members[_DERP], "derp_key_file")
            await connection.run_sync(_fill, records)
    except sa.exc.SQLAlchemyError as error:
        raise ConfigError(f"database: cannot be filled: {getattr(error, 'orig', error)}") from error
    finally:
        await engine.dispose()
    return _summary(records)


def _dump(connection: Connection, now: datetime) -> Records:
    stored = sa.MetaData()
    stored.reflect(connection)
    tables = {}
    version = ""
    for table in stored.sorted_tables:
        rows = [dict(row) for row in connection.execute(sa.select(table)).mappings()]
        if table.name == _VERSION_TABLE:
            version = rows[0]["version_num"] if rows else ""
            continue
        tables[table.name] = [{str(name): _plain(value) for name, value in row.items()} for row in rows]
    if not version:
        raise ConfigError("database: no records are in it")
    return Records(FORMAT, __version__, now, version, tables)


def _fill(connection: Connection, records: Records) -> None:
    migrate(connection, records.schema_version)
    stored = sa.MetaData()
    stored.reflect(connection)
    aware = connection.dialect.name == "postgresql"
    for name, rows in records.tables.items():
        if name not in stored.tables:
            raise ConfigError(f"the backup has a table {name} that this version does not know")
        table = stored.tables[name]
        # Migrations may have put first rows in.
        connection.execute(sa.delete(table))
        if rows:
            values = [{column: _value(value, aware) for column, value in row.items()} for row in rows]
            connection.execute(sa.insert(table), values)
    migrate(connection)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return {_TIME: utc.isoformat()}
    return value


def _value(value: Any, aware: bool) -> Any:
    if isinstance(value, dict) and value.keys() == {_TIME}:
        time = datetime.fromisoformat(value[_TIME])
        return time if aware else time.replace(tzinfo=None)
    return value


def _summary(records: Records) -> Summary:
    return Summary(records.made, {name: len(rows) for name, rows in records.tables.items()})


def _read(file: Path, *, optional: bool = False) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError):
            return None
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _write(output: Path, members: Mapping[str, bytes], now: datetime) -> None:
    unfinished = output.with_name(output.name + ".new")
    try:
        unfinished.unlink(missing_ok=True)
        # Its keys are as secret as the server's own.
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w:gz") as archive:
                for name, data in members.items():
                    about = tarfile.TarInfo(name)
                    about.size, about.mode, about.mtime = len(data), 0o600, int(now.timestamp())
                    archive.addfile(about, io.BytesIO(data))
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.rename(output)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error


def _members(archive: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                stream = opened.extractfile(member) if member.name in (_NOISE, _DERP, _RECORDS) else None
                if stream is not None and member.size <= MAX_BACKUP_BYTES:
                    found[member.name] = stream.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ConfigError(f"cannot read the backup {archive}: {error}") from error
    return found
