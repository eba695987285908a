"""Nodes of a network map for tests, named by role."""

from __future__ import annotations

from ipaddress import ip_network

from warren_agent.host import Network
from warren_agent.member import Member
from warren_wire.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic


def node_private(name: str) -> NodePrivate:
    return NodePrivate.from_seed(name.encode().ljust(32, b"."))


def node_key(name: str) -> NodePublic:
    return node_private(name).public


def disco_key(name: str) -> DiscoPublic:
    return DiscoPrivate.from_seed(name.encode().ljust(32, b",")).public


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


def member(
    name: str,
    number: int,
    *,
    addresses: tuple[str, ...] | None = None,
    routes: tuple[str, ...] = (),
    online: bool = True,
    expired: bool = False,
) -> Member:
    """Member `number` has the address 100.64.0.`number` unless told otherwise."""
    return Member(
        id=number,
        name=name,
        fqdn=f"{name}.mesh.internal",
        key=node_key(name),
        disco=disco_key(name),
        addresses=networks(*(addresses if addresses is not None else (f"100.64.0.{number}",))),
        routes=networks(*routes),
        endpoints=(),
        home_relay=900,
        online=online,
        expired=expired,
    )
