"""What the matrix measures: its cells, the network that holds all their nodes, and which run side by side.

Pure. Each cell is measured between two nodes that have never exchanged a packet: every kind exists twice, on
a near and on a far side, once with each program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final, TypeVar

from warren_lab.errors import LabError
from warren_lab.matrix.kinds import KINDS, Kind, can_be_direct
from warren_lab.net import PublicHost, Router, Topology
from warren_lab.scenario.nodes import Side

T = TypeVar("T")

FIRST_ADDRESS: Final = IPv4Address("203.0.113.10")
LANS: Final = IPv4Network("192.168.0.0/16")
ROUTED_LANS: Final = IPv4Network("198.18.0.0/15")


@dataclass(frozen=True, slots=True)
class Pair:
    """Whose programs the near and the far node run."""

    near: Side
    far: Side

    def __str__(self) -> str:
        return f"{self.near.value}-{self.far.value}"


PAIRS: Final = tuple(
    Pair(near, far)
    for near, far in (
        (Side.OURS, Side.OURS),
        (Side.OURS, Side.STOCK),
        (Side.STOCK, Side.OURS),
        (Side.STOCK, Side.STOCK),
    )
)
YARDSTICK: Final = Pair(Side.STOCK, Side.STOCK)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one node is."""

    end: str
    """"near" or "far"."""
    kind: Kind
    side: Side

    @property
    def host(self) -> str:
        return f"{self.end}-{self.kind.name}-{self.side.value}"

    @property
    def router(self) -> str:
        return f"{self.host}-nat"


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: the near node sends first."""

    pair: Pair
    near_kind: Kind
    far_kind: Kind

    def __str__(self) -> str:
        return f"{self.pair}:{self.near_kind.name}/{self.far_kind.name}"

    @property
    def near(self) -> Place:
        return Place("near", self.near_kind, self.pair.near)

    @property
    def far(self) -> Place:
        return Place("far", self.far_kind, self.pair.far)

    @property
    def expects_direct(self) -> bool:
        return can_be_direct(self.near_kind, self.far_kind)


def pairs_named(text: str) -> tuple[Pair, ...]:
    """Pairs from "ours-ours,stock-stock". Raises `LabError`."""
    return _chosen(text, {str(pair): pair for pair in PAIRS}, "pair")


def kinds_named(text: str) -> tuple[Kind, ...]:
    """Kinds from "easy,hard". Raises `LabError`."""
    return _chosen(text, dict(KINDS), "kind of NAT")


def _chosen(text: str, known: dict[str, T], what: str) -> tuple[T, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise LabError(f"no {what} {', '.join(unknown)}: choose from {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) or tuple(known.values())


def cells(pairs: Sequence[Pair], kinds: Sequence[Kind]) -> tuple[Cell, ...]:
    """Every kind near against every kind far, for each pair of programs."""
    return tuple(Cell(pair, near, far) for near in kinds for far in kinds for pair in pairs)


def cells_named(names: Sequence[str], pairs: Sequence[Pair]) -> tuple[Cell, ...]:
    """Cells from "easy/hard", which stands for all `pairs`, or "ours-stock:easy/hard". Raises `LabError`."""
    found: dict[Cell, None] = {}
    for name in names:
        pair_text, colon, kinds_text = name.rpartition(":")
        ends = kinds_text.split("/")
        if len(ends) != 2:
            raise LabError(f"{name!r} is no cell: write NEAR/FAR or PAIR:NEAR/FAR, such as easy/hard")
        (near, *_), (far, *_) = kinds_named(ends[0]), kinds_named(ends[1])
        for pair in pairs_named(pair_text) if colon else pairs:
            found[Cell(pair, near, far)] = None
    return tuple(found)


def places(wanted: Sequence[Cell]) -> tuple[Place, ...]:
    """Every place that some cell needs, once."""
    return tuple(dict.fromkeys(place for cell in wanted for place in (cell.near, cell.far)))


def topology(wanted: Sequence[Place]) -> Topology:
    """Each place behind a router of its own, so that no node disturbs another's mappings."""
    routers: list[Router] = []
    public: list[PublicHost] = []
    for number, place in enumerate(wanted):
        address = FIRST_ADDRESS + number
        if place.kind.router is None:
            public.append(PublicHost(place.host, address))
            continue
        lans = ROUTED_LANS if place.kind.name == "firewall" else LANS
        lan = IPv4Network((int(lans.network_address) + 256 * (number + 1), 24))
        routers.append(Router(place.router, address, lan, (place.host,), kind=place.kind.router))
    return Topology(routers=tuple(routers), public_hosts=tuple(public))


def rounds(wanted: Sequence[Cell], width: int) -> Iterator[tuple[Cell, ...]]:
    """Groups of at most `width` cells that share no node. What waits long for nothing waits together."""
    left = sorted(wanted, key=lambda cell: cell.expects_direct)
    while left:
        group: list[Cell] = []
        busy: set[Place] = set()
        for cell in left:
            fits = not busy & {cell.near, cell.far} and cell.expects_direct == left[0].expects_direct
            if fits and len(group) < width:
                group.append(cell)
                busy |= {cell.near, cell.far}
        left = [cell for cell in left if cell not in group]
        yield tuple(group)
