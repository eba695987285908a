"""Which address a new node gets. Pure: pools and used addresses in, addresses out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import filterfalse
from typing import Final

from warren_control.errors import InvalidError, PoolExhaustedError
from warren_wire.addresses import RESERVED_V4, RESERVED_V6

Address = IPv4Address | IPv6Address
# Tries of a random place before a free one is looked for from there on.
_RANDOM_TRIES: Final = 16


@dataclass(frozen=True, slots=True)
class Pools:
    """The ranges node addresses come from; `None` for a family nodes do not get."""

    v4: IPv4Network | None
    v6: IPv6Network | None
    pick: Callable[[int], int] | None = None
    """A random number below its argument, for addresses that tell nothing of the order of joining."""


def usable_v4(address: IPv4Address, pool: IPv4Network) -> bool:
    """Whether a node may carry this address at all."""
    edge = address in (pool.network_address, pool.broadcast_address)
    return address in pool and not edge and not any(address in reserved for reserved in RESERVED_V4)


def usable_v6(address: IPv6Address, pool: IPv6Network) -> bool:
    """Whether a node may carry this address at all."""
    inside = address in pool and address != pool.network_address
    return inside and not any(address in reserved for reserved in RESERVED_V6)


@dataclass(frozen=True, slots=True)
class Used:
    """Addresses that a new node cannot have, as numbers."""

    v4: Collection[int] = ()
    v6: Collection[int] = ()
    resting: Collection[int] = ()
    """Of either family: their nodes were deleted a short while ago."""

    def __contains__(self, address: object) -> bool:
        taken = self.v4 if isinstance(address, IPv4Address) else self.v6
        number = int(address) if isinstance(address, IPv4Address | IPv6Address) else -1
        return number in taken or number in self.resting


def allocate(pools: Pools, used: Used) -> tuple[IPv4Address | None, IPv6Address | None]:
    """A free address of each family: the lowest, or a random one. IPv6 has IPv4's offset if it can."""
    v4 = _free_v4(pools.v4, used, pools.pick) if pools.v4 is not None else None
    if pools.v6 is None:
        return v4, None
    base = int(pools.v6.network_address)
    if v4 is not None and pools.v4 is not None and pools.pick is None:
        offset = int(v4) - int(pools.v4.network_address)
        twin = IPv6Address(base + min(offset, pools.v6.num_addresses - 1))
        if twin not in used and usable_v6(twin, pools.v6):
            return v4, twin
    return v4, _free_v6(pools.v6, used, pools.pick)


def allocate_in(
    pools: Pools, preferred: Sequence[IPv4Network], used: Used
) -> tuple[IPv4Address | None, IPv6Address | None]:
    """The same, with IPv4 from the first of the preferred ranges that has a free address."""
    if not preferred or pools.v4 is None:
        return allocate(pools, used)
    for pool in preferred:
        try:
            v4 = _free_v4(pool, used, pools.pick)
        except PoolExhaustedError:
            continue
        return v4, None if pools.v6 is None else _free_v6(pools.v6, used, pools.pick)
    raise PoolExhaustedError(
        f"no free address is left in {', '.join(map(str, preferred))} (ipPool of the policy)"
    )


def _free_v4(pool: IPv4Network, used: Used, pick: Callable[[int], int] | None) -> IPv4Address:
    for number in _numbers(pool, pool.num_addresses, pick, used.v4):
        if number not in used.resting and usable_v4(address := IPv4Address(number), pool):
            return address
    raise PoolExhaustedError(f"no free address is left in {pool}")


def _free_v6(pool: IPv6Network, used: Used, pick: Callable[[int], int] | None) -> IPv6Address:
    # More than can be in use always suffices; the pool itself may hold 2**80 addresses.
    enough = min(pool.num_addresses, len(used.v6) + len(used.resting) + 1024)
    for number in _numbers(pool, enough, pick, used.v6):
        if number not in used.resting and usable_v6(address := IPv6Address(number), pool):
            return address
    raise PoolExhaustedError(f"no free address is left in {pool}")


def _numbers(
    pool: IPv4Network | IPv6Network,
    enough: int,
    pick: Callable[[int], int] | None,
    taken: Collection[int],
) -> Iterator[int]:
    """Addresses to try that are not taken. The long run of taken ones is passed without a step in Python."""
    base, size, start = int(pool.network_address), pool.num_addresses, 1
    if pick is not None:
        for _ in range(_RANDOM_TRIES):
            start = pick(size)
            if base + start not in taken:
                yield base + start
    first = min(enough, size - start)
    for places in (range(base + start, base + start + first), range(base, base + enough - first)):
        yield from filterfalse(taken.__contains__, places)


def pinned(
    wanted: Collection[str], pools: Pools, used: Used, own: Collection[Address] = ()
) -> tuple[IPv4Address | None, IPv6Address | None]:
    """Addresses a person asked for, checked: at most one of each family, in the pools and free."""
    v4: IPv4Address | None = None
    v6: IPv6Address | None = None
    for text in wanted:
        try:
            address: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
        except ValueError as error:
            raise InvalidError(f"{text!r} is not an IP address") from error
        if address in used and address not in own:
            raise InvalidError(f"{address} belongs to another node")
        if isinstance(address, IPv4Address):
            if v4 is not None or pools.v4 is None or not usable_v4(address, pools.v4):
                raise InvalidError(f"{address} cannot be used: one free address of {pools.v4} is wanted")
            v4 = address
        else:
            if v6 is not None or pools.v6 is None or not usable_v6(address, pools.v6):
                raise InvalidError(f"{address} cannot be used: one free address of {pools.v6} is wanted")
            v6 = address
    return v4, v6
