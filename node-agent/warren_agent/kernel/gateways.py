"""The router of this host: where packets to the internet go first."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Final

ROUTES: Final = Path("/proc/net/route")
HOME_RANGES: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"))
)
_FLAG_GATEWAY: Final = 0x2
_FLAG_UP: Final = 0x1
_SO_MARK: Final = 36
_ANY_PORT: Final = 9


def default_gateway(table: str) -> IPv4Address | None:
    """The gateway of the default route with the least metric, from the text of /proc/net/route."""
    found: list[tuple[int, IPv4Address]] = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        flags = int(fields[3], 16)
        if flags & _FLAG_UP and flags & _FLAG_GATEWAY:
            # The kernel prints the address as a number in the machine's own order.
            address = IPv4Address(socket.ntohl(int(fields[2], 16)))
            found.append((int(fields[6]), address))
    return min(found)[1] if found else None


def home_router(mark: int) -> tuple[IPv4Address, IPv4Address] | None:
    """A router with a private address, and our address towards it, if there is one. Blocks shortly."""
    try:
        gateway = default_gateway(ROUTES.read_text())
    except (OSError, ValueError):
        return None
    if gateway is None or not any(gateway in network for network in HOME_RANGES):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            sock.connect((str(gateway), _ANY_PORT))
        except OSError:
            return None
        return gateway, IPv4Address(sock.getsockname()[0])
