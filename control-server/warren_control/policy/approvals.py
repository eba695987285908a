"""Which routes and tags the policy grants without a person."""

from __future__ import annotations

from collections.abc import Iterable

from warren_control.policy.document import Document
from warren_control.policy.network import Node, User
from warren_control.policy.ranges import Block, Prefix, block_of
from warren_control.policy.resolve import Resolver
from warren_control.policy.selectors import Kind, Selector


class Approvals:
    """Which routes and tags the policy grants without a person. Needs users, but no other node."""

    def __init__(self, document: Document, resolver: Resolver) -> None:
        self._document = document
        self._resolver = resolver

    def approved(self, node: Node, announced: Iterable[Prefix]) -> frozenset[Prefix]:
        """The announced routes that are approved by themselves."""
        return frozenset(route for route in announced if self._approves(node, block_of(route)))

    def may_carry(self, user: User | None, tags: frozenset[str], tag: str) -> bool:
        """Whether a user, or a node with these tags, owns a tag: directly or through tags that own it."""
        seen: set[str] = set()
        waiting = [tag]
        while waiting:
            current = waiting.pop()
            if current in seen:
                continue
            seen.add(current)
            for owner in self._document.tag_owners.get(current, ()):
                if owner.kind is Kind.TAG:
                    if owner.text in tags:
                        return True
                    waiting.append(owner.text)
                elif user is not None and self._is_person(owner, user):
                    return True
        return False

    def _approves(self, node: Node, route: Block) -> bool:
        approvers = self._document.approvers
        if route.is_default:
            return any(self._matches(owner, node) for owner in approvers.exit_node)
        return any(
            not block.is_default and block.contains(route) and any(self._matches(one, node) for one in owners)
            for block, owners in approvers.routes
        )

    def _matches(self, owner: Selector, node: Node) -> bool:
        match owner.kind:
            case Kind.TAG:
                return owner.text in node.tags
            case _:
                return self._resolver.concerns(owner, node)

    def _is_person(self, owner: Selector, user: User) -> bool:
        return owner.kind is Kind.MEMBER or user.id in self._resolver.people(owner)
