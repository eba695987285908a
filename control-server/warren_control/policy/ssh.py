"""SSH rules of one node: who may log in to it as whom, in the order in which its client tries them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from warren_control.policy.compiled import Compiled
from warren_control.policy.document import SshAction, SshRule
from warren_control.policy.network import User
from warren_control.policy.selectors import Kind
from warren_control.policy.ssh_wire import ACCEPT, SSHAction, SSHPrincipal, SSHRule, allows, hold


@dataclass(frozen=True, slots=True)
class _Bound:
    """A rule bound to nodes."""

    rule: SshRule
    logins: Mapping[str, str]
    action: SSHAction
    to_self: bool
    sources: int
    by_user: tuple[tuple[int, int], ...]
    """Source users in the order of their ids, with their nodes."""
    tagged: int
    destinations: int
    """Without `autogroup:self`."""


@dataclass(frozen=True, slots=True)
class SshEnds:
    """The nodes one rule is about."""

    sources: int
    destinations: int
    has_localpart: bool

    @property
    def holders(self) -> int:
        """Nodes that may have a rule made of it."""
        return self.destinations | (self.sources if self.has_localpart else 0)


class SshRules:
    """Answers against one state of the nodes; equal rules of several nodes are one object."""

    def __init__(self, compiled: Compiled, users: Mapping[int, User], server_url: str) -> None:
        self._compiled = compiled
        self._users = users
        self._hold = hold(server_url)
        self._bound = [self._bind(rule) for rule in compiled.document.ssh]
        self._made: dict[tuple[int, int, str], SSHRule] = {}

    def of(self, slot: int) -> tuple[SSHRule, ...]:
        """The rules a node's client gets: checks before accepts, otherwise in the order of the file."""
        found = [
            (bound.rule.action is SshAction.ACCEPT, rule)
            for index, bound in enumerate(self._bound)
            for rule in self._emitted(index, bound, slot)
        ]
        found.sort(key=lambda pair: pair[0])
        return tuple(rule for _, rule in found)

    def check_period(self, source: int, destination: int, login: str) -> int | None:
        """How long an approval lasts, in nanoseconds, for the first rule that asks for a check."""
        wanted = {str(address) for address in self._compiled.roster.node(source).addresses}
        for index, bound in enumerate(self._bound):
            if bound.rule.action is SshAction.CHECK:
                for rule in self._emitted(index, bound, destination):
                    if allows(rule.ssh_users, login) and any(p.node_ip in wanted for p in rule.principals):
                        return bound.rule.check_period
        return None

    def ends(self) -> list[SshEnds]:
        """For each rule, in the order of the document, the nodes it is about."""
        return [
            SshEnds(
                bound.sources,
                bound.destinations | (self._compiled.roster.untagged if bound.to_self else 0),
                bool(bound.rule.localpart_domains),
            )
            for bound in self._bound
        ]

    def _bind(self, rule: SshRule) -> _Bound:
        roster, resolver = self._compiled.roster, self._compiled.resolver
        sources = destinations = 0
        for selector in rule.sources:
            sources |= resolver.members(selector)
        for selector in rule.destinations:
            if selector.kind is not Kind.SELF:
                destinations |= resolver.members(selector)
        logins = {login: login for login in rule.logins}
        logins.setdefault("root", "")
        if rule.nonroot:
            logins["*"] = "="
        by_user = tuple(
            (user_id, nodes & sources)
            for user_id, nodes in sorted(roster.by_owner.items())
            if nodes & sources
        )
        action = ACCEPT if rule.action is SshAction.ACCEPT else self._hold
        to_self = any(selector.kind is Kind.SELF for selector in rule.destinations)
        return _Bound(rule, logins, action, to_self, sources, by_user, sources & roster.tagged, destinations)

    def _emitted(self, index: int, bound: _Bound, slot: int) -> Iterator[SSHRule]:
        if not bound.sources:
            return
        bit = 1 << slot
        owner = self._compiled.roster.node(slot).owner_id
        is_self = bound.to_self and owner is not None
        if is_self:
            assert owner is not None
            own = self._compiled.roster.by_owner[owner] & bound.sources
            yield from self._user_rules(index, bound, owner, own)
        if bound.destinations & bit:
            if not bound.rule.localpart_domains:
                yield self._rule(index, bound, bound.sources)
                return
            for user_id, nodes in bound.by_user:
                yield from self._user_rules(index, bound, user_id, nodes)
            if bound.tagged:
                yield self._rule(index, bound, bound.tagged)
        elif bound.rule.localpart_domains and bound.sources & bit and not is_self:
            if owner is None:
                yield self._rule(index, bound, bit)
            else:
                own = self._compiled.roster.by_owner[owner] & bound.sources
                yield from self._user_rules(index, bound, owner, own)

    def _user_rules(self, index: int, bound: _Bound, user_id: int, nodes: int) -> Iterator[SSHRule]:
        """One user's rule and, where his e-mail domain is named, the one for his local part."""
        if not nodes:
            return
        yield self._rule(index, bound, nodes)
        user = self._users.get(user_id)
        local, at, domain = ("", "", "") if user is None else user.email.rpartition("@")
        if at and local and domain in bound.rule.localpart_domains:
            yield self._rule(index, bound, nodes, local)

    def _rule(self, index: int, bound: _Bound, nodes: int, local_part: str = "") -> SSHRule:
        key = (index, nodes, local_part)
        found = self._made.get(key)
        if found is None:
            logins = {local_part: local_part} if local_part else bound.logins
            principals = tuple(
                SSHPrincipal(node_ip=str(address))
                for node in sorted(self._compiled.roster.nodes(nodes), key=lambda one: one.id)
                for address in node.addresses
            )
            found = self._made[key] = SSHRule(
                principals=principals,
                ssh_users=logins,
                action=bound.action,
                accept_env=bound.rule.accept_env or None,
            )
        return found
