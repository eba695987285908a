"""Indexes over the nodes of a mesh: who carries a tag, who owns an address, who routes a prefix.

Each node has a slot; sets of nodes are integers (see `bits`). One writer changes it, node by node.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

from warren_control.policy import ranges
from warren_control.policy.bits import bits_of, slots_of
from warren_control.policy.network import Node
from warren_control.policy.ranges import V6_BASE, AddressSet, Block, block_of, point

K = TypeVar("K")

_BEYOND: Final = 1 << 200


class Roster:
    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self._slots: dict[int, int] = {}
        self._nodes: list[Node | None] = []
        self._own: list[tuple[int, ...]] = []
        self._free: list[int] = []
        self.by_tag: dict[str, int] = {}
        self.by_owner: dict[int, int] = {}
        self.everyone = 0
        self.untagged = 0
        self.tagged = 0
        self.exits = 0
        self._points: list[int] = []
        self._owner: dict[int, int] = {}
        self.routes: dict[Block, int] = {}
        """Subnet route to its routers."""
        self._route_starts: list[tuple[int, int]] = []
        self._route_at: dict[tuple[int, int], Block] = {}
        self._lengths: dict[tuple[bool, int], int] = {}
        self._covers: bool | None = None
        for node_id in sorted(nodes):
            self._put(nodes[node_id], sort=False)
        self._points.sort()

    def node(self, slot: int) -> Node:
        found = self._nodes[slot]
        assert found is not None
        return found

    def slot(self, node_id: int) -> int:
        return self._slots[node_id]

    def get(self, node_id: int) -> Node | None:
        slot = self._slots.get(node_id)
        return None if slot is None else self._nodes[slot]

    def ids(self, bits: int) -> Iterator[int]:
        for slot in slots_of(bits):
            yield self.node(slot).id

    def bits(self, node_ids: Iterable[int]) -> int:
        return bits_of(self._slots[one] for one in node_ids if one in self._slots)

    def nodes(self, bits: int) -> Iterator[Node]:
        for slot in slots_of(bits):
            yield self.node(slot)

    def replace(self, node_id: int, new: Node | None) -> None:
        """Put a node in, in place of its former self, or take it out."""
        slot = self._slots.get(node_id)
        if slot is not None:
            self._take(slot)
        if new is not None:
            self._put(new, sort=True)

    def _put(self, node: Node, *, sort: bool) -> None:
        slot = self._free.pop() if self._free else len(self._nodes)
        if slot == len(self._nodes):
            self._nodes.append(None)
            self._own.append(())
        self._nodes[slot] = node
        self._own[slot] = tuple(point(address) for address in node.addresses)
        self._slots[node.id] = slot
        self._mark(node, 1 << slot, present=True)
        for number in self._own[slot]:
            if number not in self._owner:
                insort(self._points, number) if sort else self._points.append(number)
                self._owner[number] = slot

    def _take(self, slot: int) -> None:
        node = self.node(slot)
        self._mark(node, 1 << slot, present=False)
        for number in self._own[slot]:
            if self._owner.get(number) == slot:
                del self._owner[number]
                del self._points[bisect_left(self._points, number)]
        self._nodes[slot] = None
        del self._slots[node.id]
        self._free.append(slot)

    def _mark(self, node: Node, bit: int, *, present: bool) -> None:
        self._covers = None
        self.everyone ^= bit
        if node.tags:
            self.tagged ^= bit
        else:
            self.untagged ^= bit
        for tag in node.tags:
            _toggle(self.by_tag, tag, bit)
        owner = node.owner_id
        if owner is not None:
            _toggle(self.by_owner, owner, bit)
        for route in node.routes:
            if route.prefixlen == 0:
                self.exits = self.exits | bit if present else self.exits & ~bit
            else:
                self._mark_route(block_of(route), bit)

    def _mark_route(self, block: Block, bit: int) -> None:
        known = block in self.routes
        _toggle(self.routes, block, bit)
        exists = block in self.routes
        if known == exists:
            return
        place = (block.first, block.last)
        length = (block.first >= V6_BASE, block.last - block.first + 1)
        self._lengths[length] = self._lengths.get(length, 0) + (1 if exists else -1)
        if exists:
            insort(self._route_starts, place)
            self._route_at[place] = block
        else:
            del self._route_starts[bisect_left(self._route_starts, place)]
            del self._route_at[place]

    def routes_over(self, first: int, last: int) -> Iterator[Block]:
        """Subnet routes in force that share an address with first..last."""
        start = bisect_left(self._route_starts, (first, 0))
        end = bisect_right(self._route_starts, (last, _BEYOND))
        for place in self._route_starts[start:end]:
            yield self._route_at[place]
        base = V6_BASE if first >= V6_BASE else 0
        for (is_v6, size), count in self._lengths.items():
            if count and is_v6 == (first >= V6_BASE):
                begin = base + (first - base) // size * size
                found = self._route_at.get((begin, begin + size - 1)) if begin < first else None
                if found is not None:
                    yield found

    def routers_over(self, addresses: AddressSet) -> int:
        """Nodes with a subnet route that shares an address with the set."""
        if not self.routes:
            return 0
        total = 0
        if len(addresses.runs) > len(self.routes):
            for block, bits in self.routes.items():
                if addresses.overlaps(block.first, block.last):
                    total |= bits
            return total
        for first, last in addresses.runs:
            for block in self.routes_over(first, last):
                total |= self.routes[block]
        return total

    def owners_in(self, addresses: AddressSet) -> int:
        """Nodes with an address in the set."""
        return bits_of({self._owner[number] for number in self.points_in(addresses)})

    def points_in(self, addresses: AddressSet) -> Iterator[int]:
        for first, last in addresses.runs:
            start = bisect_left(self._points, first)
            yield from self._points[start : bisect_right(self._points, last, lo=start)]

    def find(self, number: int) -> int | None:
        """The slot of the node with an address, if there is one."""
        return self._owner.get(number)

    def owner_of(self, number: int) -> int:
        """The slot of the node that has the address."""
        return self._owner[number]

    def own_points(self, slot: int) -> tuple[int, ...]:
        return self._own[slot]

    def points(self, bits: int) -> list[int]:
        """The addresses of nodes."""
        return [number for slot in slots_of(bits) for number in self._own[slot]]

    def covering(self, bits: int) -> int:
        """Routers whose subnet routes contain addresses of these nodes; hardly ever any."""
        if not self.has_covered_nodes:
            return 0
        return self.routers_over(ranges.of_points(self.points(bits)))

    @property
    def has_covered_nodes(self) -> bool:
        """Whether some subnet route contains the address of a node."""
        if self._covers is None:
            self._covers = self._routes_cover_points()
        return self._covers

    def covered_by(self, routes: AddressSet, slot: int) -> list[int]:
        """Addresses of other nodes inside a router's routes."""
        return [number for number in self.points_in(routes) if self._owner[number] != slot]

    def _routes_cover_points(self) -> bool:
        return any(
            bisect_left(self._points, block.first) != bisect_right(self._points, block.last)
            for block in self.routes
        )

    def route_set(self) -> AddressSet:
        return ranges.of_blocks(self.routes)


def _toggle(index: dict[K, int], key: K, bit: int) -> None:
    """Flip a bit of a set in an index; an empty set leaves the index."""
    bits = index.get(key, 0) ^ bit
    if bits:
        index[key] = bits
    else:
        index.pop(key, None)
