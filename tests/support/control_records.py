"""Records of the control server with sensible values, for tests that care about one field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from warren_control import model
from warren_control.model import AuthKey, Node, Snapshot
from warren_control.registration import secret_hash
from warren_wire.control.messages import Hostinfo
from warren_wire.keys import DiscoPublic, MachinePublic, NodePublic

NOW = datetime(2027, 1, 1, 12, 0, tzinfo=UTC)


def machine_key(number: int) -> MachinePublic:
    return MachinePublic(bytes([1, number]) + bytes(30))


def node_key(number: int) -> NodePublic:
    return NodePublic(bytes([2, number]) + bytes(30))


def disco_key(number: int) -> DiscoPublic:
    return DiscoPublic(bytes([3, number]) + bytes(30))


def node(number: int = 1, **fields: Any) -> Node:
    base = Node(
        id=number,
        machine_key=machine_key(number),
        node_key=node_key(number),
        name=f"node{number}",
        v4=IPv4Address(f"100.64.0.{number}"),
        v6=IPv6Address(f"fd7a:115c:a1e0::{number:x}"),
        created=NOW,
        disco_key=disco_key(number),
        hostinfo=Hostinfo(hostname=f"node{number}", os="linux"),
        capability_version=133,
        reported=True,
    )
    return replace(base, **fields)


def key(text: str = "secret", **fields: Any) -> AuthKey:
    return replace(AuthKey(id=f"id-{text}", secret_hash=secret_hash(text), created=NOW), **fields)


def snapshot(*nodes: Node, keys: tuple[AuthKey, ...] = ()) -> Snapshot:
    result, _ = model.with_nodes(Snapshot(), put=nodes)
    for item in keys:
        result = model.with_key(result, item)
    return result
