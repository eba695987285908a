"""Runs a policy's own `sshTests` against its SSH rules and the nodes there are."""

from __future__ import annotations

from collections.abc import Iterator

from warren_control.policy.bits import slots_of
from warren_control.policy.compiled import Compiled
from warren_control.policy.document import Located, SshTest
from warren_control.policy.problems import Problem, quoted
from warren_control.policy.ranges import text_at
from warren_control.policy.reach_tests import UnusableError, failed
from warren_control.policy.selectors import (
    Kind,
    Names,
    Selector,
    SelectorError,
    parse_selector,
)
from warren_control.policy.ssh import SshRules
from warren_control.policy.ssh_wire import SSHRule, allows


class SshTests:
    def __init__(self, compiled: Compiled, rules: SshRules, names: Names) -> None:
        self._compiled = compiled
        self._rules = rules
        self._names = names
        self._by_slot: dict[int, tuple[SSHRule, ...]] = {}
        # `rules` keeps its rules, so their identity stands for them.
        self._distinct: dict[tuple[int, ...], tuple[SSHRule, ...]] = {}
        self._found: dict[tuple[int, str, bool], frozenset[str]] = {}

    def failures(self, tests: tuple[SshTest, ...]) -> Iterator[Problem]:
        for test in tests:
            yield from self._failures(test)

    def _failures(self, test: SshTest) -> Iterator[Problem]:
        if not (test.accept or test.deny or test.check):
            yield failed(test.place, "it asserts nothing", "accept, deny or check")
            return
        try:
            source = self._selector(test.source, "src")
            addresses = self._addresses(source)
            if not test.destinations:
                raise UnusableError("it names no dst")
        except UnusableError as error:
            yield failed(test.place, str(error))
            return
        for word in test.destinations:
            try:
                nodes = self._destination(word, source)
            except UnusableError as error:
                yield failed(word.place, str(error))
                continue
            yield from self._assertions(test, word, nodes, addresses)

    def _assertions(
        self, test: SshTest, word: Located, nodes: int, addresses: frozenset[str]
    ) -> Iterator[Problem]:
        # Nodes with the same rules give the same answer; the first of them stands for all.
        alike: dict[int, tuple[tuple[SSHRule, ...], int]] = {}
        for slot in slots_of(nodes):
            rules = self._rules_of(slot)
            alike.setdefault(id(rules), (rules, slot))
        for rules, slot in alike.values():
            where = f"{test.source} on {self._compiled.roster.node(slot).name} ({word.text})"
            for login in test.accept:
                if not addresses <= self._let_in(rules, login.text, checked=False):
                    yield failed(login.place, f"login {quoted(login.text)} of {where} is refused")
            for login in test.deny:
                if addresses & self._let_in(rules, login.text, checked=False):
                    yield failed(login.place, f"login {quoted(login.text)} of {where} is accepted")
            for login in test.check:
                if not addresses <= self._let_in(rules, login.text, checked=True):
                    yield failed(login.place, f"login {quoted(login.text)} of {where} is not checked")

    def _rules_of(self, slot: int) -> tuple[SSHRule, ...]:
        """The rules of a node, as one object for all nodes that have the same."""
        found = self._by_slot.get(slot)
        if found is None:
            rules = self._rules.of(slot)
            found = self._distinct.setdefault(tuple(id(rule) for rule in rules), rules)
            self._by_slot[slot] = found
        return found

    def _let_in(self, rules: tuple[SSHRule, ...], login: str, *, checked: bool) -> frozenset[str]:
        """Addresses that the rules of a node let in under a login."""
        key = (id(rules), login, checked)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = frozenset(
                principal.node_ip
                for rule in rules
                if allows(rule.ssh_users, login) and (rule.action.hold_and_delegate or not checked)
                for principal in rule.principals
            )
        return found

    def _selector(self, text: str, side: str) -> Selector:
        try:
            return parse_selector(text, self._names)
        except SelectorError as error:
            raise UnusableError(f"{side} {quoted(text)}: {error.text}") from error

    def _addresses(self, source: Selector) -> frozenset[str]:
        found = self._compiled.resolver.resolve(source)
        roster = self._compiled.roster
        points = {*roster.points(found.nodes), *roster.points_in(found.space)}
        if not points:
            raise UnusableError(f"src {quoted(source.text)} means no node now")
        return frozenset(text_at(number) for number in points)

    def _destination(self, word: Located, source: Selector) -> int:
        selector = self._selector(word.text, "dst")
        if selector.kind is Kind.SELF:
            nodes = 0
            if source.kind is Kind.USER:
                nodes = self._compiled.resolver.members(source)
        elif selector.block is not None and not selector.block.is_single:
            raise UnusableError(f"dst {quoted(word.text)} names more than one host")
        else:
            nodes = self._compiled.resolver.members(selector)
        if not nodes:
            raise UnusableError(f"dst {quoted(word.text)} means no node now")
        return nodes
