"""First tables: nodes, pre-auth keys, relay regions, elected routers, counters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("machine_key", sa.String(80), nullable=False),
        sa.Column("node_key", sa.String(80), nullable=False),
        sa.Column("disco_key", sa.String(80)),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("name_pinned", sa.Boolean, nullable=False),
        sa.Column("v4", sa.String(15), nullable=False),
        sa.Column("v6", sa.String(45), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expiry", sa.DateTime(timezone=True)),
        sa.Column("last_seen", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("capability_version", sa.Integer, nullable=False),
        sa.Column("hostinfo", sa.Text, nullable=False),
        sa.Column("net_info", sa.Text),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("approved_routes", sa.JSON, nullable=False),
        sa.Column("auth_key_id", sa.String(64)),
        sa.Column("ephemeral", sa.Boolean, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
    )
    op.create_index("ix_nodes_machine_key", "nodes", ["machine_key"])
    op.create_index("ix_nodes_node_key", "nodes", ["node_key"])
    op.create_table(
        "auth_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("secret_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expiry", sa.DateTime(timezone=True)),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.Column("reusable", sa.Boolean, nullable=False),
        sa.Column("ephemeral", sa.Boolean, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("approve_routes", sa.JSON, nullable=False),
        sa.Column("bootstrap", sa.Boolean, nullable=False),
    )
    op.create_table(
        "relay_regions",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("region", sa.Text, nullable=False),
    )
    op.create_table(
        "route_primaries",
        sa.Column("prefix", sa.String(49), primary_key=True),
        sa.Column("node_id", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("counters", "route_primaries", "relay_regions", "auth_keys", "nodes"):
        op.drop_table(table)
