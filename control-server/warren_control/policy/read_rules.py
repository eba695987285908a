"""The sections `acls` and `grants`, read into one kind of rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from warren_control.policy.document import Capabilities, Grant, PacketMatch, frozen_mapping
from warren_control.policy.hujson import Array, Number, Object, String, Value, kind_of, plain
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
from warren_control.policy.reading import entries, fields, items, place_of, value_of, words
from warren_control.policy.selectors import (
    RULE_DESTINATIONS,
    RULE_SOURCES,
    SELF_SOURCES,
    ForeignDomainError,
    Kind,
    Names,
    Selector,
    SelectorError,
    UnknownTagError,
    parse_selector,
)

_ACL_FIELDS: Final = ("action", "src", "dst", "proto", "srcPosture")
_GRANT_FIELDS: Final = ("src", "dst", "ip", "app", "via", "srcPosture")
_OLD_SPELLING: Final = {"users": "src", "ports": "dst"}
_SELF_RULE: Final = "autogroup:self can only be used with users, groups, or supported autogroups"
# Names in Tailscale's own domain that a user may grant; the others are given by the service alone.
_GRANTABLE: Final = frozenset(
    f"tailscale.com/cap/{name}" for name in ("drive", "relay", "webui", "kubernetes", "tsidp", "secrets")
)
_CAPABILITY: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?/\S+")
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
        sources = self.sources(value_of(members, "src"), f"{where}.src")
        postures = self._postures(value_of(members, "srcPosture"), f"{where}.srcPosture")
        found: list[Grant] = []
        for word, path in words(self._problems, value_of(members, "dst"), f"{where}.dst"):
            target = self._acl_destination(word, path, protocol)
            if target is not None:
                place = place_of(self._problems, word.offset, path)
                found.append(Grant(place, _plain(sources), (target[0],), (target[1],), postures=postures))
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
        selector = self._selector(word, unbracketed(name), path, side="dst")
        return None if selector is None else (selector, match)

    def _grant(self, value: Value, where: str) -> Grant:
        members = fields(self._problems, value, where, _GRANT_FIELDS, _OLD_SPELLING)
        sources = self.sources(value_of(members, "src"), f"{where}.src")
        destinations: list[Selector] = []
        for word, path in words(self._problems, value_of(members, "dst"), f"{where}.dst"):
            selector = self._selector(word, word.value, path, side="dst")
            if selector is not None and self._grantable(selector, word, path):
                destinations.append(selector)
        packets = self._packets(value_of(members, "ip"), f"{where}.ip")
        app = value_of(members, "app")
        capabilities = None if app is None else self.capabilities(app, f"{where}.app", reserved=True)
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

    def sources(self, value: Value | None, where: str) -> list[tuple[Selector, String, str]]:
        found: list[tuple[Selector, String, str]] = []
        for word, path in words(self._problems, value, where):
            selector = self._selector(word, word.value, path, side="src")
            if selector is not None:
                found.append((selector, word, path))
        return found

    def _selector(self, word: String, text: str, path: str, *, side: str) -> Selector | None:
        """The selector of one side of a rule; problems are worded as the service words them."""
        text = text.strip()
        prefix = "src=" if side == "src" else f"dst={quoted(text)}: "
        try:
            selector = parse_selector(text, self._names)
        except UnknownTagError as unknown:
            self._problems.add(
                word.offset,
                path,
                f"{prefix}tag not found: {quoted(unknown.tag)}",
                "a tag of tagOwners",
                name=unknown.tag,
                candidates=self._names.tags,
            )
            return None
        except ForeignDomainError as foreign:
            self._problems.add(
                word.offset,
                path,
                str(foreign),
                "a domain of this mesh",
                name=foreign.domain,
                candidates=self._names.domains,
            )
            return None
        except SelectorError as problem:
            self._problems.add(
                word.offset,
                path,
                prefix + problem.text,
                problem.expected,
                name=problem.name,
                candidates=problem.candidates,
            )
            return None
        if selector.kind in (RULE_SOURCES if side == "src" else RULE_DESTINATIONS):
            return selector
        if selector.kind is Kind.DANGER_ALL:
            self._problems.add(word.offset, path, "cannot use autogroup:danger-all as a dst", '"*"')
        else:
            self._problems.add(word.offset, path, f"{quoted(text)} not valid on the {side} side of a rule")
        return None

    def _check_self(
        self,
        sources: Sequence[tuple[Selector, String, str]],
        destinations: Sequence[Selector],
        *,
        everyone_too: bool,
    ) -> None:
        if not any(one.kind is Kind.SELF for one in destinations):
            return
        for selector, word, path in sources:
            if selector.kind not in SELF_SOURCES and not (everyone_too and selector.kind is Kind.EVERYONE):
                self._problems.add(word.offset, path, _SELF_RULE, "a user, a group or autogroup:member")

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

    def capabilities(self, value: Value, where: str, *, reserved: bool) -> Capabilities:
        """Capability to its values. `reserved`: names of Tailscale's own domain are refused."""
        found: dict[str, tuple[object, ...]] = {}
        for member in entries(self._problems, value, where):
            name = member.name.value
            path = f"{where}[{quoted(name)}]"
            if "://" in name or not _CAPABILITY.fullmatch(name):
                self._problems.add(
                    member.name.offset,
                    path,
                    "capability name must have the form {domain}/{path}",
                    "a name like example.com/cap/x",
                )
            elif reserved and name.startswith("tailscale.com/") and name not in _GRANTABLE:
                self._problems.add(
                    member.name.offset,
                    path,
                    "capability name must not be in the tailscale.com domain",
                    "a name of another domain",
                    name=name,
                    candidates=_GRANTABLE,
                )
            else:
                found[name] = tuple(plain(one) for one in items(self._problems, member.value, path))
        return frozen_mapping(found)  # type: ignore[arg-type]  # plain() returns Json

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


def read_posture_names(
    problems: ProblemList, value: Value | None, where: str, names: Names
) -> tuple[str, ...]:
    found: list[str] = []
    for word, path in words(problems, value, where):
        if word.value in names.postures:
            found.append(word.value)
        else:
            text = f"posture not found: {quoted(word.value)}"
            problems.add(
                word.offset, path, text, "a name under postures", name=word.value, candidates=names.postures
            )
    return tuple(found)


def _plain(sources: Sequence[tuple[Selector, String, str]]) -> tuple[Selector, ...]:
    return tuple(selector for selector, _, _ in sources)


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
