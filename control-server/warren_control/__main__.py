"""The program `warren-control`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from warren_control import app, backup, config, headscale, names, preflight, routes
from warren_control.api.keys import shown
from warren_control.config import Config
from warren_control.db.engine import open_engine, parse_url
from warren_control.db.repository import Repository, Write
from warren_control.enforcement.enforcer import Enforcer
from warren_control.enforcement.network import domains_of
from warren_control.errors import ConfigError, ControlError
from warren_control.keyfiles import noise_key
from warren_control.keys import new_key
from warren_control.model import Snapshot
from warren_control.policies.examination import Examination, examine
from warren_control.policies.report import told
from warren_control.store import utc_now
from warren_runtime import logs
from warren_runtime.settings import SettingsError
from warren_runtime.tasks import run_service
from warren_wire import __version__

T = TypeVar("T")
UNUSABLE = 2

config_option = click.option(
    "--config",
    "config_file",
    required=True,
    type=click.Path(path_type=Path),
    envvar="WARREN_CONTROL_CONFIG",
    help="The server's YAML file.",
)


def _loaded(file: Path) -> Config:
    try:
        return config.load(file)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"warren-control: {problem}", err=True)
        sys.exit(UNUSABLE)


def _fail(error: Exception) -> None:
    click.echo(f"warren-control: {error}", err=True)
    sys.exit(UNUSABLE)


@click.group()
@click.version_option(__version__)
def main() -> None:
    """The control server of a Warren mesh: it admits machines and tells each of them about the others."""


@main.command()
@config_option
@click.option(
    "--log-level", default="INFO", show_default=True, type=click.Choice(["DEBUG", "INFO", "WARNING"])
)
@click.option("--log-format", default="auto", show_default=True, type=click.Choice(["auto", "json", "text"]))
def serve(config_file: Path, log_level: str, log_format: str) -> None:
    """Run the server in the foreground; SIGTERM ends it."""
    loaded = _loaded(config_file)
    logs.setup(log_level, {"auto": None, "json": True, "text": False}[log_format])
    for noisy in ("hpack", "alembic", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        run_service(lambda: app.serve(loaded))
    except (ControlError, OSError) as error:
        _fail(error)


@main.group("config")
def config_group() -> None:
    """Look at the configuration."""


@config_group.command("check")
@config_option
def check(config_file: Path) -> None:
    """Say whether the configuration, its files and its database can be used; every problem on a line."""
    found = asyncio.run(preflight.problems(_loaded(config_file)))
    for problem in found:
        click.echo(f"warren-control: {problem}", err=True)
    if found:
        sys.exit(UNUSABLE)
    click.echo("the configuration is valid")


@main.group("policy")
def policy_group() -> None:
    """Look at policies on this machine, without a running server."""


@policy_group.command("check")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="WARREN_CONTROL_CONFIG",
    help="The server's YAML file: its users and machines are what the policy's own tests run against.",
)
@click.argument("file", type=click.Path(path_type=Path))
def check_policy(config_file: Path | None, file: Path) -> None:
    """Say whether a server would take the policy in FILE; without --config its tests are not run.

    Problems are told as FILE:LINE:COLUMN; the exit code is 1 if there are any.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        _fail(ConfigError(f"cannot read {file}: {error.strerror}"))
        raise
    if config_file is None:
        nobody = Snapshot()
        found = replace(examine(text, Enforcer(nobody), nobody, frozenset()), tests=())
    else:
        loaded = _loaded(config_file)

        async def look(repository: Repository) -> Examination:
            snapshot = await repository.load(utc_now())
            domains = domains_of(snapshot, loaded.policy_domains)
            return examine(text, Enforcer(snapshot, loaded.server_url), snapshot, domains)

        found = _with_repository(loaded, look)
    for line in told(str(file), found):
        click.echo(line)
    if not found.accepted:
        sys.exit(1)
    click.echo(f"{file} is valid" + ("" if config_file else "; its own tests were not run"))


@main.group()
def keys() -> None:
    """Pre-auth keys, straight in the database of this machine; a running server accepts them at once."""


