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
from warren_control.policy.reading import Chosen, fields, items, place_of, selectors, value_of, word, words
from warren_control.policy.selectors import (
    SSH_DESTINATIONS,
    SSH_SOURCES,
    Kind,
    Names,
    SelectorError,
    UnknownTagError,
    foreign_domain,
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
        sources = self._side(value_of(members, "src"), f"{where}.src", "src")
        destinations = self._side(value_of(members, "dst"), f"{where}.dst", "dst")
        self._check_pairs(sources, destinations)
        logins, nonroot, domains = self._users(value_of(members, "users"), value, f"{where}.users")
        return SshRule(
            place_of(self._problems, value.offset, where),
            action,
            tuple(one.selector for one in sources),
            tuple(one.selector for one in destinations),
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

    def _side(self, value: Value | None, where: str, side: str) -> tuple[Chosen, ...]:
        allowed = SSH_SOURCES if side == "src" else SSH_DESTINATIONS
        expected = (
            "users, groups, tags or autogroups" if side == "src" else "tags, the src's own user, autogroups"
        )

        def wording(text: str, error: SelectorError | None) -> str:
            match error:
                case None:
                    return f"invalid {side} {quoted(text)}"
                case UnknownTagError():
                    return f"{side}={quoted(text)}: {error.text}"
                case _ if error.is_domain:
                    return f"[ssh] {error.text}"
                case _:
                    return f"invalid {side} {quoted(text)}: {error.text}"

        return selectors(
            self._problems, value, where, self._names, allowed, wording=wording, expected=expected
        )

    def _check_pairs(self, sources: Sequence[Chosen], destinations: Sequence[Chosen]) -> None:
        """Who may not be let into whose machines: people's machines are open to themselves only."""
        tagged = any(one.selector.kind in (Kind.TAG, Kind.TAGGED) for one in sources)
        for one in destinations:
            name = one.selector.text
            match one.selector.kind:
                case Kind.USER if any(source.selector.text != name for source in sources):
                    text = f"dst {quoted(name)}: a user's nodes accept that same user alone as src"
                    expected = "autogroup:self, or the same user as only src"
                    self._problems.add(one.word.offset, one.path, text, expected)
                case Kind.SELF | Kind.MEMBER if tagged:
                    text = f"dst {quoted(name)}: tagged nodes may not be src for the nodes of users"
                    self._problems.add(one.word.offset, one.path, text, "a tag as dst, or users as src")
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
        error = foreign_domain(domain, self._names.domains)
        self._problems.add(
            one.offset, path, error.text, error.expected, name=error.name, candidates=error.candidates
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
