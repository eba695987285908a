"""Records in memory: for the store it is a database."""

from __future__ import annotations

from warren_control.db.repository import Write
from warren_control.model import AuthKey


class MemoryRecords:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.writes: list[Write] = []

    async def write(self, write: Write) -> None:
        self.writes.append(write)

    async def find_key(self, secret_hash: str) -> AuthKey | None:
        return None
