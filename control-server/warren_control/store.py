"""The current snapshot and its one writer. Readers take `store.snapshot` and never wait.

Every write goes through `writing()`: the change others must be told is derived from what really differs,
and durable records are stored before anyone sees the new snapshot. Reports of nodes are stored a little
later and together; presence and endpoints are not stored at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, Protocol

from warren_control import model
from warren_control.changes import NOTHING, Change, merge, whole_and_self
from warren_control.db.repository import Write
from warren_control.differences import difference
from warren_control.enforcement.approvals import approved_anew, with_approvals
from warren_control.enforcement.enforcer import Enforcer
from warren_control.errors import UnavailableError
from warren_control.model import ApiToken, AuthKey, Node, Snapshot, User
from warren_control.netmap.views import Views
from warren_control.policies.versions import PolicyVersion
from warren_control.policy.live import LivePolicy
from warren_wire.control.messages import DERPRegion

logger = logging.getLogger(__name__)

# How long reports may wait for others to be stored with them.
FLUSH_SECONDS: Final = 2.0


class Records(Protocol):
    """Where records are kept."""

    async def write(self, write: Write) -> None:
        """Stores all of it or nothing."""
        ...

    async def find_key(self, secret_hash: str) -> AuthKey | None:
        """A key that another process stored."""
        ...


def utc_now() -> datetime:
    return datetime.now(UTC)


class Writer:
    """The right to write; taken with `Store.writing()`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def snapshot(self) -> Snapshot:
        return self._store.snapshot

    async def put(
        self, *nodes: Node, keys: Sequence[AuthKey] = (), durable: bool = True, dirty: bool = False
    ) -> None:
        """Replaces nodes (and keys); `dirty` ones are stored later when not stored now."""
        before = self.snapshot
        nodes = tuple(self._with_approvals(before.nodes.get(node.id), node) for node in nodes)
        after, moved = model.with_nodes(before, put=nodes)
        for key in keys:
            after = model.with_key(after, key)
        if durable:
            await self._store.records.write(
                Write(
                    nodes=nodes,
                    keys=keys,
                    next_node_id=after.next_node_id,
                    primaries=after.primaries if moved else None,
                )
            )
        change = whole_and_self(*moved) if moved else NOTHING
        for node in nodes:
            change = merge(change, difference(before.nodes.get(node.id), node))
        self._store.swap(after, change, nodes)
        if not durable:
            self._store.mark_dirty([node.id for node in nodes] if dirty else [], primaries=bool(moved))

    def _with_approvals(self, old: Node | None, node: Node) -> Node:
        """The node with routes approved that the policy approves by itself, if it announces them only now."""
        if not node.advertised_routes or (old is not None and _announces_alike(old, node)):
            return node
        return with_approvals(node, self._store.enforcer.approved(node, node.advertised_routes))

    async def remove(self, node: Node, now: datetime) -> Node:
        """Deletes a node; what still polls with its key is told that it is logged out."""
        gone = model.tombstone(node, now)
        after, moved = model.with_nodes(self.snapshot, drop=(gone,))
        await self._store.records.write(Write(nodes=(gone,), primaries=after.primaries if moved else None))
        self._store.swap(after, whole_and_self(node.id, *moved), (gone,))
        return gone

    async def forget_removed(self, now: datetime) -> None:
        """Nodes that were deleted long ago are told nothing any more."""
        old = [node for node in self.snapshot.removed.values() if model.is_forgotten(node, now)]
        if old:
            await self._store.records.write(Write(dropped_nodes=[node.id for node in old]))
            self._store.swap(model.without_removed(self.snapshot, old), NOTHING)

    async def put_policy(self, version: PolicyVersion, live: LivePolicy | None) -> None:
        """Another policy, or none, is in force from now on; routes that it approves are approved."""
        enforcer, before = self._store.enforcer, self.snapshot
        if live is not None:
            live.update(enforcer.network(before, live.index.document))
        told = [node.id for node in before.nodes.values() if node.online]
        # Looks at every connected node; nobody else can write meanwhile.
        change = await asyncio.to_thread(enforcer.difference, live, told)
        approved = approved_anew(live, before)
        after, moved = model.with_nodes(before, put=approved)
        await self._store.records.write(
            Write(nodes=approved, primaries=after.primaries if moved else None, policy=version)
        )
        relays = enforcer.relays
        enforcer.put(live, before)
        change = merge(change, Change(derp_map=enforcer.relays != relays))
        for node in approved:
            change = merge(change, difference(before.nodes[node.id], node))
        self._store.swap(after, merge(change, whole_and_self(*moved)), approved)

    async def put_key(self, key: AuthKey) -> None:
        await self._store.records.write(Write(keys=(key,)))
        self._store.swap(model.with_key(self.snapshot, key), NOTHING)

    async def learn_key(self, secret_hash: str) -> bool:
        """Takes in a key that the command line stored beside the running server; whether there was one."""
        key = await self._store.records.find_key(secret_hash)
        if key is None or key.id in self.snapshot.keys:
            return False
        self._store.swap(model.with_key(self.snapshot, key), NOTHING)
        return True

    async def remove_key(self, key_id: str) -> None:
        await self._store.records.write(Write(dropped_keys=(key_id,)))
        self._store.swap(model.without_key(self.snapshot, key_id), NOTHING)

    async def put_user(self, user: User) -> None:
        """Adds or changes a user; the machines of one who is renamed are shown anew."""
        before = self.snapshot
        old = before.users.get(user.id)
        after = model.with_users(before, {**before.users, user.id: user})
        await self._store.records.write(Write(users=(user,), next_user_id=after.next_user_id))
        renamed = old is not None and (old.name, old.display_name) != (user.name, user.display_name)
        owned = [node.id for node in before.nodes.values() if node.owner == user.id] if renamed else []
        self._store.swap(after, whole_and_self(*owned))

    async def remove_user(self, user: User) -> None:
        """Removes a user and that user's own keys."""
        before = self.snapshot
        users = {number: known for number, known in before.users.items() if number != user.id}
        own = [key.id for key in before.keys.values() if key.owner == user.id]
        await self._store.records.write(Write(dropped_users=(user.id,), dropped_keys=own))
        after = model.with_users(before, users)
        for key_id in own:
            after = model.without_key(after, key_id)
        self._store.swap(after, NOTHING)

    async def put_token(self, token: ApiToken) -> None:
        await self._store.records.write(Write(tokens=(token,)))
        tokens = {**self.snapshot.tokens, token.id: token}
        self._store.swap(model.with_tokens(self.snapshot, tokens), NOTHING)

    async def remove_token(self, token_id: str) -> None:
        await self._store.records.write(Write(dropped_tokens=(token_id,)))
        tokens = {known: token for known, token in self.snapshot.tokens.items() if known != token_id}
        self._store.swap(model.with_tokens(self.snapshot, tokens), NOTHING)

    async def put_regions(self, regions: Mapping[int, DERPRegion]) -> None:
        await self._store.records.write(Write(regions=regions))
        self._store.swap(model.with_regions(self.snapshot, regions), Change(derp_map=True))


