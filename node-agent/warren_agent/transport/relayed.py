"""Relayed packets on their way between WireGuard's loopback endpoints and the relay connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from warren_agent.paths.counters import TransportCounters
from warren_agent.paths.early_handshakes import EarlyHandshakes
from warren_agent.paths.loopback_addresses import LoopbackAddresses
from warren_agent.paths.machine import PathMachine
from warren_agent.paths.relays import RelayRoutes
from warren_agent.paths.values import PathPeer
from warren_agent.transport.loopback import LoopbackSocket
from warren_agent.transport.records import PeerRecord
from warren_agent.transport.relay_pool import RelayPool
from warren_agent.transport.spoofing import SpoofingSocket
from warren_wire import disco as disco_wire
from warren_wire.derp.client import ClientEvent, PacketReceived, PeerGone
from warren_wire.keys import NodePublic

KEEPALIVE_BYTES: Final = 32


class RelayedTraffic:
    """Everything that takes a relay passes here; disco goes to the path machine, the rest to WireGuard."""

    def __init__(
        self,
        *,
        machine: PathMachine,
        addresses: LoopbackAddresses,
        peers: Callable[[], Mapping[NodePublic, PathPeer]],
        records: Mapping[NodePublic, PeerRecord],
        counters: TransportCounters,
    ) -> None:
        self._machine = machine
        self._addresses = addresses
        self._peers = peers
        self._records = records
        self._counters = counters
        self._early = EarlyHandshakes()
        self.routes = RelayRoutes()
        self.bytes_received = 0
        self.bytes_sent = 0
        """Of WireGuard alone, without disco, over all peers."""

    def from_wireguard(self, address: bytes, datagrams: list[memoryview], pool: RelayPool) -> None:
        """Packets that WireGuard sent to a peer's packed loopback address."""
        key = self._addresses.key_of(address)
        if key is None or key not in self._machine:
            self._counters.loopback_foreign += len(datagrams)
            return
        size = sum(map(len, datagrams))
        self._records[key].relay_tx_bytes += size
        self.bytes_sent += size
        self.send(key, [bytes(datagram) for datagram in datagrams], 0, pool)
        if any(len(datagram) > KEEPALIVE_BYTES for datagram in datagrams):
            self._machine.activity(key, time.monotonic())

    def send(self, key: NodePublic, packets: list[bytes], region: int, pool: RelayPool) -> None:
        """Send through `region`, or with 0 through the one that leads to the peer."""
        self._records[key].relay_tx_packets += len(packets)
        pool.send(region or self.region_for(key), key, packets)

    def region_for(self, key: NodePublic) -> int:
        """The region that leads to a peer, 0 if none is known."""
        peer = self._peers().get(key)
        return self.routes.region_for(key, peer.home_relay) if peer is not None else 0

    def from_relay(
        self, region: int, events: Sequence[ClientEvent], loopback: LoopbackSocket, spoofing: SpoofingSocket
    ) -> None:
        now = time.monotonic()
        groups: dict[NodePublic, list[bytes]] = {}
        for event in events:
            if isinstance(event, PacketReceived):
                self._sort(region, event, groups, now)
            elif isinstance(event, PeerGone):
                self.routes.gone(event.peer, region)
        for key, packets in groups.items():
            size = sum(map(len, packets))
            self._records[key].relay_rx_packets += len(packets)
            self._records[key].relay_rx_bytes += size
            self.bytes_received += size
            self._machine.relayed(key, now)
            self._inject(key, packets, loopback, spoofing)

    def _sort(
        self, region: int, event: PacketReceived, groups: dict[NodePublic, list[bytes]], now: float
    ) -> None:
        key, packet = event
        self._early.keep(key, packet, now)
        if key not in self._machine:
            self._counters.relay_unknown_source += 1
            return
        self._counters.relay_received += 1
        self.routes.heard(key, region)
        if disco_wire.looks_like_disco(packet):
            self._machine.receive_relayed(region, key, packet, now)
        else:
            groups.setdefault(key, []).append(packet)

    def repeat_early(self, key: NodePublic, loopback: LoopbackSocket) -> None:
        """WireGuard knows a peer now: give it the handshake that came before. One that it has had already
        it takes for a replay and drops."""
        packet = self._early.take(key, time.monotonic())
        if packet is not None:
            loopback.inject(self._addresses.of(key).packed, [packet])

    def _inject(
        self, key: NodePublic, packets: list[bytes], loopback: LoopbackSocket, spoofing: SpoofingSocket
    ) -> None:
        path = self._machine.peer(key)
        if path is None:
            return
        wanted = path.wanted()
        if wanted is not None and not wanted.ip.is_link_local:
            spoofing.inject(wanted, packets)
        else:
            loopback.inject(self._addresses.of(key).packed, packets)
