"""Which address the host sends from towards a destination."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, ip_address
from typing import Final

from warren_agent.paths.actions import IPAddress
from warren_wire.addresses import AddrPort

SOURCE_SECONDS: Final = 10.0
MAX_SOURCES: Final = 4096


class SourceAddresses:
    """What the routing table says, kept for some seconds.

    A connected UDP socket asks it without sending anything.
    """

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._known: dict[IPAddress, tuple[IPAddress, float]] = {}

    def forget(self) -> None:
        self._known.clear()

    def towards(self, destination: AddrPort, now: float) -> IPAddress:
        """Of the destination's family; `OSError` where no route leads there."""
        known = self._known.get(destination.ip)
        if known is not None and now < known[1]:
            return known[0]
        v4 = isinstance(destination.ip, IPv4Address)
        with socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            if self._mark:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            probe.connect((str(destination.ip), destination.port))
            address = ip_address(probe.getsockname()[0])
        if len(self._known) >= MAX_SOURCES:
            self._known.clear()
        self._known[destination.ip] = (address, now + SOURCE_SECONDS)
        return address
