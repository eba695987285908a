"""One peer: its candidates, its pings, and the path in use. No I/O; time is an argument.

Relay is never chosen: it is what is used while no direct address is trusted. An address becomes trusted
only by a pong to a ping of ours, which proves both directions.
"""

from __future__ import annotations

from collections.abc import Collection

from warren_agent.paths.actions import (
    IPAddress,
    PathChanged,
    PingAnswered,
    SetEndpoint,
)
from warren_agent.paths.candidates import Candidate, Candidates
from warren_agent.paths.context import PathContext
from warren_agent.paths.peer_disco import PeerDisco
from warren_agent.paths.ranking import Proven, is_better
from warren_agent.paths.roaming import Roaming, Verdict
from warren_agent.paths.search import Search
from warren_agent.paths.timing import (
    ADOPTION_PATIENCE_SECONDS,
    GOOD_ENOUGH_LATENCY_SECONDS,
    HEARTBEAT_SECONDS,
    PATIENCE_SECONDS,
    PROBE_SECONDS,
    PROBES_BEFORE_CALL,
    SESSION_ACTIVE_SECONDS,
    SHORT_PATIENCE_SECONDS,
    SWEEP_SECONDS,
)
from warren_agent.paths.trust import Trust
from warren_agent.paths.values import PathKind, PathPeer
from warren_wire.addresses import AddrPort
from warren_wire.disco import CallMeMaybe, Ping, Pong
from warren_wire.keys import NodePublic


