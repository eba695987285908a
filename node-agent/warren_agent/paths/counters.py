"""What the path machine and the transport count. Plain integers; whoever exports them reads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PathCounters:
    """Totals since start, over all peers."""

    pings_sent: int = 0
    pongs_sent: int = 0
    calls_sent: int = 0
    pings_received: int = 0
    pongs_received: int = 0
    calls_received: int = 0
    disco_unknown_key: int = 0
    disco_bad_box: int = 0
    disco_malformed: int = 0
    disco_unexpected: int = 0
    disco_duplicate: int = 0
    to_direct: int = 0
    to_relay: int = 0
    early_lapses: int = 0
    roams: int = 0
    endpoint_corrections: int = 0


@dataclass(slots=True)
class TransportCounters:
    """Totals since start, over all sockets and relay connections."""

    raw_received: int = 0
    raw_sent: int = 0
    raw_send_errors: int = 0
    raw_malformed: int = 0
    stun_received: int = 0
    stun_unexpected: int = 0
    loopback_received: int = 0
    loopback_foreign: int = 0
    loopback_send_errors: int = 0
    injected: int = 0
    injected_spoofed: int = 0
    relay_sent: int = 0
    relay_received: int = 0
    relay_unknown_source: int = 0
    relay_dropped_congested: int = 0
    relay_dropped_no_route: int = 0
    relay_connects: int = 0
    relay_connect_failures: int = 0
    relay_disconnects: int = 0
    relay_silent: int = 0
    endpoint_writes: int = 0
    endpoint_write_errors: int = 0
    tsmp_received: int = 0
    tsmp_unexpected: int = 0
    tsmp_rejections: int = 0
    netchecks: int = 0
    port_mapping_refused: int = 0
