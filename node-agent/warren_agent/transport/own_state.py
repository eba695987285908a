"""What peers and the control server must know to reach this node, and when it is worth telling again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from warren_agent.paths.actions import IPAddress
from warren_agent.paths.families import Families
from warren_agent.paths.own_endpoints import OwnEndpoints
from warren_agent.paths.portmap import MappingProtocol
from warren_agent.paths.values import LocalState, NetcheckReport
from warren_agent.transport.port_mapping import PortMapping
from warren_wire.addresses import AddrPort
from warren_wire.control.messages import NetInfo

logger = logging.getLogger(__name__)


class OwnState:
    """`on_change` gets each state that differs from the last one in more than latencies."""

    def __init__(
        self,
        *,
        listen_port: int,
        mapping: PortMapping,
        on_change: Callable[[LocalState], None],
    ) -> None:
        self._endpoints = OwnEndpoints(listen_port)
        self._mapping = mapping
        self._on_change = on_change
        self.state: LocalState | None = None

    def network_changed(self) -> None:
        """What was public there is not ours any more."""
        self._endpoints.forget_public()

    def update(
        self, report: NetcheckReport, local: Sequence[IPAddress], families: Families
    ) -> tuple[AddrPort, ...]:
        """Our endpoints after one more look at the network or at the port mapping."""
        self._endpoints.port_mapped = self._mapping.external
        listed = self._endpoints.update(report, local, time.monotonic(), families)
        state = LocalState(
            endpoints=tuple(endpoint for endpoint, _ in listed),
            endpoint_types=tuple(kind.value for _, kind in listed),
            net_info=net_info(report, self._mapping),
        )
        old, self.state = self.state, state
        if old is None or _told_apart(old) != _told_apart(state):
            logger.info("own endpoints or home relay changed", extra={"relay": report.home})
            self._on_change(state)
        return state.endpoints


def net_info(report: NetcheckReport, mapping: PortMapping) -> NetInfo:
    """A report as the control server wants it."""
    latency = {f"{region}-v4": seconds for region, seconds in report.region_latency_v4.items()}
    latency |= {f"{region}-v6": seconds for region, seconds in report.region_latency_v6.items()}
    return NetInfo(
        mapping_varies_by_dest_ip=report.mapping_varies,
        working_ipv6=report.ipv6 is not None,
        working_udp=report.udp,
        preferred_derp=report.home,
        derp_latency=latency,
        have_port_map=mapping.external is not None,
        upnp=mapping.seen(MappingProtocol.UPNP),
        pmp=mapping.seen(MappingProtocol.NAT_PMP),
        pcp=mapping.seen(MappingProtocol.PCP),
    )


def _told_apart(state: LocalState) -> tuple[object, ...]:
    """What makes a state worth telling; latencies change always and order means nothing."""
    info = state.net_info
    return (
        frozenset(zip(state.endpoints, state.endpoint_types, strict=True)),
        info.mapping_varies_by_dest_ip,
        info.working_ipv6,
        info.working_udp,
        info.preferred_derp,
    )
