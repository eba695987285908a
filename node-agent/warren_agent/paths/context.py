"""What the paths of all peers share: our keys, our endpoints, randomness, counters and the outbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from warren_agent.paths.actions import Action, Event
from warren_agent.paths.counters import PathCounters
from warren_agent.paths.families import Families
from warren_wire.addresses import AddrPort
from warren_wire.crypto import SharedBox
from warren_wire.disco import Message, seal
from warren_wire.keys import DiscoPrivate, NodePublic

NONCE_BYTES = 24


@dataclass(slots=True)
class PathContext:
    """One per machine, handed to every peer's path."""

    node: NodePublic
    disco: DiscoPrivate
    randomness: Callable[[int], bytes]
    families: Families
    counters: PathCounters = field(default_factory=PathCounters)
    own_endpoints: tuple[AddrPort, ...] = ()
    own_endpoints_at: float | None = None
    actions: list[Action] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def sealed(self, message: Message, box: SharedBox) -> bytes:
        return seal(message, self.disco.public, box, self.randomness(NONCE_BYTES))
