"""The tables. Presence and endpoints are not here: they live as long as the process."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times in UTC, also where the database knows no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("machine_key", sa.String(80), nullable=False, index=True),
    sa.Column("node_key", sa.String(80), nullable=False, index=True),
    sa.Column("disco_key", sa.String(80)),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("name_pinned", sa.Boolean, nullable=False),
    sa.Column("v4", sa.String(15), nullable=False),
    sa.Column("v6", sa.String(45), nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("expiry", UtcDateTime),
    sa.Column("last_seen", UtcDateTime),
    sa.Column("deleted_at", UtcDateTime),
    sa.Column("capability_version", sa.Integer, nullable=False),
    sa.Column("hostinfo", sa.Text, nullable=False),
    sa.Column("net_info", sa.Text),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("approved_routes", sa.JSON, nullable=False),
    sa.Column("auth_key_id", sa.String(64)),
    sa.Column("ephemeral", sa.Boolean, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("expiry_disabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("user_id", sa.BigInteger, nullable=False, server_default="1"),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("display_name", sa.String(128), nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("email", sa.String(254), nullable=False, server_default=""),
    sa.Column("roles", sa.JSON, nullable=False, server_default="[]"),
)

policies = sa.Table(
    "policies",
    metadata,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("author", sa.String(128), nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("comment", sa.String(500), nullable=False),
    sa.Column("domains", sa.JSON, nullable=False),
)

auth_keys = sa.Table(
    "auth_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("secret_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("expiry", UtcDateTime),
    sa.Column("used_at", UtcDateTime),
    sa.Column("reusable", sa.Boolean, nullable=False),
    sa.Column("ephemeral", sa.Boolean, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("approve_routes", sa.JSON, nullable=False),
    sa.Column("bootstrap", sa.Boolean, nullable=False),
    sa.Column("user_id", sa.BigInteger, nullable=False, server_default="1"),
)

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("secret_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("scope", sa.String(16), nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("expiry", UtcDateTime),
)

relay_regions = sa.Table(
    "relay_regions",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("region", sa.Text, nullable=False),
)

route_primaries = sa.Table(
    "route_primaries",
    metadata,
    sa.Column("prefix", sa.String(49), primary_key=True),
    sa.Column("node_id", sa.BigInteger, nullable=False),
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
