"""Opens the database named by the configuration and brings its tables up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from warren_control.errors import ConfigError

_DRIVERS = {"sqlite": "sqlite+aiosqlite"}


def parse_url(text: str) -> URL:
    """The URL with the driver this server uses, or `ConfigError`."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ConfigError(f"database: {text!r} is not a database URL") from error
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None:
        raise ConfigError("database: only sqlite:////path/to/file is supported")
    if not url.database or url.database == ":memory:":
        raise ConfigError("database: a file is needed, as in sqlite:////var/lib/warren/control.db")
    return url.set(drivername=driver)


def database_file(url: URL) -> Path:
    """Where an SQLite database lives."""
    assert url.database is not None
    return Path(url.database)


async def open_engine(url: URL) -> AsyncEngine:
    """A connected engine whose tables are current, or `ConfigError`."""
    file = database_file(url)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"database: cannot make {file.parent}: {error.strerror}") from error
    engine = create_async_engine(url)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate)
    except SQLAlchemyError as error:
        await engine.dispose()
        raise ConfigError(f"database: cannot use {file}: {error}") from error
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Readers of other processes (`keys list`) do not block the writer, nor the other way round.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
