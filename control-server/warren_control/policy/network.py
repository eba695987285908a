"""What a policy is compiled against: the users and nodes of a mesh, as far as a policy can see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from warren_control.policy.ranges import Address, Prefix


class Role(Enum):
    OWNER = "owner"
    ADMIN = "admin"
    NETWORK_ADMIN = "network-admin"
    IT_ADMIN = "it-admin"
    BILLING_ADMIN = "billing-admin"
    AUDITOR = "auditor"


AttributeValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    email: str = ""
    provider_id: str = ""
    """The identity provider's identifier; a policy may name a user by it."""
    roles: frozenset[Role] = frozenset()

    @property
    def is_admin(self) -> bool:
        return bool(self.roles & {Role.OWNER, Role.ADMIN})


@dataclass(frozen=True, slots=True)
class Node:
    """One machine. Ids grow with age: the lowest id is the oldest node."""

    id: int
    name: str
    addresses: tuple[Address, ...]
    user_id: int | None = None
    """The owner; a node with tags has none."""
    tags: frozenset[str] = frozenset()
    routes: frozenset[Prefix] = frozenset()
    """Routes in force: announced and approved, exit routes among them."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: MappingProxyType({}))
    """What postures ask for: `node:os`, `node:tsVersion`, …"""

    @property
    def owner_id(self) -> int | None:
        return None if self.tags else self.user_id

    @property
    def subnet_routes(self) -> tuple[Prefix, ...]:
        return tuple(route for route in self.routes if route.prefixlen != 0)

    @property
    def exit_routes(self) -> tuple[Prefix, ...]:
        return tuple(sorted((r for r in self.routes if r.prefixlen == 0), key=lambda r: r.version))


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the mesh beside the policy that show in capabilities."""

    domains: frozenset[str] = frozenset()
    """Domains that belong to the mesh: `user:*@domain` and `localpart:*@domain` may name these only."""
    auto_updates: bool = False
    file_sharing: bool = True


NO_SETTINGS: Final = Settings()


@dataclass(frozen=True, slots=True)
class Network:
    nodes: Mapping[int, Node] = field(default_factory=lambda: MappingProxyType({}))
    users: Mapping[int, User] = field(default_factory=lambda: MappingProxyType({}))
    settings: Settings = NO_SETTINGS
    primaries: Mapping[Prefix, int] | None = None
    """Which node serves a prefix that several have approved; None: the oldest one of them."""


def elect_oldest(nodes: Mapping[int, Node]) -> dict[Prefix, int]:
    """The node created first serves a prefix that several offer."""
    elected: dict[Prefix, int] = {}
    for node_id in sorted(nodes):
        for route in nodes[node_id].subnet_routes:
            elected.setdefault(route, node_id)
    return elected


class UserNames:
    """Finds the users that a name in a policy means; more than one makes the name ambiguous."""

    def __init__(self, users: Mapping[int, User]) -> None:
        self._by_provider: dict[str, set[int]] = {}
        self._by_name: dict[str, set[int]] = {}
        for user in users.values():
            self._by_provider.setdefault(user.provider_id, set()).add(user.id)
            for name in (user.email, user.name):
                self._by_name.setdefault(name, set()).add(user.id)

    def matching(self, token: str) -> frozenset[int]:
        """The provider's identifier wins outright; a trailing bare `@` marks a name without domain."""
        wanted = token[:-1] if token.endswith("@") else token
        if not wanted:
            return frozenset()
        return frozenset(self._by_provider.get(wanted) or self._by_name.get(wanted) or ())
