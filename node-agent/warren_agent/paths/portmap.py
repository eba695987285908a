"""One UDP port mapping at the router: asked for by NAT-PMP and PCP, renewed, dropped when it is void.

Sans-I/O. Knows neither sockets nor how the router was found. An agent that is stopped does not give its
mapping back, because traffic goes on without it, and the router forgets it after its lifetime; one that is
taken down does.

state     until                          then
idle      a router is known              asking
asking    an answer, or 5 s of silence   mapped, or resting
mapped    half of the lifetime           asking again, the mapping stays
resting   10 min, 1 min while mapped     asking
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Final

from warren_agent.paths import portmap_codec as codec
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

LIFETIME_SECONDS: Final = 7200
SHORTEST_SECONDS: Final = 120
"""A router that grants less is asked no more often than for this."""
TRY_SECONDS: Final = (0.25, 0.5, 1.0, 1.5, 1.75)
"""How long each try waits for its answer; 5 s in all."""
REST_SECONDS: Final = 600.0
REST_MAPPED_SECONDS: Final = 60.0


UNANSWERED_TRIES: Final = 2
"""After one try in each language without a mapping it is worth asking by UPnP beside them."""


class MappingProtocol(Enum):
    """The languages in which a router can be asked, as in the settings."""

    NAT_PMP = "nat-pmp"
    PCP = "pcp"
    UPNP = "upnp"


ALL_PROTOCOLS: Final = frozenset(MappingProtocol)


@dataclass(frozen=True, slots=True)
class Router:
    """Whom to ask, and from which of our addresses."""

    gateway: IPv4Address
    own: IPv4Address


class PortMapper:
    """Keeps one mapping alive. `external` is what peers can be told, or None."""

    def __init__(
        self,
        *,
        internal_port: int,
        nonce: bytes,
        protocols: frozenset[MappingProtocol] = ALL_PROTOCOLS,
    ) -> None:
        """`nonce` names the mapping to a PCP router; the same one must be used to renew it."""
        self._use_pmp = MappingProtocol.NAT_PMP in protocols
        self._use_pcp = MappingProtocol.PCP in protocols
        self._port = internal_port
        self._nonce = nonce
        self._router: Router | None = None
        self._outbox: list[tuple[bytes, IPv4Address]] = []
        self._tries: int | None = None
        self._deadline: float | None = None
        self._expires: float | None = None
        self._epoch: tuple[float, float] | None = None
        self._pmp_address: IPv4Address | None = None
        self._pmp_granted: codec.PmpMapping | None = None
        self._pmp_first = True
        self._in_vain = False
        self._hint: AddrPort | None = None
        self.external: AddrPort | None = None
        self.by: MappingProtocol | None = None
        self.seen_pmp = False
        self.seen_pcp = False
        self.malformed = 0

    def set_router(self, router: Router | None, now: float) -> None:
        """The network as it is now; another router or address makes the mapping void and gives it back."""
        if router == self._router:
            return
        if self.external is not None and self._router is not None:
            self._give_back(self._router)
        self._forget()
        self._router, self._hint = router, None
        self.seen_pmp = self.seen_pcp = False
        self._pmp_first = True
        self._in_vain = False
        self._tries = self._deadline = None
        if router is not None and (self._use_pmp or self._use_pcp):
            self._begin(now)

    def release(self, now: float) -> None:
        """Give the mapping back and ask for none any more."""
        self.set_router(None, now)

    @property
    def is_unanswered(self) -> bool:
        """Whether the router was asked without success, or may not be asked here at all."""
        may_ask = self._use_pmp or self._use_pcp
        return self._router is not None and self.external is None and (self._in_vain or not may_ask)

    def datagrams_to_send(self) -> list[tuple[bytes, IPv4Address]]:
        """Each with the router that it is for."""
        taken, self._outbox = self._outbox, []
        return taken

    def next_timeout(self) -> float | None:
        times = [time for time in (self._deadline, self._expires) if time is not None]
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        if self._expires is not None and now >= self._expires:
            self._forget()
        if self._deadline is None or now < self._deadline:
            return
        if self._tries is None:
            self._begin(now)
        elif self._tries + 1 < len(TRY_SECONDS):
            self._tries += 1
            self._in_vain |= self._tries >= UNANSWERED_TRIES
            self._ask(now)
        else:
            self._rest(now)

    def receive_datagram(self, data: bytes, source: IPv4Address, now: float) -> None:
        """An answer; only the router that was asked is believed."""
        if self._router is None or source != self._router.gateway:
            self.malformed += 1
            return
        try:
            answer = codec.parse_answer(data)
        except DecodeError:
            self.malformed += 1
            return
        match answer:
            case codec.PmpAddress():
                self._on_pmp_address(answer, now)
            case codec.PmpMapping():
                self._on_pmp_mapping(answer, now)
            case codec.PcpMapping():
                self._on_pcp_mapping(answer, now)
            case codec.Refusal(version, result):
                self._on_refusal(version, result, now)

    def _begin(self, now: float) -> None:
        self._tries = 0
        self._pmp_address = self._pmp_granted = None
        self._ask(now)

    def _ask(self, now: float) -> None:
        """One try in one of the two languages, in turns."""
        assert self._tries is not None
        self._deadline = now + TRY_SECONDS[self._tries]
        pmp_turn = (self._tries % 2 == 0) == self._pmp_first
        if self._use_pmp and (pmp_turn or not self._use_pcp):
            self._send(codec.pmp_address_request())
            self._send(codec.pmp_map_request(self._port, self._wanted_port(), LIFETIME_SECONDS))
        else:
            self._send_pcp(LIFETIME_SECONDS)

    def _wanted_port(self) -> int:
        return self._hint.port if self._hint is not None else self._port

    def _send(self, data: bytes) -> None:
        assert self._router is not None
        self._outbox.append((data, self._router.gateway))

    def _send_pcp(self, lifetime: int) -> None:
        assert self._router is not None
        self._send(codec.pcp_map_request(self._router.own, self._nonce, self._port, self._hint, lifetime))

    def _give_back(self, router: Router) -> None:
        if self.by is MappingProtocol.NAT_PMP:
            data = codec.pmp_map_request(self._port, 0, 0)
        else:
            data = codec.pcp_map_request(router.own, self._nonce, self._port, None, 0)
        self._outbox.append((data, router.gateway))

    def _rest(self, now: float) -> None:
        self._tries = None
        self._deadline = now + (REST_SECONDS if self.external is None else REST_MAPPED_SECONDS)

    def _forget(self) -> None:
        self.external = self._expires = self._epoch = None

    def _on_pmp_address(self, answer: codec.PmpAddress, now: float) -> None:
        self.seen_pmp = True
        if answer.result == codec.OK and usable_address(answer.address):
            self._check_epoch(answer.epoch, now)
            self._pmp_address = answer.address
            self._complete_pmp(now)

    def _on_pmp_mapping(self, answer: codec.PmpMapping, now: float) -> None:
        self.seen_pmp = True
        if self._tries is None or answer.internal_port != self._port:
            return
        if answer.result != codec.OK or answer.lifetime == 0:
            self._on_refusal(0, answer.result, now)
            return
        self._check_epoch(answer.epoch, now)
        self._pmp_granted = answer
        self._complete_pmp(now)

    def _complete_pmp(self, now: float) -> None:
        """The port and the address come in two answers, in any order."""
        granted, address = self._pmp_granted, self._pmp_address
        if self._tries is not None and granted is not None and address is not None:
            self.by = MappingProtocol.NAT_PMP
            self._mapped(AddrPort(address, granted.external_port), granted.lifetime, now)

    def _on_pcp_mapping(self, answer: codec.PcpMapping, now: float) -> None:
        if answer.nonce != self._nonce or answer.internal_port != self._port:
            self.malformed += 1
            return
        self.seen_pcp = True
        if self._tries is None:
            return
        if answer.result != codec.OK or answer.lifetime == 0 or answer.external is None:
            self._on_refusal(2, answer.result, now)
            return
        self._check_epoch(answer.epoch, now)
        if isinstance(answer.external.ip, IPv4Address) and usable_address(answer.external.ip):
            self._pmp_first = self.seen_pmp
            self.by = MappingProtocol.PCP
            self._mapped(answer.external, answer.lifetime, now)

    def _on_refusal(self, version: int, result: int, now: float) -> None:
        """It said no, which the other language may still change."""
        if self._tries is None:
            return
        if result == codec.UNSUPPORTED_VERSION:
            # The answer's version is the one that the router does speak.
            self._pmp_first = version == 0
            self.seen_pcp |= version == 2
        if self._tries + 1 < len(TRY_SECONDS):
            # Not at once: a router that says no to everything would be asked without a pause.
            self._deadline = min(self._deadline or now, now + TRY_SECONDS[0])
        else:
            self._rest(now)

    def _mapped(self, external: AddrPort, lifetime: int, now: float) -> None:
        self.external = self._hint = external
        self._in_vain = False
        self._expires = now + lifetime
        self._tries = None
        self._deadline = now + max(lifetime, SHORTEST_SECONDS) / 2

    def _check_epoch(self, epoch: int, now: float) -> None:
        """A router's clock that went back means that it began anew, without our mapping."""
        old, self._epoch = self._epoch, (float(epoch), now)
        if old is not None and epoch < old[0] + (now - old[1]) * 7 / 8 - 2:
            self.external = self._expires = None
            if self._tries is None:
                self._begin(now)


def usable_address(address: IPv4Address) -> bool:
    return not (
        address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    )
