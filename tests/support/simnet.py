"""A small internet in memory for path machines: hosts, NATs, loss, a relay, and a virtual clock.

Each host has a stand-in for WireGuard that sends to the endpoint it was given, follows authenticated
packets to their source as the real ones do, and counts bytes.

    home -- NAT --+            +-- NAT -- office
                  +- internet -+
                       relay
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address

from warren_agent.paths.actions import (
    PathChanged,
    PingAnswered,
    RefreshEndpoints,
    SendDatagram,
    SendRelayed,
    SetEndpoint,
)
from warren_agent.paths.families import IPV4
from warren_agent.paths.machine import PathMachine
from warren_agent.paths.traffic import Counts, between
from warren_agent.paths.values import PathKind, PathPeer
from warren_wire.addresses import AddrPort
from warren_wire.disco import looks_like_disco
from warren_wire.keys import DiscoPrivate, NodePrivate, NodePublic

PORT = 41641
RELAY_REGION = 900
MAPPING_SECONDS = 120.0
POLL_SECONDS = 0.5
DATA_BYTES = 128


class Nat(Enum):
    """How a host's router translates; filters are always by address and port."""

    NONE = "none"
    EASY = "easy"
    HARD = "hard"


class Router:
    """One NAT with one host behind it."""

    def __init__(self, kind: Nat, wan: IPv4Address, inside: AddrPort, rng: random.Random) -> None:
        self.kind = kind
        self.wan = wan
        self.udp = True
        self._inside = inside
        self._rng = rng
        self._ports: dict[AddrPort | None, int] = {}
        self._open: dict[tuple[int, AddrPort], float] = {}

    def outgoing(self, destination: AddrPort, now: float) -> AddrPort | None:
        """The public source of a datagram; None if it does not pass."""
        if not self.udp:
            return None
        key = destination if self.kind is Nat.HARD else None
        fallback = self._rng.randint(20000, 60000) if self.kind is Nat.HARD else self._inside.port
        port = self._ports.setdefault(key, fallback)
        self._open[port, destination] = now + MAPPING_SECONDS
        return AddrPort(self.wan, port)

    def incoming(self, port: int, source: AddrPort, now: float) -> bool:
        return self.udp and self._open.get((port, source), 0.0) > now

    def move(self, inside: AddrPort) -> None:
        """The host inside has another address; the old one's mapping is of no use to it."""
        self._inside = inside
        self.reboot()

    def reboot(self) -> None:
        """Forget every mapping; new ones get other ports."""
        self._open.clear()
        self._ports.clear()
        if self.kind is Nat.EASY:
            self._ports[None] = self._rng.randint(20000, 60000)

    def public(self) -> AddrPort:
        """What STUN would say."""
        return AddrPort(self.wan, self._ports.get(None, self._inside.port))


@dataclass(slots=True)
class Peer:
    """WireGuard's side of one peer."""

    endpoint: AddrPort | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    relayed_in: int = 0
    polled: Counts | None = None


@dataclass(slots=True)
class Host:
    """One node."""

    name: str
    machine: PathMachine
    node: NodePrivate
    disco: DiscoPrivate
    address: AddrPort
    router: Router | None
    peers: dict[NodePublic, Peer] = field(default_factory=dict)
    changes: list[tuple[float, PathChanged]] = field(default_factory=list)
    answers: list[PingAnswered] = field(default_factory=list)
    received: list[float] = field(default_factory=list)

    @property
    def key(self) -> NodePublic:
        return self.node.public

    def endpoints(self) -> tuple[AddrPort, ...]:
        public = (self.router.public(),) if self.router is not None else ()
        return (*public, self.address)

    def path_to(self, other: Host) -> PathKind:
        path = self.machine.peer(other.key)
        assert path is not None
        return path.kind


