"""Reads a map response part by part, so that one broken entry costs that entry and nothing else.

A filter rule that cannot be read is left out, which allows less, never more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from warren_wire.control.codec import Message, decode
from warren_wire.control.mapstream import KEEP_ALIVE
from warren_wire.control.messages import (
    DERPHomeParams,
    DERPMap,
    DERPRegion,
    FilterRule,
    MapResponse,
    Node,
    PeerChange,
    UserProfile,
)
from warren_wire.errors import DecodeError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a message that was left out: where it stood and what is wrong with it."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReadMapResponse:
    response: MapResponse
    problems: tuple[Problem, ...]


class _Id(msgspec.Struct):
    ID: int = 0
    NodeID: int = 0


class _RawDERPMap(Message, frozen=True, kw_only=True):
    home_params: DERPHomeParams | None = None
    regions: Mapping[int, msgspec.Raw] | None = None


def read_map_response(json: bytes) -> ReadMapResponse:
    """DecodeError is left for a document that is not a JSON object at all."""
    if json == KEEP_ALIVE:
        return ReadMapResponse(MapResponse(keep_alive=True), ())
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for wire_name, raw in decode(dict[str, msgspec.Raw], json).items():
        known = _FIELDS.get(wire_name)
        if known is None:
            continue
        try:
            values[known.name] = _READERS.get(wire_name, known.read)(raw, problems)
        except DecodeError as error:
            problems.append(Problem(wire_name, str(error)))
    return ReadMapResponse(MapResponse(**values), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    type: Any

    def read(self, raw: msgspec.Raw, problems: list[Problem]) -> Any:
        return decode(self.type, raw)


_FIELDS: Final = {
    field.encode_name: _Field(field.name, field.type) for field in msgspec.structs.fields(MapResponse)
}


def _entries(kind: type[T], name: str, raw: msgspec.Raw, problems: list[Problem]) -> tuple[T, ...] | None:
    entries = decode(_RawList, raw)
    if entries is None:
        return None
    read: list[T] = []
    for position, entry in enumerate(entries):
        try:
            read.append(decode(kind, entry))
        except DecodeError as error:
            problems.append(Problem(f"{name} {_identify(entry, position)}", str(error)))
    return tuple(read)


_RawList: Any = tuple[msgspec.Raw, ...] | None
_RawMapping: Any = dict[str, msgspec.Raw] | None


def _identify(entry: msgspec.Raw, position: int) -> str:
    try:
        found = decode(_Id, entry)
    except DecodeError:
        found = _Id()
    return str(found.ID or found.NodeID or f"at position {position}")


def _list_of(kind: type[Any], name: str) -> "_Reader":
    return lambda raw, problems: _entries(kind, name, raw, problems)


def _packet_filters(raw: msgspec.Raw, problems: list[Problem]) -> Mapping[str, Any] | None:
    chunks: dict[str, msgspec.Raw] | None = decode(_RawMapping, raw)
    if chunks is None:
        return None
    read: dict[str, tuple[FilterRule, ...] | None] = {}
    for name, chunk in chunks.items():
        try:
            read[name] = _entries(FilterRule, f"rule of filter {name!r}", chunk, problems)
        except DecodeError as error:
            # The old rules of this chunk may allow what the new ones were to forbid.
            read[name] = ()
            problems.append(Problem(f"filter {name!r}", str(error)))
    return read


def _derp_map(raw: msgspec.Raw, problems: list[Problem]) -> DERPMap | None:
    optional: Any = _RawDERPMap | None
    found: _RawDERPMap | None = decode(optional, raw)
    if found is None:
        return None
    if found.regions is None:
        return DERPMap(home_params=found.home_params)
    regions: dict[int, DERPRegion | None] = {}
    region: Any = DERPRegion | None
    for region_id, entry in found.regions.items():
        try:
            regions[region_id] = decode(region, entry)
        except DecodeError as error:
            problems.append(Problem(f"relay region {region_id}", str(error)))
    return DERPMap(home_params=found.home_params, regions=regions)


_Reader = Callable[[msgspec.Raw, list[Problem]], Any]

_READERS: Final[Mapping[str, _Reader]] = {
    "Peers": _list_of(Node, "peer"),
    "PeersChanged": _list_of(Node, "peer"),
    "PeersChangedPatch": _list_of(PeerChange, "patch of peer"),
    "UserProfiles": _list_of(UserProfile, "user profile"),
    "PacketFilter": _list_of(FilterRule, "filter rule"),
    "PacketFilters": _packet_filters,
    "DERPMap": _derp_map,
}
