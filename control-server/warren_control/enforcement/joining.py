"""What a policy says of a machine that joins: the tags it may have, where its address comes from. Pure."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network

from warren_control.policy.index import PolicyIndex
from warren_control.policy.network import Node


class PolicyTagOwners:
    """The `tagOwners` of a policy."""

    def __init__(self, index: PolicyIndex) -> None:
        self._users = index.network.users
        self._approvals = index.approvals

    def permits(self, owner: int, carried: Collection[str], tag: str) -> bool:
        # What carries tags has no user.
        user = None if carried else self._users.get(owner)
        return self._approvals.may_carry(user, frozenset(carried), tag)


def address_pools(index: PolicyIndex, owner: int, tags: Collection[str]) -> tuple[IPv4Network, ...]:
    """The ranges of every `ipPool` that is for such a machine, in the order of the text."""
    joining = Node(0, "", (), owner, frozenset(tags))
    return tuple(IPv4Network(block.cidr) for block in index.address_pools(joining))
