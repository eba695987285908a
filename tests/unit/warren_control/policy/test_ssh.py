"""SSH rules of single nodes, and how long a check lasts."""

from __future__ import annotations

from typing import Any

import msgspec

from support.policy_mesh import Mesh

MESH = (
    Mesh()
    .with_node("laptop", user=1)
    .with_node("desk", user=3)
    .with_node("phone", user=1)
    .with_node("shop", tags="web")
    .with_node("store", tags="db")
)


def rule(**fields: Any) -> dict[str, Any]:
    return {"action": "accept", "src": ["autogroup:member"], "dst": ["tag:web"], "users": ["root"], **fields}


def test_sources_may_log_in_to_destinations_and_root_is_refused_unless_named() -> None:
    policy = MESH.under(ssh=[rule(users=["backup", "autogroup:nonroot"])])
    assert policy.ssh("shop") == ["desk laptop phone > *==,backup=backup,root= accept"]
    assert policy.ssh("laptop") == []


def test_self_is_each_users_own_nodes() -> None:
    policy = MESH.under(ssh=[rule(dst=["autogroup:self"])])
    assert policy.ssh("laptop") == ["laptop phone > root=root accept"]
    assert policy.ssh("desk") == ["desk > root=root accept"]
    assert policy.ssh("shop") == []


def test_a_local_part_is_a_rule_of_its_own_for_each_user_of_the_domain() -> None:
    policy = MESH.under(ssh=[rule(src=["autogroup:member", "tag:db"], users=["localpart:*@example.com"])])
    assert policy.ssh("shop") == [
        "laptop phone > root= accept",
        "laptop phone > ana=ana accept",
        "desk > root= accept",
        "store > root= accept",
    ]


def test_checks_come_before_accepts_whatever_their_order_in_the_file() -> None:
    policy = MESH.under(ssh=[rule(users=["root"]), rule(action="check", users=["backup"])])
    assert [line.rsplit(" ", 1)[1] for line in policy.ssh("shop")] == ["check", "accept"]


def test_a_check_is_held_at_the_control_server() -> None:
    policy = MESH.under(ssh=[rule(action="check", acceptEnv=["LANG", "LC_*"])])
    (found,) = policy.index.ssh_rules(policy.id("shop"))
    wire = msgspec.json.decode(msgspec.json.encode(found))
    assert wire["action"] == {
        "holdAndDelegate": "https://control.example.com/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID"
        "?local_user=$LOCAL_USER"
    }
    assert wire["acceptEnv"] == ["LANG", "LC_*"]
    assert wire["principals"][0] == {"nodeIP": "100.64.0.1"}


def test_the_first_rule_that_checks_says_how_long_an_approval_lasts() -> None:
    policy = MESH.under(
        ssh=[
            rule(action="check", users=["backup"], checkPeriod="always"),
            rule(action="check", src=["ana@example.com"], checkPeriod="20m"),
            rule(action="check"),
        ]
    )
    laptop, desk, shop = policy.id("laptop"), policy.id("desk"), policy.id("shop")
    minute = 60 * 10**9
    assert policy.index.check_period(laptop, shop, "root") == 20 * minute
    assert policy.index.check_period(desk, shop, "root") == 720 * minute
    assert policy.index.check_period(desk, shop, "backup") == 0
    assert policy.index.check_period(desk, shop, "nobody") is None
    assert policy.index.check_period(shop, desk, "root") is None


def test_rules_of_nodes_with_the_same_rules_are_one_object() -> None:
    policy = MESH.with_node("shop-2", tags="web").under(ssh=[rule()])
    assert policy.index.ssh_rules(4)[0] is policy.index.ssh_rules(6)[0]
