"""Which relay regions nodes are told about: the embedded one, the configured ones, and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from warren_control.errors import InvalidError
from warren_control.model import Snapshot
from warren_wire.control.messages import DERPMap, DERPRegion, decode, prepare
from warren_wire.errors import DecodeError

MAX_REGION_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PolicyRelays:
    """The `derpMap` of a policy."""

    regions: Mapping[int, DERPRegion | None]
    """None takes a region away."""
    alone: bool = False
    """No other region is told."""


NO_POLICY_RELAYS: Final = PolicyRelays({})


@dataclass(frozen=True, slots=True)
class _Made:
    """What follows from one set of regions."""

    added: Mapping[int, DERPRegion]
    policy: PolicyRelays
    only: int
    encoded: msgspec.Raw


class RelayMap:
    """The relay map of a snapshot. Fixed regions win over those of the API, the policy's over all."""

    def __init__(
        self,
        fixed: Mapping[int, DERPRegion],
        embedded: int | None = None,
        policy: Callable[[], PolicyRelays] = lambda: NO_POLICY_RELAYS,
    ) -> None:
        """`policy` says at any time what the policy in force asks for."""
        self.embedded = embedded
        self._fixed = dict(fixed)
        self._policy = policy
        self._made: _Made | None = None

    def is_fixed(self, region: int) -> bool:
        return region in self._fixed

    def regions(self, snapshot: Snapshot) -> dict[int, DERPRegion]:
        policy = self._policy()
        others = {} if policy.alone else {**snapshot.regions, **self._fixed}
        merged = {**others, **policy.regions}
        return {number: region for number, region in sorted(merged.items()) if region is not None}

    def only_region(self, snapshot: Snapshot) -> int:
        """The region's id if there is exactly one, else 0."""
        return self._current(snapshot).only

    def prepared(self, snapshot: Snapshot) -> msgspec.Raw:
        """The encoded map, made once per set of regions."""
        return self._current(snapshot).encoded

    def _current(self, snapshot: Snapshot) -> _Made:
        made, policy = self._made, self._policy()
        if made is None or made.added is not snapshot.regions or made.policy is not policy:
            regions = self.regions(snapshot)
            only = next(iter(regions)) if len(regions) == 1 else 0
            made = self._made = _Made(snapshot.regions, policy, only, prepare(DERPMap(regions=regions)))
        return made


def policy_relays(derp_map: object) -> PolicyRelays:
    """The `derpMap` of a policy, in Tailscale's shape, or `InvalidError`."""
    if derp_map is None:
        return NO_POLICY_RELAYS
    try:
        given = msgspec.convert(derp_map, _DerpMap)
        regions = {
            int(number): None
            if region is None
            else check_region(decode(DERPRegion, msgspec.json.encode(region)), int(number))
            for number, region in given.regions.items()
        }
    except (msgspec.ValidationError, DecodeError, ValueError) as error:
        raise InvalidError(str(error)) from error
    if given.alone and not any(regions.values()):
        raise InvalidError("OmitDefaultRegions leaves no region: Regions names none")
    return PolicyRelays(regions, given.alone)


class _DerpMap(msgspec.Struct, forbid_unknown_fields=True):
    regions: dict[str, Any] = msgspec.field(default_factory=dict, name="Regions")
    alone: bool = msgspec.field(default=False, name="OmitDefaultRegions")


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
