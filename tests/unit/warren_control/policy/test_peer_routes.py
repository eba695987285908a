"""Through which peer a node gets which route."""

from __future__ import annotations

from typing import Any

from support.policy_mesh import Mesh

TWINS = (
    Mesh()
    .with_node("web", tags="web")
    .with_node("first", tags="router", routes="10.1.0.0/16")
    .with_node("second", tags="router exit", routes="10.1.0.0/16")
    .with_node("db", tags="db")
)
TO_SITE = {"src": ["tag:web"], "dst": ["10.1.0.0/16"], "ip": ["*"]}
TOGETHER = {"src": ["autogroup:tagged"], "dst": ["autogroup:tagged"], "ip": ["*"]}


def test_the_oldest_of_several_routers_serves_a_prefix() -> None:
    policy = TWINS.under(grants=[TO_SITE])
    assert policy.routes("web") == {"first": ["10.1.0.0/16"]}
    assert policy.index.primary_routes(2)
    assert not policy.index.primary_routes(3)


def test_a_route_is_given_only_to_those_with_a_rule_about_it() -> None:
    policy = TWINS.under(grants=[TO_SITE, TOGETHER])
    assert policy.routes("web") == {"first": ["10.1.0.0/16"]}
    assert policy.routes("db") == {}


def test_a_standby_router_sees_the_primary() -> None:
    assert TWINS.under(grants=[TOGETHER]).routes("second") == {"first": ["10.1.0.0/16"]}


def test_via_steers_to_a_router_with_the_tag() -> None:
    policy = TWINS.under(grants=[{**TO_SITE, "via": ["tag:exit"]}, TOGETHER])
    assert policy.routes("web") == {"second": ["10.1.0.0/16"]}


def test_a_rule_without_via_about_the_same_route_comes_first() -> None:
    policy = TWINS.under(grants=[{**TO_SITE, "via": ["tag:exit"]}, TO_SITE])
    assert policy.routes("web") == {"first": ["10.1.0.0/16"]}


def test_a_wildcard_beside_via_does_not_undo_the_steering() -> None:
    everything = {"src": ["tag:web"], "dst": ["*"], "ip": ["*"]}
    policy = TWINS.under(grants=[{**TO_SITE, "via": ["tag:exit"]}, everything])
    assert policy.routes("web") == {"second": ["10.1.0.0/16"]}


def test_two_via_rules_about_one_route_give_it_once() -> None:
    policy = TWINS.under(
        grants=[{**TO_SITE, "via": ["tag:router"]}, {**TO_SITE, "via": ["tag:exit"]}, TOGETHER]
    )
    assert policy.routes("web") == {"first": ["10.1.0.0/16"]}


EXITS = (
    Mesh()
    .with_node("web", tags="web")
    .with_node("out", tags="exit", routes="0.0.0.0/0 ::/0")
    .with_node("far", tags="exit router", routes="0.0.0.0/0 ::/0")
)
BOTH = ["0.0.0.0/0", "::/0"]


def internet(**more: Any) -> dict[str, Any]:
    return {"src": ["tag:web"], "dst": ["autogroup:internet"], "ip": ["*"], **more}


def test_exit_routes_are_for_those_whom_a_rule_lets_out() -> None:
    assert EXITS.under(grants=[internet()]).routes("web") == {"far": BOTH, "out": BOTH}
    assert EXITS.under().routes("web") == {"far": BOTH, "out": BOTH}
    assert EXITS.under(grants=[TOGETHER]).routes("web") == {}


def test_via_chooses_among_exit_nodes() -> None:
    everything = {"src": ["tag:web"], "dst": ["*"], "ip": ["*"]}
    policy = EXITS.under(grants=[internet(via=["tag:router"]), everything])
    assert policy.routes("web") == {"far": BOTH}
    assert "0.0.0.0-9.255.255.255:*" in policy.filter("far")[0]
    assert "0.0.0.0-9.255.255.255:*" not in policy.filter("out")[0]


def test_peers_with_approved_exit_routes_are_suggested_as_exit_nodes() -> None:
    policy = EXITS.under()
    assert dict(policy.index.peer_capabilities(2)) == {"suggest-exit-node": None}
    assert not policy.index.peer_capabilities(1)
