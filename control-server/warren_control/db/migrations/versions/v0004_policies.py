"""Accepted policies, and by what a policy names users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("comment", sa.String(500), nullable=False),
        sa.Column("domains", sa.JSON, nullable=False),
    )
    op.add_column("users", sa.Column("email", sa.String(254), nullable=False, server_default=""))
    op.add_column("users", sa.Column("roles", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("users", "roles")
    op.drop_column("users", "email")
    op.drop_table("policies")