@keys.command("create")
@config_option
@click.option("--reusable", is_flag=True, help="Admits any number of machines.")
@click.option("--ephemeral", is_flag=True, help="Machines are removed once they stay away.")
@click.option("--expires-in-hours", type=click.IntRange(1, 87600), help="Default: never.")
@click.option("--tag", "tags", multiple=True, help="Tag of the machines, such as tag:web; can be repeated.")
@click.option(
    "--approve-route", "approve", multiple=True, help="Routes inside are approved; can be repeated."
)
def create(
    config_file: Path,
    reusable: bool,
    ephemeral: bool,
    expires_in_hours: int | None,
    tags: tuple[str, ...],
    approve: tuple[str, ...],
) -> None:
    """Make a key and print it: it is shown this once."""
    loaded = _loaded(config_file)
    for tag in tags:
        if not names.is_tag(tag):
            raise click.BadParameter(f"{tag!r} is not a tag such as tag:web", param_hint="--tag")

    async def store(repository: Repository) -> str:
        now = utc_now()
        key, text = new_key(
            now,
            reusable=reusable,
            ephemeral=ephemeral,
            expiry=None if expires_in_hours is None else now + timedelta(hours=expires_in_hours),
            tags=tuple(sorted(set(tags))),
            approve_routes=routes.parse_prefixes(approve),
        )
        await repository.write(Write(keys=(key,)))
        return text

    click.echo(_with_repository(loaded, store))


@keys.command("list")
@config_option
def list_keys(config_file: Path) -> None:
    """Print the keys as JSON, without their secrets."""

    async def read(repository: Repository) -> str:
        snapshot = await repository.load(utc_now())
        documents = [
            shown(key, snapshot.users) for key in sorted(snapshot.keys.values(), key=lambda key: key.created)
        ]
        return msgspec.json.format(msgspec.json.encode(documents)).decode()

    click.echo(_with_repository(_loaded(config_file), read))


@main.command("backup")
@config_option
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The file to write.")
def make_backup(config_file: Path, output: Path) -> None:
    """Write all records and both keys to one file; the server may run meanwhile. Keep the file secret."""
    loaded = _loaded(config_file)
    try:
        click.echo(asyncio.run(backup.make(loaded, output, utc_now())))
    except ControlError as error:
        _fail(error)


@main.command("restore")
@config_option
@click.argument("archive", type=click.Path(path_type=Path))
def restore_backup(config_file: Path, archive: Path) -> None:
    """Fill an empty database and the key files from a backup; clients then come back by themselves."""
    loaded = _loaded(config_file)
    try:
        click.echo(asyncio.run(backup.restore(loaded, archive)))
    except ControlError as error:
        _fail(error)


@main.group("import")
def import_group() -> None:
    """Take over what another control server knows."""


@import_group.command("headscale")
@config_option
@click.option("--database", required=True, type=click.Path(path_type=Path), help="Its SQLite file.")
@click.option(
    "--noise-key",
    required=True,
    type=click.Path(path_type=Path),
    help="Its Noise key: the file that noise.private_key_path names.",
)
@click.option(
    "--policy-out", type=click.Path(path_type=Path), help="Where to write the policy that its database has."
)
@click.option("--skip-unusable", is_flag=True, help="Leave out nodes that cannot be taken over.")
def import_headscale(
    config_file: Path, database: Path, noise_key: Path, policy_out: Path | None, skip_unusable: bool
) -> None:
    """Fill an empty database and the Noise key from a stopped Headscale 0.29.

    Under the same URL its clients then go on here without a login. Pre-auth and API keys stay behind.
    """
    loaded = _loaded(config_file)
    try:
        found = headscale.read(database)
        translated = headscale.translate(found, loaded.pools, utc_now())
        for reason in translated.left_out:
            click.echo(f"warren-control: left out: {reason}", err=True)
        if translated.left_out and not skip_unusable:
            raise ConfigError("nothing was taken over; --skip-unusable takes over the others")
        asyncio.run(headscale.take_over(loaded, translated, noise_key.read_bytes()))
        if policy_out is not None and found.policy:
            policy_out.write_text(found.policy)
    except (ControlError, OSError) as error:
        _fail(error)
    snapshot = translated.snapshot
    click.echo(
        f"{len(snapshot.nodes)} nodes and {len(found.users)} users taken over; {len(found.keys)} keys not"
    )
    if found.policy and policy_out is None:
        click.echo("its policy was not: give --policy-out FILE, then `warren policy set FILE`")


def _with_repository(loaded: Config, act: Callable[[Repository], Awaitable[T]]) -> T:
    async def run() -> T:
        file = loaded.noise_key_file
        # A database must never be there without the key that its clients will know.
        engine = await open_engine(
            parse_url(loaded.database), before_tables=lambda empty: noise_key(file, first_start=empty)
        )
        repository = Repository(engine)
        try:
            return await act(repository)
        finally:
            await repository.close()

    try:
        return asyncio.run(run())
    except ControlError as error:
        _fail(error)
        raise


if __name__ == "__main__":
    main()
