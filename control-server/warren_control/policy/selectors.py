"""Selectors: the words by which rules name nodes, users and addresses, and where each may stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from warren_control.policy.network import Role
from warren_control.policy.problems import quoted
from warren_control.policy.ranges import Block, parse_block


class Kind(Enum):
    EVERYONE = "*"
    IP = "an IP address"
    CIDR = "a CIDR"
    HOST = "a host"
    USER = "a user"
    DOMAIN = "user:*@domain"
    GROUP = "a group"
    TAG = "a tag"
    IPSET = "an IP set"
    MEMBER = "autogroup:member"
    TAGGED = "autogroup:tagged"
    SELF = "autogroup:self"
    INTERNET = "autogroup:internet"
    DANGER_ALL = "autogroup:danger-all"
    NONROOT = "autogroup:nonroot"
    ROLE = "a role"


# Which addresses these stand for is written in the policy itself.
LITERAL: Final = frozenset({Kind.IP, Kind.CIDR, Kind.HOST})


@dataclass(frozen=True, slots=True)
class Selector:
    kind: Kind
    text: str
    block: Block | None = field(default=None, compare=False)
    """The addresses of an IP, a CIDR or a host."""

    @property
    def name(self) -> str:
        """What follows the prefix: the domain of `user:*@domain`, the role of `autogroup:role`."""
        match self.kind:
            case Kind.DOMAIN:
                return self.text.partition("@")[2]
            case Kind.ROLE:
                return self.text.partition(":")[2]
            case _:
                return self.text


AUTOGROUPS: Final = {
    "autogroup:member": Kind.MEMBER,
    "autogroup:tagged": Kind.TAGGED,
    "autogroup:self": Kind.SELF,
    "autogroup:internet": Kind.INTERNET,
    "autogroup:danger-all": Kind.DANGER_ALL,
    "autogroup:nonroot": Kind.NONROOT,
    **{f"autogroup:{role.value}": Kind.ROLE for role in Role},
}
EVERYONE: Final = Selector(Kind.EVERYONE, "*")
SELF: Final = Selector(Kind.SELF, "autogroup:self")


@dataclass(frozen=True, slots=True)
class Names:
    """The names a document declares, against which selectors are read."""

    groups: frozenset[str] = frozenset()
    hosts: Mapping[str, Block] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    ipsets: frozenset[str] = frozenset()
    postures: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()


class SelectorError(ValueError):
    """A word that selects nothing: what is wrong, what was expected, which names would have been valid."""

    def __init__(
        self,
        text: str,
        expected: str,
        name: str,
        candidates: Collection[str] = (),
        *,
        is_domain: bool = False,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.expected = expected
        self.name = name
        self.candidates = candidates
        self.is_domain = is_domain
        """A domain that does not belong to the mesh."""


class UnknownTagError(SelectorError):
    """A tag that tagOwners does not have; some places word it differently."""

    def __init__(self, tag: str, tags: Collection[str]) -> None:
        super().__init__(f"tag not found: {quoted(tag)}", "a tag of tagOwners", tag, tags)


def foreign_domain(domain: str, domains: Collection[str]) -> SelectorError:
    text = f"{domain} is not associated with this Tailnet and cannot be used in user:*@<domain> expressions"
    return SelectorError(text, "a domain of this mesh", domain, domains, is_domain=True)


def parse_selector(text: str, names: Names) -> Selector:
    """The selector that a text is, or `SelectorError`."""
    text = text.strip()
    block = _block(text)
    if block is not None:
        return Selector(Kind.CIDR if "/" in text else Kind.IP, text, block)
    if text == "*":
        return EVERYONE
    if "@" in text:
        return _user(text, names)
    head, colon, _ = text.partition(":")
    match head if colon else "":
        case "group":
            return _declared(text, Kind.GROUP, names.groups, "group", "groups")
        case "tag":
            if text not in names.tags:
                raise UnknownTagError(text, names.tags)
            return Selector(Kind.TAG, text)
        case "ipset":
            return _declared(text, Kind.IPSET, names.ipsets, "ipset", "ipsets")
        case "autogroup":
            return _autogroup(text)
        case _:
            return _host(text, names)


def _block(text: str) -> Block | None:
    """The addresses of a literal. A text that can only be meant as one is reported as one."""
    if not (("." in text or ":" in text) and text[:1] in "0123456789abcdefABCDEF:"):
        return None
    try:
        return parse_block(text)
    except ValueError as error:
        if "/" in text and ":" not in text.partition("/")[2] and "@" not in text:
            raise SelectorError(
                f"{quoted(text)}: invalid address: {error}", "an address or a CIDR without host bits", text
            ) from error
        return None


def _user(text: str, names: Names) -> Selector:
    if text.startswith("user:*@"):
        domain = text[len("user:*@") :]
        if domain not in names.domains:
            raise foreign_domain(domain, names.domains)
        return Selector(Kind.DOMAIN, text)
    return Selector(Kind.USER, text)


def _declared(text: str, kind: Kind, declared: frozenset[str], word: str, section: str) -> Selector:
    if text not in declared:
        raise SelectorError(f"{word} not found: {quoted(text)}", f"a name under {section}", text, declared)
    return Selector(kind, text)


def _autogroup(text: str) -> Selector:
    kind = AUTOGROUPS.get(text)
    if kind is None:
        raise SelectorError(
            f"autogroup not found: {quoted(text)}", "a known autogroup", text, frozenset(AUTOGROUPS)
        )
    return Selector(kind, text)


def _host(text: str, names: Names) -> Selector:
    block = names.hosts.get(text)
    if block is None:
        raise SelectorError(
            f"{quoted(text)}: invalid address",
            "an address, a name under hosts, a user, group:, tag:, autogroup:, ipset: or '*'",
            text,
            frozenset(names.hosts) | names.groups | names.tags,
        )
    return Selector(Kind.HOST, text, block)


_NODES: Final = frozenset({Kind.USER, Kind.DOMAIN, Kind.GROUP, Kind.TAG, Kind.MEMBER, Kind.TAGGED, Kind.ROLE})
RULE_SOURCES: Final = _NODES | LITERAL | {Kind.EVERYONE, Kind.IPSET, Kind.DANGER_ALL}
RULE_DESTINATIONS: Final = _NODES | LITERAL | {Kind.EVERYONE, Kind.IPSET, Kind.SELF, Kind.INTERNET}
# What may stand beside autogroup:self as a source: whoever is a person.
SELF_SOURCES: Final = frozenset({Kind.USER, Kind.DOMAIN, Kind.GROUP, Kind.MEMBER, Kind.ROLE})
SSH_SOURCES: Final = _NODES
SSH_DESTINATIONS: Final = frozenset({Kind.USER, Kind.TAG, Kind.MEMBER, Kind.TAGGED, Kind.SELF, Kind.ROLE})
ATTRIBUTE_TARGETS: Final = _NODES | LITERAL | {Kind.EVERYONE, Kind.IPSET}
# Owners of tags and approvers of routes.
OWNERS: Final = frozenset({Kind.USER, Kind.DOMAIN, Kind.GROUP, Kind.TAG, Kind.MEMBER, Kind.TAGGED, Kind.ROLE})
