"""Sets of slots as integers: bit n is slot n. A set of 5,000 nodes has 625 bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def bits_of(slots: Iterable[int]) -> int:
    found = list(slots)
    if len(found) < 8:
        total = 0
        for slot in found:
            total |= 1 << slot
        return total
    buffer = bytearray(max(found) // 8 + 1)
    for slot in found:
        buffer[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(buffer, "little")


def slots_of(bits: int) -> Iterator[int]:
    """The slots of a set in ascending order."""
    text = format(bits, "b")[::-1]
    at = text.find("1")
    while at >= 0:
        yield at
        at = text.find("1", at + 1)
