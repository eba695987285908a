"""`/api/v1/relays`: the relay regions of the mesh, in the shape clients know."""

from __future__ import annotations

import msgspec
from aiohttp import web

from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.problems import json_response
from warren_control.errors import ConflictError, InvalidError, NotFoundError
from warren_control.model import Snapshot
from warren_control.relaymap import RelayMap, check_region
from warren_control.store import Store
from warren_wire.control.messages import DERPRegion, decode
from warren_wire.errors import DecodeError


class Relay(DERPRegion, frozen=True, kw_only=True, rename=None):
    """A region, and where it comes from."""

    embedded: bool
    """It is the relay inside this server."""
    fixed: bool
    """The configuration has it, so it cannot be changed here."""


class Relays(msgspec.Struct):
    """A page of regions."""

    relays: tuple[Relay, ...]
    total: int


class RelaysApi:
    """Lists regions; adds and removes those that the configuration does not fix."""

    def __init__(self, store: Store, relays: RelayMap) -> None:
        self._store = store
        self._relays = relays

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/relays", self.list),
            web.put("/api/v1/relays/{region}", self.put),
            web.delete("/api/v1/relays/{region}", self.delete),
        ]

    @operation(Need.READ, Relays, query=lists.PAGE)
    async def list(self, request: web.Request) -> web.Response:
        """List the relay regions."""
        lists.known(request, lists.PAGE)
        found = list(self._relays.regions(self._store.snapshot).values())
        page = tuple(self._shown(region) for region in lists.page(request, found))
        return json_response(Relays(page, len(found)))

    def _shown(self, region: DERPRegion) -> Relay:
        number = region.region_id
        embedded = number == self._relays.embedded
        return Relay(**msgspec.structs.asdict(region), embedded=embedded, fixed=self._relays.is_fixed(number))

    @operation(Need.WRITE, Relay, body=DERPRegion, problems=(409,))
    async def put(self, request: web.Request) -> web.Response:
        """Add or replace a relay region; the body is a region in the shape clients know."""
        number = _number(request)
        try:
            region = check_region(decode(DERPRegion, await request.read()), expected=number)
        except DecodeError as error:
            raise InvalidError(f"the body is not a relay region: {error}") from error
        if self._relays.is_fixed(number):
            raise ConflictError(f"region {number} is set by the server's configuration")
        async with self._store.writing() as writer:
            known = writer.snapshot.regions.get(number)
            if known != region:
                await writer.put_regions({**writer.snapshot.regions, number: region})
        before = self._shown(known) if known is not None else None
        audit.changed(request, f"relay {number}", before, self._shown(region))
        return json_response(self._shown(region), status=201 if known is None else 200)

    @operation(Need.WRITE, status=204, problems=(409,))
    async def delete(self, request: web.Request) -> web.Response:
        """Remove a relay region."""
        number = _number(request)
        if self._relays.is_fixed(number):
            raise ConflictError(f"region {number} is set by the server's configuration")
        async with self._store.writing() as writer:
            before = writer.snapshot
            await writer.put_regions(_without(before, number))
        audit.changed(request, f"relay {number}", self._shown(before.regions[number]), None)
        return web.Response(status=204)


def _without(snapshot: Snapshot, number: int) -> dict[int, DERPRegion]:
    if number not in snapshot.regions:
        raise NotFoundError(f"there is no region {number}")
    return {found: region for found, region in snapshot.regions.items() if found != number}


def _number(request: web.Request) -> int:
    text = request.match_info["region"]
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 11):
        raise NotFoundError(f"there is no region {text[:32]}")
    return int(text)
