"""What a selector stands for among the nodes there are: nodes, or addresses written in the policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from warren_control.policy import ranges
from warren_control.policy.document import Document
from warren_control.policy.network import Node, Role, User, UserNames
from warren_control.policy.ranges import AddressSet, point
from warren_control.policy.roster import Roster
from warren_control.policy.selectors import Kind, Selector


@dataclass(frozen=True, slots=True)
class Resolved:
    nodes: int = 0
    """Nodes chosen by what they are."""
    space: AddressSet = ranges.EMPTY
    """Addresses chosen by number."""


class Resolver:
    def __init__(self, document: Document, roster: Roster, users: Mapping[int, User]) -> None:
        self._document = document
        self._roster = roster
        self._users = users
        self._names = UserNames(users)
        self._cache: dict[Selector, Resolved] = {}
        self._people: dict[Selector, frozenset[int]] = {}

    def resolve(self, selector: Selector) -> Resolved:
        """As the source of a rule; `autogroup:self` is bound to no user here and selects nobody."""
        found = self._cache.get(selector)
        if found is None:
            found = self._cache[selector] = self._compute(selector)
        return found

    @property
    def known(self) -> frozenset[Selector]:
        """The selectors asked for so far."""
        return frozenset(self._cache)

    def forget(self, selectors: Iterable[Selector]) -> None:
        for selector in selectors:
            self._cache.pop(selector, None)

    def members(self, selector: Selector) -> int:
        """The nodes a selector means, those that merely have an address in it included."""
        if selector.kind is Kind.EVERYONE:
            return self._roster.everyone
        found = self.resolve(selector)
        return found.nodes | (self._roster.owners_in(found.space) if found.space else 0)

    def people(self, selector: Selector) -> frozenset[int]:
        """Ids of the users that a selector of users means."""
        found = self._people.get(selector)
        if found is None:
            found = self._people[selector] = frozenset(self._user_ids(selector))
        return found

    def concerns(self, selector: Selector, node: Node) -> bool:
        """Whether a node is, or has an address or a route in, what the selector means."""
        match selector.kind:
            case Kind.TAG:
                return selector.text in node.tags
            case Kind.TAGGED:
                return bool(node.tags)
            case Kind.MEMBER:
                return not node.tags
            case Kind.USER | Kind.GROUP | Kind.DOMAIN | Kind.ROLE:
                return node.owner_id is not None and node.owner_id in self.people(selector)
            case Kind.EVERYONE:
                return True
            case _:
                space = self.resolve(selector).space
                return any(space.overlaps(point(one), point(one)) for one in node.addresses)

    def _compute(self, selector: Selector) -> Resolved:
        roster = self._roster
        match selector.kind:
            case Kind.TAG:
                return Resolved(roster.by_tag.get(selector.text, 0))
            case Kind.TAGGED:
                return Resolved(roster.tagged)
            case Kind.MEMBER:
                return Resolved(roster.untagged)
            case Kind.USER | Kind.GROUP | Kind.DOMAIN | Kind.ROLE:
                nodes = 0
                for user_id in self.people(selector):
                    nodes |= roster.by_owner.get(user_id, 0)
                return Resolved(nodes)
            case Kind.IP | Kind.CIDR | Kind.HOST:
                assert selector.block is not None
                return Resolved(space=ranges.of_blocks([selector.block]))
            case Kind.IPSET:
                return Resolved(space=self._document.ipsets.get(selector.text, ranges.EMPTY))
            case Kind.INTERNET:
                return Resolved(space=ranges.INTERNET)
            case Kind.EVERYONE:
                return Resolved(space=ranges.MESH)
            case Kind.DANGER_ALL:
                return Resolved(space=ranges.EVERYWHERE)
            case Kind.SELF | Kind.NONROOT:
                return Resolved()

    def _user_ids(self, selector: Selector) -> Iterable[int]:
        match selector.kind:
            case Kind.USER:
                found = self._names.matching(selector.text)
                # An ambiguous name is refused when a policy is stored; a name that became ambiguous
                # later selects nobody.
                return found if len(found) == 1 else ()
            case Kind.GROUP:
                members = self._document.groups.get(selector.text, ())
                return (user_id for member in members for user_id in self.people(self._member(member)))
            case Kind.DOMAIN:
                return (
                    user.id for user in self._users.values() if user.email.rpartition("@")[2] == selector.name
                )
            case Kind.ROLE:
                wanted = Role(selector.name)
                # An owner counts as an administrator too.
                roles = {wanted, Role.OWNER} if wanted is Role.ADMIN else {wanted}
                return (user.id for user in self._users.values() if user.roles & roles)
            case _:
                return ()

    @staticmethod
    def _member(text: str) -> Selector:
        kind = Kind.DOMAIN if text.startswith("user:*@") else Kind.USER
        return Selector(kind, text)
