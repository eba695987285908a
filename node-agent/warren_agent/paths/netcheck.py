"""One look at the network by STUN: public addresses, kind of NAT, latency of each relay region. No I/O.

Requests must leave from WireGuard's own port: the mapping of any other port is another mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from warren_agent.paths.values import NetcheckReport
from warren_wire import stun
from warren_wire.addresses import AddrPort

TRY_SECONDS: Final = (0.0, 0.15, 0.4, 0.9, 1.8)
"""When each server is asked, until it answers: a lost datagram must not look like another network."""

LIMIT_SECONDS: Final = 3.0
"""Without any answer by then, UDP does not work here."""

STRAGGLER_SECONDS: Final = 0.3
"""How much longer, beside twice the longest latency seen, the last servers are waited for once some
answered."""

BLOCKED_SUSPECTED_SECONDS: Final = 0.7
"""Without any answer by then it is worth asking by HTTPS beside it."""

MAX_SERVERS_PER_REGION: Final = 3


@dataclass(frozen=True, slots=True)
class StunServer:
    """One address of one relay node."""

    region: int
    address: AddrPort


@dataclass(frozen=True, slots=True)
class _Answer:
    latency_seconds: float
    mapped: AddrPort


class Netcheck:
    """One run. `datagrams_to_send` are due at once; `done` says when `report` is final."""

    def __init__(self, servers: Sequence[StunServer], randomness: Callable[[int], bytes], now: float) -> None:
        self._servers = tuple(dict.fromkeys(servers))
        self._randomness = randomness
        self._began = now
        self._tries = [0] * len(self._servers)
        self._sent: dict[bytes, tuple[int, float]] = {}
        self._answers: dict[int, _Answer] = {}
        self._mapped: dict[AddrPort, int] = {}
        self._first_answer_at: float | None = None
        self._pending: list[tuple[bytes, AddrPort]] = []
        self.done = not self._servers
        self.handle_timeout(now)

    def datagrams_to_send(self) -> list[tuple[bytes, AddrPort]]:
        """Requests with their destinations; a second call returns nothing."""
        taken, self._pending = self._pending, []
        return taken

    def receive(self, txid: bytes, mapped: AddrPort, now: float) -> bool:
        """Take an answer; False if it is to no request of this run."""
        sent = self._sent.pop(txid, None)
        if sent is None or self.done:
            return False
        index, sent_at = sent
        if index in self._answers:
            return True
        self._answers[index] = _Answer(now - sent_at, mapped)
        self._mapped[mapped] = self._mapped.get(mapped, 0) + 1
        if self._first_answer_at is None:
            self._first_answer_at = now
        self._finish_if_due(now)
        return True

    def next_timeout(self) -> float | None:
        if self.done:
            return None
        times = [
            self._began + TRY_SECONDS[tries]
            for index, tries in enumerate(self._tries)
            if index not in self._answers and tries < len(TRY_SECONDS)
        ]
        return min([*times, self._ends_at()])

    def handle_timeout(self, now: float) -> None:
        self._finish_if_due(now)
        if self.done:
            return
        for index, server in enumerate(self._servers):
            tries = self._tries[index]
            if index in self._answers or tries >= len(TRY_SECONDS) or now < self._began + TRY_SECONDS[tries]:
                continue
            self._tries[index] += 1
            txid = self._randomness(stun.TXID_BYTES)
            self._sent[txid] = (index, now)
            self._pending.append((stun.binding_request(txid), server.address))

    @property
    def answered(self) -> bool:
        """Whether UDP is known to work."""
        return bool(self._answers)

    def report(self) -> NetcheckReport:
        """What is known so far; the home relay is chosen elsewhere."""
        latency: dict[int, float] = {}
        by_family: dict[int, dict[int, float]] = {4: {}, 6: {}}
        for index, answer in self._answers.items():
            server = self._servers[index]
            for table in (latency, by_family[server.address.ip.version]):
                known = table.get(server.region)
                table[server.region] = min(known or answer.latency_seconds, answer.latency_seconds)
        return NetcheckReport(
            udp=bool(self._answers),
            ipv4=self._fastest(4),
            ipv6=self._fastest(6),
            mapping_varies=self._mapping_varies(),
            region_latency_seconds=latency,
            region_latency_v4=by_family[4],
            region_latency_v6=by_family[6],
            mapped=dict(self._mapped),
        )

    def _finish_if_due(self, now: float) -> None:
        if len(self._answers) == len(self._servers) or now >= self._ends_at():
            self.done = True

    def _ends_at(self) -> float:
        limit = self._began + LIMIT_SECONDS
        if self._first_answer_at is None:
            return limit
        slowest = max(answer.latency_seconds for answer in self._answers.values())
        return min(limit, self._first_answer_at + STRAGGLER_SECONDS + 2 * slowest)

    def _fastest(self, family: int) -> AddrPort | None:
        found = [a for a in self._answers.values() if a.mapped.ip.version == family]
        return min(found, key=lambda a: a.latency_seconds).mapped if found else None

    def _mapping_varies(self) -> bool | None:
        """Only answers of different servers can tell; with one server the kind of NAT stays unknown."""
        seen = {
            self._servers[index].address: answer.mapped
            for index, answer in self._answers.items()
            if answer.mapped.ip.version == 4
        }
        if len(seen) < 2:
            return None
        return len(set(seen.values())) > 1
