"""Packet filters and capability grants of single nodes."""

from __future__ import annotations

from typing import Any

import pytest

from support.policy_mesh import Mesh

MESH = (
    Mesh()
    .with_node("laptop", user=1)
    .with_node("phone", user=1)
    .with_node("desk", user=3)
    .with_node("shop", tags="web")
    .with_node("store", tags="db")
    .with_node("edge", tags="router", routes="10.1.0.0/16")
)
EVERYONE = "100.115.94.0-100.127.255.255 100.64.0.0-100.115.91.255 fd7a:115c:a1e0::/48"
ANYWHERE = f"10.1.0.0/16 {EVERYONE}"


def acl(src: list[str], dst: list[str], **more: Any) -> dict[str, Any]:
    return {"action": "accept", "src": src, "dst": dst, **more}


def test_without_rules_everybody_reaches_everything_and_sites_are_sources_too() -> None:
    assert MESH.under().filter("shop") == [f"{ANYWHERE} > *:*"]


def test_a_node_that_nobody_may_reach_has_an_empty_filter() -> None:
    assert MESH.under(acls=[]).filter("shop") == []
    assert MESH.under(acls=[acl(["tag:web"], ["tag:db:5432"])]).filter("shop") == []


def test_destinations_of_nodes_are_cut_down_to_the_node() -> None:
    policy = MESH.under(acls=[acl(["tag:web"], ["tag:db:5432", "autogroup:tagged:22"])])
    assert policy.filter("store") == [
        "100.64.0.4 fd7a:115c:a1e0::4 > "
        "100.64.0.5:5432 fd7a:115c:a1e0::5:5432 100.64.0.5:22 fd7a:115c:a1e0::5:22"
    ]


def test_rules_with_the_same_sources_and_protocol_are_joined_into_the_first() -> None:
    policy = MESH.under(
        acls=[
            acl(["tag:web"], ["tag:db:1"]),
            acl(["tag:db"], ["tag:db:2"]),
            acl(["tag:web"], ["*:3"]),
            acl(["tag:web"], ["*:4"], proto="udp"),
        ]
    )
    assert policy.filter("store") == [
        "100.64.0.4 fd7a:115c:a1e0::4 > 100.64.0.5:1 fd7a:115c:a1e0::5:1 *:3",
        "100.64.0.5 fd7a:115c:a1e0::5 > 100.64.0.5:2 fd7a:115c:a1e0::5:2",
        "100.64.0.4 fd7a:115c:a1e0::4 > *:4 17",
    ]


def test_neighbouring_addresses_of_sources_are_one_run() -> None:
    policy = MESH.under(acls=[acl(["autogroup:member"], ["tag:web:80"])])
    assert policy.filter("shop") == [
        "100.64.0.1-100.64.0.3 fd7a:115c:a1e0::1-fd7a:115c:a1e0::3 > 100.64.0.4:80 fd7a:115c:a1e0::4:80"
    ]


def test_a_literal_stays_as_it_is_written_and_in_its_family() -> None:
    policy = MESH.under(acls=[acl(["100.64.0.4"], ["100.64.0.0/29:80"])])
    assert policy.filter("store") == ["100.64.0.4 > 100.64.0.0/29:80"]


def test_danger_all_is_every_source_there_is() -> None:
    assert MESH.under(acls=[acl(["autogroup:danger-all"], ["tag:web:443"])]).filter("shop") == [
        "* > 100.64.0.4:443 fd7a:115c:a1e0::4:443"
    ]


def test_a_router_keeps_destinations_that_overlap_what_it_routes_in_either_direction() -> None:
    policy = MESH.under(acls=[acl(["tag:web"], ["10.0.0.0/8:1", "printer:2", "10.2.0.0/16:3"])])
    assert policy.filter("edge") == ["100.64.0.4 fd7a:115c:a1e0::4 > 10.0.0.0/8:1 10.1.2.3:2"]
    assert policy.filter("store") == []


def test_an_exit_node_keeps_public_destinations_alone() -> None:
    mesh = MESH.with_node("out", tags="exit", routes="0.0.0.0/0 ::/0")
    policy = mesh.under(acls=[acl(["tag:web"], ["8.8.8.0/24:53", "10.0.0.0/8:1", "autogroup:internet:443"])])
    lines = policy.filter("out")
    assert len(lines) == 1
    assert "8.8.8.0/24:53 0.0.0.0-9.255.255.255:443" in lines[0]
    assert "10.0.0.0/8" not in lines[0]


def test_self_lets_a_users_own_untagged_nodes_in_and_nobody_else() -> None:
    policy = MESH.under(acls=[acl(["autogroup:member"], ["autogroup:self:22"])])
    own = "100.64.0.1-100.64.0.2 fd7a:115c:a1e0::1-fd7a:115c:a1e0::2"
    assert policy.filter("phone") == [f"{own} > 100.64.0.2:22 fd7a:115c:a1e0::2:22"]
    assert policy.filter("desk") == ["100.64.0.3 fd7a:115c:a1e0::3 > 100.64.0.3:22 fd7a:115c:a1e0::3:22"]
    assert policy.filter("shop") == []


