"""Opens the database named by the configuration and brings its tables up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from warren_control.errors import ConfigError

_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_WANTED: Final = "sqlite:////path/to/file or postgresql://user@host/database"
# How long a statement of SQLite waits for another process (`keys create`) that writes.
BUSY_MILLISECONDS: Final = 2000
# The same for PostgreSQL; no statement of this server takes long.
_PATIENCE: Final = {"lock_timeout": "2000", "statement_timeout": "10000"}
# Two servers that start together must not migrate together; any number that nobody else uses.
_MIGRATION_LOCK: Final = 0x5741_5252


def parse_url(text: str) -> URL:
    """The URL with the driver this server uses, or `ConfigError`."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        # The text is not repeated: it may hold a password.
        raise ConfigError(f"database: not a database URL; wanted is {_WANTED}") from error
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None:
        raise ConfigError(f"database: {url.get_backend_name()} is not supported; wanted is {_WANTED}")
    if not url.database or url.database == ":memory:":
        raise ConfigError(f"database: a file or the name of a database is missing; wanted is {_WANTED}")
    return url.set(drivername=driver)


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def database_file(url: URL) -> Path:
    """Where an SQLite database lives."""
    assert is_sqlite(url)
    assert url.database is not None
    return Path(url.database)


async def open_engine(url: URL, *, before_tables: Callable[[bool], object] | None = None) -> AsyncEngine:
    """A connected engine whose tables are current, or `ConfigError`.

    `before_tables` is told whether the database is still empty, before anything is made in it.
    """
    engine = connect(url)
    try:
        async with engine.begin() as connection:
            # Two servers that start together wait for each other's migrations as long as these take.
            if connection.dialect.name == "postgresql":
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            empty = not await connection.run_sync(has_tables)
            if before_tables is not None:
                before_tables(empty)
            await connection.run_sync(migrate)
    except (SQLAlchemyError, OSError) as error:
        await engine.dispose()
        # What the driver said; SQLAlchemy's own text repeats statements and values.
        reason = getattr(error, "orig", None) or error
        shown = url.render_as_string(hide_password=True)
        raise ConfigError(f"database: cannot use {shown}: {reason}") from error
    except BaseException:
        await engine.dispose()
        raise
    return engine


def connect(url: URL) -> AsyncEngine:
    """An engine for whatever is there."""
    if not is_sqlite(url):
        # A server that was restarted has dropped the pool's connections; each is tried before its use.
        return create_async_engine(
            url, pool_pre_ping=True, pool_size=5, connect_args={"timeout": 5, "server_settings": _PATIENCE}
        )
    file = database_file(url)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"database: cannot make {file.parent}: {error.strerror}") from error
    engine = create_async_engine(url)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Otherwise Python's driver commits before each change of a table, and half a migration would stay.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Readers of other processes (`keys list`) do not block the writer, nor the other way round.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def has_tables(connection: Connection) -> bool:
    """Whether anything is in the database."""
    return bool(sa.inspect(connection).get_table_names())


def migrate(connection: Connection, version: str = "head") -> None:
    """Brings the tables to a version, the newest if none is named."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, version)
    except CommandError as error:
        raise ConfigError(f"database: a newer version of this program made its tables ({error})") from error
