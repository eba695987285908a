"""Reads and adds accepted policies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from warren_control.db import tables
from warren_control.policies.versions import MAX_VERSIONS, PolicyVersion, Source

logger = logging.getLogger(__name__)

_TABLE = tables.policies


async def newest(connection: AsyncConnection, limit: int, offset: int) -> list[PolicyVersion]:
    wanted = sa.select(_TABLE).order_by(_TABLE.c.version.desc()).limit(limit).offset(offset)
    return [_of(row) for row in (await connection.execute(wanted)).mappings()]


async def find(connection: AsyncConnection, version: int) -> PolicyVersion | None:
    wanted = sa.select(_TABLE).where(_TABLE.c.version == version)
    row = (await connection.execute(wanted)).mappings().first()
    return None if row is None else _of(row)


async def add(connection: AsyncConnection, policy: PolicyVersion) -> None:
    """Another version; those too old to be kept go."""
    await connection.execute(
        sa.insert(_TABLE).values(
            version=policy.version,
            text=policy.text,
            source=policy.source.value,
            author=policy.author,
            created=policy.created,
            comment=policy.comment,
            domains=sorted(policy.domains),
        )
    )
    await connection.execute(sa.delete(_TABLE).where(_TABLE.c.version <= policy.version - MAX_VERSIONS))


def _of(row: Mapping[Any, Any]) -> PolicyVersion:
    return PolicyVersion(
        row["version"],
        row["text"],
        Source(row["source"]),
        row["author"],
        row["created"],
        row["comment"],
        frozenset(row["domains"]),
    )
