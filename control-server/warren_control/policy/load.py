"""From the text of a policy to a `Document`, or to a `PolicyError` that names every problem's place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from warren_control.policy.document import NOWHERE, Document, Grant, PacketMatch
from warren_control.policy.hujson import (
    HuJsonError,
    Object,
    Positions,
    Value,
    decode_text,
    kind_of,
    parse,
    plain,
    position_in,
)
from warren_control.policy.ports import ALL_PORTS
from warren_control.policy.problems import PolicyError, Problem, ProblemList
from warren_control.policy.read_ipsets import read_ipsets
from warren_control.policy.read_names import (
    read_groups,
    read_hosts,
    read_posture_names,
    read_postures,
    read_tag_names,
    read_tag_owners,
)
from warren_control.policy.read_rules import MAX_RULES, RuleReader
from warren_control.policy.read_sections import (
    read_approvers,
    read_node_attributes,
    read_ssh_tests,
    read_tests,
)
from warren_control.policy.read_ssh import SshReader
from warren_control.policy.reading import fields, truth, value_of
from warren_control.policy.selectors import EVERYONE, Names

SECTIONS: Final = (
    "acls",
    "grants",
    "groups",
    "hosts",
    "tagOwners",
    "autoApprovers",
    "nodeAttrs",
    "ssh",
    "tests",
    "sshTests",
    "ipsets",
    "postures",
    "defaultSrcPosture",
    "randomizeClientPort",
    "disableIPv4",
    "derpMap",
    "OneCGNATRoute",
)
ALLOW_ALL: Final = Grant(NOWHERE, (EVERYONE,), (EVERYONE,), (PacketMatch(None, (ALL_PORTS,)),))
# Destinations times entries of ip, over all grants.
MAX_PAIRS: Final = 100_000
MAX_SSH_RULES: Final = 2_000
MAX_SSH_TESTS: Final = 1_000
# Assertions times rules: what tests may cost when a policy is stored.
MAX_TEST_WORK: Final = 2_000_000
# What holds while there is no policy at all.
NO_POLICY: Final = Document((ALLOW_ALL,))


def load(text: str | bytes, domains: Collection[str] = ()) -> Document:
    """The document of a policy text. `domains` are those that belong to the mesh."""
    try:
        decoded = decode_text(text)
        root = parse(decoded)
    except HuJsonError as problem:
        line, column = position_in(text, problem.offset)
        raise PolicyError((Problem(line, column, "", problem.text),)) from problem
    problems = ProblemList(Positions(decoded))
    if not isinstance(root, Object):
        problems.add(root.offset, "", f"found {kind_of(root)}", "an object with the sections of a policy")
        problems.raise_if_any()
    document = _read(problems, root, frozenset(domains))
    problems.raise_if_any()
    return document


def _read(problems: ProblemList, root: Value, domains: frozenset[str]) -> Document:
    members = fields(problems, root, "", SECTIONS)
    hosts = read_hosts(problems, value_of(members, "hosts"))
    groups = read_groups(problems, value_of(members, "groups"))
    tags = read_tag_names(problems, value_of(members, "tagOwners"))
    postures = read_postures(problems, value_of(members, "postures"))
    names = Names(frozenset(groups), hosts, tags, frozenset(), frozenset(postures), domains)
    ipsets = read_ipsets(problems, value_of(members, "ipsets"), names)
    names = Names(frozenset(groups), hosts, tags, frozenset(ipsets), frozenset(postures), domains)
    default = read_posture_names(problems, value_of(members, "defaultSrcPosture"), "defaultSrcPosture", names)
    rules = RuleReader(problems, names, default)
    grants = [*rules.grants(value_of(members, "grants")), *rules.acls(value_of(members, "acls"))]
    count = sum(max(1, len(grant.packets)) for grant in grants)
    if count > MAX_RULES or sum(len(one.packets) * len(one.destinations) for one in grants) > MAX_PAIRS:
        problems.add(
            root.offset,
            "",
            f"{count} rules or more; at most {MAX_RULES}, and {MAX_PAIRS} pairs of ip and dst, are accepted",
            "fewer rules",
        )
    tests = read_tests(problems, value_of(members, "tests"))
    if count * sum(len(test.accept) + len(test.deny) for test in tests) > MAX_TEST_WORK:
        problems.add(root.offset, "tests", f"too many assertions for {count} rules", "fewer tests")
    if "acls" not in members and "grants" not in members:
        grants = [replace(ALLOW_ALL, postures=default)]
    ssh = SshReader(problems, names).rules(value_of(members, "ssh"))
    ssh_tests = read_ssh_tests(problems, value_of(members, "sshTests"), names)
    if len(ssh) > MAX_SSH_RULES or len(ssh_tests) > MAX_SSH_TESTS:
        text = f"at most {MAX_SSH_RULES} rules in ssh and {MAX_SSH_TESTS} tests in sshTests are accepted"
        problems.add(root.offset, "", text, "fewer of them")
    one_cgnat = members.get("OneCGNATRoute")
    if one_cgnat is not None:
        problems.warn(one_cgnat.name.offset, "OneCGNATRoute", "this setting has no effect here")
    derp_map = value_of(members, "derpMap")
    return Document(
        tuple(grants),
        groups,
        hosts,
        read_tag_owners(problems, value_of(members, "tagOwners"), names),
        ipsets,
        postures,
        read_approvers(problems, value_of(members, "autoApprovers"), names),
        read_node_attributes(problems, value_of(members, "nodeAttrs"), names),
        ssh,
        tests,
        ssh_tests,
        truth(problems, value_of(members, "randomizeClientPort"), "randomizeClientPort"),
        truth(problems, value_of(members, "disableIPv4"), "disableIPv4"),
        None if derp_map is None else plain(derp_map),
        domains,
        tuple(problems.warnings),
    )
