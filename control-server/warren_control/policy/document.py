"""A policy as values: read, checked and cross-referenced, but bound to no node yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeVar

from warren_control.policy.hujson import Json
from warren_control.policy.ports import Ports
from warren_control.policy.postures import Assertion
from warren_control.policy.problems import Problem
from warren_control.policy.ranges import AddressSet, Block
from warren_control.policy.selectors import Selector

K = TypeVar("K")
V = TypeVar("V")


def frozen_mapping(items: Mapping[K, V]) -> Mapping[K, V]:
    return MappingProxyType(dict(items))


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the text."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path} (line {self.line})"


NOWHERE: Final = Place("the rule that allows all without acls and grants", 1, 1)


@dataclass(frozen=True, slots=True)
class Located:
    """A word and where it stands."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class PacketMatch:
    """Ports of one protocol; `protocol` None stands for TCP, UDP and ICMP."""

    protocol: int | None
    ports: tuple[Ports, ...]


Capabilities = Mapping[str, tuple[Json, ...]]


@dataclass(frozen=True, slots=True)
class Grant:
    """One rule. An ACL is as many grants as it has destinations."""

    place: Place
    sources: tuple[Selector, ...]
    destinations: tuple[Selector, ...]
    packets: tuple[PacketMatch, ...]
    capabilities: Capabilities | None = None
    via: tuple[str, ...] = ()
    postures: tuple[str, ...] = ()
    """Names of postures; a source node must satisfy one of them."""


class SshAction(Enum):
    ACCEPT = "accept"
    CHECK = "check"


NANOSECONDS_AN_HOUR: Final = 3600 * 10**9
DEFAULT_CHECK_PERIOD: Final = 12 * NANOSECONDS_AN_HOUR
LONGEST_CHECK_PERIOD: Final = 168 * NANOSECONDS_AN_HOUR


@dataclass(frozen=True, slots=True)
class SshRule:
    place: Place
    action: SshAction
    sources: tuple[Selector, ...]
    destinations: tuple[Selector, ...]
    logins: tuple[str, ...]
    """Literal login names, `root` among them."""
    nonroot: bool = False
    localpart_domains: tuple[str, ...] = ()
    check_period: int = DEFAULT_CHECK_PERIOD
    """Nanoseconds an approval lasts; 0: every connection is checked."""
    accept_env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeAttributes:
    place: Place
    targets: tuple[Selector, ...]
    attributes: tuple[str, ...]
    capabilities: Capabilities
    pools: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class AutoApprovers:
    routes: tuple[tuple[Block, tuple[Selector, ...]], ...] = ()
    exit_node: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class ReachTest:
    """One entry of `tests`. Its words are read when it runs: a word that is wrong fails the test."""

    place: Place
    source: str
    protocol: str | None
    accept: tuple[Located, ...]
    deny: tuple[Located, ...]


@dataclass(frozen=True, slots=True)
class SshTest:
    place: Place
    source: str
    destinations: tuple[Located, ...]
    accept: tuple[Located, ...]
    deny: tuple[Located, ...]
    check: tuple[Located, ...]


@dataclass(frozen=True, slots=True)
class Document:
    grants: tuple[Grant, ...]
    """Grants in the order of the file, then ACLs."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hosts: Mapping[str, Block] = field(default_factory=dict)
    tag_owners: Mapping[str, tuple[Selector, ...]] = field(default_factory=dict)
    ipsets: Mapping[str, AddressSet] = field(default_factory=dict)
    postures: Mapping[str, tuple[Assertion, ...]] = field(default_factory=dict)
    approvers: AutoApprovers = AutoApprovers()
    node_attributes: tuple[NodeAttributes, ...] = ()
    ssh: tuple[SshRule, ...] = ()
    tests: tuple[ReachTest, ...] = ()
    ssh_tests: tuple[SshTest, ...] = ()
    randomize_client_port: bool = False
    disable_ipv4: bool = False
    derp_map: Json = None
    """Tailscale's JSON shape, as written."""
    domains: frozenset[str] = frozenset()
    """The domains it was read for."""
    warnings: tuple[Problem, ...] = ()
