"""Capabilities, addresses and approvals of nodes."""

from __future__ import annotations

from ipaddress import ip_network

from support.policy_mesh import USERS, Mesh
from warren_control.policy.network import Settings

MESH = Mesh().with_node("laptop", user=1).with_node("desk", user=3).with_node("shop", tags="web")


def test_attributes_of_all_matching_entries_add_up() -> None:
    policy = MESH.under(
        nodeAttrs=[
            {"target": ["*"], "attr": ["custom:x", "custom:x"]},
            {
                "target": ["tag:web"],
                "attr": ["funnel"],
                "app": {"example.com/connectors": [{"name": "a"}]},
            },
            {"target": ["autogroup:tagged"], "app": {"example.com/connectors": [{"name": "b"}]}},
            {"target": [], "attr": ["never"]},
            {},
        ],
        randomizeClientPort=True,
    )
    assert dict(policy.index.capabilities(3)) == {
        "custom:x": None,
        "default-auto-update": (False,),
        "example.com/connectors": ({"name": "a"}, {"name": "b"}),
        "funnel": None,
        "https://tailscale.com/cap/file-sharing": None,
        "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000": None,
        "https://tailscale.com/cap/ssh": None,
        "https://tailscale.com/cap/warn-funnel-no-https": None,
        "randomize-client-port": None,
    }


def test_settings_of_the_mesh_show_in_capabilities() -> None:
    mesh = Mesh(settings=Settings(auto_updates=True, file_sharing=False)).with_node("laptop", user=2)
    assert dict(mesh.under().index.capabilities(1)) == {
        "default-auto-update": (True,),
        "https://tailscale.com/cap/is-admin": None,
        "https://tailscale.com/cap/ssh": None,
    }


def test_without_ipv4_a_node_shows_and_sees_ipv6_alone() -> None:
    policy = MESH.under(nodeAttrs=[{"target": ["tag:web"], "attr": ["disable-ipv4"]}])
    assert [str(one) for one in policy.index.addresses(3)] == ["fd7a:115c:a1e0::3"]
    assert [str(one) for one in policy.index.peer_addresses(1, 3)] == ["fd7a:115c:a1e0::3"]
    assert [str(one) for one in policy.index.peer_addresses(3, 1)] == ["fd7a:115c:a1e0::1"]
    assert len(policy.index.peer_addresses(1, 2)) == 2


def test_a_joining_node_is_told_its_address_pools_before_it_is_part_of_the_mesh() -> None:
    policy = MESH.under(nodeAttrs=[{"target": ["tag:db", "cleo@example.org"], "ipPool": ["100.81.0.0/16"]}])
    joining = Mesh().with_node("store", tags="db").nodes["store"]
    assert [pool.cidr for pool in policy.index.address_pools(joining)] == ["100.81.0.0/16"]
    assert policy.index.address_pools(MESH.nodes["laptop"]) == ()


APPROVERS = {
    "routes": {"10.0.0.0/8": ["tag:web"], "10.5.0.0/16": ["group:dev"], "0.0.0.0/0": ["tag:web"]},
    "exitNode": ["ana@example.com"],
}


def test_routes_inside_an_approvers_prefix_are_approved() -> None:
    approvals = MESH.under(autoApprovers=APPROVERS).index.approvals
    announced = [
        ip_network(one) for one in ("10.0.0.0/8", "10.5.1.0/24", "192.168.0.0/24", "0.0.0.0/0", "::/0")
    ]
    found = {
        name: sorted(str(one) for one in approvals.approved(node, announced))
        for name, node in MESH.nodes.items()
    }
    assert found == {
        "laptop": ["0.0.0.0/0", "10.5.1.0/24", "::/0"],
        "desk": ["10.5.1.0/24"],
        "shop": ["10.0.0.0/8", "10.5.1.0/24"],
    }


def test_a_tag_may_be_carried_by_its_owners_and_by_owners_of_its_owners() -> None:
    owners = {"tag:a": ["tag:b"], "tag:b": ["tag:a", "group:dev"], "tag:c": ["tag:c"], "tag:d": []}
    approvals = MESH.under(tagOwners=owners).index.approvals
    ana, ben = USERS[1], USERS[2]
    assert approvals.may_carry(ana, frozenset(), "tag:a")
    assert not approvals.may_carry(ben, frozenset(), "tag:a")
    assert approvals.may_carry(None, frozenset({"tag:b"}), "tag:a")
    assert not approvals.may_carry(ana, frozenset(), "tag:c")
    assert not approvals.may_carry(ana, frozenset(), "tag:d")
    assert not approvals.may_carry(ana, frozenset(), "tag:unknown")
