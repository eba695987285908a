"""Sets of IP addresses as sorted runs of integers: union, difference, overlap, and how a filter writes them.

One line of integers holds both families: IPv4 as it is, IPv6 above `V6_BASE`, so that no run crosses.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

V6_BASE: Final = 1 << 128
_BEYOND: Final = 1 << 200


class Run(NamedTuple):
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Block:
    """A prefix: its addresses as one run and how it is written (a single address without length)."""

    first: int
    last: int
    bits: int
    text: str
    cidr: str = field(compare=False)

    @property
    def is_single(self) -> bool:
        return self.first == self.last

    @property
    def is_default(self) -> bool:
        """0.0.0.0/0 or ::/0."""
        return self.bits == 0

    def contains(self, other: Block) -> bool:
        return self.first <= other.first and other.last <= self.last

    def overlaps(self, other: Block) -> bool:
        return self.first <= other.last and other.first <= self.last


def point(address: Address) -> int:
    return int(address) if address.version == 4 else V6_BASE + int(address)


def address_at(number: int) -> Address:
    return IPv6Address(number - V6_BASE) if number >= V6_BASE else IPv4Address(number)


@lru_cache(maxsize=65536)
def text_at(number: int) -> str:
    return str(address_at(number))


@lru_cache(maxsize=16384)
def block_of(prefix: Prefix) -> Block:
    first = point(prefix.network_address)
    last = first + prefix.num_addresses - 1
    text = str(prefix.network_address) if first == last else str(prefix)
    return Block(first, last, prefix.prefixlen, text, str(prefix))


@lru_cache(maxsize=65536)
def single(number: int) -> Block:
    """One address as a block."""
    bits = 128 if number >= V6_BASE else 32
    text = text_at(number)
    return Block(number, number, bits, text, f"{text}/{bits}")


def parse_block(text: str) -> Block:
    """An address or a CIDR without host bits; `ValueError` says what is wrong."""
    if len(text) > _LONGEST_TEXT:
        raise ValueError("no address is that long")
    found = _DOTTED.fullmatch(text)
    if found is not None:
        return _dotted(text, *(int(part) for part in found.groups(default="32")))
    host, slash, bits = text.partition("/")
    if "%" in text:
        raise ValueError("an address of the mesh has no zone")
    if slash and not (bits.isascii() and bits.isdigit() and (bits == "0" or bits[0] != "0")):
        raise ValueError(f"the prefix length {bits!r} is not a number")
    if not slash:
        return block_of(ip_network(ip_address(host)))
    network = ip_network(text, strict=False)
    if int(ip_address(host)) != int(network.network_address):
        raise ValueError(f"{text} has host bits set; the network is {network}")
    return block_of(network)


# The address library takes ten times as long, and policies hold tens of thousands.
_PART: Final = "(0|[1-9][0-9]{0,2})"
_DOTTED: Final = re.compile(rf"{_PART}\.{_PART}\.{_PART}\.{_PART}(?:/(0|[1-9][0-9]?))?")
_LONGEST_TEXT: Final = 64


def _dotted(text: str, a: int, b: int, c: int, d: int, bits: int) -> Block:
    if max(a, b, c, d) > 255 or bits > 32:
        raise ValueError("a part of an address is at most 255, a prefix length at most 32")
    first = a << 24 | b << 16 | c << 8 | d
    size = 1 << (32 - bits)
    if first & (size - 1):
        network = text_at(first & ~(size - 1))
        raise ValueError(f"{text} has host bits set; the network is {network}/{bits}")
    host = text.partition("/")[0]
    return Block(first, first + size - 1, bits, host if bits == 32 else f"{host}/{bits}", f"{host}/{bits}")


@dataclass(frozen=True, slots=True)
class AddressSet:
    """Disjoint runs in order, no two of them adjacent."""

    runs: tuple[Run, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.runs)

    def __or__(self, other: AddressSet) -> AddressSet:
        if not self.runs:
            return other
        return united((*self.runs, *other.runs)) if other.runs else self

    def __sub__(self, other: AddressSet) -> AddressSet:
        kept: list[Run] = []
        for first, last in self.runs:
            start = first
            for cut in other.overlapping(first, last):
                if cut.first > start:
                    kept.append(Run(start, cut.first - 1))
                start = cut.last + 1
            if start <= last:
                kept.append(Run(start, last))
        return AddressSet(tuple(kept))

    def overlapping(self, first: int, last: int) -> Iterator[Run]:
        """The runs that share an address with first..last, in order."""
        runs = self.runs
        index = max(bisect_right(runs, (first, _BEYOND)) - 1, 0)
        while index < len(runs) and runs[index].first <= last:
            if runs[index].last >= first:
                yield runs[index]
            index += 1

    def overlaps(self, first: int, last: int) -> bool:
        return next(self.overlapping(first, last), None) is not None

    def meets(self, other: AddressSet) -> bool:
        small, large = (self, other) if len(self.runs) <= len(other.runs) else (other, self)
        return any(large.overlaps(first, last) for first, last in small.runs)

    def covers(self, first: int, last: int) -> bool:
        index = bisect_right(self.runs, (first, _BEYOND)) - 1
        return index >= 0 and self.runs[index].last >= last

    def contains_all(self, other: AddressSet) -> bool:
        return all(self.covers(first, last) for first, last in other.runs)

    def texts(self) -> tuple[str, ...]:
        """As a filter writes them: an address bare, one prefix as CIDR, other runs as first-last."""
        return tuple(run_text(first, last) for first, last in self.runs)


EMPTY: Final = AddressSet()


def united(runs: Iterable[tuple[int, int]]) -> AddressSet:
    """The set of all addresses in any of the runs, which may overlap and come in any order."""
    merged: list[Run] = []
    first = last = -2
    for start, end in sorted(runs):
        if start <= last + 1 and last >= 0:
            last = max(last, end)
            continue
        if last >= 0:
            merged.append(Run(first, last))
        first, last = start, end
    if last >= 0:
        merged.append(Run(first, last))
    return AddressSet(tuple(merged))


def of_blocks(blocks: Iterable[Block]) -> AddressSet:
    return united((block.first, block.last) for block in blocks)


def of_points(points: Iterable[int]) -> AddressSet:
    return united((number, number) for number in points)


def run_text(first: int, last: int) -> str:
    if first == last:
        return text_at(first)
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        width = 128 if first >= V6_BASE else 32
        return f"{text_at(first)}/{width - size.bit_length() + 1}"
    return f"{text_at(first)}-{text_at(last)}"


def _blocks(*texts: str) -> AddressSet:
    return of_blocks(parse_block(text) for text in texts)


# What `*` means as a source: the mesh's ranges without the part that ChromeOS keeps for itself.
MESH: Final = _blocks("100.64.0.0/10", "fd7a:115c:a1e0::/48") - _blocks("100.115.92.0/23")
EVERYWHERE: Final = _blocks("0.0.0.0/0", "::/0")
INTERNET: Final = _blocks("0.0.0.0/0", "2000::/3") - _blocks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"
)
INTERNET_RANGES: Final = tuple(f"{text_at(run.first)}-{text_at(run.last)}" for run in INTERNET.runs)
