"""All peers' paths behind one door: datagrams, relayed disco and time go in, actions and events come out.

Each input method may leave actions and events to be taken with `actions()` and `events()`. Knows no
socket, no relay connection and no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final

from warren_agent.paths.actions import Action, Event, IPAddress
from warren_agent.paths.context import PathContext
from warren_agent.paths.counters import PathCounters
from warren_agent.paths.deadlines import Deadlines
from warren_agent.paths.families import BOTH, Families
from warren_agent.paths.peer import PeerPath
from warren_agent.paths.values import PathPeer
from warren_wire import disco
from warren_wire.addresses import AddrPort
from warren_wire.errors import AuthenticationError, DecodeError
from warren_wire.keys import DiscoPrivate, DiscoPublic, NodePublic

RELAY_ADDRESS: Final = IPv4Address("127.3.3.40")
"""The address that stands for a relay in pongs; the port is the region."""

MIN_TIMER_SECONDS: Final = 0.005
"""No peer is looked at more often than this by its timer, whatever it asks for."""

MAX_REMEMBERED_PINGS: Final = 4096
"""Pings already answered; the same one seen twice is the copy of a raw socket."""


class PathMachine:
    """The paths of one node to all its peers."""

    def __init__(
        self,
        *,
        node: NodePublic,
        disco: DiscoPrivate,
        randomness: Callable[[int], bytes],
        families: Families = BOTH,
    ) -> None:
        self._context = PathContext(node, disco, randomness, families)
        self._peers: dict[NodePublic, PeerPath] = {}
        self._by_disco: dict[DiscoPublic, list[PeerPath]] = {}
        self._deadlines: Deadlines[NodePublic] = Deadlines()
        self._answered: OrderedDict[tuple[bytes, AddrPort], None] = OrderedDict()
        self._tokens = 0

    @property
    def counters(self) -> PathCounters:
        return self._context.counters

    def __contains__(self, key: NodePublic) -> bool:
        return key in self._peers

    def __iter__(self) -> Iterator[PeerPath]:
        return iter(self._peers.values())

    def peer(self, key: NodePublic) -> PeerPath | None:
        return self._peers.get(key)

    def is_active(self, now: float) -> bool:
        """Whether packets flow for or from any peer."""
        return any(path.is_active(now) for path in self._peers.values())

    # Output

    def actions(self) -> list[Action]:
        """Take what is to be done, in order."""
        taken, self._context.actions = self._context.actions, []
        return taken

    def events(self) -> list[Event]:
        """Take what happened."""
        taken, self._context.events = self._context.events, []
        return taken

    def next_timeout(self) -> float | None:
        return self._deadlines.first()

    def handle_timeout(self, now: float) -> None:
        """Time has passed; harmless when early."""
        for key in self._deadlines.pop_due(now):
            path = self._peers[key]
            path.handle_timeout(now)
            deadline = path.next_timeout(now)
            self._deadlines.set(key, None if deadline is None else max(deadline, now + MIN_TIMER_SECONDS))

    # What we know of ourselves and of the peers

    def set_peers(self, peers: Mapping[NodePublic, PathPeer], now: float) -> None:
        """Take all peers; what is known of those that stay is kept."""
        gone = [key for key in self._peers if key not in peers]
        for key in gone:
            del self._peers[key]
            self._deadlines.set(key, None)
        changed = bool(gone)
        for key, peer in peers.items():
            path = self._peers.get(key)
            if path is None:
                self._peers[key] = PeerPath(key, peer, self._context, now)
                changed = True
            elif path.peer is not peer and path.peer != peer:
                path.update(peer, now)
                self._rearm(path, now)
                changed = True
        if not changed:
            return
        self._by_disco = {}
        for path in self._peers.values():
            self._by_disco.setdefault(path.peer.disco, []).append(path)

    def set_own_endpoints(self, endpoints: tuple[AddrPort, ...], now: float) -> None:
        """Our endpoints were just measured, with whatever result."""
        self._context.own_endpoints = endpoints
        self._context.own_endpoints_at = now
        for path in self._peers.values():
            path.endpoints_refreshed(now)

    def set_families(self, families: Families, now: float) -> None:
        """Direct paths may use these address families from now on."""
        if families == self._context.families:
            return
        self._context.families = families
        for path in self._peers.values():
            path.families_changed(now)
            self._rearm(path, now)

    def network_changed(self, lost: Collection[IPAddress], now: float) -> None:
        """Our own addresses changed; those of `lost` are gone."""
        if lost:
            # A call must not name it; it waits for the next look at the network.
            self._context.own_endpoints_at = None
        for path in self._peers.values():
            path.network_changed(lost, now)
            self._rearm(path, now)

    # What WireGuard and the relays show

    def activity(self, key: NodePublic, now: float) -> None:
        """Packets flow for or from a peer."""
        if (path := self._peers.get(key)) is not None:
            path.activity(now)
            self._rearm(path, now)

    def heard(self, key: NodePublic, now: float) -> None:
        """Authenticated packets came directly from a peer, from the endpoint in use."""
        if (path := self._peers.get(key)) is not None:
            path.heard()
            self._rearm(path, now)

    def silent(self, key: NodePublic, now: float) -> None:
        """Packets went to a peer directly, and none came back by any way."""
        if (path := self._peers.get(key)) is not None:
            path.silent(now)
            self._rearm(path, now)

    def relayed(self, key: NodePublic, now: float) -> None:
        """A WireGuard packet of a peer came over a relay."""
        path = self._peers.get(key)
        if path is not None and path.wanted() is not None:
            path.relayed(now)
            self._rearm(path, now)

    def adopt(self, key: NodePublic, endpoint: AddrPort, now: float) -> None:
        """A starting agent found WireGuard sending to a direct endpoint."""
        if (path := self._peers.get(key)) is not None:
            path.adopt(endpoint, now)
            self._rearm(path, now)

    def observe_endpoint(self, key: NodePublic, endpoint: AddrPort | None, now: float) -> None:
        """WireGuard's endpoint of a peer, None for the loopback endpoint."""
        if (path := self._peers.get(key)) is not None:
            path.observe_endpoint(endpoint, now)
            self._rearm(path, now)

    def ask(self, key: NodePublic, now: float) -> int | None:
        """Ping a peer for a person; the token comes back in `PingAnswered`. None if there is no such peer."""
        path = self._peers.get(key)
        if path is None:
            return None
        self._tokens += 1
        path.ask(self._tokens, now)
        self._rearm(path, now)
        return self._tokens

    # Disco

    def receive_datagram(self, data: bytes, source: AddrPort, local: IPAddress | None, now: float) -> None:
        """A datagram on WireGuard's port that looks like disco. `local` is the address it was sent to."""
        opened = self._open(data, None)
        if opened is None:
            return
        paths, message = opened
        match message:
            case disco.Ping():
                self._receive_ping(paths, message, source, local, now)
            case disco.Pong():
                self._receive_pong(paths, message, None, now)
            case _:
                self._context.counters.disco_unexpected += 1

    def receive_relayed(self, region: int, key: NodePublic, data: bytes, now: float) -> None:
        """A packet from a peer over a relay that looks like disco."""
        opened = self._open(data, key)
        if opened is None:
            return
        paths, message = opened
        match message:
            case disco.Ping():
                self._context.counters.pings_received += 1
                paths[0].disco.relayed_pong(message, region, AddrPort(RELAY_ADDRESS, region))
            case disco.Pong():
                self._receive_pong(paths, message, region, now)
            case disco.CallMeMaybe():
                self._context.counters.calls_received += 1
                paths[0].receive_call(message, now)
                self._rearm(paths[0], now)

    def _open(self, data: bytes, key: NodePublic | None) -> tuple[list[PeerPath], disco.Message] | None:
        """The paths that the sender's key belongs to, and what it says; whatever is wrong is counted and
        dropped."""
        counters = self._context.counters
        try:
            paths = self._by_disco.get(disco.sender_of(data), [])
            if key is not None:
                paths = [path for path in paths if path.key == key]
            if not paths:
                counters.disco_unknown_key += 1
                return None
            message = paths[0].disco.open(data)
        except AuthenticationError:
            counters.disco_bad_box += 1
            return None
        except DecodeError:
            counters.disco_malformed += 1
            return None
        if message is None:
            counters.disco_unexpected += 1
            return None
        return paths, message

    def _receive_ping(
        self, paths: list[PeerPath], ping: disco.Ping, source: AddrPort, local: IPAddress | None, now: float
    ) -> None:
        if (ping.txid, source) in self._answered:
            self._context.counters.disco_duplicate += 1
            return
        self._answered[ping.txid, source] = None
        if len(self._answered) > MAX_REMEMBERED_PINGS:
            self._answered.popitem(last=False)
        self._context.counters.pings_received += 1
        path = _named(paths, ping.node_key)
        path.receive_ping(ping, source, local, now)
        self._rearm(path, now)

    def _receive_pong(self, paths: list[PeerPath], pong: disco.Pong, region: int | None, now: float) -> None:
        for path in paths:
            if path.receive_pong(pong, region, now):
                self._context.counters.pongs_received += 1
                self._rearm(path, now)
                return
        self._context.counters.disco_unexpected += 1

    def _rearm(self, path: PeerPath, now: float) -> None:
        self._deadlines.set(path.key, path.next_timeout(now))


def _named(paths: list[PeerPath], node: NodePublic | None) -> PeerPath:
    """One disco key may belong to several node keys; a ping names the one it means."""
    for path in paths:
        if path.key == node:
            return path
    return paths[0]
