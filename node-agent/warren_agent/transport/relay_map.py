"""What the engine takes from a relay map: regions, STUN servers, and who may be home. Pure but for name
look-ups."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from warren_agent.paths.netcheck import MAX_SERVERS_PER_REGION, StunServer
from warren_agent.transport.relay_dial import DISABLED
from warren_wire.addresses import AddrPort, parse_address
from warren_wire.control.messages import DERPMap, DERPNode, DERPRegion
from warren_wire.errors import DecodeError

DEFAULT_STUN_PORT: Final = 3478
STUN_OFF: Final = -1
RESOLVE_SECONDS: Final = 1.0
MAX_ADDRESSES_PER_NAME: Final = 2


def regions_of(derp_map: DERPMap) -> dict[int, DERPRegion]:
    """The regions by id; entries that were deleted or lack an id are left out."""
    return {key: region for key, region in (derp_map.regions or {}).items() if region is not None and key > 0}


def eligible_homes(regions: Mapping[int, DERPRegion]) -> list[int]:
    """Regions that may be home: those with a relay that are not excluded from it."""
    return [
        region_id
        for region_id, region in sorted(regions.items())
        if not region.no_measure_no_home and any(not node.stun_only for node in region.nodes or ())
    ]


async def stun_servers(regions: Mapping[int, DERPRegion], *, ipv6: bool) -> list[StunServer]:
    """Every STUN server worth asking. Names are resolved side by side; those that fail are left out."""
    wanted = [
        (region_id, node)
        for region_id, region in sorted(regions.items())
        if not region.no_measure_no_home
        for node in (region.nodes or ())[:MAX_SERVERS_PER_REGION]
        if node.stun_port != STUN_OFF
    ]
    found = await asyncio.gather(*(_servers_of(region_id, node, ipv6=ipv6) for region_id, node in wanted))
    return [server for servers in found for server in servers]


async def _servers_of(region_id: int, node: DERPNode, *, ipv6: bool) -> list[StunServer]:
    port = node.stun_port or DEFAULT_STUN_PORT
    texts = [node.stun_test_ip] if node.stun_test_ip else [node.ipv4, node.ipv6 if ipv6 else ""]
    texts = [text for text in texts if text and text != DISABLED]
    if not texts and node.host_name:
        families = [
            family
            for family, text in ((socket.AF_INET, node.ipv4), (socket.AF_INET6, node.ipv6))
            if text != DISABLED and (ipv6 or family == socket.AF_INET)
        ]
        texts = await _resolved(node.host_name, families)
    servers = []
    for text in texts:
        try:
            servers.append(StunServer(region_id, AddrPort(parse_address(text), port)))
        except DecodeError:
            continue
    return servers


async def _resolved(name: str, families: Sequence[socket.AddressFamily]) -> list[str]:
    """Some addresses of a name in each family; two of one server tell the kind of NAT."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return []
    return [
        text
        for family in families
        for text in list(dict.fromkeys(str(entry[4][0]) for entry in found if entry[0] == family))[
            :MAX_ADDRESSES_PER_NAME
        ]
    ]