class SimNet:
    """The network and its clock. `loss` is the chance of each datagram, in each direction."""

    def __init__(self, seed: int = 1, *, latency: float = 0.01, relay_latency: float = 0.02) -> None:
        self.now = 1000.0
        self.loss = 0.0
        self.relay_up = True
        self.datagrams = 0
        self.hosts: list[Host] = []
        self._rng = random.Random(seed)
        self._latency = latency
        self._relay_latency = relay_latency
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()

    def host(self, name: str, nat: Nat = Nat.EASY) -> Host:
        index = len(self.hosts) + 1
        node = NodePrivate.from_seed(self._rng.randbytes(32))
        disco = DiscoPrivate.from_seed(self._rng.randbytes(32))
        machine = self._machine(node, disco)
        if nat is Nat.NONE:
            router, address = None, AddrPort(IPv4Address(f"198.51.100.{index}"), PORT)
        else:
            address = AddrPort(IPv4Address(f"192.168.{index}.2"), PORT)
            router = Router(nat, IPv4Address(f"203.0.113.{index}"), address, self._rng)
        host = Host(name, machine, node, disco, address, router)
        self.hosts.append(host)
        self.at(POLL_SECONDS, lambda: self._poll(host))
        return host

    def restart(self, host: Host, *, new_disco_key: bool = False) -> None:
        """End an agent and start it again; its WireGuard goes on meanwhile."""
        if new_disco_key:
            host.disco = DiscoPrivate.from_seed(self._rng.randbytes(32))
        host.machine = self._machine(host.node, host.disco)
        for peer in host.peers.values():
            peer.polled = None
        self.introduce()

    def _machine(self, node: NodePrivate, disco: DiscoPrivate) -> PathMachine:
        return PathMachine(node=node.public, disco=disco, randomness=self._rng.randbytes, families=IPV4)

    def readdress(self, host: Host, address: IPv4Address) -> None:
        """A host gets another address in its LAN, and with it another public port."""
        old, host.address = host.address, AddrPort(address, PORT)
        if host.router is not None:
            host.router.move(host.address)
        host.machine.network_changed([old.ip], self.now)
        self._pump(host)

    def introduce(self, *, endpoints: bool = True) -> None:
        """Everybody hears of everybody, as from a network map."""
        for host in self.hosts:
            host.machine.set_own_endpoints(host.endpoints(), self.now)
            peers = {
                other.key: PathPeer(
                    other.disco.public, other.endpoints() if endpoints else (), RELAY_REGION, name=other.name
                )
                for other in self.hosts
                if other is not host
            }
            host.machine.set_peers(peers, self.now)
            for key in peers:
                host.peers.setdefault(key, Peer())
            self._pump(host)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._sequence), action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            event = self._queue[0][0] if self._queue else math.inf
            timers = [host.machine.next_timeout() for host in self.hosts]
            timer = min((t for t in timers if t is not None), default=math.inf)
            if min(event, timer) > end:
                self.now = end
                return
            if timer < event:
                self.now = max(self.now, timer)
                for host in self.hosts:
                    host.machine.handle_timeout(self.now)
                    self._pump(host)
            else:
                self.now = event
                heapq.heappop(self._queue)[2]()

    def run_until(self, condition: Callable[[], bool], within: float) -> float:
        """Let time pass until `condition`; the seconds it took. AssertionError if it takes longer."""
        began = self.now
        while not condition():
            assert self.now - began < within, f"not within {within} s"
            self.run(0.01)
        return self.now - began

    def talk(self, one: Host, other: Host, *, every: float = 0.1) -> Callable[[], None]:
        """Requests from `one`, each answered by `other`; call what is returned to stop."""
        running = True

        def request() -> None:
            if running:
                self.send(one, other, b"request")
                self.at(every, request)

        def stop() -> None:
            nonlocal running
            running = False

        request()
        return stop

    def send(self, host: Host, other: Host, data: bytes) -> None:
        """One packet through the tunnel."""
        peer = host.peers[other.key]
        peer.tx_bytes += DATA_BYTES
        if peer.endpoint is None:
            host.machine.activity(other.key, self.now)
            self._relay(host, other.key, data)
            self._pump(host)
        else:
            self._datagram(host, data, peer.endpoint)

    # What moves

    def _datagram(self, host: Host, data: bytes, destination: AddrPort) -> None:
        self.datagrams += 1
        source = host.address
        if host.router is not None:
            public = host.router.outgoing(destination, self.now)
            if public is None:
                return
            source = public
        if self._rng.random() >= self.loss:
            self.at(self._latency, lambda: self._arrive(data, source, destination))

    def _arrive(self, data: bytes, source: AddrPort, destination: AddrPort) -> None:
        for host in self.hosts:
            if host.router is None:
                reached = host.address == destination
            else:
                mapped = host.router.wan == destination.ip
                reached = mapped and host.router.incoming(destination.port, source, self.now)
            if reached:
                self._receive(host, data, source)

    def _receive(self, host: Host, data: bytes, source: AddrPort) -> None:
        if looks_like_disco(data):
            host.machine.receive_datagram(data, source, host.address.ip, self.now)
        else:
            sender = self._sender_of(source)
            if sender is not None:
                host.peers[sender.key].endpoint = source
                self._deliver(host, sender, data)
        self._pump(host)

    def _sender_of(self, source: AddrPort) -> Host | None:
        for host in self.hosts:
            own = host.router.wan if host.router is not None else host.address.ip
            if own == source.ip:
                return host
        return None

    def _relay(self, host: Host, key: NodePublic, data: bytes) -> None:
        if not self.relay_up:
            return
        for other in self.hosts:
            if other.key == key:
                self.at(self._relay_latency, lambda other=other: self._relayed(other, host, data))  # type: ignore[misc]

    def _relayed(self, host: Host, sender: Host, data: bytes) -> None:
        if looks_like_disco(data):
            host.machine.receive_relayed(RELAY_REGION, sender.key, data, self.now)
        else:
            peer = host.peers[sender.key]
            peer.relayed_in += 1
            host.machine.relayed(sender.key, self.now)
            path = host.machine.peer(sender.key)
            # Injected with the source that the machine wants, so WireGuard follows the machine.
            peer.endpoint = path.wanted() if path is not None else None
            self._deliver(host, sender, data)
        self._pump(host)

    def _deliver(self, host: Host, sender: Host, data: bytes) -> None:
        host.peers[sender.key].rx_bytes += DATA_BYTES
        host.received.append(self.now)
        if data == b"request":
            self.send(host, sender, b"answer")

    def _poll(self, host: Host) -> None:
        for key, peer in host.peers.items():
            path = host.machine.peer(key)
            assert path is not None
            new = Counts(peer.rx_bytes, peer.tx_bytes, peer.relayed_in)
            if peer.polled is None:
                if peer.endpoint is not None:
                    host.machine.adopt(key, peer.endpoint, self.now)
            else:
                traffic = between(peer.polled, new)
                if traffic.active:
                    host.machine.activity(key, self.now)
                if traffic.heard_directly and peer.endpoint == path.wanted():
                    host.machine.heard(key, self.now)
                elif traffic.silent:
                    host.machine.silent(key, self.now)
                host.machine.observe_endpoint(key, peer.endpoint, self.now)
            peer.polled = new
        self._pump(host)
        self.at(POLL_SECONDS, lambda: self._poll(host))

    def _pump(self, host: Host) -> None:
        for action in host.machine.actions():
            match action:
                case SendDatagram(data, destination, _):
                    self._datagram(host, data, destination)
                case SendRelayed(peer, data, _):
                    self._relay(host, peer, data)
                case SetEndpoint(peer, endpoint):
                    host.peers[peer].endpoint = endpoint
                case RefreshEndpoints():
                    self.at(0.05, lambda: self._refreshed(host))
        for event in host.machine.events():
            match event:
                case PathChanged():
                    host.changes.append((self.now, event))
                case PingAnswered():
                    host.answers.append(event)

    def _refreshed(self, host: Host) -> None:
        host.machine.set_own_endpoints(host.endpoints(), self.now)
        self._pump(host)


def pair(
    one: Nat = Nat.EASY, other: Nat = Nat.EASY, *, seed: int = 1, latency: float = 0.01
) -> tuple[SimNet, Host, Host]:
    """Two nodes that know each other."""
    net = SimNet(seed, latency=latency)
    home, office = net.host("home", one), net.host("office", other)
    net.introduce()
    return net, home, office
