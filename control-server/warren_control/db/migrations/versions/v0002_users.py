"""Users, who own nodes and keys; what was there before belongs to `members`."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    users = op.create_table(
        "users",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("display_name", sa.String(128), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    first = {"id": 1, "name": "members", "display_name": "Members", "created": datetime.now(UTC)}
    op.bulk_insert(users, [first])
    disabled = sa.Column("expiry_disabled", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("nodes", disabled)
    for table in ("nodes", "auth_keys"):
        op.add_column(table, sa.Column("user_id", sa.BigInteger, nullable=False, server_default="1"))


def downgrade() -> None:
    for table in ("auth_keys", "nodes"):
        op.drop_column(table, "user_id")
    op.drop_column("nodes", "expiry_disabled")
    op.drop_table("users")
