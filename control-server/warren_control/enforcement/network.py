"""A snapshot as a policy sees it. Pure; a node that changed makes one entry anew, everything else is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from warren_control import model
from warren_control.policy.network import AttributeValue, Network, Node, Role, Settings, User
from warren_wire.control.messages import Hostinfo

_NO_ATTRIBUTES: Final[Mapping[str, AttributeValue]] = MappingProxyType({})
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(\.\d+)*")


def domains_of(snapshot: model.Snapshot, configured: Iterable[str]) -> frozenset[str]:
    """The domains that belong to the mesh: those of the configuration and of its users' addresses."""
    emails = (user.email or user.name for user in snapshot.users.values())
    return frozenset(configured) | {email.rpartition("@")[2] for email in emails if "@" in email}


def network_of(snapshot: model.Snapshot, domains: Iterable[str], *, attributes: bool) -> Network:
    """All of a snapshot. With `attributes` nodes carry what postures ask for."""
    nodes = {
        number: node_of(node, attributes=attributes)
        for number, node in snapshot.nodes.items()
        if not node.disabled
    }
    settings = Settings(domains=frozenset(domains))
    return Network(MappingProxyType(nodes), users_of(snapshot), settings, snapshot.primaries)


def followed(
    network: Network,
    former: model.Snapshot,
    snapshot: model.Snapshot,
    touched: Iterable[int],
    *,
    attributes: bool,
) -> Network:
    """The network after a change of some nodes; the same one if a policy sees no difference."""
    put: dict[int, Node] = {}
    gone: set[int] = set()
    for number in touched:
        node, known = snapshot.nodes.get(number), network.nodes.get(number)
        if node is None or node.disabled:
            if known is not None:
                gone.add(number)
        elif former.nodes.get(number) is not node or known is None:
            made = node_of(node, attributes=attributes)
            if made != known:
                put[number] = made
    if put or gone:
        kept = {number: node for number, node in network.nodes.items() if number not in gone}
        network = replace(network, nodes=MappingProxyType({**kept, **put}))
    if snapshot.users is not former.users:
        network = replace(network, users=users_of(snapshot))
    if snapshot.primaries is not network.primaries:
        network = replace(network, primaries=snapshot.primaries)
    return network


def node_of(node: model.Node, *, attributes: bool = True) -> Node:
    """One node. Its name is left out: no policy reads it, and renaming must concern nothing here."""
    return Node(
        node.id,
        "",
        node.addresses,
        node.owner,
        frozenset(node.tags),
        frozenset(node.effective_routes),
        attributes_of(node.hostinfo) if attributes else _NO_ATTRIBUTES,
    )


def users_of(snapshot: model.Snapshot) -> Mapping[int, User]:
    return MappingProxyType({number: user_of(user) for number, user in snapshot.users.items()})


def user_of(user: model.User) -> User:
    roles = frozenset(Role(role) for role in user.roles)
    return User(user.id, user.name, user.email, roles=roles)


def attributes_of(hostinfo: Hostinfo) -> Mapping[str, AttributeValue]:
    """What postures ask for, as far as the node told it."""
    found: dict[str, AttributeValue] = {}
    if hostinfo.os:
        found["node:os"] = hostinfo.os.lower()
    if hostinfo.os_version:
        found["node:osVersion"] = hostinfo.os_version
    version = _VERSION.match(hostinfo.ipn_version)
    if version is not None:
        found["node:tsVersion"] = version.group()
        # Odd minor numbers are builds of the unstable track.
        found["node:tsReleaseTrack"] = "unstable" if int(version.group(2)) % 2 else "stable"
    return MappingProxyType(found)
