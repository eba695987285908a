"""The records the server keeps and the snapshot of all of them. Immutable values; nothing here does I/O."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Final, TypeVar

from warren_control import routes
from warren_control.allocation import Used
from warren_control.mappings import left_out, put_in
from warren_control.routes import Prefix
from warren_wire.control.messages import DERPRegion, Hostinfo, NetInfo
from warren_wire.keys import DiscoPublic, MachinePublic, NodePublic

K = TypeVar("K")

# The owner of whatever names no other.
MEMBERS_USER_ID: Final = 1
# The owner stock clients expect for tagged machines.
TAGGED_USER_ID: Final = 2147455555
# How long the address of a deleted node is given to nobody else.
ADDRESS_REST: Final = timedelta(hours=1)
# How long a deleted node that still polls is told that it is logged out.
REMOVED_KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class User:
    """A person who owns machines. Only local ones so far: an outside login will find or make one of these."""

    id: int
    name: str
    """What they log in as; unique, lower case."""
    display_name: str
    created: datetime
    email: str = ""
    """By which a policy may name them."""
    roles: frozenset[str] = frozenset()
    """Values of `policy.network.Role`."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the mesh, or one user's part in it: a machine has a node for each of its users."""

    id: int
    machine_key: MachinePublic
    node_key: NodePublic
    name: str
    """DNS label, unique in the mesh."""
    v4: IPv4Address | None
    v6: IPv6Address | None
    """At least one of the two."""
    created: datetime
    owner: int = MEMBERS_USER_ID
    disco_key: DiscoPublic | None = None
    hostinfo: Hostinfo = field(default_factory=Hostinfo)
    net_info: NetInfo | None = None
    """Kept when a later Hostinfo has none: stock clients leave it out for up to 80 s after a login."""
    endpoints: tuple[str, ...] = ()
    capability_version: int = 0
    expiry: datetime | None = None
    tags: tuple[str, ...] = ()
    approved_routes: tuple[Prefix, ...] = ()
    advertised_routes: tuple[Prefix, ...] = ()
    auth_key_id: str | None = None
    """The key it joined with; routes inside that key's prefixes are approved by themselves."""
    name_pinned: bool = False
    """A person chose the name: the machine's own host name no longer changes it."""
    ephemeral: bool = False
    disabled: bool = False
    expiry_disabled: bool = False
    """It need not log in again, whatever the mesh's rule says."""
    online: bool = False
    last_seen: datetime | None = None
    reported: bool = False
    """The machine told its endpoints and disco key to this process; until then a poll fills them in."""
    deleted_at: datetime | None = None

    @property
    def stable_id(self) -> str:
        return f"n{self.id}"

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Its own addresses, IPv4 first."""
        return tuple(address for address in (self.v4, self.v6) if address is not None)

    @property
    def home_region(self) -> int:
        """The relay region where it listens; 0 when unknown."""
        return (self.net_info.preferred_derp or 0) if self.net_info is not None else 0

    @property
    def user_id(self) -> int:
        """Whom clients are shown as its owner."""
        return TAGGED_USER_ID if self.tags else self.owner

    @property
    def effective_routes(self) -> tuple[Prefix, ...]:
        return routes.effective(self.advertised_routes, self.approved_routes)

    def expired(self, now: datetime) -> bool:
        return self.expiry is not None and self.expiry <= now


@dataclass(frozen=True, slots=True)
class AuthKey:
    """A pre-auth key. Only the SHA-256 of its text is kept; the secret is random, so it needs no salt."""

    id: str
    secret_hash: str
    created: datetime
    owner: int = MEMBERS_USER_ID
    reusable: bool = False
    ephemeral: bool = False
    expiry: datetime | None = None
    tags: tuple[str, ...] = ()
    approve_routes: tuple[Prefix, ...] = ()
    used_at: datetime | None = None
    bootstrap: bool = False
    """Given by the configuration, not made through the API."""


MEMBERS: Final = User(MEMBERS_USER_ID, "members", "Members", datetime.fromtimestamp(0, UTC))


class Scope(enum.Enum):
    """What a token of the admin API opens."""

    ADMIN = "admin"
    READ_ONLY = "read-only"
    JOIN_ONLY = "join-only"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token of the admin API; only the hash of its text is kept."""

    id: str
    secret_hash: str
    name: str
    scope: Scope
    created: datetime
    expiry: datetime | None = None


