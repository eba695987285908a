"""Sets of slots as integers: bit n is slot n. A set of 5,000 nodes has 625 bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

# How many questions are answered by looking through all rows before the table is turned round.
_FEW: Final = 8


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


class Membership:
    """Rows of sets, asked the other way round: which rows hold a slot."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = rows
        self._asked = 0
        self._turned: dict[int, list[int]] | None = None

    def rows_of(self, slot: int) -> Sequence[int]:
        """Numbers of the rows with the slot in them, in order."""
        if self._turned is None:
            self._asked += 1
            if self._asked <= _FEW:
                bit = 1 << slot
                return [number for number, row in enumerate(self._rows) if row & bit]
            self._turned = {}
            for number, row in enumerate(self._rows):
                for one in slots_of(row):
                    self._turned.setdefault(one, []).append(number)
        return self._turned.get(slot, ())
