"""The path engine: every peer's path, and the sockets that carry disco, STUN and relayed packets.

Owns the raw sockets beside WireGuard's port, the loopback socket that stands in for relayed peers, and the
relay connections. Knows a WireGuard device only through `kernel.interfaces.WireGuard`; must not know the
control server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final, assert_never

from warren_agent.kernel.addresses import change_socket, reachable, read_addresses
from warren_agent.kernel.interfaces import PeerStats, WireGuard, WireGuardError
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
from warren_agent.paths.counters import PathCounters, TransportCounters
from warren_agent.paths.loopback_addresses import LoopbackAddresses
from warren_agent.paths.machine import PathMachine
from warren_agent.paths.own_endpoints import OwnEndpoints
from warren_agent.paths.relays import RelayRoutes
from warren_agent.paths.traffic import Counts, between
from warren_agent.paths.values import (
    EndpointType,
    LocalState,
    NetcheckReport,
    PathChange,
    PathKind,
    PathPeer,
    PathStatus,
    PingResult,
)
from warren_agent.transport.endpoints import EndpointWriter
from warren_agent.transport.loopback import LoopbackSocket, SpoofingSocket, loopback_ports
from warren_agent.transport.port_mapping import PortMapping
from warren_agent.transport.raw_udp import RawUdp
from warren_agent.transport.records import PeerRecord
from warren_agent.transport.relay_dial import RelayTls
from warren_agent.transport.relay_map import regions_of
from warren_agent.transport.relay_pool import RelayPool
from warren_agent.transport.surveyor import Surveyor
from warren_wire import disco as disco_wire
from warren_wire import stun
from warren_wire.addresses import AddrPort
from warren_wire.control.messages import DERPMap, DERPRegion, NetInfo
from warren_wire.derp.client import ClientEvent, PacketReceived, PeerGone
from warren_wire.keys import DiscoPrivate, NodePrivate, NodePublic

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

POLL_SECONDS: Final = 1.0
BUSY_POLL_SECONDS: Final = 0.5
"""While packets flow: how soon silence on a direct path is noticed."""

BUSY_POLL_MAX_PEERS: Final = 300
"""A dump of many peers twice a second would cost more than it gives."""

KEEPALIVE_BYTES: Final = 32
ADDRESS_SETTLE_SECONDS: Final = 0.3
ADDRESS_POLL_SECONDS: Final = 30.0
DIRECT_PREFERENCE_SECONDS: Final = 0.25


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
        ipv4_only: bool = True,
    ) -> None:
        """`mark` goes on every socket so that no packet of ours enters the tunnel.

        `interface` is WireGuard's own, whose addresses are never offered. `ipv4_only` must stay true with
        userspace WireGuard: it sends to wrong addresses when peers of both families are in use.
        """
        self._node = node
        self._port = listen_port
        self._mark = mark
        self._wireguard = wireguard
        self._tls = RelayTls(ssl_context)
        self._on_local_change = on_local_change
        self._interface = interface
        self._ipv6 = not ipv4_only
        self._machine = PathMachine(node=node.public, disco=disco, randomness=os.urandom, ipv4_only=ipv4_only)
        self._addresses = LoopbackAddresses()
        self._routes = RelayRoutes()
        self._own_endpoints = OwnEndpoints(listen_port, ipv4_only)
        self._port_mapping = PortMapping(
            node=node, listen_port=listen_port, mark=mark, on_change=self._on_port_mapping
        )
        self._peers: dict[NodePublic, PathPeer] = {}
        self._records: dict[NodePublic, PeerRecord] = {}
        self._counts: dict[NodePublic, Counts] = {}
        self._has_relay_map = False
        self._regions: dict[int, DERPRegion] = {}
        self._scores: Mapping[int, float] = {}
        self._home = 0
        self._local: tuple[IPAddress, ...] = ()
        self._local_state: LocalState | None = None
        self._pings: dict[int, asyncio.Queue[PingAnswered]] = {}
        self._loopback_port = loopback_ports(listen_port)[0]
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self.transport_counters = TransportCounters()
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
        self._peers = dict(peers)
        keys = set(self._peers)
        self._addresses.keep_only(keys)
        self._routes.keep_only(keys)
        for key in [key for key in self._records if key not in keys]:
            del self._records[key]
            self._counts.pop(key, None)
            if self._running is not None:
                self._running.writer.forget(key)
        for key in keys:
            self._addresses.of(key)
            self._records.setdefault(key, PeerRecord())
        self._machine.set_peers(self._peers, time.monotonic())
        if self._running is not None:
            if first:
                self._running.surveyor.request()
            if new:
                # WireGuard may have them already, with a path to adopt before a relayed packet displaces it.
                self._running.look.set()
            self._pump()

    def loopback_endpoint(self, peer: NodePublic) -> AddrPort:
        """The endpoint that a new WireGuard peer gets; stable, callable for any key and before `run`."""
        return AddrPort(self._addresses.of(peer), self._loopback_port)

    def home_relay(self) -> int:
        """The home region, 0 before one is chosen."""
        return self._home

    def local_state(self) -> LocalState | None:
        """What was last given to `on_local_change`."""
        return self._local_state

    def problems(self) -> tuple[str, ...]:
        """What keeps this node from working as it should, for people."""
        if self._running is None:
            return ("the path engine is not running",)
        errors = self._running.pool.errors()
        return tuple(f"relay {region}: {text}" for region, text in sorted(errors.items()))

    def status(self) -> Mapping[NodePublic, PathStatus]:
        """Every peer's path now."""
        return {path.key: self._status_of(path.key) for path in self._machine}

    def _status_of(self, key: NodePublic) -> PathStatus:
        path = self._machine.peer(key)
        assert path is not None
        record = self._records[key]
        region = self._region_for(key)
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

    async def ping(self, peer: NodePublic, timeout_seconds: float = 5.0) -> PingResult:
        """Ask a peer for an answer by every path; the direct one wins if both answer about as fast."""
        token = self._machine.ask(peer, time.monotonic())
        if token is None:
            raise KeyError(f"no peer {peer.short()}")
        answers = self._pings[token] = asyncio.Queue(maxsize=64)
        self._pump()
        best: PingAnswered | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                best = await answers.get()
                while best.endpoint is None:
                    async with asyncio.timeout(DIRECT_PREFERENCE_SECONDS):
                        best = await answers.get()
        except TimeoutError:
            pass
        finally:
            del self._pings[token]
        if best is None:
            return PingResult(PathKind.IDLE, None, None, None)
        kind = PathKind.DIRECT if best.endpoint is not None else PathKind.RELAY
        return PingResult(kind, best.endpoint, best.region, best.latency_seconds)

    async def netcheck(self) -> NetcheckReport:
        """Look at the network now and wait for the report."""
        if self._running is None:
            raise RuntimeError("the path engine is not running")
        return await self._running.surveyor.fresh_report()

    async def run(self) -> None:
        """Serve until cancelled. Leaves WireGuard's endpoints as they are, so that traffic goes on."""
        self._local = await asyncio.to_thread(self._read_local)
        with contextlib.ExitStack() as stack:
            running = self._running = self._open(stack)
            stack.callback(self._stopped)
            running.pool.set_regions(self._regions)
            if self._has_relay_map:
                running.surveyor.set_regions(self._regions, self._scores)
            self._pump()
            async with asyncio.TaskGroup() as group:
                group.create_task(running.pool.run(), name="relays")
                group.create_task(running.surveyor.run(self._is_active), name="netcheck")
                group.create_task(running.writer.run(), name="endpoints")
                group.create_task(self._poll_wireguard(running), name="wireguard-poll")
                group.create_task(self._watch_addresses(running), name="addresses")
                group.create_task(self._port_mapping.run(), name="port-mapping")

    # Sockets and tasks

    def _open(self, stack: contextlib.ExitStack) -> _Running:
        counters = self.transport_counters
        raw = RawUdp(
            port=self._port, mark=self._mark, ipv6=self._ipv6, counters=counters, on_message=self._on_raw
        )
        stack.callback(raw.close)
        loopback = LoopbackSocket(wireguard_port=self._port, counters=counters, on_packets=self._on_loopback)
        stack.callback(loopback.close)
        self._loopback_port = loopback.port
        spoofing = SpoofingSocket(wireguard_port=self._port, counters=counters)
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
            ipv6=self._ipv6 and raw.has_ipv6,
            counters=counters,
            send=raw.send,
            heard_at=pool.heard_at,
            on_report=self._on_report,
        )
        writer = EndpointWriter(self._wireguard, counters)
        return _Running(raw, loopback, spoofing, pool, surveyor, writer)

    def _stopped(self) -> None:
        self._running = None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._armed_for = None

    async def _poll_wireguard(self, running: _Running) -> None:
        failing = False
        while True:
            try:
                found = await self._wireguard.peers()
                failing = False
            except WireGuardError as error:
                if not failing:
                    logger.warning("WireGuard cannot be read", extra={"reason": str(error)})
                failing = True
            else:
                now = time.monotonic()
                for key, stats in found.items():
                    if key in self._machine:
                        self._observe(running, key, stats, now)
                self._pump()
            busy = len(self._peers) <= BUSY_POLL_MAX_PEERS and self._is_active()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BUSY_POLL_SECONDS if busy else POLL_SECONDS):
                    await running.look.wait()
            running.look.clear()

    def _observe(self, running: _Running, key: NodePublic, stats: PeerStats, now: float) -> None:
        path = self._machine.peer(key)
        assert path is not None
        new = Counts(stats.rx_bytes, stats.tx_bytes, self._records[key].relay_rx_packets)
        old = self._counts.get(key)
        self._counts[key] = new
        endpoint = stats.endpoint
        stand_in = endpoint is None or endpoint.ip.is_loopback
        if old is None and not stand_in and endpoint is not None:
            self._machine.adopt(key, endpoint, now)
        if old is not None:
            traffic = between(old, new)
            if traffic.active:
                self._machine.activity(key, now)
            if traffic.heard_directly and endpoint == path.wanted():
                self._machine.heard(key, now)
            elif traffic.silent and path.wanted() is not None:
                self._machine.silent(key, now)
        if not running.writer.settled(key, now):
            return
        if stand_in and path.wanted() is None:
            if endpoint != self.loopback_endpoint(key):
                running.writer.write(key, self.loopback_endpoint(key))
            return
        self._machine.observe_endpoint(key, None if stand_in else endpoint, now)

    async def _watch_addresses(self, running: _Running) -> None:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        with change_socket() as sock:

            def readable() -> None:
                with contextlib.suppress(OSError):
                    while sock.recv(65536):
                        pass
                changed.set()

            loop.add_reader(sock.fileno(), readable)
            try:
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(ADDRESS_POLL_SECONDS):
                            await changed.wait()
                    await asyncio.sleep(ADDRESS_SETTLE_SECONDS)
                    changed.clear()
                    found = await asyncio.to_thread(self._read_local)
                    if set(found) != set(self._local):
                        self._local = found
                        await self._network_changed(running)
            finally:
                loop.remove_reader(sock.fileno())

    async def _network_changed(self, running: _Running) -> None:
        logger.info("local addresses changed")
        running.raw.addresses_changed()
        self._own_endpoints.forget_public()
        self._machine.network_changed(time.monotonic())
        self._port_mapping.network_changed()
        self._pump()
        running.surveyor.request()
        await running.pool.probe()

    def _read_local(self) -> tuple[IPAddress, ...]:
        return reachable(read_addresses(), own=self._interface)

    def _on_port_mapping(self) -> None:
        self._own_endpoints.port_mapped = self._port_mapping.external
        if self._running is not None and self._local_state is not None:
            self._list_endpoints(self._running.surveyor.last)

    # What comes in

    def _on_raw(self, data: bytes, source: AddrPort, local: IPAddress) -> None:
        if stun.looks_like_stun(data):
            assert self._running is not None
            self._running.surveyor.receive_stun(data)
            return
        self._machine.receive_datagram(data, source, local, time.monotonic())
        self._pump()

    def _on_loopback(self, address: bytes, datagrams: list[memoryview]) -> None:
        key = self._addresses.key_of(address)
        if key is None or key not in self._machine:
            self.transport_counters.loopback_foreign += len(datagrams)
            return
        self._send_relayed(key, [bytes(datagram) for datagram in datagrams], 0)
        if any(len(datagram) > KEEPALIVE_BYTES for datagram in datagrams):
            self._machine.activity(key, time.monotonic())
        self._pump()

    def _on_relay_events(self, region: int, events: Sequence[ClientEvent]) -> None:
        now = time.monotonic()
        groups: dict[NodePublic, list[bytes]] = {}
        for event in events:
            if isinstance(event, PacketReceived):
                self._on_relayed_packet(region, event, groups, now)
            elif isinstance(event, PeerGone):
                self._routes.gone(event.peer, region)
        for key, packets in groups.items():
            self._records[key].relay_rx_packets += len(packets)
            self._machine.relayed(key, now)
            self._inject(key, packets)
        self._pump()

    def _on_relayed_packet(
        self, region: int, event: PacketReceived, groups: dict[NodePublic, list[bytes]], now: float
    ) -> None:
        key, packet = event
        if key not in self._machine:
            self.transport_counters.relay_unknown_source += 1
            return
        self.transport_counters.relay_received += 1
        self._routes.heard(key, region)
        if disco_wire.looks_like_disco(packet):
            self._machine.receive_relayed(region, key, packet, now)
        else:
            groups.setdefault(key, []).append(packet)

    def _inject(self, key: NodePublic, packets: list[bytes]) -> None:
        path = self._machine.peer(key)
        if path is None or self._running is None:
            return
        wanted = path.wanted()
        if wanted is not None and isinstance(wanted.ip, IPv4Address):
            self._running.spoofing.inject(wanted, packets)
        else:
            self._running.loopback.inject(self._addresses.of(key).packed, packets)

    def _on_relay_state(self, region: int, connected: bool) -> None:
        if connected:
            self._routes.connected(region)
            return
        self._routes.disconnected(region)
        # A broken connection is often the first sign of another network.
        if region == self._home and self._running is not None:
            self._running.surveyor.request()

    def _on_report(self, report: NetcheckReport) -> None:
        assert self._running is not None
        self._home = report.home
        self._running.pool.set_home(report.home)
        self._list_endpoints(report)

    def _list_endpoints(self, report: NetcheckReport) -> None:
        now = time.monotonic()
        listed = self._own_endpoints.update(report, self._local, now)
        self._machine.set_own_endpoints(tuple(endpoint for endpoint, _ in listed), now)
        self._pump()
        self._tell(listed, report)

    def _tell(self, listed: Sequence[tuple[AddrPort, EndpointType]], report: NetcheckReport) -> None:
        state = LocalState(
            endpoints=tuple(endpoint for endpoint, _ in listed),
            endpoint_types=tuple(kind.value for _, kind in listed),
            net_info=net_info(report, self._port_mapping),
        )
        old, self._local_state = self._local_state, state
        if old is None or _told_apart(old) != _told_apart(state):
            logger.info("own endpoints or home relay changed", extra={"relay": report.home})
            self._on_local_change(state)

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
                    queue = self._pings.get(event.token)
                    if queue is not None and not queue.full():
                        queue.put_nowait(event)
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
                self._send_relayed(peer, [data], region or 0)
            case SetEndpoint(peer, endpoint):
                running.writer.write(peer, endpoint or self.loopback_endpoint(peer))
            case RefreshEndpoints():
                running.surveyor.request()
            case _:
                assert_never(action)

    def _send_relayed(self, key: NodePublic, packets: list[bytes], region: int) -> None:
        region = region or self._region_for(key)
        self._records[key].relay_tx_packets += len(packets)
        if self._running is not None:
            self._running.pool.send(region, key, packets)

    def _region_for(self, key: NodePublic) -> int:
        peer = self._peers.get(key)
        return self._routes.region_for(key, peer.home_relay) if peer is not None else 0

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
        now = time.monotonic()
        return any(path.is_active(now) for path in self._machine)


class _Running:
    """What exists only while the engine runs."""

    __slots__ = ("look", "loopback", "pool", "raw", "spoofing", "surveyor", "writer")

    def __init__(
        self,
        raw: RawUdp,
        loopback: LoopbackSocket,
        spoofing: SpoofingSocket,
        pool: RelayPool,
        surveyor: Surveyor,
        writer: EndpointWriter,
    ) -> None:
        self.raw = raw
        self.loopback = loopback
        self.spoofing = spoofing
        self.pool = pool
        self.surveyor = surveyor
        self.writer = writer
        self.look = asyncio.Event()
        """Read WireGuard's peers now."""


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
        pmp=mapping.seen_pmp,
        pcp=mapping.seen_pcp,
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
