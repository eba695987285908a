"""Which address a new node gets. Pure: pools and used addresses in, a pair of addresses out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from warren_control.errors import InvalidError, PoolExhaustedError
from warren_wire.addresses import RESERVED_V4, RESERVED_V6

A = TypeVar("A", IPv4Address, IPv6Address)


@dataclass(frozen=True, slots=True)
class Pools:
    """The ranges node addresses come from."""

    v4: IPv4Network
    v6: IPv6Network


def _lowest_free(candidate: Callable[[int], A], size: int, free: Callable[[A], bool]) -> A | None:
    for offset in range(1, size):
        address = candidate(offset)
        if free(address):
            return address
    return None


def usable_v4(address: IPv4Address, pool: IPv4Network) -> bool:
    """Whether a node may carry this address at all."""
    edge = address in (pool.network_address, pool.broadcast_address)
    return address in pool and not edge and not any(address in reserved for reserved in RESERVED_V4)


def usable_v6(address: IPv6Address, pool: IPv6Network) -> bool:
    """Whether a node may carry this address at all."""
    inside = address in pool and address != pool.network_address
    return inside and not any(address in reserved for reserved in RESERVED_V6)


def allocate(pools: Pools, used: Collection[IPv4Address | IPv6Address]) -> tuple[IPv4Address, IPv6Address]:
    """The lowest free IPv4 address and, where it is free, the IPv6 address at the same offset."""
    base_v4, base_v6 = int(pools.v4.network_address), int(pools.v6.network_address)
    v4 = _lowest_free(
        lambda offset: IPv4Address(base_v4 + offset),
        pools.v4.num_addresses,
        lambda address: address not in used and usable_v4(address, pools.v4),
    )
    if v4 is None:
        raise PoolExhaustedError(f"no free address is left in {pools.v4}")
    twin = IPv6Address(base_v6 + min(int(v4) - base_v4, pools.v6.num_addresses - 1))
    if twin not in used and usable_v6(twin, pools.v6):
        return v4, twin
    v6 = _lowest_free(
        lambda offset: IPv6Address(base_v6 + offset),
        # One more than can be in use always suffices; the pool itself may hold 2**80 addresses.
        min(pools.v6.num_addresses, len(used) + 1024),
        lambda address: address not in used and usable_v6(address, pools.v6),
    )
    if v6 is None:
        raise PoolExhaustedError(f"no free address is left in {pools.v6}")
    return v4, v6


def pinned(
    wanted: Collection[str], pools: Pools, used: Collection[IPv4Address | IPv6Address]
) -> tuple[IPv4Address | None, IPv6Address | None]:
    """Addresses a person asked for, checked: at most one of each family, in the pools and free."""
    v4: IPv4Address | None = None
    v6: IPv6Address | None = None
    for text in wanted:
        try:
            address: IPv4Address | IPv6Address = IPv6Address(text) if ":" in text else IPv4Address(text)
        except ValueError as error:
            raise InvalidError(f"{text!r} is not an IP address") from error
        if address in used:
            raise InvalidError(f"{address} belongs to another node")
        if isinstance(address, IPv4Address):
            if v4 is not None or not usable_v4(address, pools.v4):
                raise InvalidError(f"{address} cannot be used: one free address of {pools.v4} is wanted")
            v4 = address
        else:
            if v6 is not None or not usable_v6(address, pools.v6):
                raise InvalidError(f"{address} cannot be used: one free address of {pools.v6} is wanted")
            v6 = address
    return v4, v6
