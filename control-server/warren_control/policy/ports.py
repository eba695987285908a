"""Ports and protocols as rules write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

MAX_PORT: Final = 65535
MAX_PORT_RANGES: Final = 1000


class Protocol(IntEnum):
    """The numbers a rule may name by word, and those a rule without a protocol stands for."""

    ICMP = 1
    IGMP = 2
    IPV4 = 4
    TCP = 6
    EGP = 8
    IGP = 9
    UDP = 17
    GRE = 47
    ESP = 50
    AH = 51
    IPV6_ICMP = 58
    SCTP = 132
    FC = 133


NAMES: Final = {
    **{one.name.lower().replace("_", "-"): one.value for one in Protocol},
    "ip-in-ip": Protocol.IPV4.value,
}
# What a client applies to a rule that names no protocol.
DEFAULT_PROTOCOLS: Final = frozenset({Protocol.TCP, Protocol.UDP, Protocol.ICMP, Protocol.IPV6_ICMP})
WITH_PORTS: Final = frozenset({Protocol.TCP, Protocol.UDP, Protocol.SCTP})


@dataclass(frozen=True, slots=True)
class Ports:
    first: int
    last: int

    def __str__(self) -> str:
        if self == ALL_PORTS:
            return "*"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


ALL_PORTS: Final = Ports(0, MAX_PORT)


class PortError(ValueError):
    """The text of a port or protocol that cannot be read, and what was expected."""

    def __init__(self, text: str, expected: str) -> None:
        super().__init__(text)
        self.text = text
        self.expected = expected


def parse_ports(text: str) -> tuple[Ports, ...]:
    """`*`, `N`, `N-M` or a comma list of those."""
    pieces = text.split(",", MAX_PORT_RANGES)
    if len(pieces) > MAX_PORT_RANGES:
        raise PortError(f"more than {MAX_PORT_RANGES} port ranges", "fewer ports in one entry")
    return tuple(_range(piece.strip()) for piece in pieces)


@lru_cache(maxsize=4096)
def _range(text: str) -> Ports:
    if text == "*":
        return ALL_PORTS
    first_text, dash, last_text = text.partition("-")
    shown = f'port range "{text[:80]}"'
    expected = f"'*', a port from 1 to {MAX_PORT}, a range like 8000-8100, or a comma list of those"
    first = _number(first_text)
    if first is None:
        raise PortError(f"{shown}: invalid first integer", expected)
    last = _number(last_text) if dash else first
    if last is None:
        raise PortError(f"{shown}: invalid last integer", expected)
    if first > MAX_PORT or last > MAX_PORT:
        raise PortError(f"{shown}: a port is at most {MAX_PORT}", expected)
    if last == 0:
        raise PortError(f"{shown}: first port must be >0, or use '*' for wildcard", expected)
    if first > last:
        raise PortError(f"{shown}: the first port is above the last", expected)
    return Ports(first, last)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def parse_protocol(text: str) -> int:
    """A protocol's number from its name in any case, or from its number without leading zeros."""
    number = NAMES.get(text.strip().lower())
    if number is not None:
        return number
    if re.fullmatch(r"[1-9][0-9]{0,2}", text.strip()) and int(text) <= 255:
        return int(text)
    raise PortError(
        f'protocol "{text[:80]}" is not known', f"a number from 1 to 255 or one of {', '.join(sorted(NAMES))}"
    )


def protocol_name(number: int) -> str:
    try:
        return Protocol(number).name.lower().replace("_", "-")
    except ValueError:
        return str(number)
