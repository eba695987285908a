"""One accepted policy as it is kept."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

# Older ones are dropped when another is accepted.
MAX_VERSIONS: Final = 100
MAX_COMMENT: Final = 500
MAX_AUTHOR: Final = 128


class Source(enum.Enum):
    """Where a policy came from."""

    API = "api"
    FILE = "file"
    NONE = "none"
    """There is none: everything may talk to everything."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A text that was accepted. The text is kept as it was given, with its comments."""

    version: int
    text: str
    source: Source
    author: str
    created: datetime
    comment: str = ""
    domains: frozenset[str] = frozenset()
    """The domains it was read for: a user who leaves later must not make it unreadable."""


NO_VERSION: Final = PolicyVersion(0, "", Source.NONE, "", datetime.fromtimestamp(0, UTC))
