"""Takes over what a Headscale knows: users and nodes from its SQLite database, and its Noise key.

With that key, and under the same URL, its clients go on here without a login: nothing they know has changed.
Written against the tables of Headscale 0.29. Its pre-auth and API keys are stored as bcrypt hashes, from
which nobody can make others, so they stay behind.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, Final, TypeVar

from warren_control import hosts, model, names, routes, users
from warren_control.allocation import Pools
from warren_control.config import Config
from warren_control.db.engine import open_engine, parse_url
from warren_control.db.repository import Repository, Write
from warren_control.errors import ConfigError, ControlError, InvalidError
from warren_control.keyfiles import restore_key
from warren_control.model import MEMBERS_USER_ID, Node, Snapshot
from warren_wire.control.messages import Hostinfo, decode
from warren_wire.errors import DecodeError
from warren_wire.keys import DiscoPublic, MachinePublic, NodePublic

Row = Mapping[str, Any]
Address = TypeVar("Address", IPv4Address, IPv6Address)
_TABLES: Final = {
    "users": "SELECT * FROM users WHERE deleted_at IS NULL ORDER BY id",
    "nodes": "SELECT * FROM nodes WHERE deleted_at IS NULL ORDER BY id",
    "pre_auth_keys": "SELECT id, ephemeral FROM pre_auth_keys",
    "policies": "SELECT data FROM policies WHERE deleted_at IS NULL ORDER BY id DESC LIMIT 1",
}


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a Headscale database."""

    users: tuple[Row, ...]
    nodes: tuple[Row, ...]
    keys: tuple[Row, ...]
    policy: str
    """The policy that was stored there; empty where a file has it."""


@dataclass(frozen=True, slots=True)
class Translated:
    """The same as records of this server."""

    snapshot: Snapshot
    left_out: tuple[str, ...]
    """What cannot be a record here, and why."""


def read(database: Path) -> Found:
    """The rows of a database file, which is not changed. Raises `ConfigError` if it is no Headscale's."""
    try:
        connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            found = {name: tuple(map(dict, connection.execute(query))) for name, query in _TABLES.items()}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(f"{database} cannot be read as a database of Headscale 0.29: {error}") from error
    policy = found["policies"][0]["data"] if found["policies"] else ""
    return Found(found["users"], found["nodes"], found["pre_auth_keys"], str(policy or ""))


def translate(found: Found, pools: Pools, now: datetime) -> Translated:
    """The records; ids of nodes stay, users get ids of this server."""
    left_out: list[str] = []
    snapshot, owners = Snapshot(), {}
    for row in found.users:
        snapshot, owners[row["id"]] = _with_user(snapshot, row, now)
    ephemeral = {row["id"] for row in found.keys if row["ephemeral"]}
    for row in found.nodes:
        try:
            node = _node(row, snapshot, owners, pools, row["auth_key_id"] in ephemeral, now)
        except (ControlError, DecodeError, ValueError, TypeError) as error:
            left_out.append(f"node {row['id']} {row['given_name'] or row['hostname']}: {error}")
            continue
        snapshot, _ = model.with_nodes(snapshot, put=(node,))
    return Translated(snapshot, tuple(left_out))


async def take_over(config: Config, found: Translated, noise_key: bytes) -> None:
    """Fills an empty database and the file of the Noise key; `ConfigError` where there is state already."""

    def only_if_empty(empty: bool) -> None:
        if not empty:
            raise ConfigError("database: it is not empty; take over into a new one")
        restore_key(config.noise_key_file, noise_key, "noise_key_file")

    engine = await open_engine(parse_url(config.database), before_tables=only_if_empty)
    repository = Repository(engine)
    snapshot = found.snapshot
    try:
        await repository.write(
            Write(
                nodes=tuple(snapshot.nodes.values()),
                users=tuple(user for user in snapshot.users.values() if user.id != MEMBERS_USER_ID),
                next_node_id=snapshot.next_node_id,
                next_user_id=snapshot.next_user_id,
                primaries=snapshot.primaries,
            )
        )
    finally:
        await repository.close()


def _with_user(snapshot: Snapshot, row: Row, now: datetime) -> tuple[Snapshot, int]:
    """People of an identity provider have no name of their own there, or one that is not unique."""
    email = row["email"] or ""
    for name in (row["name"], email, f"headscale-{row['id']}"):
        try:
            wish = users.Wish(name, (row["display_name"] or "")[: users.MAX_DISPLAY_NAME], email, ())
            user = users.new_user(wish, snapshot, now)
        except ControlError:
            continue
        user = dataclasses.replace(user, created=_time(row["created_at"]) or now)
        return model.with_users(snapshot, {**snapshot.users, user.id: user}), user.id
    return snapshot, MEMBERS_USER_ID


def _node(
    row: Row, snapshot: Snapshot, owners: Mapping[int, int], pools: Pools, ephemeral: bool, now: datetime
) -> Node:
    hostinfo = hosts.usable_hostinfo(decode(Hostinfo, (row["host_info"] or "{}").encode()))
    own_label = names.label_from(row["hostname"] or hostinfo.hostname)
    name = names.check_label(row["given_name"] or own_label)
    if name in snapshot.by_name:
        raise InvalidError(f"the name {name} is there twice")
    tags = tuple(sorted(set(_list(row["tags"]))))
    if bad := [tag for tag in tags if not names.is_tag(tag)]:
        raise InvalidError(f"{bad[0]!r} is not a tag")
    v4 = _address(row["ipv4"], IPv4Address, pools.v4, "addresses.v4")
    v6 = _address(row["ipv6"], IPv6Address, pools.v6, "addresses.v6")
    if v4 is None and v6 is None:
        raise InvalidError("it has no address")
    return Node(
        id=int(row["id"]),
        machine_key=MachinePublic.parse(row["machine_key"]),
        node_key=NodePublic.parse(row["node_key"]),
        disco_key=DiscoPublic.parse(row["disco_key"]) if row["disco_key"] else None,
        name=name,
        name_pinned=name != own_label,
        v4=v4,
        v6=v6,
        created=_time(row["created_at"]) or now,
        last_seen=_time(row["last_seen"]) or now,
        expiry=None if tags else _time(row["expiry"]),
        owner=owners.get(row["user_id"], MEMBERS_USER_ID),
        hostinfo=hostinfo,
        tags=tags,
        advertised_routes=routes.readable_prefixes(hostinfo.routable_ips),
        approved_routes=routes.parse_prefixes(tuple(_list(row["approved_routes"]))),
        ephemeral=ephemeral,
    )


def _address(
    text: str | None,
    kind: Callable[[str], Address],
    pool: IPv4Network | IPv6Network | None,
    setting: str,
) -> Address | None:
    if not text:
        return None
    address = kind(text)
    if pool is None or address not in pool:
        raise InvalidError(f"its address {address} is outside {setting}, which is {pool or 'none'}")
    return address


def _list(text: str | None) -> Iterable[str]:
    return [str(item) for item in json.loads(text or "[]") or ()]


def _time(text: str | None) -> datetime | None:
    """A time; that of the year 1 stands for none."""
    if not text:
        return None
    time = datetime.fromisoformat(text)
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return None if time.year <= 1 else time.astimezone(UTC)
