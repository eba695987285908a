"""What a relay knows of keys and connections. Values of the router; nobody else changes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, NewType

from .queues import FairQueue

ConnectionId = NewType("ConnectionId", int)

NOT_HERE_BURST: Final = 3.0


class Kind(enum.Enum):
    """What is at the other end of a connection."""

    CLIENT = enum.auto()
    SIBLING = enum.auto()
    """Another worker process of the same relay."""
    REGION = enum.auto()
    """Another relay of the same region."""


@dataclass(slots=True, eq=False)
class Member:
    """One key with its connections, the active one last named."""

    raw: bytes
    active: Connection | None = None
    connections: list[Connection] = field(default_factory=list)
    links: list[Connection] = field(default_factory=list)
    """Ways to it through other relays."""
    reached: set[Member] = field(default_factory=set)
    """Members that got packets of this one and must hear of its end."""
    heard: set[Member] = field(default_factory=set)

    def way(self, allowed: Kind) -> Connection | None:
        """The best way: here, else the nearest link that is not farther than `allowed`."""
        if self.active is not None:
            return self.active
        if allowed is Kind.CLIENT:
            return None
        for link in self.links:
            if link.kind is Kind.SIBLING:
                return link
        return self.links[0] if allowed is Kind.REGION and self.links else None

    def is_visible(self, watcher: Kind) -> bool:
        """Workers tell each other of their own clients, relays of those of all their workers."""
        if watcher is Kind.SIBLING:
            return bool(self.connections)
        return bool(self.connections) or any(link.kind is Kind.SIBLING for link in self.links)


@dataclass(slots=True, eq=False)
class Connection:
    """A client, a relay that called us, or a link that we opened to a relay."""

    identity: ConnectionId
    kind: Kind
    raw: bytes
    member: Member | None
    bulk: FairQueue
    disco: FairQueue
    notices: dict[bytes, bytes] = field(default_factory=dict)
    """The last PeerGone or PeerPresent by peer: one that comes and goes while we stall takes one place."""
    waiting_since: float | None = None
    preferred: bool = False
    not_here_tokens: float = NOT_HERE_BURST
    not_here_at: float | None = None

    @property
    def queued_bytes(self) -> int:
        return self.bulk.size_bytes + self.disco.size_bytes
