"""Alembic migrations; they run at every start of the server."""
