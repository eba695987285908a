"""The disco messages to and from one peer: sealing, opening, pings that wait, calls that wait. No I/O."""

from __future__ import annotations

from warren_agent.paths.actions import IPAddress, RefreshEndpoints, SendDatagram, SendRelayed
from warren_agent.paths.context import PathContext
from warren_agent.paths.pings import SentPing, SentPings
from warren_agent.paths.timing import ENDPOINTS_FRESH_SECONDS
from warren_wire import disco
from warren_wire.addresses import AddrPort
from warren_wire.crypto import SharedBox
from warren_wire.disco import CallMeMaybe, Ping, Pong
from warren_wire.errors import AuthenticationError
from warren_wire.keys import DiscoPublic, NodePublic

TXID_BYTES = 12


class PeerDisco:
    """Everything leaves through the context's actions. A peer without a usable disco key is told nothing."""

    def __init__(self, key: NodePublic, peer_disco: DiscoPublic, context: PathContext) -> None:
        self._key = key
        self._context = context
        self._box = _box(context, peer_disco)
        self._pings = SentPings()
        self._call_waits = False

    def rekey(self, peer_disco: DiscoPublic) -> None:
        self._box = _box(self._context, peer_disco)

    def open(self, data: bytes) -> disco.Message | None:
        """The message in an envelope of the peer's; None for a kind that we do not know."""
        if self._box is None:
            raise AuthenticationError("the peer has no usable disco key")
        return disco.open_message(data, self._box)

    def ping(self, destination: AddrPort | None, now: float, token: int | None = None) -> bool:
        """Ping an address, or over the relay with None. False if the peer cannot be spoken to."""
        if self._box is None:
            return False
        txid = self._context.randomness(TXID_BYTES)
        self._pings.add(txid, SentPing(destination, now, token))
        self._context.counters.pings_sent += 1
        data = self._context.sealed(Ping(txid, self._context.node), self._box)
        if destination is None:
            self._context.actions.append(SendRelayed(self._key, data))
        else:
            self._context.actions.append(SendDatagram(data, destination))
        return True

    def pong(self, ping: Ping, source: AddrPort, local: IPAddress | None) -> bool:
        """Answer to the exact source, from the address that was asked: NATs let nothing else through."""
        if self._box is None:
            return False
        self._context.counters.pongs_sent += 1
        pong = self._context.sealed(Pong(ping.txid, source), self._box)
        self._context.actions.append(SendDatagram(pong, source, local))
        return True

    def relayed_pong(self, ping: Ping, region: int, source: AddrPort) -> None:
        if self._box is None:
            return
        self._context.counters.pongs_sent += 1
        pong = self._context.sealed(Pong(ping.txid, source), self._box)
        self._context.actions.append(SendRelayed(self._key, pong, region))

    def answered(self, pong: Pong, region: int | None) -> SentPing | None:
        """The ping that a pong answers, None if there is none."""
        return self._pings.take(pong.txid, relayed=region is not None)

    def call(self, now: float, *, even_stale: bool = False) -> bool:
        """Tell the peer over the relay where we can be reached. With an old list that is measured first,
        and the call follows; `even_stale` does not wait."""
        if self._box is None:
            return False
        fresh_at = self._context.own_endpoints_at
        stale = fresh_at is None or now - fresh_at > ENDPOINTS_FRESH_SECONDS
        if stale and not (even_stale and fresh_at is not None):
            self._call_waits = True
            self._context.actions.append(RefreshEndpoints())
            return True
        self._context.counters.calls_sent += 1
        message = self._context.sealed(CallMeMaybe(self._context.own_endpoints), self._box)
        self._context.actions.append(SendRelayed(self._key, message))
        return True

    def take_waiting_call(self) -> bool:
        """Whether a call waited for fresh endpoints; it waits no longer."""
        waited, self._call_waits = self._call_waits, False
        return waited

    def forget_old(self, now: float) -> None:
        self._pings.forget_old(now)


def _box(context: PathContext, peer_disco: DiscoPublic) -> SharedBox | None:
    """None for a peer without a usable disco key: it is reached over relays only."""
    try:
        return SharedBox(context.disco.raw, peer_disco.raw)
    except AuthenticationError:
        return None
