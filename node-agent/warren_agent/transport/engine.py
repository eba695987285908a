"""The path engine: every peer's path, and the sockets that carry disco, STUN and relayed packets.

Puts together what owns the raw sockets beside WireGuard's port, the loopback socket that stands in for
relayed peers, and the relay connections. Knows a WireGuard device only through
`kernel.interfaces.WireGuard`; must not know the control server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from warren_agent.kernel.interfaces import WireGuard
from warren_agent.paths.actions import (
    Action,
    IPAddress,
    PathChanged,
    PingAnswered,
    RefreshEndpoints,
    SendDatagram,
    SendRelayed,
    SetEndpoint,
)
from warren_agent.paths.adverts import DiscoAdverts
from warren_agent.paths.counters import PathCounters, TransportCounters
from warren_agent.paths.families import FamilyChoice
from warren_agent.paths.loopback_addresses import LoopbackAddresses
from warren_agent.paths.machine import PathMachine
from warren_agent.paths.portmap import ALL_PROTOCOLS, MappingProtocol
from warren_agent.paths.values import (
    LocalState,
    NetcheckReport,
    PathChange,
    PathKind,
    PathPeer,
    PathStatus,
    PingKind,
    PingResult,
)
from warren_agent.transport.address_watch import AddressWatch
from warren_agent.transport.endpoints import EndpointWriter
from warren_agent.transport.loopback import LoopbackSocket, loopback_ports
from warren_agent.transport.own_state import OwnState
from warren_agent.transport.pings import NO_ANSWER, Pings, by_path
from warren_agent.transport.port_mapping import PortMapping
from warren_agent.transport.raw_udp import RawUdp
from warren_agent.transport.records import PeerRecord
from warren_agent.transport.relay_dial import RelayTls
from warren_agent.transport.relay_map import regions_of
from warren_agent.transport.relay_pool import RelayPool
from warren_agent.transport.relayed import RelayedTraffic
from warren_agent.transport.spoofing import SpoofingSocket
from warren_agent.transport.surveyor import Surveyor
from warren_agent.transport.tunnel_sockets import TsmpSockets
from warren_agent.transport.wireguard_watch import WireGuardWatch
from warren_wire import stun
from warren_wire.addresses import AddrPort
from warren_wire.control.messages import DERPMap, DERPRegion
from warren_wire.derp.client import ClientEvent
from warren_wire.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic
from warren_wire.tsmp import DiscoAdvert, Rejected, TsmpMessage, TsmpPing, TsmpPong

__all__ = [
    "LocalState",
    "NetcheckReport",
    "PathChange",
    "PathEngine",
    "PathKind",
    "PathPeer",
    "PathStatus",
    "PingResult",
]

logger = logging.getLogger(__name__)


class PathEngine:
    """Keeps every peer's WireGuard endpoint on the best path that is proven to work."""

    def __init__(
        self,
        *,
        node: NodePrivate,
        disco: DiscoPrivate,
        listen_port: int,
        mark: int,
        wireguard: WireGuard,
        ssl_context: ssl.SSLContext,
        on_local_change: Callable[[LocalState], None],
        interface: str = "",
        one_family: bool = True,
        home_may_move: Callable[[], bool] = lambda: True,
        port_mapping: frozenset[MappingProtocol] = ALL_PROTOCOLS,
    ) -> None:
        """`mark` goes on every socket so that no packet of ours enters the tunnel.

        `interface` is WireGuard's own, whose addresses are never offered. `one_family` must stay true with
        userspace WireGuard: it sends to wrong addresses when peers of both families are in use.
        `home_may_move` says whether peers would learn of another home relay.
        """
        self._node = node
        self._disco = disco
        self._port = listen_port
        self._mark = mark
        self._wireguard = wireguard
        self._tls = RelayTls(ssl_context)
        self._interface = interface
        self._home_may_move = home_may_move
        self._families = FamilyChoice(one_family)
        self._machine = PathMachine(
            node=node.public, disco=disco, randomness=os.urandom, families=self._families.families
        )
        self._addresses = LoopbackAddresses()
        self._peers: dict[NodePublic, PathPeer] = {}
        self._records: dict[NodePublic, PeerRecord] = {}
        self.transport_counters = TransportCounters()
        self._relayed = RelayedTraffic(
            machine=self._machine,
            addresses=self._addresses,
            peers=lambda: self._peers,
            records=self._records,
            counters=self.transport_counters,
        )
        self._port_mapping = PortMapping(
            node=node,
            listen_port=listen_port,
            mark=mark,
            protocols=port_mapping,
            counters=self.transport_counters,
            on_change=self._on_port_mapping,
        )
        self._own = OwnState(
            listen_port=listen_port,
            mapping=self._port_mapping,
            on_change=on_local_change,
        )
        self._has_relay_map = False
        self._regions: dict[int, DERPRegion] = {}
        self._scores: Mapping[int, float] = {}
        self._home = 0
        self._pings = Pings(self._machine, self._pump)
        self._adverts = DiscoAdverts()
        self._by_address: dict[IPAddress, NodePublic] = {}
        self._loopback_port = loopback_ports(listen_port)[0]
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._running: _Running | None = None

    # For the program

    @property
    def path_counters(self) -> PathCounters:
        return self._machine.counters

    def set_relay_map(self, derp_map: DERPMap) -> None:
        """Take a new relay map; connections to regions that did not change stay."""
        first = not self._has_relay_map
        self._has_relay_map = True
        regions = regions_of(derp_map)
        scores = dict((derp_map.home_params and derp_map.home_params.region_score) or {})
        changed = first or (regions, scores) != (self._regions, self._scores)
        self._regions, self._scores = regions, scores
        if changed and self._running is not None:
            self._running.pool.set_regions(self._regions)
            self._running.surveyor.set_regions(self._regions, self._scores)

    def set_peers(self, peers: Mapping[NodePublic, PathPeer]) -> None:
        """Take all peers; what is known about those that stay is kept. May be called before `run`."""
        first = not self._peers and bool(peers)
        new = any(key not in self._peers for key in peers)
        self._peers = self._adverts.applied(peers)
        self._by_address = {address: key for key, peer in peers.items() for address in peer.addresses}
        keys = set(self._peers)
        self._addresses.keep_only(keys)
        self._relayed.routes.keep_only(keys)
        for key in [key for key in self._records if key not in keys]:
            del self._records[key]
            if self._running is not None:
                self._running.writer.forget(key)
                self._running.wireguard.forget(key)
        for key in keys:
            self._addresses.of(key)
            self._records.setdefault(key, PeerRecord())
        self._machine.set_peers(self._peers, time.monotonic())
        if self._running is not None:
            if first:
                self._running.surveyor.request()
            if new:
                # WireGuard may have them already, with a path to adopt before a relayed packet displaces it.
                self._running.wireguard.look()
            self._pump()

    def loopback_endpoint(self, peer: NodePublic) -> AddrPort:
        """The endpoint that a new WireGuard peer gets; stable, callable for any key and before `run`."""
        return AddrPort(self._addresses.of(peer), self._loopback_port)

    def set_known_home(self, region: int) -> None:
        """The home region that peers were told before this start; kept until another one is measured."""
        if self._running is None:
            self._home = self._home or region

    def home_relay(self) -> int:
        """The home region, 0 before one is chosen."""
        return self._home

    def local_state(self) -> LocalState | None:
        """What was last given to `on_local_change`."""
        return self._own.state

    def port_mapping(self) -> dict[str, Any]:
        """What the home router was asked for and gave, for people."""
        return self._port_mapping.document()

    def problems(self) -> tuple[str, ...]:
        """What keeps this node from working as it should, for people."""
        if self._running is None:
            return ("the path engine is not running",)
        errors = self._running.pool.errors()
        return tuple(f"relay {region}: {text}" for region, text in sorted(errors.items()))

    def status(self) -> Mapping[NodePublic, PathStatus]:
        """Every peer's path now."""
        return {path.key: self._status_of(path.key) for path in self._machine}

    def carried(self) -> Mapping[tuple[str, str], int]:
        """Bytes of WireGuard so far, by path and direction."""
        watch = self._running.wireguard if self._running is not None else None
        return {
            ("direct", "received"): watch.direct_received.total if watch is not None else 0,
            ("direct", "sent"): watch.direct_sent.total if watch is not None else 0,
            ("relay", "received"): self._relayed.bytes_received,
            ("relay", "sent"): self._relayed.bytes_sent,
        }

    def _status_of(self, key: NodePublic) -> PathStatus:
        path = self._machine.peer(key)
        assert path is not None
        record = self._records[key]
        region = self._relayed.region_for(key)
        return PathStatus(
            path=path.kind,
            endpoint=path.endpoint,
            relay=region or None,
            since=record.since,
            latency_seconds=path.latency_seconds,
            relay_rx_packets=record.relay_rx_packets,
            relay_tx_packets=record.relay_tx_packets,
            history=tuple(record.history),
        )

    async def ping(
        self, peer: NodePublic, kind: PingKind = PingKind.DISCO, timeout_seconds: float = 5.0
    ) -> PingResult:
        """Ask a peer for an answer. Raises `KeyError` for one that cannot be asked that way."""
        if kind is PingKind.DISCO:
            return await self._pings.disco(peer, timeout_seconds)
        known = self._peers.get(peer)
        if known is None or not known.addresses or self._running is None:
            raise KeyError(f"no peer {peer.short()}")
        if kind is PingKind.TSMP:
            latency = await self._pings.tsmp(self._running.tsmp, known.addresses[0], timeout_seconds)
        else:
            latency = await self._pings.icmp(known.addresses[0], timeout_seconds)
        if peer not in self._machine:
            return NO_ANSWER
        return by_path(self._status_of(peer), latency)

    async def netcheck(self) -> NetcheckReport:
        """Look at the network now and wait for the report."""
        if self._running is None:
            raise RuntimeError("the path engine is not running")
        return await self._running.surveyor.fresh_report()

    async def release(self) -> None:
        """This node leaves the host: give back what it holds elsewhere, which is a port mapping."""
        await self._port_mapping.release()

    async def run(self) -> None:
        """Serve until cancelled. Leaves WireGuard's endpoints as they are, so that traffic goes on."""
        with contextlib.ExitStack() as stack:
            running = self._running = self._open(stack)
            stack.callback(self._stopped)
            await running.addresses.read()
            self._machine.set_families(self._families.have(running.addresses.current), time.monotonic())
            running.pool.set_regions(self._regions)
            if self._has_relay_map:
                running.surveyor.set_regions(self._regions, self._scores)
            self._pump()
            async with asyncio.TaskGroup() as group:
                group.create_task(running.pool.run(), name="relays")
                group.create_task(running.surveyor.run(self._is_active), name="netcheck")
                group.create_task(running.writer.run(), name="endpoints")
                group.create_task(running.wireguard.run(), name="wireguard-poll")
                group.create_task(running.addresses.run(), name="addresses")
                group.create_task(self._port_mapping.run(), name="port-mapping")

    # Sockets and tasks

    def _open(self, stack: contextlib.ExitStack) -> _Running:
        counters = self.transport_counters
        raw = RawUdp(port=self._port, mark=self._mark, ipv6=True, counters=counters, on_message=self._on_raw)
        stack.callback(raw.close)
        loopback = LoopbackSocket(wireguard_port=self._port, counters=counters, on_packets=self._on_loopback)
        stack.callback(loopback.close)
        self._loopback_port = loopback.port
        spoofing = SpoofingSocket(wireguard_port=self._port, mark=self._mark, counters=counters)
        stack.callback(spoofing.close)
        pool = RelayPool(
            node=self._node,
            tls=self._tls,
            mark=self._mark,
            ipv6=True,
            counters=counters,
            on_events=self._on_relay_events,
            on_state=self._on_relay_state,
        )
        surveyor = Surveyor(
            node=self._node.public,
            tls=self._tls,
            mark=self._mark,
            ipv6=raw.has_ipv6,
            counters=counters,
            send=raw.send,
            heard_at=pool.heard_at,
            home_may_move=self._home_may_move,
            known_home=self._home,
            on_report=self._on_report,
        )
        writer = EndpointWriter(self._wireguard, counters)
        wireguard = WireGuardWatch(
            wireguard=self._wireguard,
            machine=self._machine,
            writer=writer,
            loopback_endpoint=self.loopback_endpoint,
            relayed=self._records.__getitem__,
            on_handshake=self._advertise,
            on_new=lambda key: self._relayed.repeat_early(key, loopback),
            done=self._pump,
        )
        tsmp = TsmpSockets(self._interface, self._on_tsmp, self._on_strange_tsmp)
        stack.callback(tsmp.close)
        addresses = AddressWatch(self._interface, self._network_changed)
        return _Running(raw, loopback, spoofing, pool, surveyor, writer, wireguard, addresses, tsmp)

    def _stopped(self) -> None:
        self._running = None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._armed_for = None

    async def _network_changed(self, lost: frozenset[IPAddress]) -> None:
        assert self._running is not None
        logger.info("local addresses changed")
        self._running.raw.addresses_changed()
        self._running.spoofing.addresses_changed()
        self._own.network_changed()
        now = time.monotonic()
        self._machine.set_families(self._families.have(self._running.addresses.current), now)
        self._machine.network_changed(lost, now)
        self._port_mapping.network_changed()
        self._pump()
        self._running.surveyor.network_changed()
        await self._running.pool.probe()

    def _on_port_mapping(self) -> None:
        if self._running is not None and self._own.state is not None:
            self._list_endpoints(self._running, self._running.surveyor.last)

    # What comes in

    def _on_raw(self, data: bytes, source: AddrPort, local: IPAddress) -> None:
        if stun.looks_like_stun(data):
            assert self._running is not None
            self._running.surveyor.receive_stun(data)
            return
        self._machine.receive_datagram(data, source, local, time.monotonic())
        self._pump()

    def _on_loopback(self, address: bytes, datagrams: list[memoryview]) -> None:
        if self._running is not None:
            self._relayed.from_wireguard(address, datagrams, self._running.pool)
            self._running.wireguard.stir()
            self._pump()

    def _on_relay_events(self, region: int, events: Sequence[ClientEvent]) -> None:
        if self._running is not None:
            self._relayed.from_relay(region, events, self._running.loopback, self._running.spoofing)
            self._running.wireguard.stir()
            self._pump()

    def _on_tsmp(self, message: TsmpMessage, source: IPAddress) -> None:
        """A signal from inside the tunnel, where WireGuard vouches for the source."""
        key = self._by_address.get(source)
        if key is None or self._running is None:
            self._on_strange_tsmp()
            return
        self.transport_counters.tsmp_received += 1
        match message:
            case TsmpPing(data):
                self._running.tsmp.send(TsmpPong(data), source)
            case TsmpPong():
                self._pings.tsmp_answered(message)
            case DiscoAdvert(disco):
                self._take_advert(key, disco)
            case Rejected():
                self.transport_counters.tsmp_rejections += 1

    def _on_strange_tsmp(self) -> None:
        self.transport_counters.tsmp_unexpected += 1

    def _take_advert(self, key: NodePublic, disco: DiscoPublic) -> None:
        if self._adverts.heard(key, self._peers[key].disco, disco):
            self._peers = self._adverts.applied(self._peers)
            self._machine.set_peers(self._peers, time.monotonic())
            self._pump()

    def _advertise(self, key: NodePublic) -> None:
        """A new session: tell our disco key inside it, as stock peers do; the map may be late or cut off."""
        peer = self._peers.get(key)
        if peer is not None and peer.addresses and self._running is not None:
            self._running.tsmp.send(DiscoAdvert(self._disco.public), peer.addresses[0])

    def _on_relay_state(self, region: int, connected: bool) -> None:
        if connected:
            self._relayed.routes.connected(region)
            return
        self._relayed.routes.disconnected(region)
        # A broken connection is often the first sign of another network.
        if region == self._home and self._running is not None:
            self._running.surveyor.request()

    def _on_report(self, report: NetcheckReport) -> None:
        assert self._running is not None
        self._home = report.home
        self._running.pool.set_home(report.home)
        self._machine.set_families(self._families.measured(report), time.monotonic())
        self._list_endpoints(self._running, report)

    def _list_endpoints(self, running: _Running, report: NetcheckReport) -> None:
        endpoints = self._own.update(report, running.addresses.current, self._families.families)
        self._machine.set_own_endpoints(endpoints, time.monotonic())
        self._pump()

    # What goes out

    def _pump(self) -> None:
        """The only place that carries out what the machine asks for, and re-arms the one timer."""
        if self._running is None:
            return
        for action in self._machine.actions():
            self._perform(self._running, action)
        for event in self._machine.events():
            match event:
                case PathChanged():
                    self._on_path_changed(event)
                case PingAnswered():
                    self._pings.answered(event)
                case _:
                    assert_never(event)
        deadline = self._machine.next_timeout()
        if deadline != self._armed_for:
            self._rearm(deadline)

    def _rearm(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = None
        if deadline is not None:
            delay = max(0.0, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = self._armed_for = None
        self._machine.handle_timeout(time.monotonic())
        self._pump()

    def _perform(self, running: _Running, action: Action) -> None:
        match action:
            case SendDatagram(data, destination, source):
                running.raw.send(data, destination, source)
            case SendRelayed(peer, data, region):
                self._relayed.send(peer, [data], region or 0, running.pool)
            case SetEndpoint(peer, endpoint):
                running.writer.write(peer, endpoint or self.loopback_endpoint(peer))
            case RefreshEndpoints():
                running.surveyor.request()
            case _:
                assert_never(action)

    def _on_path_changed(self, event: PathChanged) -> None:
        record = self._records.get(event.peer)
        if record is None:
            return
        record.changed(event)
        peer = self._peers[event.peer]
        logger.info(
            "path changed",
            extra={
                "peer": peer.name or event.peer.short(),
                "path": event.path.value,
                "endpoint": str(event.endpoint) if event.endpoint is not None else "",
                "reason": event.reason,
            },
        )

    def _is_active(self) -> bool:
        return self._machine.is_active(time.monotonic())


@dataclass(frozen=True, slots=True)
class _Running:
    """What exists only while the engine runs."""

    raw: RawUdp
    loopback: LoopbackSocket
    spoofing: SpoofingSocket
    pool: RelayPool
    surveyor: Surveyor
    writer: EndpointWriter
    wireguard: WireGuardWatch
    addresses: AddressWatch
    tsmp: TsmpSockets
