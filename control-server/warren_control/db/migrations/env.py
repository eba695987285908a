"""Runs migrations on the connection the server hands over; there is no offline mode."""

from __future__ import annotations

from alembic import context
from sqlalchemy.engine import Connection

from warren_control.db.tables import metadata

connection = context.config.attributes["connection"]
assert isinstance(connection, Connection)
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
