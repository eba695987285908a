"""Tests inside a policy: a policy that fails its own is refused, and says what would have happened."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from support.policy_mesh import USERS, Mesh
from warren_control.policy.acceptance import accept
from warren_control.policy.network import User
from warren_control.policy.problems import PolicyError

MESH = (
    Mesh()
    .with_node("laptop", user=1)
    .with_node("desk", user=3)
    .with_node("shop", tags="web")
    .with_node("store", tags="db")
)
RULES = {
    "acls": [
        {"action": "accept", "src": ["group:dev"], "dst": ["tag:web:443"], "proto": "tcp"},
        {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:db:5432,6000-6010", "printer:*"]},
        {"action": "accept", "src": ["100.64.0.2"], "dst": ["printer:9100"]},
        {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22"]},
    ]
}


def failures(**sections: Any) -> list[str]:
    try:
        MESH.under(**{**RULES, **sections})
    except PolicyError as error:
        return [f"{one.where}: {one.text}" for one in error.problems]
    return []


def reach(source: str, destination: str, **more: Any) -> list[str]:
    return failures(tests=[{"src": source, "accept": [destination], **more}])


@pytest.mark.parametrize(
    ("source", "destination", "more"),
    [
        ("ana@example.com", "tag:web:443", {}),
        ("group:dev", "tag:web:443", {"proto": "tcp"}),
        ("group:dev", "100.64.0.3:443", {"proto": "6"}),
        ("group:dev", "[fd7a:115c:a1e0::3]:443", {}),
        ("ana@example.com", "tag:db:6005", {"proto": "udp"}),
        ("ana@example.com", "printer:80", {}),
        ("100.64.0.2", "10.1.2.3:9100", {}),
    ],
)
def test_what_a_rule_allows_is_accepted(source: str, destination: str, more: dict[str, Any]) -> None:
    assert reach(source, destination, **more) == []
    denied = failures(tests=[{"src": source, "deny": [destination], **more}])
    assert len(denied) == 1
    assert "allowed by acls[" in denied[0]


@pytest.mark.parametrize(
    ("source", "destination", "more"),
    [
        ("tag:web", "tag:db:5432", {}),
        ("ana@example.com", "tag:db:5433", {}),
        ("group:dev", "tag:web:443", {"proto": "udp"}),
        ("group:dev", "tag:db:5432", {}),
        ("cleo@example.org", "printer:9100", {}),
    ],
)
def test_what_no_rule_allows_for_every_source_is_denied(
    source: str, destination: str, more: dict[str, Any]
) -> None:
    assert failures(tests=[{"src": source, "deny": [destination], **more}]) == []
    assert len(reach(source, destination, **more)) == 1


@pytest.mark.parametrize(
    ("source", "destination", "more"),
    [
        ("ana@example.com", "10.1.2.3/32:80", {}),
        ("ana@example.com", "site:80", {}),
        ("ana@example.com", "*:80", {}),
        ("ana@example.com", "autogroup:internet:80", {}),
        ("ana@example.com", "autogroup:self:22", {}),
        ("ana@example.com", "tag:db:*", {}),
        ("ana@example.com", "tag:db:1,2", {}),
        ("ana@example.com", "tag:db:6000-6010", {}),
        ("ana@example.com", "tag:db:99999", {}),
        ("ana@example.com", "tag:db", {}),
        ("ana@example.com", "tag:nothing:1", {}),
        ("ana@example.com", "tag:idle:1", {}),
        ("ana@example.com", "nowhere:1", {}),
        ("ana@example.com", "gone@example.com:1", {}),
        ("", "tag:db:1", {}),
        ("group:none", "tag:db:1", {}),
        ("autogroup:bogus", "tag:db:1", {}),
        ("ana@example.com", "tag:db:5432", {"proto": "icmp"}),
        ("ana@example.com", "tag:db:5432", {"proto": "bogus"}),
    ],
)
def test_an_assertion_that_cannot_be_tried_fails_both_ways(
    source: str, destination: str, more: dict[str, Any]
) -> None:
    for kind in ("accept", "deny"):
        found = failures(tests=[{"src": source, kind: [destination], **more}])
        assert len(found) == 1
        assert "test(s) failed" in found[0]


def test_a_failure_names_the_assertion_and_what_would_have_happened() -> None:
    found = failures(
        tests=[
            {"src": "ana@example.com", "accept": ["tag:web:443", "tag:web:80"]},
            {"src": "group:dev", "accept": ["tag:db:5432"]},
            {"src": "tag:web"},
        ]
    )
    assert found == [
        "tests[0].accept[1]: test(s) failed: ana@example.com does not reach tag:web:80: no rule allows it",
        "tests[1].accept[0]: test(s) failed: not every node of group:dev reaches tag:db:5432; "
        "only some are let in by acls[1].dst[0] (line 1)",
        "tests[2]: test(s) failed: it asserts nothing",
    ]


SSH = {
    "ssh": [
        {"action": "accept", "src": ["group:dev"], "dst": ["tag:web"], "users": ["backup"]},
        {"action": "check", "src": ["ana@example.com"], "dst": ["tag:web"], "users": ["root"]},
        {"action": "accept", "src": ["group:dev"], "dst": ["autogroup:self"], "users": ["autogroup:nonroot"]},
    ]
}


def ssh(source: str, destination: str, **lists: list[str]) -> list[str]:
    return failures(**SSH, sshTests=[{"src": source, "dst": [destination], **lists}])


@pytest.mark.parametrize(
    ("source", "destination", "lists"),
    [
        ("group:dev", "tag:web", {"accept": ["backup"], "deny": ["carl", ""]}),
        ("ana@example.com", "tag:web", {"accept": ["root"], "check": ["root"]}),
        ("100.64.0.1", "100.64.0.3", {"accept": ["backup"]}),
        ("ana@example.com", "autogroup:self", {"accept": ["carl"], "deny": ["root"]}),
        ("tag:web", "tag:db", {"deny": ["root"]}),
    ],
)
def test_ssh_assertions_that_hold_pass(source: str, destination: str, lists: dict[str, list[str]]) -> None:
    assert ssh(source, destination, **lists) == []


@pytest.mark.parametrize(
    ("source", "destination", "lists"),
    [
        ("group:dev", "tag:web", {"accept": ["root"]}),
        ("group:dev", "tag:web", {"deny": ["backup"]}),
        ("group:dev", "tag:web", {"deny": ["root"]}),
        ("group:dev", "tag:web", {"check": ["backup"]}),
        ("ana@example.com", "tag:web", {"accept": [""]}),
        ("ana@example.com", "tag:idle", {"deny": ["root"]}),
        ("ana@example.com", "site", {"deny": ["root"]}),
        ("ana@example.com", "nowhere", {"deny": ["root"]}),
        ("group:dev", "autogroup:self", {"accept": ["carl"]}),
        ("group:none", "tag:web", {"deny": ["root"]}),
        ("", "tag:web", {"deny": ["root"]}),
        ("ana@example.com", "tag:web", {}),
    ],
)
def test_ssh_assertions_that_do_not_hold_fail(
    source: str, destination: str, lists: dict[str, list[str]]
) -> None:
    found = ssh(source, destination, **lists)
    assert len(found) == 1
    assert "test(s) failed" in found[0]


def test_a_name_of_two_users_is_refused_and_one_that_becomes_so_selects_nobody() -> None:
    twins = MappingProxyType({**USERS, 4: User(4, "ana@example.com", "other@example.com")})
    network = replace(MESH.network, users=twins)
    with pytest.raises(PolicyError, match="means 2 users"):
        accept('{"acls": [{"action": "accept", "src": ["ana@example.com"], "dst": ["*:*"]}]}', network)


def test_the_identity_providers_identifier_wins_over_names() -> None:
    users = MappingProxyType({1: replace(USERS[1], provider_id="ben@example.com"), 2: USERS[2], 3: USERS[3]})
    policy = '{"acls": [{"action": "accept", "src": ["ben@example.com"], "dst": ["*:*"]}]}'
    index = accept(policy, replace(MESH.network, users=users))
    assert index.filter(2)[0].src_ips == ("100.64.0.1", "fd7a:115c:a1e0::1")