def test_via_gives_the_rule_to_tagged_routers_alone_with_the_destination_as_written() -> None:
    mesh = MESH.with_node("other", tags="web", routes="10.1.0.0/16")
    policy = mesh.under(
        grants=[
            {"src": ["tag:db"], "dst": ["printer", "10.9.0.0/16"], "ip": ["tcp:631"], "via": ["tag:router"]}
        ]
    )
    assert policy.filter("edge") == ["100.64.0.5 fd7a:115c:a1e0::5 > 10.1.2.3/32:631 6"]
    assert policy.filter("other") == []


def test_a_capability_is_granted_on_the_nodes_own_addresses() -> None:
    policy = MESH.under(
        grants=[{"src": ["tag:web"], "dst": ["*", "10.1.2.0/24"], "app": {"example.com/cap/x": [{"a": 1}]}}]
    )
    assert policy.filter("store") == [
        "100.64.0.4 fd7a:115c:a1e0::4 > 100.64.0.5/32 fd7a:115c:a1e0::5/128 ['example.com/cap/x']"
    ]
    assert policy.filter("edge") == [
        "100.64.0.4 fd7a:115c:a1e0::4 > "
        "100.64.0.6/32 fd7a:115c:a1e0::6/128 ['example.com/cap/x'] + 10.1.2.0/24 ['example.com/cap/x']"
    ]


def test_a_shared_drive_grants_its_companion_the_other_way_round() -> None:
    policy = MESH.under(
        grants=[
            {"src": ["tag:web"], "dst": ["tag:db"], "app": {"tailscale.com/cap/drive": [{"access": "ro"}]}}
        ]
    )
    assert policy.filter("store") == [
        "100.64.0.4 fd7a:115c:a1e0::4 > 100.64.0.5/32 fd7a:115c:a1e0::5/128 ['tailscale.com/cap/drive']"
    ]
    assert policy.filter("shop") == [
        "100.64.0.5 fd7a:115c:a1e0::5 > "
        "100.64.0.4/32 fd7a:115c:a1e0::4/128 ['tailscale.com/cap/drive-sharer']"
    ]


def test_a_capability_for_nobody_is_kept_with_empty_sources() -> None:
    policy = MESH.under(grants=[{"src": ["group:none"], "dst": ["tag:db"], "app": {"example.com/cap/x": []}}])
    assert policy.filter("store") == [" > 100.64.0.5/32 fd7a:115c:a1e0::5/128 ['example.com/cap/x']"]


@pytest.mark.parametrize(
    ("source", "nodes"),
    [
        ("ana@example.com", {"laptop", "phone"}),
        ("group:dev", {"laptop", "phone", "desk"}),
        ("user:*@example.com", {"laptop", "phone"}),
        ("autogroup:owner", {"laptop", "phone"}),
        ("autogroup:admin", {"laptop", "phone"}),
        ("autogroup:tagged", {"shop", "store", "edge"}),
        ("gone@example.com", set()),
        ("tag:idle", set()),
        ("ana@", {"laptop", "phone"}),
    ],
)
def test_names_mean_the_untagged_nodes_of_users_or_the_nodes_with_a_tag(source: str, nodes: set[str]) -> None:
    policy = MESH.under(acls=[acl([source], ["tag:web:1"]), acl(["tag:web"], ["tag:web:2"])])
    assert policy.peers("shop") == nodes - {"shop"}


def test_an_ip_set_is_written_as_its_runs() -> None:
    policy = MESH.under(
        ipsets={"ipset:plant": ["10.1.0.0/24", "remove 10.1.0.0", "10.7.0.0/16"]},
        acls=[acl(["tag:web"], ["ipset:plant:80"]), acl(["ipset:plant"], ["tag:db:81"])],
    )
    assert policy.filter("edge") == ["100.64.0.4 fd7a:115c:a1e0::4 > 10.1.0.1-10.1.0.255:80"]
    assert policy.filter("store") == ["10.1.0.1-10.1.0.255 10.7.0.0/16 > 100.64.0.5:81 fd7a:115c:a1e0::5:81"]


def test_only_source_nodes_in_one_of_the_postures_are_let_in() -> None:
    mesh = (
        Mesh()
        .with_node("new", user=1, attributes={"node:os": "linux", "node:tsVersion": "1.80.0"})
        .with_node("old", user=1, attributes={"node:os": "linux", "node:tsVersion": "1.9.0"})
        .with_node("silent", user=1)
        .with_node("shop", tags="web")
    )
    sections = {"postures": {"posture:new": ["node:os == 'linux'", "node:tsVersion >= '1.60'"]}}
    for rule in (acl(["*"], ["tag:web:80"]), acl(["group:dev", "autogroup:danger-all"], ["tag:web:80"])):
        one = mesh.under(**sections, acls=[{**rule, "srcPosture": ["posture:new"]}])
        default = mesh.under(**sections, defaultSrcPosture=["posture:new"], acls=[rule])
        for policy in (one, default):
            assert policy.filter("shop") == [
                "100.64.0.1 fd7a:115c:a1e0::1 > 100.64.0.4:80 fd7a:115c:a1e0::4:80"
            ]
            assert policy.peers("shop") == {"new"}
