"""The policy from a file: taken at the start and whenever the file changes.

While it cannot be read or is refused, the last good policy stays in force.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from warren_control.errors import ConfigError, UnavailableError
from warren_control.policies.keeper import PolicyKeeper
from warren_control.policy.hujson import MAX_BYTES

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 1.0


class PolicyFile:
    """Looks at the file and hands its text to the keeper."""

    def __init__(self, keeper: PolicyKeeper, file: Path) -> None:
        self._keeper = keeper
        self._file = file
        self._seen: tuple[int, int, int] | None = None

    async def start(self) -> None:
        """Takes the file, or `ConfigError`: without any good policy, everything would be allowed."""
        await self.look(starting=True)
        if self._keeper.alarm and not self._keeper.has_policy:
            raise ConfigError(f"policy.file: {self._keeper.alarm}")

    async def look(self, *, starting: bool = False) -> None:
        """Takes the file if it is another than before."""
        try:
            about = self._file.stat()
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            # One byte more than is accepted, so that a file that is too large is refused as such.
            with self._file.open("rb") as stream:
                text = stream.read(MAX_BYTES + 1).decode()
        except (OSError, UnicodeDecodeError) as error:
            self._unreadable(error)
            return
        try:
            await self._keeper.take_file(text, str(self._file), starting=starting)
        except UnavailableError:
            # The database takes nothing now; the file is looked at again.
            self._seen = None

    def _unreadable(self, error: OSError | UnicodeDecodeError) -> None:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        self._keeper.refused(f"{self._file}: {reason}")

    async def watch(self) -> None:
        """Looks every second: cheap, and true on every file system and for files swapped by rename."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self.look()
