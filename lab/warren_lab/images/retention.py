"""Which versions of a thing were used lately, so that the rest can be dropped.

Knows a folder of empty files, one a version, whose times say when each was last used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Retention:
    """Keeps the ``kept`` most recently used versions of each name."""

    folder: Path
    kept: int

    def use(self, name: str, version: str) -> list[str]:
        """Note a use; returns versions that are to be dropped now."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / version).touch()
        by_age = sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime_ns)
        stale = by_age[self.kept :]
        for path in stale:
            path.unlink()
        return [path.name for path in stale]