def _ignore(_before: Snapshot, _nodes: Sequence[Node]) -> None:
    """Nobody wants to know."""


def _announces_alike(old: Node, new: Node) -> bool:
    return (old.advertised_routes, old.tags, old.owner) == (new.advertised_routes, new.tags, new.owner)


class Store:
    """Holds the snapshot, serialises writers, stores what was reported."""

    def __init__(
        self,
        records: Records,
        snapshot: Snapshot,
        publish: Callable[[Change], None],
        enforcer: Enforcer | None = None,
    ) -> None:
        self.records = records
        self.snapshot = snapshot
        self.enforcer = enforcer or Enforcer(snapshot)
        self._publish = publish
        self.on_nodes: Callable[[Snapshot, Sequence[Node]], None] = _ignore
        """Told the snapshot before and the nodes that differ from it or are gone."""
        self._lock = asyncio.Lock()
        self._dirty: set[int] = set()
        self._dirty_primaries = False
        self._has_dirty = asyncio.Event()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writer]:
        """One writer at a time; the snapshot read inside is the one that is replaced."""
        async with self._lock:
            yield Writer(self)

    @property
    def views(self) -> Views:
        """What each node may be shown of the current snapshot."""
        return self.enforcer.views

    def swap(self, snapshot: Snapshot, change: Change, nodes: Sequence[Node] = ()) -> None:
        """Only for `Writer`. `nodes` are those that differ between the snapshots, or that are gone."""
        follows = self.enforcer.follow(snapshot, [node.id for node in nodes], change)
        before, self.snapshot = self.snapshot, snapshot
        self.on_nodes(before, nodes)
        self._publish(merge(change, follows))

    def mark_dirty(self, nodes: Sequence[int], *, primaries: bool) -> None:
        """Only for `Writer`."""
        self._dirty.update(nodes)
        self._dirty_primaries |= primaries
        if self._dirty or self._dirty_primaries:
            self._has_dirty.set()

    async def run(self) -> None:
        """Stores reports for as long as it runs; a failing database is tried again."""
        while True:
            await self._has_dirty.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except UnavailableError:
                # What is to be stored stays marked, and is tried again after the same pause.
                continue

    async def flush(self) -> None:
        """Stores what was reported since the last time."""
        async with self._lock:
            nodes = [self.snapshot.nodes[number] for number in self._dirty if number in self.snapshot.nodes]
            primaries = self.snapshot.primaries if self._dirty_primaries else None
            if nodes or primaries is not None:
                await self.records.write(Write(nodes=nodes, primaries=primaries))
            self._dirty.clear()
            self._dirty_primaries = False
            self._has_dirty.clear()
