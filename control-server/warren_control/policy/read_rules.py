"""The sections `acls` and `grants`, read into one kind of rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from warren_control.policy.document import Grant, PacketMatch
from warren_control.policy.hujson import Array, Number, Object, String, Value, kind_of
from warren_control.policy.ports import (
    ALL_PORTS,
    NAMES,
    WITH_PORTS,
    PortError,
    parse_ports,
    parse_protocol,
    protocol_name,
)
from warren_control.policy.problems import ProblemList, quoted
from warren_control.policy.read_capabilities import read_capabilities
from warren_control.policy.read_names import read_posture_names
from warren_control.policy.reading import (
    Chosen,
    fields,
    items,
    place_of,
    selector_of,
    selectors,
    value_of,
    words,
)
from warren_control.policy.selectors import (
    RULE_DESTINATIONS,
    RULE_SOURCES,
    SELF_SOURCES,
    Kind,
    Names,
    Selector,
    SelectorError,
)

# Grants times their ip entries, and ACLs times their destinations: each filter is chosen among all of them.
MAX_RULES: Final = 20_000
_ACL_FIELDS: Final = ("action", "src", "dst", "proto", "srcPosture")
_GRANT_FIELDS: Final = ("src", "dst", "ip", "app", "via", "srcPosture")
_OLD_SPELLING: Final = {"users": "src", "ports": "dst"}
_NOT_HERE: Final = "{} not valid on the {} side of a rule"
_SELF_RULE: Final = "autogroup:self can only be used with users, groups, or supported autogroups"
_AUTOGROUP_KINDS: Final = frozenset(
    {Kind.MEMBER, Kind.TAGGED, Kind.SELF, Kind.INTERNET, Kind.ROLE, Kind.DANGER_ALL}
)


class RuleReader:
    def __init__(self, problems: ProblemList, names: Names, default_postures: tuple[str, ...]) -> None:
        self._problems = problems
        self._names = names
        self._default_postures = default_postures

    def acls(self, value: Value | None) -> list[Grant]:
        found: list[Grant] = []
        for index, one in enumerate(items(self._problems, value, "acls") if value is not None else ()):
            found.extend(self._acl(one, f"acls[{index}]"))
            if len(found) > MAX_RULES:
                break
        return found

    def grants(self, value: Value | None) -> list[Grant]:
        rules = items(self._problems, value, "grants") if value is not None else ()
        return [self._grant(one, f"grants[{index}]") for index, one in enumerate(rules)]

    def _acl(self, value: Value, where: str) -> list[Grant]:
        members = fields(self._problems, value, where, _ACL_FIELDS, _OLD_SPELLING)
        action = value_of(members, "action")
        if not isinstance(action, String) or action.value.strip() != "accept":
            shown = action.value if isinstance(action, String) else ""
            offset = value.offset if action is None else action.offset
            self._problems.add(
                offset, f"{where}.action", f"action={quoted(shown)} is not supported", '"accept"'
            )
        protocol = self._protocol(value_of(members, "proto"), f"{where}.proto")
        sources = self._sources(value_of(members, "src"), f"{where}.src")
        chosen = _plain(sources)
        postures = self._postures(value_of(members, "srcPosture"), f"{where}.srcPosture")
        found: list[Grant] = []
        for word, path in words(self._problems, value_of(members, "dst"), f"{where}.dst"):
            target = self._acl_destination(word, path, protocol)
            if target is not None:
                place = place_of(self._problems, word.offset, path)
                found.append(Grant(place, chosen, (target[0],), (target[1],), postures=postures))
        self._check_self(sources, [grant.destinations[0] for grant in found], everyone_too=True)
        if any(grant.destinations[0].kind not in _AUTOGROUP_KINDS for grant in found):
            found.sort(key=lambda grant: grant.destinations[0].kind is Kind.SELF)
        return found

    def _acl_destination(
        self, word: String, path: str, protocol: int | None
    ) -> tuple[Selector, PacketMatch] | None:
        raw = word.value.strip()
        name, colon, ports_text = raw.rpartition(":")
        if not colon:
            self._problems.add(
                word.offset,
                path,
                f"dst={quoted(raw)}: the ports are missing",
                "SELECTOR:PORTS like tag:web:443 or *:*",
            )
            return None
        try:
            ports = parse_ports(ports_text)
        except PortError as problem:
            self._problems.add(word.offset, path, f"dst={quoted(raw)}: {problem.text}", problem.expected)
            return None
        match = PacketMatch(protocol, ports)
        self._check_portless(match, word, path)
        selector = self._destination(word, unbracketed(name), path)
        return None if selector is None else (selector, match)

    def _grant(self, value: Value, where: str) -> Grant:
        members = fields(self._problems, value, where, _GRANT_FIELDS, _OLD_SPELLING)
        sources = self._sources(value_of(members, "src"), f"{where}.src")
        destinations: list[Selector] = []
        for word, path in words(self._problems, value_of(members, "dst"), f"{where}.dst"):
            selector = self._destination(word, word.value, path)
            if selector is not None and self._grantable(selector, word, path):
                destinations.append(selector)
        packets = self._packets(value_of(members, "ip"), f"{where}.ip")
        app = value_of(members, "app")
        capabilities = (
            None if app is None else read_capabilities(self._problems, app, f"{where}.app", reserved=True)
        )
        if not packets and not capabilities and not _given(value_of(members, "ip")) and not _given(app):
            self._problems.add(
                value.offset, where, "ip and app can not both be empty", "a list ip or an object app"
            )
        if capabilities and any(one.kind is Kind.INTERNET for one in destinations):
            assert app is not None
            self._problems.add(
                app.offset, f"{where}.app", "cannot use app grants with autogroup:internet", "ip"
            )
        self._check_self(sources, destinations, everyone_too=False)
        via = self._via(value_of(members, "via"), f"{where}.via")
        if via:
            self._warn_about_via(destinations, value, where)
        postures = self._postures(value_of(members, "srcPosture"), f"{where}.srcPosture")
        place = place_of(self._problems, value.offset, where)
        return Grant(
            place, _plain(sources), tuple(destinations), packets, capabilities or None, via, postures
        )

    def _grantable(self, selector: Selector, word: String, path: str) -> bool:
        if selector.block is None or not selector.block.is_default:
            return True
        text = f'dst {quoted(word.value.strip())}: to allow all IP addresses, use "*" or "autogroup:internet"'
        self._problems.add(word.offset, path, text, '"*" or "autogroup:internet"')
        return False

    def _sources(self, value: Value | None, where: str) -> tuple[Chosen, ...]:
        def wording(text: str, error: SelectorError | None) -> str:
            return _NOT_HERE.format(quoted(text), "src") if error is None else f"src={error.text}"

        return selectors(self._problems, value, where, self._names, RULE_SOURCES, wording=wording)

    def _destination(self, word: String, text: str, path: str) -> Selector | None:
        def wording(text: str, error: SelectorError | None) -> str:
            if error is not None:
                return f"dst={quoted(text)}: {error.text}"
            if text == "autogroup:danger-all":
                return "cannot use autogroup:danger-all as a dst"
            return _NOT_HERE.format(quoted(text), "dst")

        return selector_of(self._problems, word, text, path, self._names, RULE_DESTINATIONS, wording)

    def _check_self(
        self, sources: Sequence[Chosen], destinations: Sequence[Selector], *, everyone_too: bool
    ) -> None:
        if not any(one.kind is Kind.SELF for one in destinations):
            return
        allowed = SELF_SOURCES | {Kind.EVERYONE} if everyone_too else SELF_SOURCES
        for one in sources:
            if one.selector.kind not in allowed:
                expected = "a user, a group or autogroup:member"
                self._problems.add(one.word.offset, one.path, _SELF_RULE, expected)

    def _protocol(self, value: Value | None, where: str) -> int | None:
        if value is None or (isinstance(value, String) and not value.value):
            return None
        if not isinstance(value, String | Number):
            self._problems.add(value.offset, where, f"found {kind_of(value)}", "a protocol's name or number")
            return None
        text = value.value if isinstance(value, String) else value.text
        try:
            return parse_protocol(text)
        except PortError as problem:
            self._problems.add(
                value.offset, where, problem.text, problem.expected, name=text, candidates=NAMES
            )
            return None

    def _check_portless(self, match: PacketMatch, word: String, path: str) -> None:
        if match.protocol is None or match.protocol in WITH_PORTS or match.ports == (ALL_PORTS,):
            return
        text = f"{quoted(word.value)}: protocol {protocol_name(match.protocol)} has no ports"
        self._problems.add(word.offset, path, text, "'*' as port")

    def _packets(self, value: Value | None, where: str) -> tuple[PacketMatch, ...]:
        found: list[PacketMatch] = []
        for word, path in words(self._problems, value, where):
            protocol_text, colon, ports_text = word.value.strip().partition(":")
            try:
                protocol = parse_protocol(protocol_text) if colon else None
                match = PacketMatch(protocol, parse_ports(ports_text if colon else protocol_text))
            except PortError as problem:
                expected = f"{problem.expected}, with a protocol before it where wanted: tcp:443, icmp:*"
                self._problems.add(
                    word.offset,
                    path,
                    problem.text,
                    expected,
                    name=protocol_text,
                    candidates=[f"{one}:*" for one in NAMES],
                )
                continue
            self._check_portless(match, word, path)
            found.append(match)
        return tuple(found)

    def _via(self, value: Value | None, where: str) -> tuple[str, ...]:
        found: list[str] = []
        for word, path in words(self._problems, value, where):
            text = word.value.strip()
            if not text.startswith("tag:"):
                self._problems.add(word.offset, path, "via can only be a tag", "a tag of tagOwners")
            elif text not in self._names.tags:
                self._problems.add(
                    word.offset,
                    path,
                    f"tag {quoted(text)} not found",
                    "a tag of tagOwners",
                    name=text,
                    candidates=self._names.tags,
                )
            else:
                found.append(text)
        return tuple(found)

    def _warn_about_via(self, destinations: Sequence[Selector], value: Value, where: str) -> None:
        for one in destinations:
            if one.block is None and one.kind not in (Kind.INTERNET, Kind.IPSET):
                text = f"{quoted(one.text)} is no route, so via sends nothing there"
                self._problems.warn(value.offset, where, text)

    def _postures(self, value: Value | None, where: str) -> tuple[str, ...]:
        found = read_posture_names(self._problems, value, where, self._names)
        return found if value is not None else self._default_postures


def _plain(sources: Sequence[Chosen]) -> tuple[Selector, ...]:
    return tuple(one.selector for one in sources)


def unbracketed(name: str) -> str:
    """`[addr]` and `[addr]/bits` without the brackets that keep ports apart from IPv6."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](/[0-9]+)?", name.strip())
    return name if found is None else found.group(1) + (found.group(2) or "")


def _given(value: Value | None) -> bool:
    """Whether something was written, even if it could not be read."""
    match value:
        case Array(values=values):
            return bool(values)
        case Object(members=members):
            return bool(members)
        case _:
            return value is not None
