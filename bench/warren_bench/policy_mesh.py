"""The mesh and the policy that both compilers are given: deterministic, of any size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any, Final

from warren_control.policy.network import Network, Node, Settings, User

DOMAIN: Final = "example.com"
RULES: Final = 200
GROUPS: Final = 50
TAGS: Final = 40
PEOPLE_IN_GROUP: Final = 20
# One node in so many routes a subnet; two in five are tagged, as where servers and people's machines meet.
ROUTER_EVERY: Final = 50


@dataclass(frozen=True, slots=True)
class Mesh:
    """`nodes` people's and tagged machines, one user for each ten."""

    nodes: int

    @property
    def users(self) -> int:
        return self.nodes // 10

    def policy(self) -> str:
        """200 rules over 50 groups: people to tags, tags to tags, groups to subnets, people to ports."""
        groups = {
            f"group:g{number}": [
                f"user{(number * PEOPLE_IN_GROUP + member) % self.users + 1}@{DOMAIN}"
                for member in range(PEOPLE_IN_GROUP)
            ]
            for number in range(GROUPS)
        }
        return json.dumps(
            {
                "groups": groups,
                "tagOwners": {f"tag:t{number}": ["group:g0"] for number in range(TAGS)},
                "hosts": {f"net{number}": f"10.{number}.0.0/16" for number in range(20)},
                "acls": [_rule(number) for number in range(RULES)],
            },
            indent=2,
        )

    def network(self) -> Network:
        nodes = {number: self.node(number) for number in range(1, self.nodes + 1)}
        users = {
            number: User(number, f"user{number}", f"user{number}@{DOMAIN}")
            for number in range(1, self.users + 1)
        }
        return Network(
            MappingProxyType(nodes), MappingProxyType(users), Settings(domains=frozenset({DOMAIN}))
        )

    def node(self, number: int) -> Node:
        tagged = number % 5 < 2
        return Node(
            number,
            f"node-{number}",
            (
                ip_address(int(ip_address("100.64.0.0")) + number),
                ip_address(int(ip_address("fd7a:115c:a1e0::")) + number),
            ),
            None if tagged else number % self.users + 1,
            frozenset({f"tag:t{number % TAGS}"}) if tagged else frozenset(),
            frozenset({ip_network(f"10.{number % 20}.{number // 250}.0/24")})
            if number % ROUTER_EVERY == 0
            else frozenset(),
        )

    def as_json(self, stride: int) -> str:
        """What the program that drives Headscale's compiler reads."""
        network = self.network()
        return json.dumps(
            {
                "policy": self.policy(),
                "users": [
                    {"id": user.id, "name": user.name, "email": user.email} for user in network.users.values()
                ],
                "nodes": [_shown(node) for node in network.nodes.values()],
                "retagged": RETAGGED - 1,
                "new_tags": sorted(NEW_TAGS),
                "stride": stride,
            }
        )


# A tagged node that gets another tag.
RETAGGED: Final = 5
NEW_TAGS: Final = frozenset({"tag:t7"})


def _rule(number: int) -> dict[str, Any]:
    group, tag = f"group:g{number % GROUPS}", f"tag:t{number % TAGS}"
    match number % 5:
        case 0 | 1:
            return {"action": "accept", "src": [group], "dst": [f"{tag}:22,443,8000-8100"]}
        case 2:
            source = f"tag:t{(number + 1) % TAGS}"
            return {"action": "accept", "proto": "tcp", "src": [source], "dst": [f"{tag}:5432"]}
        case 3:
            return {"action": "accept", "src": [group, tag], "dst": [f"net{number % 20}:*"]}
        case _:
            user = f"user{number % 90 + 1}@{DOMAIN}"
            return {"action": "accept", "proto": "udp", "src": [user], "dst": [f"{tag}:{1000 + number}"]}


def _shown(node: Node) -> dict[str, Any]:
    v4, v6 = node.addresses
    return {
        "id": node.id,
        "user": node.user_id or 0,
        "tags": sorted(node.tags),
        "v4": str(v4),
        "v6": str(v6),
        "routes": [str(route) for route in sorted(node.routes, key=str)],
    }
