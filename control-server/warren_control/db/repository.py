"""Reads and writes records. A row that cannot be read is logged and left out; the others load."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from warren_control import model, routes, users
from warren_control.db import policies, tables
from warren_control.errors import InvalidError, UnavailableError
from warren_control.model import ApiToken, AuthKey, Node, Scope, Snapshot, User
from warren_control.policies.versions import PolicyVersion
from warren_control.routes import Prefix
from warren_wire.control.messages import DERPRegion, Hostinfo, NetInfo, decode, encode
from warren_wire.errors import DecodeError
from warren_wire.keys import DiscoPublic, MachinePublic, NodePublic

logger = logging.getLogger(__name__)

T = TypeVar("T")
# How long after a failed write all others fail at once.
RETRY_SECONDS: Final = 5.0
WRITE_SECONDS: Final = 10.0
_READ_ONLY: Final = "records cannot be stored at the moment, so nothing can be changed: see the server's log"
_NEXT_NODE_ID = "next_node_id"
_NEXT_USER_ID = "next_user_id"


@dataclass(frozen=True, slots=True)
class Write:
    """Records that are stored together or not at all."""

    nodes: Sequence[Node] = ()
    keys: Sequence[AuthKey] = ()
    dropped_keys: Sequence[str] = ()
    tokens: Sequence[ApiToken] = ()
    dropped_tokens: Sequence[str] = ()
    users: Sequence[User] = ()
    dropped_users: Sequence[int] = ()
    next_user_id: int | None = None
    regions: Mapping[int, DERPRegion] | None = None
    primaries: Mapping[Prefix, int] | None = None
    next_node_id: int | None = None
    dropped_nodes: Sequence[int] = field(default=())
    policy: PolicyVersion | None = None


class Repository:
    """The database as the store sees it."""

    def __init__(self, engine: AsyncEngine, on_stored: Callable[[float, bool], None] | None = None) -> None:
        """`on_stored` hears how long each write took and whether it succeeded."""
        self._engine = engine
        self._on_stored = on_stored or (lambda _seconds, _succeeded: None)
        self._failed_at: float | None = None

    @property
    def failing(self) -> bool:
        """Whether the last write failed."""
        return self._failed_at is not None

    async def close(self) -> None:
        await self._engine.dispose()

    async def load(self, now: datetime) -> Snapshot:
        """Everything that is stored. Nodes come back offline: only a poll makes them online."""
        try:
            async with self._engine.begin() as connection:
                await connection.execute(
                    sa.delete(tables.nodes).where(tables.nodes.c.deleted_at < now - model.REMOVED_KEPT)
                )
        except SQLAlchemyError as error:
            # A full disk keeps nobody from being served what is there.
            logger.warning("old records stay", extra={"reason": _reason(error)})
        async with self._engine.connect() as connection:
            nodes = await _load(connection, tables.nodes, _node_of)
            keys = await _load(connection, tables.auth_keys, _key_of)
            regions = await _load(
                connection,
                tables.relay_regions,
                lambda row: (row["id"], decode(DERPRegion, row["region"].encode())),
            )
            primaries = await _load(
                connection,
                tables.route_primaries,
                lambda row: (routes.parse_prefix(row["prefix"]), row["node_id"]),
            )
            users = await _load(connection, tables.users, _user_of)
            tokens = await _load(connection, tables.api_tokens, _token_of)
            counters = dict(await _load(connection, tables.counters, _counter_of))
        snapshot = Snapshot(
            next_node_id=counters.get(_NEXT_NODE_ID, 1),
            next_user_id=counters.get(_NEXT_USER_ID, model.MEMBERS_USER_ID + 1),
            primaries=MappingProxyType(dict(primaries)),
        )
        snapshot = model.with_tokens(snapshot, {token.id: token for token in tokens})
        snapshot = model.with_users(snapshot, {**snapshot.users, **{user.id: user for user in users}})
        snapshot, _ = model.with_nodes(
            snapshot,
            put=tuple(node for node in nodes if node.deleted_at is None),
            drop=tuple(node for node in nodes if node.deleted_at is not None),
        )
        for key in keys:
            snapshot = model.with_key(snapshot, key)
        return model.with_regions(snapshot, dict(regions))

    async def find_key(self, secret_hash: str) -> AuthKey | None:
        """A key that another process stored, or `UnavailableError`."""
        wanted = sa.select(tables.auth_keys).where(tables.auth_keys.c.secret_hash == secret_hash)
        async with self._reading("keys") as connection:
            row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else _key_of({str(name): value for name, value in row.items()})

    async def policies(self, limit: int, offset: int) -> list[PolicyVersion]:
        """Accepted policies, the newest first."""
        async with self._reading("policies") as connection:
            return await policies.newest(connection, limit, offset)

    async def policy(self, version: int) -> PolicyVersion | None:
        async with self._reading("policies") as connection:
            return await policies.find(connection, version)

    @asynccontextmanager
    async def _reading(self, what: str) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(WRITE_SECONDS), self._engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise UnavailableError(f"{what} cannot be looked up at the moment") from error

    async def write(self, write: Write) -> None:
        """Stores all of it in one transaction, or `UnavailableError`."""
        started = time.monotonic()
        if self._failed_at is not None and started - self._failed_at < RETRY_SECONDS:
            # A write that waits for a locked database holds up everyone who only wants to connect.
            raise UnavailableError(_READ_ONLY)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._write(write)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if self._failed_at is None:
                logger.error("Records cannot be stored; nothing is changed", extra={"reason": _reason(error)})
            self._failed_at = time.monotonic()
            self._on_stored(self._failed_at - started, False)
            raise UnavailableError(_READ_ONLY) from error
        if self._failed_at is not None:
            self._failed_at = None
            logger.warning("records are stored again")
        self._on_stored(time.monotonic() - started, True)

    async def _write(self, write: Write) -> None:
        async with self._engine.begin() as connection:
            await _upsert(connection, tables.nodes, [_node_row(node) for node in write.nodes])
            await _upsert(connection, tables.auth_keys, [_key_row(key) for key in write.keys])
            if write.dropped_nodes:
                await connection.execute(
                    sa.delete(tables.nodes).where(tables.nodes.c.id.in_(write.dropped_nodes))
                )
            if write.dropped_keys:
                await connection.execute(
                    sa.delete(tables.auth_keys).where(tables.auth_keys.c.id.in_(write.dropped_keys))
                )
            if write.regions is not None:
                rows = [
                    {"id": number, "region": encode(region).decode()}
                    for number, region in write.regions.items()
                ]
                await _replace(connection, tables.relay_regions, rows)
            if write.primaries is not None:
                rows = [{"prefix": str(prefix), "node_id": node} for prefix, node in write.primaries.items()]
                await _replace(connection, tables.route_primaries, rows)
            await _upsert(connection, tables.users, [_user_row(user) for user in write.users])
            if write.dropped_users:
                await connection.execute(
                    sa.delete(tables.users).where(tables.users.c.id.in_(write.dropped_users))
                )
            await _upsert(connection, tables.api_tokens, [_token_row(token) for token in write.tokens])
            if write.dropped_tokens:
                await connection.execute(
                    sa.delete(tables.api_tokens).where(tables.api_tokens.c.id.in_(write.dropped_tokens))
                )
            if write.policy is not None:
                await policies.add(connection, write.policy)
            following = {_NEXT_NODE_ID: write.next_node_id, _NEXT_USER_ID: write.next_user_id}
            await _upsert(
                connection,
                tables.counters,
                [{"name": name, "value": value} for name, value in following.items() if value is not None],
            )


def _reason(error: BaseException) -> str:
    """What the driver said; SQLAlchemy's own text repeats values."""
    return str(getattr(error, "orig", None) or error) or type(error).__name__


