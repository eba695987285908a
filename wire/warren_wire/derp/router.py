"""A relay's switchboard: who is connected, where a packet goes, what waits for whom. No I/O and no clock.

A receiver that stalls fills its own bounded queue and slows nobody. When the last connection of a key ends,
everyone who got packets of it is told, so that no route is kept to it.

Several relays of a region, and several worker processes of a relay, form one switchboard: each watches the
others' clients over a link of its own and passes packets on through it. A packet goes from worker to relay to
worker at most: what came from a worker is delivered here or dropped, what came from a relay may go on to a
worker, and nothing goes from relay to relay twice.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from typing import Final

from warren_wire import disco
from warren_wire.errors import LocalProtocolError
from warren_wire.keys import NodePublic

from . import frames
from .frames import PeerGoneReason
from .members import NOT_HERE_BURST, Connection, ConnectionId, Kind, Member
from .queues import BULK_BYTES, DISCO_BYTES, LINK_BYTES

__all__ = ["ConnectionId", "DropReason", "Kind", "Router"]

MAX_CONNECTIONS_PER_KEY: Final = 16
"""One machine has one or, while it moves, two; more only fill memory. The oldest is closed."""
MAX_QUEUED_BYTES: Final = 256 * 1024 * 1024
"""Of all clients together: many stalled receivers must not exhaust the host."""
MAX_LINK_KEYS: Final = 200_000
"""Clients that one link may announce."""
NOT_HERE_PER_SECOND: Final = 1.0

_REACH: Final = {Kind.CLIENT: Kind.REGION, Kind.REGION: Kind.SIBLING, Kind.SIBLING: Kind.CLIENT}
"""How far a packet may go by what it came from."""


class DropReason(enum.Enum):
    """Why a packet was not forwarded."""

    UNKNOWN_DESTINATION = "unknown_destination"
    UNKNOWN_FORWARDED = "unknown_forwarded"
    QUEUE_FULL = "queue_full"
    DISCO_QUEUE_FULL = "disco_queue_full"
    MEMORY = "memory"
    DESTINATION_GONE = "destination_gone"


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
        self._members: dict[bytes, Member] = {}
        self._connections: dict[ConnectionId, Connection] = {}
        self._watchers: dict[ConnectionId, Connection] = {}
        self._link_keys: dict[ConnectionId, set[bytes]] = {}
        self._due: set[ConnectionId] = set()
        self._queued = 0
        self._last_identity = 0
        self.clients = 0
        """Keys with at least one connection here."""
        self.forwarded_packets = 0
        self.forwarded_bytes = 0
        self.forwarded_in = 0
        """Packets that came from other relays."""
        self.forwarded_out = 0
        """Packets queued for other relays."""
        self.drops: Counter[DropReason] = Counter()
        self.peer_gone: Counter[PeerGoneReason] = Counter()
        self.home_clients = 0

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    @property
    def remote_clients(self) -> int:
        """Keys that are only reached through other relays."""
        return len(self._members) - self.clients

    @property
    def queued_bytes(self) -> int:
        return self._queued

    def is_connected(self, key: NodePublic) -> bool:
        return bool(self.connections_of(key.raw))

    def key_of(self, identity: ConnectionId) -> NodePublic:
        return NodePublic(self._connection(identity).raw)

    def connections_of(self, raw: bytes) -> list[ConnectionId]:
        """The connections of a key here."""
        member = self._members.get(raw)
        return [each.identity for each in member.connections] if member is not None else []

    def connect(self, key: NodePublic) -> tuple[ConnectionId, list[ConnectionId]]:
        """A new connection of `key`, which gets its traffic from now on, and those too many, to be closed."""
        member = self._member(key.raw)
        connection = self._new(Kind.CLIENT, key.raw, member)
        before = self._visibility(member)
        self.clients += not member.connections
        member.connections += (connection,)
        member.active = connection
        self._tell_watchers(member, before)
        surplus = member.connections[:-MAX_CONNECTIONS_PER_KEY]
        return connection.identity, [old.identity for old in surplus]

    def connect_relay(self, key: NodePublic, kind: Kind) -> ConnectionId:
        """A relay (or worker) has called us, or we called it. Its key names nobody that packets can reach."""
        return self._new(kind, key.raw, None).identity

    def watch(self, identity: ConnectionId) -> None:
        """A relay wants to hear who is here, and whoever comes and goes."""
        watcher = self._connection(identity)
        self._watchers[identity] = watcher
        for member in self._members.values():
            if member.is_visible(watcher.kind):
                watcher.notify(member.raw, frames.peer_present(member.raw))
        self._due.add(identity)

    def link_present(self, link: ConnectionId, raw: bytes) -> None:
        """The relay at the other end of `link` has a client with this key."""
        connection = self._connection(link)
        keys = self._link_keys.setdefault(link, set())
        if raw in keys or len(keys) >= MAX_LINK_KEYS:
            return
        keys.add(raw)
        member = self._member(raw)
        before = self._visibility(member)
        member.links += (connection,)
        self._tell_watchers(member, before)

    def link_gone(self, link: ConnectionId, raw: bytes) -> None:
        """The client has left the relay at the other end of `link`."""
        connection = self._connection(link)
        keys = self._link_keys.get(link, set())
        if raw in keys:
            keys.discard(raw)
            self._unlink(connection, self._members[raw])

    def disconnect(self, identity: ConnectionId) -> None:
        """The connection has ended; harmless when repeated."""
        connection = self._connections.pop(identity, None)
        if connection is None:
            return
        self._due.discard(identity)
        self._watchers.pop(identity, None)
        self._queued -= connection.queued_bytes
        self.drops[DropReason.DESTINATION_GONE] += connection.queued_packets
        self.home_clients -= connection.preferred
        for raw in self._link_keys.pop(identity, ()):
            self._unlink(connection, self._members[raw])
        member = connection.member
        if member is None:
            return
        before = self._visibility(member)
        member.connections = tuple(each for each in member.connections if each is not connection)
        if not member.connections:
            member.active = None
            self.clients -= 1
        elif member.active is connection:
            member.active = member.connections[-1]
        self._tell_watchers(member, before)
        self._forget_if_gone(member)

    def note_active(self, identity: ConnectionId) -> None:
        """The connection sent something: of several with one key it is the one in use."""
        connection = self._connection(identity)
        if connection.member is not None:
            connection.member.active = connection

    def note_preferred(self, identity: ConnectionId, preferred: bool) -> None:
        connection = self._connection(identity)
        self.home_clients += preferred - connection.preferred
        connection.preferred = preferred

    def forward(self, identity: ConnectionId, destination: bytes, packet: bytes, now: float) -> None:
        """Queue a packet for the client with the raw key `destination`, or drop and count it."""
        self.forward_all(identity, [destination + packet], now)

    def forward_all(self, identity: ConnectionId, payloads: list[bytes], now: float) -> None:
        """Queue packets, each behind the raw key of its destination; those in a row for one go as one."""
        sender = self._connection(identity)
        magic, key_bytes = disco.MAGIC, frames.KEY_BYTES
        first, count = 0, len(payloads)
        while first < count:
            payload = payloads[first]
            destination, is_disco = payload[:key_bytes], payload.startswith(magic, key_bytes)
            after = first + 1
            while (
                after < count
                and payloads[after].startswith(destination)
                and payloads[after].startswith(magic, key_bytes) is is_disco
            ):
                after += 1
            self._forward_run(sender, destination, payloads[first:after], is_disco, now)
            first = after

    def _forward_run(
        self, sender: Connection, destination: bytes, payloads: list[bytes], is_disco: bool, now: float
    ) -> None:
        member = self._members.get(destination)
        way = member.way(Kind.REGION) if member is not None else None
        if member is None or way is None:
            self.drops[DropReason.UNKNOWN_DESTINATION] += len(payloads)
            if is_disco:
                for _ in payloads:
                    self._tell_not_here(sender, destination, now)
            return
        origin = sender.member
        if origin is not None:
            origin.note_sent_to(member)
        self._queue(way, sender.raw, destination, payloads, is_disco, now)

    def deliver(
        self, identity: ConnectionId, source: bytes, destination: bytes, packet: bytes, now: float
    ) -> None:
        """Queue a packet that another relay or worker passed on."""
        self.forwarded_in += 1
        member = self._members.get(destination)
        way = member.way(_REACH[self._connection(identity).kind]) if member is not None else None
        if member is None or way is None:
            self.drops[DropReason.UNKNOWN_FORWARDED] += 1
            return
        origin = self._members.get(source)
        if origin is not None:
            origin.note_sent_to(member)
        self._queue(way, source, destination, [destination + packet], packet.startswith(disco.MAGIC), now)

    def take_due(self) -> list[ConnectionId]:
        """Connections that got something to write since the last call."""
        due = list(self._due)
        self._due.clear()
        return due

    def take(self, identity: ConnectionId, max_bytes: int) -> bytes:
        """About `max_bytes` of what waits for a connection: notices, then discovery, then the rest."""
        connection = self._connection(identity)
        notices, connection.notices = connection.notices, None
        before = connection.queued_bytes
        packets = connection.take(max_bytes)
        left = connection.queued_bytes
        self._queued -= before - left
        self.forwarded_packets += len(packets)
        self.forwarded_bytes += before - left
        if not left:
            connection.waiting_since = None
        return b"".join((*notices.values(), *packets)) if notices else b"".join(packets)

    def has_waiting(self, identity: ConnectionId) -> bool:
        connection = self._connection(identity)
        return bool(connection.notices) or connection.queued_bytes > 0

    def waiting_since(self, identity: ConnectionId) -> float | None:
        """Since when packets have been waiting for a connection without a break."""
        return self._connection(identity).waiting_since

    def _queue(
        self,
        way: Connection,
        source: bytes,
        destination: bytes,
        payloads: list[bytes],
        is_disco: bool,
        now: float,
    ) -> None:
        """`payloads` begin with the destination's key, which makes room for the source's."""
        key_bytes = frames.KEY_BYTES
        if way.kind is Kind.CLIENT:
            between, kind = source, frames.RECV_PACKET_BYTE
        else:
            between, kind = source + destination, frames.FORWARD_PACKET_BYTE
            self.forwarded_out += len(payloads)
        extra = len(between) - key_bytes
        ready, size, length, header = [], 0, -1, b""
        for payload in payloads:
            if len(payload) != length:
                length = len(payload)
                header = b"%b%b%b" % (kind, (length + extra).to_bytes(4, "big"), between)
            frame = header + payload[key_bytes:]
            size += len(frame)
            if self._queued + size > self._max_queued:
                size -= len(frame)
                self.drops[DropReason.MEMORY] += 1
                continue
            ready.append(frame)
        if not ready:
            return
        queue = way.queue(is_disco)
        before = queue.size_bytes
        dropped = queue.put(source, ready, size)
        self._queued += queue.size_bytes - before
        if dropped:
            self.drops[DropReason.DISCO_QUEUE_FULL if is_disco else DropReason.QUEUE_FULL] += dropped
        if way.waiting_since is None:
            way.waiting_since = now
        self._due.add(way.identity)

    def _new(self, kind: Kind, raw: bytes, member: Member | None) -> Connection:
        self._last_identity += 1
        bulk = self._bulk_bytes if kind is Kind.CLIENT else LINK_BYTES
        identity = ConnectionId(self._last_identity)
        connection = Connection(identity, kind, raw, member, bulk, self._disco_bytes)
        self._connections[identity] = connection
        return connection

    def _connection(self, identity: ConnectionId) -> Connection:
        try:
            return self._connections[identity]
        except KeyError:
            raise LocalProtocolError("no such connection") from None

    def _member(self, raw: bytes) -> Member:
        member = self._members.get(raw)
        if member is None:
            member = self._members[raw] = Member(raw)
        return member

    def _unlink(self, link: Connection, member: Member) -> None:
        before = self._visibility(member)
        member.links = tuple(each for each in member.links if each is not link)
        self._tell_watchers(member, before)
        self._forget_if_gone(member)

    def _visibility(self, member: Member) -> tuple[bool, bool]:
        return member.is_visible(Kind.SIBLING), member.is_visible(Kind.REGION)

    def _tell_watchers(self, member: Member, before: tuple[bool, bool]) -> None:
        after = self._visibility(member)
        if after == before:
            return
        for watcher in self._watchers.values():
            index = 0 if watcher.kind is Kind.SIBLING else 1
            if before[index] != after[index]:
                gone = frames.peer_gone(member.raw, PeerGoneReason.DISCONNECTED)
                watcher.notify(member.raw, frames.peer_present(member.raw) if after[index] else gone)
                self._due.add(watcher.identity)

    def _forget_if_gone(self, member: Member) -> None:
        if member.connections or member.links:
            return
        del self._members[member.raw]
        for receiver in member.reached or ():
            if receiver.heard is not None:
                receiver.heard.discard(member)
            self._tell_gone(receiver.connections, member.raw, PeerGoneReason.DISCONNECTED)
        for source in member.heard or ():
            if source.reached is not None:
                source.reached.discard(member)

    def _tell_not_here(self, sender: Connection, destination: bytes, now: float) -> None:
        passed = 0.0 if sender.not_here_at is None else max(0.0, now - sender.not_here_at)
        sender.not_here_at = now
        sender.not_here_tokens = min(NOT_HERE_BURST, sender.not_here_tokens + passed * NOT_HERE_PER_SECOND)
        if sender.not_here_tokens >= 1.0:
            sender.not_here_tokens -= 1.0
            self._tell_gone([sender], destination, PeerGoneReason.NOT_HERE)

    def _tell_gone(self, connections: Iterable[Connection], key: bytes, reason: PeerGoneReason) -> None:
        for connection in connections:
            self.peer_gone[reason] += 1
            connection.notify(key, frames.peer_gone(key, reason))
            self._due.add(connection.identity)
