"""The sections that declare names: groups, hosts, tagOwners, ipsets, postures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from warren_control.policy.document import frozen_mapping
from warren_control.policy.hujson import Member, String, Value, kind_of
from warren_control.policy.postures import EXPECTED, Assertion, parse_assertion
from warren_control.policy.problems import ProblemList, quoted
from warren_control.policy.ranges import Block, parse_block
from warren_control.policy.reading import entries, selectors, word, words
from warren_control.policy.selectors import OWNERS, Names, Selector

_TAG: Final = re.compile(r"tag:[A-Za-z][A-Za-z0-9-]*")
_MAX_NAME: Final = 200


def read_groups(problems: ProblemList, value: Value | None) -> Mapping[str, tuple[str, ...]]:
    """Group name to the users in it."""
    groups: dict[str, tuple[str, ...]] = {}
    for member in entries(problems, value, "groups") if value is not None else ():
        name = member.name.value
        where = f"groups[{quoted(name)}]"
        if not has_prefix(problems, member, "groups", "group:"):
            continue
        groups[name] = tuple(
            user.value.strip()
            for user, path in words(problems, member.value, where)
            if _is_user(problems, user, path, where)
        )
    return frozen_mapping(groups)


def _is_user(problems: ProblemList, user: String, path: str, where: str) -> bool:
    text = user.value.strip()
    if "@" in text:
        return True
    if text.startswith("group:"):
        problems.add(
            user.offset,
            path,
            f"{where}: {quoted(text)}: group members cannot be recursive",
            "a user like name@example.com",
        )
    else:
        problems.add(
            user.offset, path, f"{where}: {quoted(text)}: not a user", "a user like name@example.com"
        )
    return False


def has_prefix(problems: ProblemList, member: Member, section: str, prefix: str) -> bool:
    name = member.name.value
    if name.startswith(prefix) and len(prefix) < len(name) <= _MAX_NAME:
        return True
    problems.add(
        member.name.offset,
        f"{section}[{quoted(name)}]",
        f"{quoted(name)} is not a name here",
        f"a name that starts with {quoted(prefix)}",
    )
    return False


def read_hosts(problems: ProblemList, value: Value | None) -> Mapping[str, Block]:
    hosts: dict[str, Block] = {}
    for member in entries(problems, value, "hosts") if value is not None else ():
        name = member.name.value
        where = f"hosts[{quoted(name)}]"
        if not name or ":" in name or "@" in name or name == "*" or len(name) > _MAX_NAME:
            problems.add(
                member.name.offset, where, f"{quoted(name)} is not a host name", "a name without ':' and '@'"
            )
            continue
        address = word(problems, member.value, where)
        if address is None:
            continue
        try:
            hosts[name] = parse_block(address.value.strip())
        except ValueError as error:
            problems.add(
                address.offset,
                where,
                f"{quoted(address.value)}: invalid address: {error}",
                "one address or one CIDR without host bits",
            )
    return frozen_mapping(hosts)


def read_tag_names(problems: ProblemList, value: Value | None) -> frozenset[str]:
    names: set[str] = set()
    for member in entries(problems, value, "tagOwners") if value is not None else ():
        name = member.name.value
        where = f"tagOwners[{quoted(name)}]"
        if not name.startswith("tag:"):
            problems.add(
                member.name.offset, where, f"{quoted(name)} is not a tag", "a name that starts with 'tag:'"
            )
        elif not re.match(r"tag:[A-Za-z]", name):
            problems.add(
                member.name.offset,
                where,
                f"{where}: tag names must start with a letter, after 'tag:'",
                "an ASCII letter",
            )
        elif len(name) > _MAX_NAME or not _TAG.fullmatch(name):
            problems.add(
                member.name.offset,
                where,
                f"{where}: tag names hold letters, digits and dashes",
                "a name like tag:web-1",
            )
        names.add(name)
    return frozenset(names)


def read_tag_owners(
    problems: ProblemList, value: Value | None, names: Names
) -> Mapping[str, tuple[Selector, ...]]:
    """Tag to its owners. Tags that own each other add nothing and are no error."""
    quiet = ProblemList(problems.positions)
    owners = {
        member.name.value: read_owners(
            problems, member.value, f"tagOwners[{quoted(member.name.value)}]", names
        )
        for member in (entries(quiet, value, "tagOwners") if value is not None else ())
    }
    return frozen_mapping(owners)


def read_owners(problems: ProblemList, value: Value, where: str, names: Names) -> tuple[Selector, ...]:
    """Users, groups and tags that own a tag or approve a route."""
    found = selectors(problems, value, where, names, OWNERS, expected="users, groups or tags")
    return tuple(one.selector for one in found)


def read_postures(problems: ProblemList, value: Value | None) -> Mapping[str, tuple[Assertion, ...]]:
    postures: dict[str, tuple[Assertion, ...]] = {}
    for member in entries(problems, value, "postures") if value is not None else ():
        name = member.name.value
        if not has_prefix(problems, member, "postures", "posture:"):
            continue
        found: list[Assertion] = []
        for one, path in words(problems, member.value, f"postures[{quoted(name)}]"):
            try:
                found.append(parse_assertion(one.value))
            except ValueError:
                problems.add(one.offset, path, f"{quoted(one.value)} is not a condition", EXPECTED)
        if not found:
            problems.add(
                member.name.offset,
                "postures",
                f"{quoted(name)} has no condition ({kind_of(member.value)})",
                EXPECTED,
            )
        postures[name] = tuple(found)
    return frozen_mapping(postures)


def read_posture_names(
    problems: ProblemList, value: Value | None, where: str, names: Names
) -> tuple[str, ...]:
    found: list[str] = []
    for one, path in words(problems, value, where):
        if one.value in names.postures:
            found.append(one.value)
        else:
            text = f"posture not found: {quoted(one.value)}"
            problems.add(
                one.offset, path, text, "a name under postures", name=one.value, candidates=names.postures
            )
    return tuple(found)
