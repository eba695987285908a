"""What a server with this configuration would stumble over on this machine. Looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from warren_control import dns_records
from warren_control.config import Config, Tls
from warren_control.db.engine import connect, database_file, has_tables, is_sqlite, parse_url
from warren_control.errors import ConfigError
from warren_control.keyfiles import MIN_TOKEN, noise_key, read_secret
from warren_control.keys import MIN_SECRET
from warren_control.policy.hujson import MAX_BYTES
from warren_runtime.tls import TlsError, server_context


async def problems(config: Config) -> list[str]:
    """Everything that is wrong with the files and the database that the configuration names."""
    found = []
    for look in _LOOKS:
        try:
            await look(config)
        except (ConfigError, TlsError) as error:
            found.append(str(error))
    return found


async def _certificate(config: Config) -> None:
    if isinstance(config.tls, Tls):
        try:
            server_context(config.tls.certificate, config.tls.key)
        except TlsError as error:
            raise ConfigError(f"tls: {error}") from error


async def _admin_token(config: Config) -> None:
    if config.admin_token_file is not None:
        read_secret(config.admin_token_file, "admin_token_file", least=MIN_TOKEN)


async def _bootstrap_keys(config: Config) -> None:
    for key in config.bootstrap_keys:
        read_secret(key.secret_file, "bootstrap_keys", least=MIN_SECRET)


async def _policy(config: Config) -> None:
    file = config.policy_file
    try:
        if file is not None and file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"policy.file: {file} is larger than {MAX_BYTES} bytes")
    except OSError as error:
        raise ConfigError(f"policy.file: cannot read {file}: {error.strerror}") from error


async def _records(config: Config) -> None:
    file = config.dns_records_file
    try:
        if file is not None and file.exists():
            dns_records.parse(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"dns.extra_records_file: {file}: {error}") from error


async def _database(config: Config) -> None:
    url = parse_url(config.database)
    if is_sqlite(url) and not database_file(url).exists():
        # Connecting would make it.
        return
    engine = connect(url)
    try:
        async with engine.connect() as connection:
            known = await connection.run_sync(has_tables)
    except (SQLAlchemyError, OSError) as error:
        reason = getattr(error, "orig", None) or error
        shown = url.render_as_string(hide_password=True)
        raise ConfigError(f"database: cannot use {shown}: {reason}") from error
    finally:
        await engine.dispose()
    if known or config.noise_key_file.exists():
        noise_key(config.noise_key_file, first_start=False)


_LOOKS: Final[tuple[Callable[[Config], Awaitable[None]], ...]] = (
    _certificate,
    _admin_token,
    _bootstrap_keys,
    _policy,
    _records,
    _database,
)
