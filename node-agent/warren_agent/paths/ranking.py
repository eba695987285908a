"""Which of two proven addresses of a peer is better. Pure; the order of the rules is what stock peers use."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from warren_agent.paths.timing import LATENCY_NOISE_SECONDS
from warren_wire.addresses import AddrPort

PRIVATE: Final = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


@dataclass(frozen=True, slots=True)
class Proven:
    """An address that answered, and how fast."""

    address: AddrPort
    latency_seconds: float


def is_better(new: Proven, old: Proven) -> bool:
    """Points for speed (in percent of the slower one), for nearness of the network, and for IPv6."""
    if new.address == old.address:
        return False
    new_points, old_points = _speed_points(new.latency_seconds, old.latency_seconds)
    new_points += _kind_points(new.address)
    old_points += _kind_points(old.address)
    if new_points <= 1 and old_points == 0:
        return False
    return new_points > old_points


def _speed_points(new: float, old: float) -> tuple[int, int]:
    if abs(new - old) < LATENCY_NOISE_SECONDS:
        return 0, 0
    # Whole nanoseconds, so that a per cent is a per cent and no rounding of floats.
    fast, slow = sorted((round(new * 1e9), round(old * 1e9)))
    points = 100 - fast * 100 // max(slow, 1)
    return (points, 0) if new < old else (0, points)


def _kind_points(address: AddrPort) -> int:
    ip = address.ip
    points = 10 if ip.version == 6 else 0
    if ip.is_loopback:
        points += 50
    elif ip.is_link_local:
        points += 30
    elif any(ip in network for network in PRIVATE if network.version == ip.version):
        points += 20
    return points
