"""What a relay knows of keys and connections. Values of the router; nobody else changes them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
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
    connections: tuple[Connection, ...] = ()
    links: tuple[Connection, ...] = ()
    """Ways to it through other relays."""
    reached: set[Member] | None = None
    """Members that got packets of this one and must hear of its end. Most clients idle: no set until then."""
    heard: set[Member] | None = None

    def note_sent_to(self, receiver: Member) -> None:
        """`receiver` got a packet of this member."""
        if self.reached is None:
            self.reached = {receiver}
        elif receiver in self.reached:
            return
        else:
            self.reached.add(receiver)
        if receiver.heard is None:
            receiver.heard = set()
        receiver.heard.add(self)

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
    bulk_limit: int
    disco_limit: int
    bulk: FairQueue | None = None
    disco: FairQueue | None = None
    """Made for the first packet: most clients idle."""
    notices: dict[bytes, bytes] | None = None
    """The last PeerGone or PeerPresent by peer: one that comes and goes while we stall takes one place."""
    waiting_since: float | None = None
    preferred: bool = False
    not_here_tokens: float = NOT_HERE_BURST
    not_here_at: float | None = None

    def notify(self, key: bytes, frame: bytes) -> None:
        """Tell it about a peer, in place of what it has not been told yet."""
        if self.notices is None:
            self.notices = {}
        self.notices[key] = frame

    def queue(self, is_disco: bool) -> FairQueue:
        """Where packets of this sort wait for it."""
        if is_disco:
            if self.disco is None:
                self.disco = FairQueue(self.disco_limit)
            return self.disco
        if self.bulk is None:
            self.bulk = FairQueue(self.bulk_limit)
        return self.bulk

    def take(self, max_bytes: int) -> list[bytes]:
        """About `max_bytes` of waiting packets, discovery first."""
        taken: list[bytes] = []
        if self.disco is not None and self.disco.size_bytes:
            before = self.disco.size_bytes
            taken = self.disco.take(max_bytes)
            max_bytes -= before - self.disco.size_bytes
        if self.bulk is not None:
            taken += self.bulk.take(max_bytes)
        return taken

    @property
    def queued_bytes(self) -> int:
        bulk, disco = self.bulk, self.disco
        return (bulk.size_bytes if bulk is not None else 0) + (disco.size_bytes if disco is not None else 0)

    @property
    def queued_packets(self) -> int:
        return sum(len(queue) for queue in (self.bulk, self.disco) if queue is not None)
