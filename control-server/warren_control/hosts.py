"""What a node says about itself, made fit to be stored and shown to its peers. Pure.

A stock client throws a whole message away when one value in it has the wrong type. So peers are sent only
members whose type is known here; a node that sends nonsense loses that member and disturbs nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from warren_wire.addresses import AddrPort
from warren_wire.control.messages import Hostinfo, NetInfo, Service
from warren_wire.errors import DecodeError

MAX_ENDPOINTS: Final = 64
MAX_HOSTINFO_BYTES: Final = 64 * 1024
MAX_HOSTNAME: Final = 253
MAX_SERVICES: Final = 256
MAX_REGION_ID: Final = 2**31 - 1
MAX_CAPABILITY_VERSION: Final = 0xFFFF
_MAX_TEXT: Final = 256

# Members shown to peers beside the typed ones, with the type a stock client expects.
_SHOWN: Final[dict[str, type]] = {
    "Distro": str,
    "DistroVersion": str,
    "DistroCodeName": str,
    "Machine": str,
    "Env": str,
    "Container": bool,
    "Desktop": bool,
    "ShareeNode": bool,
    "AllowsUpdate": bool,
    "AppConnector": bool,
    "PeerRelay": bool,
    "IngressEnabled": bool,
    "WireIngress": bool,
}


def usable_endpoints(texts: Iterable[str]) -> tuple[str, ...]:
    """Endpoints others can send to, in the node's order: no zones, no link-local, no port 0, none twice."""
    found: dict[str, None] = {}
    for text in texts:
        try:
            endpoint = AddrPort.parse(text)
        except DecodeError:
            continue
        address = endpoint.ip
        useless = (
            address.is_link_local or address.is_multicast or address.is_unspecified or address.is_loopback
        )
        if endpoint.port and not useless:
            found[str(endpoint)] = None
        if len(found) == MAX_ENDPOINTS:
            break
    return tuple(found)


def usable_hostinfo(hostinfo: Hostinfo) -> Hostinfo:
    """The same with its text bounded, or `DecodeError` if it is far too large."""
    if len(hostinfo.to_json()) > MAX_HOSTINFO_BYTES:
        raise DecodeError(f"Hostinfo is larger than {MAX_HOSTINFO_BYTES} bytes")
    return hostinfo.replace(hostname=hostinfo.hostname[:MAX_HOSTNAME], net_info=None)


def usable_net_info(net_info: NetInfo | None, known: NetInfo | None) -> NetInfo | None:
    """The report, or what was known before when it says nothing of a home relay."""
    if net_info is None:
        return known
    if not 0 < net_info.preferred_derp <= MAX_REGION_ID:
        region = known.preferred_derp if known is not None else 0
        return msgspec.structs.replace(net_info, preferred_derp=region)
    return net_info


def usable_version(version: int) -> int:
    """A capability version that fits the wire."""
    return max(0, min(version, MAX_CAPABILITY_VERSION))


def shown_hostinfo(hostinfo: Hostinfo) -> Hostinfo:
    """What peers see of a host."""
    extra: dict[str, Any] = {
        name: value[:_MAX_TEXT] if isinstance(value, str) else value
        for name, value in hostinfo.extra.items()
        if name in _SHOWN and type(value) is _SHOWN[name]
    }
    services = tuple(
        Service(proto=service.proto, port=service.port)
        for service in hostinfo.services[:MAX_SERVICES]
        if 0 <= service.port <= 0xFFFF
    )
    return Hostinfo(
        hostname=hostinfo.hostname[:MAX_HOSTNAME],
        os=hostinfo.os[:_MAX_TEXT],
        os_version=hostinfo.os_version[:_MAX_TEXT],
        ipn_version=hostinfo.ipn_version[:_MAX_TEXT],
        device_model=hostinfo.device_model[:_MAX_TEXT],
        shields_up=hostinfo.shields_up,
        services=services or None,
        ssh_host_keys=tuple(key[:8192] for key in hostinfo.ssh_host_keys[:16]) or None,
        extra=extra,
    )
