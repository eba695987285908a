"""Our own endpoints: what peers are told to try, assembled from measurements and local addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from warren_agent.paths.actions import IPAddress
from warren_agent.paths.families import BOTH, Families
from warren_agent.paths.values import EndpointType, NetcheckReport
from warren_wire.addresses import AddrPort

KEPT_SECONDS: Final = 310.0
"""A public address not seen again stays advertised this long: one lost STUN answer must not take it away."""

KEPT_PER_ADDRESS: Final = 6
"""Ports remembered of one public address; a hard NAT would add one per measurement."""


class OwnEndpoints:
    """The current list, with a memory for public addresses."""

    def __init__(self, listen_port: int) -> None:
        self._port = listen_port
        self._public: dict[AddrPort, tuple[EndpointType, float]] = {}
        self.port_mapped: AddrPort | None = None
        """What the router maps to us; valid as long as it stands here."""

    def update(
        self,
        report: NetcheckReport,
        local: Iterable[IPAddress],
        now: float,
        families: Families = BOTH,
    ) -> tuple[tuple[AddrPort, EndpointType], ...]:
        """The list after one more look at the network; public addresses first, each address once."""
        for endpoint, kind in self._seen(report):
            self._public.pop(endpoint, None)
            self._public[endpoint] = (kind, now)
        self._expire(now)
        listed: dict[AddrPort, EndpointType] = {}
        if self.port_mapped is not None:
            listed[self.port_mapped] = EndpointType.PORT_MAPPED
        for endpoint, (kind, _) in reversed(self._public.items()):
            listed.setdefault(endpoint, kind)
        for address in local:
            listed.setdefault(AddrPort(address, self._port), EndpointType.LOCAL)
        return tuple((e, kind) for e, kind in listed.items() if e.ip.version in families)

    def forget_public(self) -> None:
        """The network changed: what was public there is not ours any more."""
        self._public.clear()

    def _seen(self, report: NetcheckReport) -> list[tuple[AddrPort, EndpointType]]:
        best = [endpoint for endpoint in (report.ipv6, report.ipv4) if endpoint is not None]
        often = [endpoint for endpoint, count in report.mapped.items() if count > 1 and endpoint not in best]
        seen = [(endpoint, EndpointType.STUN) for endpoint in (*often, *best)]
        if report.mapping_varies and report.ipv4 is not None:
            # Somebody may have forwarded the port by hand, which STUN through a hard NAT cannot show.
            seen.append((AddrPort(report.ipv4.ip, self._port), EndpointType.STUN_LOCAL_PORT))
        return seen

    def _expire(self, now: float) -> None:
        per_address: dict[IPAddress, int] = {}
        for endpoint, (_, seen_at) in reversed(list(self._public.items())):
            count = per_address[endpoint.ip] = per_address.get(endpoint.ip, 0) + 1
            if now - seen_at > KEPT_SECONDS or count > KEPT_PER_ADDRESS:
                del self._public[endpoint]