async def _upsert(connection: AsyncConnection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(_upserting(connection.dialect.name, table), rows)


@functools.cache
def _upserting(dialect: str, table: sa.Table) -> sa.Executable:
    """Inserts whole rows or replaces them. To put the statement together takes as long as to run it."""
    # Both databases know the same statement; SQLAlchemy has it once for each.
    statement = (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)
    keys = [column.name for column in table.primary_key]
    values = {
        column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=keys, set_=values)


async def _replace(connection: AsyncConnection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    await connection.execute(sa.delete(table))
    if rows:
        await connection.execute(sa.insert(table), rows)


async def _load(
    connection: AsyncConnection, table: sa.Table, build: Callable[[Mapping[str, Any]], T]
) -> list[T]:
    found: list[T] = []
    for row in (await connection.execute(sa.select(table))).mappings():
        values: Mapping[str, Any] = {str(name): value for name, value in row.items()}
        try:
            found.append(build(values))
        except (ValueError, TypeError, KeyError, DecodeError, InvalidError) as error:
            logger.error(
                "Cannot read a stored record; it is left out",
                extra={"table": table.name, "record": values.get("id"), "reason": str(error)},
            )
    return found


def _node_row(node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "machine_key": str(node.machine_key),
        "node_key": str(node.node_key),
        "disco_key": str(node.disco_key) if node.disco_key else None,
        "name": node.name,
        "name_pinned": node.name_pinned,
        "v4": str(node.v4 or ""),
        "v6": str(node.v6 or ""),
        "created": node.created,
        "expiry": node.expiry,
        "last_seen": node.last_seen,
        "deleted_at": node.deleted_at,
        "capability_version": node.capability_version,
        "hostinfo": encode(node.hostinfo).decode(),
        "net_info": encode(node.net_info).decode() if node.net_info is not None else None,
        "tags": list(node.tags),
        "approved_routes": _texts(node.approved_routes),
        "auth_key_id": node.auth_key_id,
        "ephemeral": node.ephemeral,
        "disabled": node.disabled,
        "expiry_disabled": node.expiry_disabled,
        "user_id": node.owner,
    }


def _node_of(row: Mapping[str, Any]) -> Node:
    hostinfo = decode(Hostinfo, row["hostinfo"].encode())
    return Node(
        id=row["id"],
        machine_key=MachinePublic.parse(row["machine_key"]),
        node_key=NodePublic.parse(row["node_key"]),
        disco_key=DiscoPublic.parse(row["disco_key"]) if row["disco_key"] else None,
        name=row["name"],
        name_pinned=row["name_pinned"],
        v4=IPv4Address(row["v4"]) if row["v4"] else None,
        v6=IPv6Address(row["v6"]) if row["v6"] else None,
        created=row["created"],
        expiry=row["expiry"],
        last_seen=row["last_seen"],
        deleted_at=row["deleted_at"],
        capability_version=row["capability_version"],
        hostinfo=hostinfo,
        net_info=decode(NetInfo, row["net_info"].encode()) if row["net_info"] else None,
        tags=tuple(row["tags"]),
        approved_routes=routes.readable_prefixes(row["approved_routes"]),
        advertised_routes=routes.readable_prefixes(hostinfo.routable_ips),
        auth_key_id=row["auth_key_id"],
        ephemeral=row["ephemeral"],
        disabled=row["disabled"],
        expiry_disabled=row["expiry_disabled"],
        owner=row["user_id"],
    )


def _key_row(key: AuthKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "secret_hash": key.secret_hash,
        "created": key.created,
        "expiry": key.expiry,
        "used_at": key.used_at,
        "reusable": key.reusable,
        "ephemeral": key.ephemeral,
        "tags": list(key.tags),
        "approve_routes": _texts(key.approve_routes),
        "bootstrap": key.bootstrap,
        "user_id": key.owner,
    }


def _key_of(row: Mapping[str, Any]) -> AuthKey:
    return AuthKey(
        id=row["id"],
        secret_hash=row["secret_hash"],
        created=row["created"],
        expiry=row["expiry"],
        used_at=row["used_at"],
        reusable=row["reusable"],
        ephemeral=row["ephemeral"],
        tags=tuple(row["tags"]),
        approve_routes=routes.readable_prefixes(row["approve_routes"]),
        bootstrap=row["bootstrap"],
        owner=row["user_id"],
    )


def _token_row(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "secret_hash": token.secret_hash,
        "name": token.name,
        "scope": token.scope.value,
        "created": token.created,
        "expiry": token.expiry,
    }


def _token_of(row: Mapping[str, Any]) -> ApiToken:
    return ApiToken(
        row["id"], row["secret_hash"], row["name"], Scope(row["scope"]), row["created"], row["expiry"]
    )


def _user_row(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "display_name": user.display_name,
        "created": user.created,
        "email": user.email,
        "roles": sorted(user.roles),
    }


def _user_of(row: Mapping[str, Any]) -> User:
    return User(
        row["id"],
        row["name"],
        row["display_name"],
        row["created"],
        row["email"],
        frozenset(row["roles"]) & users.ROLES,
    )


def _counter_of(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["name"], row["value"]


def _texts(prefixes: Iterable[Prefix]) -> list[str]:
    return [str(prefix) for prefix in prefixes]
