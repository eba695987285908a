"""One peer: its candidates, its pings, and the path in use. No I/O; time is an argument.

Relay is never chosen: it is what is used while no direct address is trusted. An address becomes trusted
only by a pong to a ping of ours, which proves both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

from warren_agent.paths.actions import (
    IPAddress,
    PathChanged,
    PingAnswered,
    RefreshEndpoints,
    SendDatagram,
    SendRelayed,
    SetEndpoint,
)
from warren_agent.paths.candidates import Candidate, Candidates
from warren_agent.paths.context import PathContext
from warren_agent.paths.ranking import Proven, is_better
from warren_agent.paths.timing import (
    ADOPTION_PATIENCE_SECONDS,
    BURST_CALLS,
    BURST_SECONDS,
    CALLED_BURST_SECONDS,
    EAGER_FOR_SECONDS,
    EAGER_SWEEP_SECONDS,
    ENDPOINTS_FRESH_SECONDS,
    GOOD_ENOUGH_LATENCY_SECONDS,
    HEARTBEAT_SECONDS,
    PATIENCE_SECONDS,
    PING_TIMEOUT_SECONDS,
    PROBE_SECONDS,
    PROBES_BEFORE_CALL,
    REASSERT_SECONDS,
    REFUSAL_SECONDS,
    ROAM_PATIENCE_SECONDS,
    SESSION_ACTIVE_SECONDS,
    SHORT_PATIENCE_SECONDS,
    SWEEP_SECONDS,
    UPGRADE_SWEEP_SECONDS,
)
from warren_agent.paths.trust import Trust
from warren_agent.paths.values import PathKind, PathPeer
from warren_wire import disco
from warren_wire.addresses import AddrPort
from warren_wire.crypto import SharedBox
from warren_wire.disco import CallMeMaybe, Ping, Pong
from warren_wire.errors import AuthenticationError
from warren_wire.keys import NodePublic

TXID_BYTES = 12
MAX_OUTSTANDING = 256
"""Pings waiting for a pong: every candidate in each sweep of a burst; more would be a bug, the oldest
goes."""


@dataclass(frozen=True, slots=True)
class SentPing:
    """A ping that waits for its pong. `destination` None: sent over a relay."""

    destination: AddrPort | None
    sent_at: float
    token: int | None = None


class PeerPath:
    """The path machine of one peer."""

    def __init__(self, key: NodePublic, peer: PathPeer, context: PathContext, now: float) -> None:
        self.key = key
        self.peer = peer
        self.kind = PathKind.IDLE
        self.endpoint: AddrPort | None = None
        self.latency_seconds: float | None = None
        self._context = context
        self._box = _box(context, peer)
        self._candidates = Candidates(context.ipv4_only)
        self._candidates.set_map(peer.endpoints, now)
        self._trust = Trust()
        self._pings: dict[bytes, SentPing] = {}
        self._active_at: float | None = None
        self._heartbeat_at: float | None = None
        self._burst_began = now - CALLED_BURST_SECONDS
        self._burst_calls = True
        self._search_began = now
        self._burst_index = len(BURST_SECONDS)
        self._sweep_at: float | None = None
        self._swept_at: float | None = None
        self._call_waits = False
        self._called_at: float | None = None
        self._roamed: AddrPort | None = None
        self._roam_until = 0.0
        self._refused: AddrPort | None = None
        self._refused_until = 0.0
        self._corrected_at: float | None = None

    # Input: what the network map, WireGuard and people say

    def update(self, peer: PathPeer, now: float) -> None:
        """Take a newer map entry. A new disco key keeps the path: the peer restarted at the same address."""
        if peer.disco != self.peer.disco:
            self._box = _box(self._context, peer)
        if peer.endpoints != self.peer.endpoints:
            self._candidates.set_map(peer.endpoints, now)
            if self._sweep_at is not None:
                self._sweep_at = min(self._sweep_at, now)
        self.peer = peer

    def activity(self, now: float) -> None:
        """Packets flow for or from this peer."""
        was_active = self.is_active(now)
        self._active_at = now
        if self._trust.best is not None:
            if self._heartbeat_at is None:
                self._heartbeat_at = now
            return
        if not was_active or self._sweep_at is None:
            self._start_burst(now)
        self._show(PathKind.RELAY, None, "traffic")

    def heard(self) -> None:
        """WireGuard authenticated packets that came directly from the endpoint in use."""
        self._trust.heard()

    def silent(self, now: float) -> None:
        """Traffic went out directly for a while and nothing came back by any way."""
        self._doubt(PATIENCE_SECONDS, now)

    def relayed(self, now: float) -> None:
        """A packet of the peer's came over a relay. While we go direct, its path may have died."""
        if self._trust.best is not None:
            self._doubt(SHORT_PATIENCE_SECONDS, now)

    def adopt(self, endpoint: AddrPort, now: float) -> None:
        """A starting agent found WireGuard sending to `endpoint`: go on with it until it is proven dead."""
        if self._trust.best is not None or self._candidates.saw(endpoint, now) is None:
            return
        self._active_at = now
        self._trust.suppose(endpoint, ADOPTION_PATIENCE_SECONDS, now)
        self._heartbeat_at = now + HEARTBEAT_SECONDS
        self._show(PathKind.DIRECT, endpoint, "adopted from WireGuard")
        self._ping(endpoint, now)

    def observe_endpoint(self, endpoint: AddrPort | None, now: float) -> None:
        """WireGuard uses `endpoint` now; None is the loopback endpoint. Only differences matter."""
        wanted = self._trust.address
        if endpoint == wanted:
            self._roamed = None
        elif endpoint is None or (endpoint == self._refused and now < self._refused_until):
            self._correct(wanted, now)
        elif endpoint != self._roamed:
            self._roam(endpoint, now)
        elif now >= self._roam_until:
            # It carries the peer's packets but not ours: do not give it another chance at each packet.
            self._refused, self._refused_until = endpoint, now + REFUSAL_SECONDS
            self._roamed = None
            self._correct(wanted, now)

    def network_changed(self, now: float) -> None:
        """Our own addresses changed: the path in use must prove itself at once."""
        if self._trust.best is not None:
            self._doubt(PATIENCE_SECONDS, now)
        elif self.is_active(now):
            self._start_burst(now)

    def ask(self, token: int, now: float) -> None:
        """A person's ping: over the relay, and to the trusted address or else to all candidates."""
        self.activity(now)
        self._ping(None, now, token)
        if self._trust.address is not None:
            self._ping(self._trust.address, now, token)
            return
        for candidate in self._candidates:
            self._ping(candidate.address, now, token)

    # Input: disco

    def open(self, data: bytes) -> disco.Message | None:
        """The message in an envelope of this peer's; None for a kind that we do not know."""
        if self._box is None:
            raise AuthenticationError("the peer has no usable disco key")
        return disco.open_message(data, self._box)

    def receive_ping(self, ping: Ping, source: AddrPort, local: IPAddress | None, now: float) -> None:
        """Answer to the exact source, from the address that was asked: NATs let nothing else through."""
        if self._box is None:
            return
        self._context.counters.pongs_sent += 1
        pong = self._context.sealed(Pong(ping.txid, source), self._box)
        self._context.actions.append(SendDatagram(pong, source, local))
        candidate = self._candidates.saw(source, now)
        if candidate is None or self._trust.best is not None:
            return
        if candidate.pinged_at is None or now - candidate.pinged_at >= SWEEP_SECONDS:
            self._ping(source, now)

    def receive_relayed_ping(self, ping: Ping, region: int, source: AddrPort) -> None:
        if self._box is None:
            return
        self._context.counters.pongs_sent += 1
        pong = self._context.sealed(Pong(ping.txid, source), self._box)
        self._context.actions.append(SendRelayed(self.key, pong, region))

    def receive_pong(self, pong: Pong, region: int | None, now: float) -> bool:
        """False if no ping of ours to this peer waits for it."""
        sent = self._pings.get(pong.txid)
        if sent is None or (sent.destination is None) != (region is not None):
            return False
        del self._pings[pong.txid]
        latency = now - sent.sent_at
        if sent.token is not None:
            self._context.events.append(PingAnswered(sent.token, sent.destination, region, latency))
        if sent.destination is not None:
            self._proven(Proven(sent.destination, latency), now)
        return True

    def receive_call(self, call: CallMeMaybe, now: float) -> None:
        """The peer has pinged us from all these, so its firewall is open now: ping back at once, do not
        call back."""
        self._candidates.set_call(call.endpoints, now)
        if self._trust.best is not None:
            self._doubt(SHORT_PATIENCE_SECONDS, now)
            self._sweep(now, call=False)
            return
        self._sweep(now, call=False)
        if now - self._burst_began >= CALLED_BURST_SECONDS:
            self._start_burst(now, calls=False)
            self._burst_index = 1
            self._sweep_at = now + BURST_SECONDS[1]

    def endpoints_refreshed(self, now: float) -> None:
        """Our own endpoint list is fresh again; send the call that waited for it."""
        if self._call_waits:
            self._call_waits = False
            self._call(now)

    # Time

    def handle_timeout(self, now: float) -> None:
        self._forget_pings(now)
        if self._trust.lapsed(now):
            self._lapse(now)
        if self._trust.best is not None:
            self._tend(now)
        elif self._sweep_at is not None and now >= self._sweep_at:
            self._next_sweep(now)
        if self.kind is PathKind.RELAY and not self.is_active(now):
            self._show(PathKind.IDLE, None, "no traffic")

    def next_timeout(self, now: float) -> float | None:
        times = [self._trust.next_timeout(now)]
        if self._trust.best is not None:
            times.append(self._heartbeat_at)
        else:
            times.append(self._sweep_at)
        if self.kind is PathKind.RELAY and self._active_at is not None:
            times.append(self._active_at + SESSION_ACTIVE_SECONDS)
        known = [t for t in times if t is not None]
        return min(known) if known else None

    def is_active(self, now: float) -> bool:
        # Written like the deadline in `next_timeout`: both must round to the same instant.
        return self._active_at is not None and now < self._active_at + SESSION_ACTIVE_SECONDS

    def wanted(self) -> AddrPort | None:
        """Where WireGuard should send: the trusted address, or None for the loopback endpoint."""
        return self._trust.address

    # The direct path in use

    def _tend(self, now: float) -> None:
        if self._trust.answer_overdue(now):
            self._doubt(PATIENCE_SECONDS, now)
        probe = self._trust.probe_due(now)
        if probe:
            self._ping_best(now)
        if probe == PROBES_BEFORE_CALL:
            self._call(now, even_stale=True)
        if self._heartbeat_at is None or now < self._heartbeat_at:
            return
        if not self.is_active(now):
            self._heartbeat_at = None
            return
        self._heartbeat_at = now + HEARTBEAT_SECONDS
        self._ping_best(now)
        assert self._trust.best is not None
        slow = self._trust.best.latency_seconds > GOOD_ENOUGH_LATENCY_SECONDS
        if slow and (self._swept_at is None or now - self._swept_at >= UPGRADE_SWEEP_SECONDS):
            self._sweep(now, call=True)

    def _doubt(self, patience_seconds: float, now: float) -> None:
        if self._trust.doubt(patience_seconds, now):
            self._ping_best(now)

    def _ping_best(self, now: float) -> None:
        assert self._trust.best is not None
        self._ping(self._trust.best.address, now)

    def _proven(self, proven: Proven, now: float) -> None:
        candidate = self._candidates.saw(proven.address, now)
        if candidate is None:
            return
        candidate.latency_seconds = proven.latency_seconds
        if proven.address == self._refused:
            self._refused = None
        best = self._trust.best
        if best is not None and best.address == proven.address:
            self._trust.renew(proven.latency_seconds, now)
            self.latency_seconds = proven.latency_seconds
            return
        if self._trust.held_back(now):
            return
        if best is None or self._trust.in_doubt(now) or is_better(proven, best):
            self._go_direct(proven, now)

    def _go_direct(self, proven: Proven, now: float) -> None:
        was_relayed = self._trust.best is None
        self._trust.adopt(proven, now)
        self._heartbeat_at = now + HEARTBEAT_SECONDS
        self._roamed = None
        self._sweep_at = None
        self._burst_index = len(BURST_SECONDS)
        self._context.actions.append(SetEndpoint(self.key, proven.address))
        self._context.counters.to_direct += was_relayed
        self._show(PathKind.DIRECT, proven.address, "pong" if was_relayed else "better address")
        self.latency_seconds = proven.latency_seconds

    def _lapse(self, now: float) -> None:
        active = self.is_active(now)
        lost = self._trust.address
        early = self._trust.lapse(now, failed=active)
        self._context.counters.early_lapses += early
        self._context.counters.to_relay += active
        self._heartbeat_at = None
        self._roamed = None
        self._corrected_at = now
        self._context.actions.append(SetEndpoint(self.key, None))
        if active:
            self._show(PathKind.RELAY, None, f"no answer from {lost}")
            self._start_burst(now)
        else:
            self._show(PathKind.IDLE, None, "no traffic")

    def _roam(self, endpoint: AddrPort, now: float) -> None:
        if self._candidates.saw(endpoint, now) is None:
            self._correct(self._trust.address, now)
            return
        self._context.counters.roams += 1
        self._roamed = endpoint
        self._roam_until = now + ROAM_PATIENCE_SECONDS
        self._ping(endpoint, now)

    def _correct(self, wanted: AddrPort | None, now: float) -> None:
        if self._corrected_at is not None and now - self._corrected_at < REASSERT_SECONDS:
            return
        self._corrected_at = now
        self._context.counters.endpoint_corrections += 1
        self._context.actions.append(SetEndpoint(self.key, wanted))

    # Looking for a direct path

    def _start_burst(self, now: float, *, calls: bool = True) -> None:
        self._burst_began = now
        self._burst_calls = calls
        if calls:
            self._search_began = now
        self._burst_index = 0
        self._sweep_at = now

    def _next_sweep(self, now: float) -> None:
        in_burst = self._burst_index < len(BURST_SECONDS)
        if not in_burst and not self.is_active(now):
            self._sweep_at = None
            return
        if in_burst:
            call = self._burst_calls and BURST_SECONDS[self._burst_index] in BURST_CALLS
        else:
            call = self._called_at is None or now - self._called_at >= SWEEP_SECONDS
        self._sweep(now, call=call and self.is_active(now))
        self._burst_index = min(self._burst_index + 1, len(BURST_SECONDS))
        if self._burst_index < len(BURST_SECONDS):
            self._sweep_at = max(self._burst_began + BURST_SECONDS[self._burst_index], now + PROBE_SECONDS)
        else:
            eager = now - self._search_began < EAGER_FOR_SECONDS
            self._sweep_at = now + (EAGER_SWEEP_SECONDS if eager else SWEEP_SECONDS)

    def _sweep(self, now: float, *, call: bool) -> None:
        self._swept_at = now
        self._candidates.prune(now)
        for candidate in self._candidates:
            self._ping_candidate(candidate, now)
        if call:
            self._call(now)

    def _ping_candidate(self, candidate: Candidate, now: float) -> None:
        if candidate.pinged_at is None or now - candidate.pinged_at >= PROBE_SECONDS:
            self._ping(candidate.address, now)

    def _call(self, now: float, *, even_stale: bool = False) -> None:
        if self._box is None:
            return
        self._called_at = now
        fresh_at = self._context.own_endpoints_at
        stale = fresh_at is None or now - fresh_at > ENDPOINTS_FRESH_SECONDS
        if stale and not (even_stale and fresh_at is not None):
            self._call_waits = True
            self._context.actions.append(RefreshEndpoints())
            return
        self._context.counters.calls_sent += 1
        message = self._context.sealed(CallMeMaybe(self._context.own_endpoints), self._box)
        self._context.actions.append(SendRelayed(self.key, message))

    # Pings

    def _ping(self, destination: AddrPort | None, now: float, token: int | None = None) -> None:
        if self._box is None:
            return
        txid = self._context.randomness(TXID_BYTES)
        if len(self._pings) >= MAX_OUTSTANDING:
            del self._pings[next(iter(self._pings))]
        self._pings[txid] = SentPing(destination, now, token)
        self._context.counters.pings_sent += 1
        data = self._context.sealed(Ping(txid, self._context.node), self._box)
        if destination is None:
            self._context.actions.append(SendRelayed(self.key, data))
            return
        self._context.actions.append(SendDatagram(data, destination))
        candidate = self._candidates.get(destination)
        if candidate is not None:
            candidate.pinged_at = now
        if destination == self._trust.address:
            self._trust.pinged(now)

    def _forget_pings(self, now: float) -> None:
        while self._pings:
            txid, sent = next(iter(self._pings.items()))
            if now - sent.sent_at < PING_TIMEOUT_SECONDS:
                return
            del self._pings[txid]

    def _show(self, kind: PathKind, endpoint: AddrPort | None, reason: str) -> None:
        if kind is self.kind and endpoint == self.endpoint:
            return
        self.kind, self.endpoint = kind, endpoint
        if kind is not PathKind.DIRECT:
            self.latency_seconds = None
        self._context.events.append(PathChanged(self.key, kind, endpoint, reason))


def _box(context: PathContext, peer: PathPeer) -> SharedBox | None:
    """None for a peer without a usable disco key: it is reached over relays only."""
    try:
        return SharedBox(context.disco.raw, peer.disco.raw)
    except AuthenticationError:
        return None
