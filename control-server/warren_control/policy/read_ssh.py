"""The section `ssh`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from warren_control.policy.document import (
    DEFAULT_CHECK_PERIOD,
    LONGEST_CHECK_PERIOD,
    SshAction,
    SshRule,
)
from warren_control.policy.durations import format_duration, parse_duration
from warren_control.policy.hujson import Null, String, Value
from warren_control.policy.problems import ProblemList, quoted
from warren_control.policy.reading import fields, items, place_of, value_of, word, words
from warren_control.policy.selectors import (
    SSH_DESTINATIONS,
    SSH_SOURCES,
    ForeignDomainError,
    Kind,
    Names,
    Selector,
    SelectorError,
    UnknownTagError,
    parse_selector,
)

_FIELDS: Final = ("action", "src", "dst", "users", "checkPeriod", "acceptEnv")
_LOCALPART: Final = "localpart:*@"
_PERIOD_EXPECTED: Final = "a duration like 20m or 12h up to 168h, or always"


class SshReader:
    def __init__(self, problems: ProblemList, names: Names) -> None:
        self._problems = problems
        self._names = names

    def rules(self, value: Value | None) -> tuple[SshRule, ...]:
        rules = items(self._problems, value, "ssh") if value is not None else ()
        return tuple(self._rule(one, f"ssh[{index}]") for index, one in enumerate(rules))

    def _rule(self, value: Value, where: str) -> SshRule:
        members = fields(self._problems, value, where, _FIELDS)
        action = self._action(value_of(members, "action"), value, f"{where}.action")
        sources = self._sources(value_of(members, "src"), f"{where}.src")
        destinations = self._destinations(value_of(members, "dst"), f"{where}.dst")
        self._check_pairs(sources, destinations)
        logins, nonroot, domains = self._users(value_of(members, "users"), value, f"{where}.users")
        return SshRule(
            place_of(self._problems, value.offset, where),
            action,
            tuple(selector for selector, _, _ in sources),
            tuple(selector for selector, _, _ in destinations),
            logins,
            nonroot,
            domains,
            self._period(value_of(members, "checkPeriod"), action, f"{where}.checkPeriod"),
            self._accept_env(value_of(members, "acceptEnv"), f"{where}.acceptEnv"),
        )

    def _action(self, value: Value | None, rule: Value, where: str) -> SshAction:
        found = word(self._problems, value, where)
        text = "" if found is None else found.value.strip()
        expected = '"accept" or "check"'
        if not text:
            self._problems.add(
                rule.offset if value is None else value.offset, where, "action must be specified", expected
            )
            return SshAction.ACCEPT
        try:
            return SshAction(text)
        except ValueError:
            assert found is not None
            self._problems.add(
                found.offset,
                where,
                f"{quoted(text)} is not a valid action",
                expected,
                name=text,
                candidates=["accept", "check"],
            )
            return SshAction.ACCEPT

    def _sources(self, value: Value | None, where: str) -> list[tuple[Selector, String, str]]:
        found: list[tuple[Selector, String, str]] = []
        for one, path in words(self._problems, value, where):
            selector = self._selector(one, path, "src", SSH_SOURCES)
            if selector is not None:
                found.append((selector, one, path))
        return found

    def _destinations(self, value: Value | None, where: str) -> list[tuple[Selector, String, str]]:
        found: list[tuple[Selector, String, str]] = []
        for one, path in words(self._problems, value, where):
            selector = self._selector(one, path, "dst", SSH_DESTINATIONS)
            if selector is not None:
                found.append((selector, one, path))
        return found

    def _selector(self, one: String, path: str, side: str, allowed: frozenset[Kind]) -> Selector | None:
        text = one.value.strip()
        expected = (
            "users, groups, tags or autogroups"
            if side == "src"
            else "tags, the source's own user, or autogroups"
        )
        try:
            selector = parse_selector(text, self._names)
        except UnknownTagError:
            message = f"{side}={quoted(text)}: tag not found: {quoted(text)}"
            self._problems.add(
                one.offset, path, message, "a tag of tagOwners", name=text, candidates=self._names.tags
            )
            return None
        except ForeignDomainError as foreign:
            self._problems.add(
                one.offset,
                path,
                f"[ssh] {foreign}",
                "a domain of this mesh",
                name=foreign.domain,
                candidates=self._names.domains,
            )
            return None
        except SelectorError as problem:
            message = f"invalid {side} {quoted(text)}: {problem.text}"
            self._problems.add(
                one.offset, path, message, expected, name=problem.name, candidates=problem.candidates
            )
            return None
        if selector.kind in allowed:
            return selector
        self._problems.add(one.offset, path, f"invalid {side} {quoted(text)}", expected)
        return None

    def _check_pairs(
        self,
        sources: Sequence[tuple[Selector, String, str]],
        destinations: Sequence[tuple[Selector, String, str]],
    ) -> None:
        """Who may not be let into whose machines: people's machines are open to themselves only."""
        tagged = any(one.kind in (Kind.TAG, Kind.TAGGED) for one, _, _ in sources)
        for selector, one, path in destinations:
            match selector.kind:
                case Kind.USER if any(source.text != selector.text for source, _, _ in sources):
                    text = f"dst {quoted(selector.text)}: a user's nodes accept that same user alone as src"
                    self._problems.add(one.offset, path, text, "autogroup:self, or the same user as only src")
                case Kind.SELF | Kind.MEMBER if tagged:
                    text = f"dst {quoted(selector.text)}: tagged nodes may not be src for the nodes of users"
                    self._problems.add(one.offset, path, text, "a tag as dst, or users as src")
                case _:
                    pass

    def _users(
        self, value: Value | None, rule: Value, where: str
    ) -> tuple[tuple[str, ...], bool, tuple[str, ...]]:
        logins: list[str] = []
        domains: list[str] = []
        found = words(self._problems, value, where)
        if not found and (value is None or isinstance(value, Null) or not self._problems.any):
            offset = rule.offset if value is None else value.offset
            self._problems.add(
                offset, where, "users must be specified", "login names, root or autogroup:nonroot"
            )
        for one, path in found:
            text = one.value.strip()
            if text in ("", "*"):
                message = f"user {quoted(text)} is not valid"
                self._problems.add(
                    one.offset, path, message, "a login name, root, autogroup:nonroot or localpart:*@domain"
                )
            elif text.startswith(_LOCALPART) and text != _LOCALPART:
                self._domain(text[len(_LOCALPART) :], one, path, domains)
            elif text != "autogroup:nonroot":
                logins.append(text)
        nonroot = any(one.value.strip() == "autogroup:nonroot" for one, _ in found)
        return tuple(logins), nonroot, tuple(domains)

    def _domain(self, domain: str, one: String, path: str, domains: list[str]) -> None:
        if domain in self._names.domains:
            domains.append(domain)
            return
        self._problems.add(
            one.offset,
            path,
            str(ForeignDomainError(domain)),
            "a domain of this mesh",
            name=domain,
            candidates=self._names.domains,
        )

    def _period(self, value: Value | None, action: SshAction, where: str) -> int:
        found = word(self._problems, value, where)
        if found is None:
            return DEFAULT_CHECK_PERIOD
        text = found.value.strip()
        if action is not SshAction.CHECK:
            self._problems.add(found.offset, where, "checkPeriod needs the action check", 'action "check"')
        if text == "always":
            return 0
        try:
            period = parse_duration(text)
        except ValueError:
            self._problems.add(
                found.offset, where, f"time: invalid duration {quoted(text)}", _PERIOD_EXPECTED
            )
            return DEFAULT_CHECK_PERIOD
        if period < 0:
            message = f"checkPeriod {format_duration(period)} must be a positive duration"
            self._problems.add(found.offset, where, message, _PERIOD_EXPECTED)
        elif period > LONGEST_CHECK_PERIOD:
            message = f"checkPeriod {format_duration(period)} is above the max (168h)"
            self._problems.add(found.offset, where, message, _PERIOD_EXPECTED)
        return period

    def _accept_env(self, value: Value | None, where: str) -> tuple[str, ...]:
        found = words(self._problems, value, where)
        for one, path in found:
            if not one.value:
                message = "acceptEnv values cannot be empty"
                self._problems.add(one.offset, path, message, "a variable's name, * and ? as wildcards")
        return tuple(one.value for one, _ in found)
