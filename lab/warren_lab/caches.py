"""Where the lab keeps what takes minutes to make. Everything below may be removed at any time."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """``$XDG_CACHE_HOME/warren`` or ``~/.cache/warren``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "warren"
