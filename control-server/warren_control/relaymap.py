"""Which relay regions nodes are told about: the embedded one, the configured ones, the ones of the API."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from warren_control.errors import InvalidError
from warren_control.model import Snapshot
from warren_wire.control.messages import DERPMap, DERPRegion, prepare

MAX_REGION_ID = 2**31 - 1


class RelayMap:
    """The relay map of a snapshot. Fixed regions win over those of the API."""

    def __init__(self, fixed: Mapping[int, DERPRegion], embedded: int | None = None) -> None:
        self.embedded = embedded
        self._fixed = dict(fixed)
        self._prepared: tuple[Mapping[int, DERPRegion], msgspec.Raw] | None = None

    def is_fixed(self, region: int) -> bool:
        return region in self._fixed

    def regions(self, snapshot: Snapshot) -> dict[int, DERPRegion]:
        merged = {**snapshot.regions, **self._fixed}
        return dict(sorted(merged.items()))

    def only_region(self, snapshot: Snapshot) -> int:
        """The region's id if there is exactly one, else 0."""
        found = self._fixed.keys() | snapshot.regions.keys()
        return next(iter(found)) if len(found) == 1 else 0

    def prepared(self, snapshot: Snapshot) -> msgspec.Raw:
        """The encoded map, made once per set of regions."""
        if self._prepared is None or self._prepared[0] is not snapshot.regions:
            self._prepared = (snapshot.regions, prepare(DERPMap(regions=self.regions(snapshot))))
        return self._prepared[1]


def check_region(region: DERPRegion, expected: int | None = None) -> DERPRegion:
    """The region with its ids made to agree, or `InvalidError`: clients drop a contradictory map."""
    number = region.region_id or expected or 0
    if not 0 < number <= MAX_REGION_ID or (expected is not None and number != expected):
        raise InvalidError(f"RegionID must be {expected or 'a positive number'}")
    if not region.region_code or len(region.region_code) > 64:
        raise InvalidError("RegionCode is missing or longer than 64 characters")
    if not region.nodes:
        raise InvalidError("Nodes is empty: a region needs at least one relay")
    nodes = []
    for index, node in enumerate(region.nodes):
        if not node.host_name:
            raise InvalidError(f"Nodes[{index}].HostName is missing")
        if not (0 <= node.derp_port <= 0xFFFF and -1 <= node.stun_port <= 0xFFFF):
            raise InvalidError(f"Nodes[{index}]: a port is out of range")
        name = node.name or f"{number}{chr(ord('a') + index % 26)}"
        nodes.append(msgspec.structs.replace(node, region_id=number, name=name))
    return msgspec.structs.replace(
        region, region_id=number, region_name=region.region_name or region.region_code, nodes=tuple(nodes)
    )
