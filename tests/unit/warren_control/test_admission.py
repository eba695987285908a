"""The record of an admitted node."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from support.control_records import NOW, disco_key, key, machine_key, node, node_key, snapshot
from warren_control import model
from warren_control.admission import admitted_node, consumed, rebound
from warren_control.allocation import Pools
from warren_control.model import Node, Snapshot
from warren_control.registration import Admitted, grant_of
from warren_control.routes import parse_prefixes
from warren_wire.control.messages import Hostinfo, NetInfo, RegisterRequest

POOLS = Pools(IPv4Network("100.64.0.0/10"), IPv6Network("fd7a:115c:a1e0::/48"))


def admit(known: Snapshot, existing: Node | None = None, number: int = 5, **fields: Any) -> Node:
    used = fields.pop("key", key())
    hostinfo = fields.pop("hostinfo", Hostinfo(hostname="web"))
    request = RegisterRequest(version=133, node_key=node_key(number), hostinfo=hostinfo, **fields)
    return admitted_node(Admitted(grant_of(used), existing), request, machine_key(number), known, POOLS, NOW)


def test_a_new_node_gets_the_next_id_an_address_pair_and_its_host_name() -> None:
    made = admit(snapshot(node(1), node(2)))
    assert (made.id, str(made.v4), str(made.v6), made.name) == (
        3,
        "100.64.0.3",
        "fd7a:115c:a1e0::3",
        "web",
    )


def test_a_taken_name_gets_a_number() -> None:
    assert admit(snapshot(node(1, name="web"))).name == "web-1"


def test_a_renewal_keeps_everything_the_request_does_not_carry() -> None:
    before = node(
        1,
        expiry=NOW,
        net_info=NetInfo(preferred_derp=900),
        endpoints=("192.0.2.1:1",),
        approved_routes=parse_prefixes(["10.1.0.0/16"]),
    )
    after = admit(snapshot(before), before, hostinfo=Hostinfo(hostname="node1"))
    assert after.node_key == node_key(5)
    assert after.expiry is None
    kept = (after.id, after.v4, after.name, after.home_region, after.endpoints, after.disco_key)
    assert kept == (1, before.v4, "node1", 900, ("192.0.2.1:1",), disco_key(1))
    assert after.approved_routes == before.approved_routes


def test_tags_and_ephemeral_come_from_the_key() -> None:
    made = admit(snapshot(), key=key(tags=("tag:web",), ephemeral=True))
    assert (made.tags, made.ephemeral) == (("tag:web",), True)


def test_routes_inside_the_keys_prefixes_are_approved_and_others_are_not() -> None:
    made = admit(
        snapshot(),
        key=key(approve_routes=parse_prefixes(["10.0.0.0/8", "::/0"])),
        hostinfo=Hostinfo(hostname="web", routable_ips=("10.1.0.0/16", "192.0.2.0/24", "::/0")),
    )
    assert made.effective_routes == parse_prefixes(["10.1.0.0/16"])


def test_the_address_of_a_deleted_node_rests() -> None:
    gone = node(1, deleted_at=NOW)
    known, _ = model.with_nodes(snapshot(node(1)), drop=(gone,))
    assert str(admit(known).v4) == "100.64.0.2"
    later, _ = model.with_nodes(snapshot(node(1)), drop=(node(1, deleted_at=NOW - timedelta(hours=2)),))
    assert str(admit(later).v4) == "100.64.0.1"


def test_an_id_is_never_used_again() -> None:
    known, _ = model.with_nodes(snapshot(node(1)), drop=(node(1, deleted_at=NOW),))
    assert admit(known).id == 2


def test_a_used_key_is_marked_once() -> None:
    assert consumed(key(), NOW) == key(used_at=NOW)
    assert consumed(key(reusable=True, used_at=NOW), NOW) is None


def test_another_key_adds_its_approvals() -> None:
    before = node(1, advertised_routes=parse_prefixes(["10.1.0.0/16"]))
    after = rebound(before, key("wide", approve_routes=parse_prefixes(["10.0.0.0/8"])))
    assert after.effective_routes == parse_prefixes(["10.1.0.0/16"])