class PeerPath:
    """The path machine of one peer."""

    def __init__(self, key: NodePublic, peer: PathPeer, context: PathContext, now: float) -> None:
        self.key = key
        self.peer = peer
        self.kind = PathKind.IDLE
        self.endpoint: AddrPort | None = None
        self.latency_seconds: float | None = None
        self._context = context
        self.disco = PeerDisco(key, peer.disco, context)
        self._candidates = Candidates(context.families)
        self._candidates.set_map(peer.endpoints, now)
        self._trust = Trust()
        self._search = Search(now)
        self._roaming = Roaming()
        self._active_at: float | None = None
        self._heartbeat_at: float | None = None
        self._pinged_us_at: float | None = None

    # Input: what the network map, WireGuard and people say

    def update(self, peer: PathPeer, now: float) -> None:
        """Take a newer map entry. A new disco key keeps the path: the peer restarted at the same address."""
        if peer.disco != self.peer.disco:
            self.disco.rekey(peer.disco)
        if peer.endpoints != self.peer.endpoints:
            self._candidates.set_map(peer.endpoints, now)
            self._search.hurry(now)
        self.peer = peer

    def activity(self, now: float) -> None:
        """Packets flow for or from this peer."""
        was_active = self.is_active(now)
        self._active_at = now
        if self._trust.best is not None:
            if self._heartbeat_at is None:
                self._heartbeat_at = now
            return
        if not was_active or self._search.sweep_at is None:
            self._search.begin(now)
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
        match self._roaming.judge(endpoint, self._trust.address, now):
            case Verdict.TRY:
                assert endpoint is not None
                self._try(endpoint, now)
            case Verdict.CORRECT:
                self._correct(now)
            case Verdict.LEAVE:
                pass

    def families_changed(self, now: float) -> None:
        """Other address families are usable now; a path of another one lapses for want of pongs."""
        self._candidates.set_families(self._context.families)
        self._candidates.set_map(self.peer.endpoints, now)
        self._search.hurry(now)

    def network_changed(self, lost: Collection[IPAddress], now: float) -> None:
        """Our own addresses changed: the path in use must prove itself at once. If one of its family is
        gone, most likely it was the path's, and no router lets in what comes from another."""
        best = self._trust.best
        if best is not None and any(address.version == best.address.ip.version for address in lost):
            self._trust.forget()
            self._to_relay("own address is gone", now)
        elif best is not None:
            self._doubt(PATIENCE_SECONDS, now)
        elif self.is_active(now):
            self._search.begin(now)

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

    def receive_ping(self, ping: Ping, source: AddrPort, local: IPAddress | None, now: float) -> None:
        if not self.disco.pong(ping, source, local):
            return
        self._pinged_us_at = now
        candidate = self._candidates.saw(source, now)
        if candidate is None or self._trust.best is not None:
            return
        if candidate.pinged_at is None or now - candidate.pinged_at >= SWEEP_SECONDS:
            self._ping(source, now)

    def receive_pong(self, pong: Pong, region: int | None, now: float) -> bool:
        """False if no ping of ours to this peer waits for it."""
        sent = self.disco.answered(pong, region)
        if sent is None:
            return False
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
        else:
            self._search.join(now)
        self._sweep(now, call=False)

    def endpoints_refreshed(self, now: float) -> None:
        """Our own endpoint list is fresh again; send the call that waited for it."""
        if self.disco.take_waiting_call():
            self._call(now)

    # Time

    def handle_timeout(self, now: float) -> None:
        self.disco.forget_old(now)
        if self._trust.lapsed(now):
            self._lapse(now)
        if self._trust.best is not None:
            self._tend(now)
        elif self._search.sweep_at is not None and now >= self._search.sweep_at:
            call = self._search.step(now, active=self.is_active(now))
            if call is not None:
                self._sweep(now, call=call)
        if self.kind is PathKind.RELAY and not self.is_active(now):
            self._show(PathKind.IDLE, None, "no traffic")

    def next_timeout(self, now: float) -> float | None:
        times = [self._trust.next_timeout(now)]
        if self._trust.best is not None:
            times.append(self._heartbeat_at)
        else:
            times.append(self._search.sweep_at)
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
        if slow and self._search.upgrade_due(now):
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
        self._roaming.proven(proven.address)
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
        self._roaming.settled()
        self._search.end()
        self._context.actions.append(SetEndpoint(self.key, proven.address))
        self._context.counters.to_direct += was_relayed
        self._show(PathKind.DIRECT, proven.address, "pong" if was_relayed else "better address")
        self.latency_seconds = proven.latency_seconds
        if was_relayed and not self._pinged_us_lately(now):
            # Its pings died at our router, which ours have just opened; stock would try again after 5 s.
            self._call(now, even_stale=True)

    def _pinged_us_lately(self, now: float) -> bool:
        return self._pinged_us_at is not None and now - self._pinged_us_at < SWEEP_SECONDS

    def _lapse(self, now: float) -> None:
        active = self.is_active(now)
        lost = self._trust.address
        self._context.counters.early_lapses += self._trust.lapse(now, failed=active)
        self._to_relay(f"no answer from {lost}", now)

    def _to_relay(self, reason: str, now: float) -> None:
        active = self.is_active(now)
        self._context.counters.to_relay += active
        self._heartbeat_at = None
        self._roaming.settled()
        self._roaming.corrected(now)
        self._context.actions.append(SetEndpoint(self.key, None))
        if active:
            self._show(PathKind.RELAY, None, reason)
            self._search.begin(now)
        else:
            self._show(PathKind.IDLE, None, "no traffic")

    def _try(self, endpoint: AddrPort, now: float) -> None:
        """WireGuard followed the peer to another address."""
        if self._candidates.saw(endpoint, now) is None:
            self._correct(now)
            return
        self._context.counters.roams += 1
        self._roaming.tried(endpoint, now)
        self._ping(endpoint, now)

    def _correct(self, now: float) -> None:
        if self._roaming.may_correct(now):
            self._context.counters.endpoint_corrections += 1
            self._context.actions.append(SetEndpoint(self.key, self._trust.address))

    # Looking for a direct path

    def _sweep(self, now: float, *, call: bool) -> None:
        self._search.swept(now)
        self._candidates.prune(now)
        for candidate in self._candidates:
            self._ping_candidate(candidate, now)
        if call:
            self._call(now)

    def _ping_candidate(self, candidate: Candidate, now: float) -> None:
        if candidate.pinged_at is None or now - candidate.pinged_at >= PROBE_SECONDS:
            self._ping(candidate.address, now)

    def _call(self, now: float, *, even_stale: bool = False) -> None:
        if self.disco.call(now, even_stale=even_stale):
            self._search.called(now)

    def _ping(self, destination: AddrPort | None, now: float, token: int | None = None) -> None:
        if not self.disco.ping(destination, now, token) or destination is None:
            return
        candidate = self._candidates.get(destination)
        if candidate is not None:
            candidate.pinged_at = now
        if destination == self._trust.address:
            self._trust.pinged(now)

    def _show(self, kind: PathKind, endpoint: AddrPort | None, reason: str) -> None:
        if kind is self.kind and endpoint == self.endpoint:
            return
        self.kind, self.endpoint = kind, endpoint
        if kind is not PathKind.DIRECT:
            self.latency_seconds = None
        self._context.events.append(PathChanged(self.key, kind, endpoint, reason))
