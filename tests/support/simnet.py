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
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

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
    """How a host's router translates. Unless said otherwise filters are by address and port."""

    NONE = "none"
    CONE = "cone"
    """One port for all destinations, and everybody may answer to it."""
    EASY_AF = "easy-af"
    """One port for all, and whoever was sent to may answer from any port."""
    EASY = "easy"
    HARD = "hard"
    """A port for each destination."""


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
        if not self.udp:
            return False
        if self.kind in (Nat.CONE, Nat.EASY_AF):
            return any(
                until > now and own == port and (self.kind is Nat.CONE or there.ip == source.ip)
                for (own, there), until in self._open.items()
            )
        return self._open.get((port, source), 0.0) > now

    def move(self, inside: AddrPort) -> None:
        """The host inside has another address; the old one's mapping is of no use to it."""
        self._inside = inside
        self.reboot()

    def reboot(self) -> None:
        """Forget every mapping; new ones get other ports."""
        self._open.clear()
        self._ports.clear()
        if self.kind is not Nat.HARD:
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
    watched: bool = False
    armed: float | None = None
    """The machine's deadline that stands in the queue."""

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
        self.jitter = 0.0
        """How much longer than usual a datagram may take; one that was sent later may come first."""
        self.relay_up = True
        self.datagrams = 0
        self.hosts: list[Host] = []
        self._by_key: dict[NodePublic, Host] = {}
        self._by_address: dict[IPv4Address | IPv6Address, Host] = {}
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
        self._by_key[host.key] = host
        self._by_address[router.wan if router is not None else address.ip] = host
        self._watch(host)
        return host

    def _watch(self, host: Host) -> None:
        """Look at the host's WireGuard as long as something changes there."""
        if not host.watched:
            host.watched = True
            self.at(POLL_SECONDS, lambda: self._poll(host))

    def restart(self, host: Host, *, new_disco_key: bool = False) -> None:
        """End an agent and start it again; its WireGuard goes on meanwhile."""
        self.renew(host, new_disco_key=new_disco_key)
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
            self.tell(host, [other for other in self.hosts if other is not host], endpoints=endpoints)

    def tell(self, host: Host, others: Iterable[Host], *, endpoints: bool = True) -> None:
        """One host gets a network map with these peers, and measures its own endpoints."""
        host.machine.set_own_endpoints(host.endpoints(), self.now)
        peers = {
            other.key: PathPeer(
                other.disco.public, other.endpoints() if endpoints else (), RELAY_REGION, name=other.name
            )
            for other in others
        }
        host.machine.set_peers(peers, self.now)
        host.peers = {key: host.peers.get(key) or Peer() for key in peers}
        self._pump(host)

    def renew(self, host: Host, *, new_disco_key: bool = False) -> None:
        """End an agent and start it again, without telling anybody; it knows nobody yet."""
        if new_disco_key:
            host.disco = DiscoPrivate.from_seed(self._rng.randbytes(32))
        host.machine = self._machine(host.node, host.disco)
        host.armed = None
        for peer in host.peers.values():
            peer.polled = None
        self._watch(host)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._sequence), action))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        for host in self.hosts:
            # A test may have spoken to a machine itself.
            self._pump(host)
        while self._queue and self._queue[0][0] <= end:
            self.now = max(self.now, self._queue[0][0])
            heapq.heappop(self._queue)[2]()
        self.now = end

    def _arm(self, host: Host) -> None:
        """Put the machine's next deadline into the queue; one that changed meanwhile does nothing."""
        deadline = host.machine.next_timeout()
        if deadline == host.armed:
            return
        host.armed = deadline
        if deadline is None:
            return

        def due() -> None:
            if host.armed == deadline:
                host.armed = None
                host.machine.handle_timeout(self.now)
                self._pump(host)

        heapq.heappush(self._queue, (deadline, next(self._sequence), due))

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
        self._watch(host)
        peer = host.peers.get(other.key)
        if peer is None:
            return
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
            delay = self._latency + self._rng.random() * self.jitter
            self.at(delay, lambda: self._arrive(data, source, destination))

    def _arrive(self, data: bytes, source: AddrPort, destination: AddrPort) -> None:
        host = self._by_address.get(destination.ip)
        if host is None:
            return
        if host.router is None:
            reached = host.address == destination
        else:
            reached = host.router.incoming(destination.port, source, self.now)
        if reached:
            self._receive(host, data, source)

    def _receive(self, host: Host, data: bytes, source: AddrPort) -> None:
        if looks_like_disco(data):
            host.machine.receive_datagram(data, source, host.address.ip, self.now)
        else:
            sender = self._sender_of(source)
            if sender is not None and sender.key in host.peers:
                host.peers[sender.key].endpoint = source
                self._deliver(host, sender, data)
        self._pump(host)

    def _sender_of(self, source: AddrPort) -> Host | None:
        return self._by_address.get(source.ip)

    def _relay(self, host: Host, key: NodePublic, data: bytes) -> None:
        if not self.relay_up:
            return
        other = self._by_key.get(key)
        if other is not None:
            self.at(self._relay_latency, lambda: self._relayed(other, host, data))

    def _relayed(self, host: Host, sender: Host, data: bytes) -> None:
        if looks_like_disco(data):
            host.machine.receive_relayed(RELAY_REGION, sender.key, data, self.now)
        else:
            peer = host.peers.get(sender.key)
            if peer is None:
                return
            peer.relayed_in += 1
            host.machine.relayed(sender.key, self.now)
            path = host.machine.peer(sender.key)
            # Injected with the source that the machine wants, so WireGuard follows the machine.
            peer.endpoint = path.wanted() if path is not None else None
            self._deliver(host, sender, data)
        self._pump(host)

    def _deliver(self, host: Host, sender: Host, data: bytes) -> None:
        self._watch(host)
        host.peers[sender.key].rx_bytes += DATA_BYTES
        host.received.append(self.now)
        if data == b"request":
            self.send(host, sender, b"answer")

    def _poll(self, host: Host) -> None:
        for key, peer in host.peers.items():
            path = host.machine.peer(key)
            if path is None:
                continue
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
        host.watched = False
        if host.machine.is_active(self.now):
            self._watch(host)

    def _pump(self, host: Host) -> None:
        for action in host.machine.actions():
            match action:
                case SendDatagram(data, destination, _):
                    self._datagram(host, data, destination)
                case SendRelayed(peer, data, _):
                    self._relay(host, peer, data)
                case SetEndpoint(peer, endpoint):
                    if peer in host.peers:
                        host.peers[peer].endpoint = endpoint
                case RefreshEndpoints():
                    self.at(0.05, lambda: self._refreshed(host))
        for event in host.machine.events():
            match event:
                case PathChanged():
                    host.changes.append((self.now, event))
                case PingAnswered():
                    host.answers.append(event)
        self._arm(host)

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
