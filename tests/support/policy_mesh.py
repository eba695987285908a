"""A small mesh of people's and tagged nodes for tests of policies."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any, Final

from warren_control.policy.acceptance import accept
from warren_control.policy.index import PolicyIndex
from warren_control.policy.network import Network, Node, Role, Settings, User

DOMAIN: Final = "example.com"
USERS: Final = MappingProxyType(
    {
        1: User(1, "ana", "ana@example.com", roles=frozenset({Role.OWNER})),
        2: User(2, "ben", "ben@example.com", roles=frozenset({Role.ADMIN})),
        3: User(3, "cleo", "cleo@example.org"),
    }
)
NAMES: Final[dict[str, Any]] = {
    "groups": {"group:dev": ["ana@example.com", "cleo@example.org"], "group:none": []},
    "hosts": {"printer": "10.1.2.3", "site": "10.1.0.0/16"},
    "tagOwners": {f"tag:{name}": ["ana@example.com"] for name in ("web", "db", "router", "exit", "idle")},
}


@dataclass(frozen=True)
class Mesh:
    nodes: dict[str, Node] = field(default_factory=dict)
    settings: Settings = field(default_factory=lambda: Settings(frozenset({DOMAIN})))

    def with_node(
        self, name: str, *, user: int | None = None, tags: str = "", routes: str = "", **attributes: Any
    ) -> Mesh:
        """The next node: its number is the last part of its addresses. Tags and routes by spaces."""
        number = len(self.nodes) + 1
        node = Node(
            number,
            name,
            (ip_address(f"100.64.0.{number}"), ip_address(f"fd7a:115c:a1e0::{number:x}")),
            user,
            frozenset(f"tag:{tag}" for tag in tags.split()),
            frozenset(ip_network(route) for route in routes.split()),
            MappingProxyType(attributes.get("attributes", {})),
        )
        return replace(self, nodes={**self.nodes, name: node})

    @property
    def network(self) -> Network:
        nodes = MappingProxyType({node.id: node for node in self.nodes.values()})
        return Network(nodes, USERS, self.settings)

    def under(self, **sections: Any) -> Compiled:
        return Compiled(
            self, accept(json.dumps({**NAMES, **sections}), self.network, "https://control.example.com")
        )


@dataclass(frozen=True)
class Compiled:
    """A policy over the mesh, asked by the names of nodes."""

    mesh: Mesh
    index: PolicyIndex

    def id(self, name: str) -> int:
        return self.mesh.nodes[name].id

    def filter(self, name: str) -> list[str]:
        """Each rule of a node as one line: sources > destinations:ports protocol."""
        return [_line(rule) for rule in self.index.filter(self.id(name))]

    def peers(self, name: str) -> set[str]:
        ids = self.index.peers(self.id(name))
        return {node.name for node in self.mesh.nodes.values() if node.id in ids}

    def routes(self, viewer: str) -> dict[str, list[str]]:
        """The routes of each peer in the viewer's map, where there are some."""
        found = {}
        for peer in sorted(self.peers(viewer)):
            view = self.index.peer_routes(self.id(viewer), self.id(peer))
            if view.subnets or view.exits:
                found[peer] = [str(route) for route in (*view.subnets, *view.exits)]
        return found

    def ssh(self, name: str) -> list[str]:
        """Each rule of a node as one line: the nodes let in > logins action."""
        owners = {str(one): node.name for node in self.mesh.nodes.values() for one in node.addresses}
        lines = []
        for rule in self.index.ssh_rules(self.id(name)):
            nodes = sorted({owners[one.node_ip] for one in rule.principals})
            logins = ",".join(f"{login}={local}" for login, local in sorted(rule.ssh_users.items()))
            lines.append(f"{' '.join(nodes)} > {logins} {'accept' if rule.action.accept else 'check'}")
        return lines


def _line(rule: Any) -> str:
    sources = " ".join(rule.src_ips)
    if rule.cap_grant is not None:
        grants = " + ".join(f"{' '.join(one.dsts)} {sorted(one.cap_map)}" for one in rule.cap_grant)
        return f"{sources} > {grants}"
    ports = " ".join(f"{one.ip}:{_ports(one.ports)}" for one in rule.dst_ports)
    protocols = "" if rule.ip_proto is None else f" {rule.ip_proto[0]}"
    return f"{sources} > {ports}{protocols}"


def _ports(ports: Any) -> str:
    if (ports.first, ports.last) == (0, 65535):
        return "*"
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"
