"""The sections `nodeAttrs`, `autoApprovers`, `tests` and `sshTests`."""

from __future__ import annotations

from typing import Final

from warren_control.policy.document import (
    AutoApprovers,
    Located,
    NodeAttributes,
    ReachTest,
    SshTest,
    frozen_mapping,
)
from warren_control.policy.hujson import Number, String, Value, kind_of
from warren_control.policy.problems import ProblemList, quoted
from warren_control.policy.ranges import Block, parse_block
from warren_control.policy.read_capabilities import read_capabilities
from warren_control.policy.read_names import read_owners
from warren_control.policy.reading import (
    entries,
    fields,
    items,
    located,
    place_of,
    selectors,
    value_of,
    word,
    words,
)
from warren_control.policy.selectors import (
    ATTRIBUTE_TARGETS,
    Kind,
    Names,
    Selector,
    SelectorError,
    UnknownTagError,
    parse_selector,
)

_POOL_SPACE: Final = parse_block("100.64.0.0/10")
_RESERVED: Final = (parse_block("100.100.100.0/24"), parse_block("100.115.92.0/23"))


def read_node_attributes(
    problems: ProblemList,
    value: Value | None,
    names: Names,
) -> tuple[NodeAttributes, ...]:
    found: list[NodeAttributes] = []
    for index, one in enumerate(items(problems, value, "nodeAttrs") if value is not None else ()):
        where = f"nodeAttrs[{index}]"
        members = fields(problems, one, where, ("target", "attr", "ipPool", "app"))
        targets = selectors(
            problems,
            value_of(members, "target"),
            f"{where}.target",
            names,
            ATTRIBUTE_TARGETS,
            expected="nodes",
        )
        attributes = words(problems, value_of(members, "attr"), f"{where}.attr")
        pools = [
            _pool(problems, text, path)
            for text, path in words(problems, value_of(members, "ipPool"), f"{where}.ipPool")
        ]
        app = value_of(members, "app")
        found.append(
            NodeAttributes(
                place_of(problems, one.offset, where),
                tuple(target.selector for target in targets),
                tuple(text.value for text, _ in attributes),
                frozen_mapping({})
                if app is None
                else read_capabilities(problems, app, f"{where}.app", reserved=False),
                tuple(pool for pool in pools if pool is not None),
            )
        )
    return tuple(found)


def _pool(problems: ProblemList, one: String, path: str) -> Block | None:
    text = one.value.strip()
    try:
        block = parse_block(text)
    except ValueError as error:
        problems.add(one.offset, path, f"IPPool({text[:80]}): {error}", "a CIDR inside 100.64.0.0/10")
        return None
    if any(block.overlaps(reserved) for reserved in _RESERVED):
        expected = "a CIDR without 100.100.100.0/24 and 100.115.92.0/23"
        problems.add(one.offset, path, f"IPPool({text}): network within reserved range", expected)
        return None
    if not _POOL_SPACE.contains(block):
        problems.add(
            one.offset, path, f"IPPool({text}): outside of 100.64.0.0/10", "a CIDR inside 100.64.0.0/10"
        )
        return None
    return block


def read_approvers(problems: ProblemList, value: Value | None, names: Names) -> AutoApprovers:
    if value is None:
        return AutoApprovers()
    members = fields(problems, value, "autoApprovers", ("routes", "exitNode"))
    routes: list[tuple[Block, tuple[Selector, ...]]] = []
    routes_value = value_of(members, "routes")
    for member in entries(problems, routes_value, "autoApprovers.routes") if routes_value is not None else ():
        where = f"autoApprovers.routes[{quoted(member.name.value)}]"
        owners = read_owners(problems, member.value, where, names)
        try:
            routes.append((parse_block(member.name.value.strip()), owners))
        except ValueError as error:
            text = f"{quoted(member.name.value)}: invalid address: {error}"
            problems.add(member.name.offset, where, text, "a CIDR without host bits")
    exit_value = value_of(members, "exitNode")
    exit_node = (
        () if exit_value is None else read_owners(problems, exit_value, "autoApprovers.exitNode", names)
    )
    return AutoApprovers(tuple(routes), exit_node)


def read_tests(problems: ProblemList, value: Value | None) -> tuple[ReachTest, ...]:
    found: list[ReachTest] = []
    for index, one in enumerate(items(problems, value, "tests") if value is not None else ()):
        where = f"tests[{index}]"
        members = fields(problems, one, where, ("src", "proto", "accept", "deny", "srcPostureAttrs"))
        source = word(problems, value_of(members, "src"), f"{where}.src")
        found.append(
            ReachTest(
                place_of(problems, one.offset, where),
                "" if source is None else source.value,
                _test_protocol(problems, value_of(members, "proto"), f"{where}.proto"),
                _list(problems, value_of(members, "accept"), f"{where}.accept"),
                _list(problems, value_of(members, "deny"), f"{where}.deny"),
            )
        )
        if "srcPostureAttrs" in members:
            problems.warn(
                one.offset, where, "srcPostureAttrs is not applied: tests see every posture as unmet"
            )
    return tuple(found)


def _test_protocol(problems: ProblemList, value: Value | None, where: str) -> str | None:
    match value:
        case None:
            return None
        case String(value=text):
            return text or None
        case Number(text=text):
            return text
        case _:
            problems.add(value.offset, where, f"found {kind_of(value)}", "tcp, udp, sctp or a number")
            return None


def read_ssh_tests(problems: ProblemList, value: Value | None, names: Names) -> tuple[SshTest, ...]:
    found: list[SshTest] = []
    for index, one in enumerate(items(problems, value, "sshTests") if value is not None else ()):
        where = f"sshTests[{index}]"
        members = fields(problems, one, where, ("src", "dst", "accept", "deny", "check"))
        source = word(problems, value_of(members, "src"), f"{where}.src")
        destinations = words(problems, value_of(members, "dst"), f"{where}.dst")
        for text, path in destinations:
            _check_ssh_destination(problems, text, path, names)
        found.append(
            SshTest(
                place_of(problems, one.offset, where),
                "" if source is None else source.value,
                located(problems, destinations),
                _list(problems, value_of(members, "accept"), f"{where}.accept"),
                _list(problems, value_of(members, "deny"), f"{where}.deny"),
                _list(problems, value_of(members, "check"), f"{where}.check"),
            )
        )
    return tuple(found)


def _check_ssh_destination(problems: ProblemList, one: String, path: str, names: Names) -> None:
    """What is refused before a test runs; anything else that is wrong fails the test."""
    text = one.value.strip()
    try:
        selector = parse_selector(text, names)
    except UnknownTagError:
        message = f"SSH tests dst contains unknown tag {quoted(text)}"
        problems.add(one.offset, path, message, "a tag of tagOwners", name=text, candidates=names.tags)
        return
    except SelectorError:
        return
    if selector.kind in (Kind.CIDR, Kind.INTERNET):
        message = f"SSH tests dst contains disallowed element {quoted(text)}"
        problems.add(
            one.offset, path, message, "a node: a tag, a user, an address, a host or an autogroup of nodes"
        )


def _list(problems: ProblemList, value: Value | None, where: str) -> tuple[Located, ...]:
    return located(problems, words(problems, value, where))
