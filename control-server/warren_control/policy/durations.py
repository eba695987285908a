"""Durations as Go writes them: `12h30m`, `1.5s`, `-1m`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_TERM: Final = r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(ns|us|µs|μs|ms|s|m|h)"
_ALL: Final = re.compile(f"([+-]?)((?:{_TERM}){{1,20}})")
_LARGEST: Final = 2**63 - 1


def parse_duration(text: str) -> int:
    """Nanoseconds; `ValueError` if the text is no duration."""
    if text in ("0", "+0", "-0"):
        return 0
    found = _ALL.fullmatch(text)
    if found is None:
        raise ValueError(f"not a duration: {text!r}")
    total = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in re.findall(_TERM, found.group(2)))
    if total > _LARGEST:
        raise ValueError(f"not a duration: {text!r}")
    return -total if found.group(1) == "-" else total


def format_duration(nanoseconds: int) -> str:
    """`1h0m0s`, `1m0s`, `30s`, `1.5s`, `10ms`, `0s`."""
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if value == 0:
        return "0s"
    if value < 10**9:
        unit, size = next((u, s) for u, s in (("ms", 10**6), ("µs", 10**3), ("ns", 1)) if value >= s)
        return f"{sign}{_decimal(value, size)}{unit}"
    minutes, rest = divmod(value, 60 * 10**9)
    seconds = _decimal(rest, 10**9)
    if minutes == 0:
        return f"{sign}{seconds}s"
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}h{minutes}m{seconds}s" if hours else f"{sign}{minutes}m{seconds}s"


def _decimal(value: int, size: int) -> str:
    text = f"{Decimal(value) / size:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