@dataclass(frozen=True, slots=True)
class NamesOfOthers:
    """The names in use, seen from a node: its own is free to it."""

    by_name: Mapping[str, int]
    node: int

    def __contains__(self, name: object) -> bool:
        owner = self.by_name.get(name) if isinstance(name, str) else None
        return owner is not None and owner != self.node


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the server knows at one moment."""

    revision: int = 0
    next_node_id: int = 1
    next_user_id: int = MEMBERS_USER_ID + 1
    users: Mapping[int, User] = field(default_factory=lambda: MappingProxyType({MEMBERS_USER_ID: MEMBERS}))
    nodes: Mapping[int, Node] = field(default_factory=lambda: MappingProxyType({}))
    by_node_key: Mapping[NodePublic, int] = field(default_factory=lambda: MappingProxyType({}))
    by_machine_key: Mapping[tuple[MachinePublic, int], int] = field(
        default_factory=lambda: MappingProxyType({})
    )
    by_name: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    by_v4: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    by_v6: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """By the number that is the address."""
    resting: Mapping[int, datetime] = field(default_factory=lambda: MappingProxyType({}))
    """Addresses of deleted nodes, and until when nobody gets them."""
    removed: Mapping[NodePublic, Node] = field(default_factory=lambda: MappingProxyType({}))
    """Deleted nodes by key: what still polls with one is told that it is logged out."""
    keys: Mapping[str, AuthKey] = field(default_factory=lambda: MappingProxyType({}))
    by_secret_hash: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tokens: Mapping[str, ApiToken] = field(default_factory=lambda: MappingProxyType({}))
    regions: Mapping[int, DERPRegion] = field(default_factory=lambda: MappingProxyType({}))
    """Relay regions added through the API."""
    primaries: Mapping[Prefix, int] = field(default_factory=lambda: MappingProxyType({}))
    """Which node serves each routed prefix."""

    def node_by_key(self, key: NodePublic) -> Node | None:
        found = self.by_node_key.get(key)
        return None if found is None else self.nodes[found]

    def node_by_machine(self, key: MachinePublic, owner: int) -> Node | None:
        found = self.by_machine_key.get((key, owner))
        return None if found is None else self.nodes[found]

    def user_by_name(self, name: str) -> User | None:
        return next((user for user in self.users.values() if user.name == name), None)

    def key_by_hash(self, secret_hash: str) -> AuthKey | None:
        found = self.by_secret_hash.get(secret_hash)
        return None if found is None else self.keys[found]

    def served_routes(self, node: Node) -> tuple[Prefix, ...]:
        """Routes that peers send to this node: exit routes, and prefixes it is elected for."""
        return tuple(
            route
            for route in node.effective_routes
            if route in routes.DEFAULTS or self.primaries.get(route) == node.id
        )

    def primary_routes(self, node: Node) -> tuple[Prefix, ...]:
        return tuple(route for route in self.served_routes(node) if route not in routes.DEFAULTS)

    def used_addresses(self, now: datetime) -> Used:
        """Addresses of nodes, and of recently deleted ones that a peer may still hold in its map."""
        resting = {number for number, until in self.resting.items() if now < until}
        return Used(self.by_v4, self.by_v6, resting)

    def names(self, without: int = 0) -> NamesOfOthers:
        return NamesOfOthers(self.by_name, without)


def offers(nodes: Mapping[int, Node]) -> dict[Prefix, dict[int, bool]]:
    """Every subnet route in force and the nodes that offer it, with their presence."""
    found: dict[Prefix, dict[int, bool]] = {}
    for node in nodes.values():
        if not node.advertised_routes or node.disabled:
            continue
        for route in node.effective_routes:
            if route not in routes.DEFAULTS:
                found.setdefault(route, {})[node.id] = node.online
    return found


def with_nodes(
    snapshot: Snapshot, put: tuple[Node, ...] = (), drop: tuple[Node, ...] = ()
) -> tuple[Snapshot, frozenset[int]]:
    """The snapshot with nodes replaced or moved to the removed ones, and ids whose served routes moved."""
    olds = [old for node in (*put, *drop) if (old := snapshot.nodes.get(node.id)) is not None]
    nodes, removed, resting = snapshot.nodes, snapshot.removed, snapshot.resting
    if drop:
        nodes = left_out(nodes, {node.id for node in drop})
        removed = put_in(removed, {node.node_key: node for node in drop})
        resting = _resting(resting, drop)
    nodes = put_in(nodes, {node.id: node for node in put})
    before = snapshot.primaries
    routers = any(node.advertised_routes for node in (*put, *drop, *olds))
    elected = routes.elect(offers(nodes), before) if routers else before
    moved = {
        owner
        for prefix in elected.keys() | before.keys()
        if elected.get(prefix) != before.get(prefix)
        for owner in (elected.get(prefix), before.get(prefix))
        if owner is not None
    }

    def reindexed(index: Mapping[K, int], keys: Callable[[Node], Iterable[K]]) -> Mapping[K, int]:
        former = {key for old in olds for key in keys(old)}
        now = {key: node.id for node in put for key in keys(node)}
        return put_in(left_out(index, former - now.keys()), now)

    following = dataclasses.replace(
        snapshot,
        revision=snapshot.revision + 1,
        next_node_id=max(snapshot.next_node_id, *(node.id + 1 for node in put), 1),
        nodes=nodes,
        by_node_key=reindexed(snapshot.by_node_key, lambda node: (node.node_key,)),
        by_machine_key=reindexed(snapshot.by_machine_key, lambda node: ((node.machine_key, node.owner),)),
        by_name=reindexed(snapshot.by_name, lambda node: (node.name,)),
        by_v4=reindexed(snapshot.by_v4, lambda node: () if node.v4 is None else (int(node.v4),)),
        by_v6=reindexed(snapshot.by_v6, lambda node: () if node.v6 is None else (int(node.v6),)),
        removed=left_out(removed, {node.node_key for node in put}),
        resting=resting,
        primaries=MappingProxyType(dict(elected)) if moved else before,
    )
    return following, frozenset(moved)


def tombstone(node: Node, now: datetime) -> Node:
    """What is kept of a node that is deleted: enough to tell its machine so."""
    return dataclasses.replace(
        node,
        deleted_at=now,
        expiry=now,
        online=False,
        endpoints=(),
        hostinfo=Hostinfo(hostname=node.hostinfo.hostname, os=node.hostinfo.os),
        net_info=None,
    )


def is_forgotten(removed: Node, now: datetime) -> bool:
    """Whether a deleted node was kept for long enough."""
    return removed.deleted_at is not None and now - removed.deleted_at >= REMOVED_KEPT


def without_removed(snapshot: Snapshot, nodes: Iterable[Node]) -> Snapshot:
    """The snapshot that knows nothing of these deleted nodes."""
    return dataclasses.replace(
        snapshot,
        revision=snapshot.revision + 1,
        removed=left_out(snapshot.removed, {node.node_key for node in nodes}),
    )


def _resting(resting: Mapping[int, datetime], drop: Iterable[Node]) -> Mapping[int, datetime]:
    """With the addresses of nodes that are deleted now, without those that have rested enough."""
    left = dict(resting)
    for node in drop:
        if node.deleted_at is not None:
            left = {number: until for number, until in left.items() if until > node.deleted_at}
            left.update((int(address), node.deleted_at + ADDRESS_REST) for address in node.addresses)
    return MappingProxyType(left)


def with_users(snapshot: Snapshot, users: Mapping[int, User]) -> Snapshot:
    """The snapshot with another set of users; ids are never given again."""
    return dataclasses.replace(
        snapshot,
        revision=snapshot.revision + 1,
        next_user_id=max(snapshot.next_user_id, *(user + 1 for user in users), 1),
        users=MappingProxyType(dict(users)),
    )


def with_tokens(snapshot: Snapshot, tokens: Mapping[str, ApiToken]) -> Snapshot:
    """The snapshot with another set of API tokens."""
    return dataclasses.replace(
        snapshot, revision=snapshot.revision + 1, tokens=MappingProxyType(dict(tokens))
    )


def with_key(snapshot: Snapshot, key: AuthKey) -> Snapshot:
    """The snapshot with a key added or replaced."""
    return _with_keys(snapshot, {**snapshot.keys, key.id: key})


def without_key(snapshot: Snapshot, key_id: str) -> Snapshot:
    """The snapshot without a key."""
    return _with_keys(snapshot, {found: key for found, key in snapshot.keys.items() if found != key_id})


def _with_keys(snapshot: Snapshot, keys: Mapping[str, AuthKey]) -> Snapshot:
    return dataclasses.replace(
        snapshot,
        revision=snapshot.revision + 1,
        keys=MappingProxyType(dict(keys)),
        by_secret_hash=MappingProxyType({key.secret_hash: key.id for key in keys.values()}),
    )


def with_regions(snapshot: Snapshot, regions: Mapping[int, DERPRegion]) -> Snapshot:
    """The snapshot with another set of added relay regions."""
    return dataclasses.replace(
        snapshot, revision=snapshot.revision + 1, regions=MappingProxyType(dict(regions))
    )
