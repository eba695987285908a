"""How long to wait for what must happen: limits are written for a usual machine and stretched in one place.

A limit ends a wait that hangs. It never measures: an emulated or crowded machine is slow and right.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "WARREN_LAB_PATIENCE"
FACTOR: Final = float(os.environ.get(VARIABLE) or 1)


def patient(seconds: float) -> float:
    """The limit that stands for so many seconds of a usual machine."""
    return seconds * FACTOR
