"""Who is connected to a relay, and where each packet goes. No I/O and no clock.

Several connections may use one key: all are kept, and the one that connected or sent last gets the traffic.
A client that received packets of a key is told when the last connection of that key ends, so that it forgets
the way.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NewType

from warren_wire import disco
from warren_wire.errors import LocalProtocolError
from warren_wire.keys import NodePublic

from . import frames
from .frames import PeerGoneReason
from .queues import BULK_BYTES, DISCO_BYTES, PacketQueue

ConnectionId = NewType("ConnectionId", int)

MAX_CONNECTIONS_PER_KEY: Final = 16
"""One machine has one or, while it moves, two; more only fill memory. The oldest is closed."""
MAX_QUEUED_BYTES: Final = 256 * 1024 * 1024
"""Of all clients together: many stalled receivers must not exhaust the host."""
NOT_HERE_PER_SECOND: Final = 1.0
NOT_HERE_BURST: Final = 3.0


class DropReason(enum.Enum):
    """Why a packet was not forwarded."""

    UNKNOWN_DESTINATION = "unknown_destination"
    QUEUE_FULL = "queue_full"
    DISCO_QUEUE_FULL = "disco_queue_full"
    MEMORY = "memory"
    DESTINATION_GONE = "destination_gone"


@dataclass(slots=True, eq=False)
class _Member:
    """One key with its connections, the active one last named."""

    raw: bytes
    active: _Connection | None = None
    connections: list[_Connection] = field(default_factory=list)
    reached: set[_Member] = field(default_factory=set)
    """Members that got packets of this one and must hear of its end."""
    heard: set[_Member] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Connection:
    identity: ConnectionId
    member: _Member
    bulk: PacketQueue
    disco: PacketQueue
    notices: dict[bytes, bytes] = field(default_factory=dict)
    """PeerGone frames by peer: a peer that comes and goes while we stall takes one place."""
    preferred: bool = False
    not_here_tokens: float = NOT_HERE_BURST
    not_here_at: float | None = None

    @property
    def queued_bytes(self) -> int:
        return self.bulk.size_bytes + self.disco.size_bytes


class Router:
    """Connections in, packets in, and per connection the bytes to write."""

    def __init__(
        self,
        *,
        bulk_bytes: int = BULK_BYTES,
        disco_bytes: int = DISCO_BYTES,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        self._bulk_bytes = bulk_bytes
        self._disco_bytes = disco_bytes
        self._max_queued = max_queued_bytes
        self._members: dict[bytes, _Member] = {}
        self._connections: dict[ConnectionId, _Connection] = {}
        self._due: set[ConnectionId] = set()
        self._queued = 0
        self._last_identity = 0
        self.forwarded_packets = 0
        self.forwarded_bytes = 0
        self.drops: Counter[DropReason] = Counter()
        self.peer_gone: Counter[PeerGoneReason] = Counter()
        self.home_clients = 0

    @property
    def clients(self) -> int:
        """Keys with at least one connection."""
        return len(self._members)

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def queued_bytes(self) -> int:
        return self._queued

    def is_connected(self, key: NodePublic) -> bool:
        return key.raw in self._members

    def key_of(self, identity: ConnectionId) -> NodePublic:
        return NodePublic(self._connection(identity).member.raw)

    def connect(self, key: NodePublic) -> tuple[ConnectionId, list[ConnectionId]]:
        """A new connection of `key`, which gets its traffic from now on, and those too many, to be closed."""
        self._last_identity += 1
        identity = ConnectionId(self._last_identity)
        member = self._members.setdefault(key.raw, _Member(key.raw))
        connection = _Connection(
            identity, member, PacketQueue(self._bulk_bytes), PacketQueue(self._disco_bytes)
        )
        member.connections.append(connection)
        member.active = connection
        self._connections[identity] = connection
        surplus = member.connections[:-MAX_CONNECTIONS_PER_KEY]
        return identity, [old.identity for old in surplus]

    def disconnect(self, identity: ConnectionId) -> None:
        """The connection has ended; harmless when repeated."""
        connection = self._connections.pop(identity, None)
        if connection is None:
            return
        self._due.discard(identity)
        self._queued -= connection.queued_bytes
        self.drops[DropReason.DESTINATION_GONE] += len(connection.bulk) + len(connection.disco)
        self.home_clients -= connection.preferred
        member = connection.member
        member.connections.remove(connection)
        if not member.connections:
            self._forget(member)
        elif member.active is connection:
            member.active = member.connections[-1]

    def note_active(self, identity: ConnectionId) -> None:
        """The connection sent something: of several with one key it is the one in use."""
        connection = self._connection(identity)
        connection.member.active = connection

    def note_preferred(self, identity: ConnectionId, preferred: bool) -> None:
        connection = self._connection(identity)
        self.home_clients += preferred - connection.preferred
        connection.preferred = preferred

    def forward(self, identity: ConnectionId, destination: bytes, packet: bytes, now: float) -> None:
        """Queue a packet for the client with the raw key `destination`, or drop and count it."""
        sender = self._connection(identity)
        member = self._members.get(destination)
        is_disco = packet.startswith(disco.MAGIC)
        if member is None:
            self.drops[DropReason.UNKNOWN_DESTINATION] += 1
            if is_disco:
                self._tell_not_here(sender, destination, now)
            return
        receiver = member.active
        assert receiver is not None, "a member has an active connection"
        frame = frames.packet_header(frames.FrameType.RECV_PACKET, sender.member.raw, len(packet)) + packet
        if self._queued + len(frame) > self._max_queued:
            self.drops[DropReason.MEMORY] += 1
            return
        queue = receiver.disco if is_disco else receiver.bulk
        before = queue.size_bytes
        dropped = queue.put(frame)
        self._queued += queue.size_bytes - before
        if dropped:
            self.drops[DropReason.DISCO_QUEUE_FULL if is_disco else DropReason.QUEUE_FULL] += dropped
        if member not in sender.member.reached:
            sender.member.reached.add(member)
            member.heard.add(sender.member)
        self._due.add(receiver.identity)

    def take_due(self) -> list[ConnectionId]:
        """Connections that got something to write since the last call."""
        due = list(self._due)
        self._due.clear()
        return due

    def take(self, identity: ConnectionId, max_bytes: int) -> bytes:
        """About `max_bytes` of what waits for a connection: notices, then discovery, then the rest."""
        connection = self._connection(identity)
        taken = list(connection.notices.values())
        connection.notices.clear()
        before = connection.queued_bytes
        packets = connection.disco.take(max_bytes)
        packets += connection.bulk.take(max_bytes - (before - connection.queued_bytes))
        moved = before - connection.queued_bytes
        self._queued -= moved
        self.forwarded_packets += len(packets)
        self.forwarded_bytes += moved
        return b"".join(taken + packets)

    def has_waiting(self, identity: ConnectionId) -> bool:
        connection = self._connection(identity)
        return bool(connection.notices) or connection.queued_bytes > 0

    def _connection(self, identity: ConnectionId) -> _Connection:
        try:
            return self._connections[identity]
        except KeyError:
            raise LocalProtocolError("no such connection") from None

    def _forget(self, member: _Member) -> None:
        del self._members[member.raw]
        for receiver in member.reached:
            receiver.heard.discard(member)
            for connection in receiver.connections:
                self._tell_gone(connection, member.raw, PeerGoneReason.DISCONNECTED)
        for source in member.heard:
            source.reached.discard(member)

    def _tell_not_here(self, sender: _Connection, destination: bytes, now: float) -> None:
        passed = 0.0 if sender.not_here_at is None else max(0.0, now - sender.not_here_at)
        sender.not_here_at = now
        sender.not_here_tokens = min(NOT_HERE_BURST, sender.not_here_tokens + passed * NOT_HERE_PER_SECOND)
        if sender.not_here_tokens >= 1.0:
            sender.not_here_tokens -= 1.0
            self._tell_gone(sender, destination, PeerGoneReason.NOT_HERE)

    def _tell_gone(self, connection: _Connection, key: bytes, reason: PeerGoneReason) -> None:
        self.peer_gone[reason] += 1
        connection.notices[key] = frames.peer_gone(key, reason)
        self._due.add(connection.identity)
