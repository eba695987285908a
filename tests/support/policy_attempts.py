"""Policies as bytes, and everything that is asked of one: what the fuzzers of reader and compiler share."""

from __future__ import annotations

import json
from typing import Final

from support.policy_mesh import NAMES, Mesh
from warren_control.policy.acceptance import accept
from warren_control.policy.problems import PolicyError

MESH: Final = (
    Mesh()
    .with_node("laptop", user=1, attributes={"node:os": "linux"})
    .with_node("desk", user=3)
    .with_node("shop", tags="web")
    .with_node("edge", tags="router exit", routes="10.1.0.0/16 0.0.0.0/0 100.64.0.0/30")
)
WORDS: Final = b"""
"*" "*:*" "tag:web" "group:dev" "autogroup:self" "autogroup:internet" "autogroup:member"
"10.1.0.0/16" "printer" "ana@example.com" "user:*@example.com" "localpart:*@example.com"
"autogroup:danger-all" "tcp:22" "acls" "grants" "ssh" "tests" "sshTests" "nodeAttrs" "ipsets"
"postures" "autoApprovers" "via" "app" "src" "dst" "ip" "users" "action" "accept" "check" "proto"
"srcPosture" "checkPeriod" "add" "remove" "ipset:a" "posture:a" null true 0 -1 1e9 [ ] { } : , // /*
*/ \\u0000 \\ud800 "::/0" "[fd7a::]:1"
""".split()
_SECTIONS: Final = (
    {
        "acls": [
            {"action": "accept", "src": ["*", "group:dev"], "dst": ["tag:web:22,80-90", "autogroup:self:*"]}
        ]
    },
    {
        "grants": [
            {"src": ["tag:web"], "dst": ["printer"], "ip": ["tcp:22"], "via": ["tag:router"]},
            {
                "src": ["autogroup:member"],
                "dst": ["autogroup:self"],
                "app": {"tailscale.com/cap/drive": [{}]},
            },
            {"src": ["*"], "dst": ["autogroup:internet"], "ip": ["*"], "srcPosture": ["posture:a"]},
        ],
        "postures": {"posture:a": ["node:os IN ['linux']", "node:tsVersion >= '1.2'"]},
    },
    {
        "ipsets": {
            "ipset:a": ["10.0.0.0/8", "remove 10.1.0.0/16", "ipset:b"],
            "ipset:b": ["autogroup:internet"],
        }
    },
    {
        "ssh": [
            {
                "action": "check",
                "src": ["group:dev"],
                "dst": ["tag:web", "autogroup:self"],
                "users": ["root", "localpart:*@example.com"],
                "checkPeriod": "12h",
                "acceptEnv": ["A*"],
            }
        ],
        "sshTests": [{"src": "ana@example.com", "dst": ["tag:web"], "check": ["root"], "deny": ["x"]}],
    },
    {
        "nodeAttrs": [
            {"target": ["*"], "attr": ["funnel"], "ipPool": ["100.81.0.0/16"], "app": {"a.b/c": [1]}}
        ],
        "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:web"]}, "exitNode": ["group:dev"]},
        "tests": [{"src": "group:dev", "accept": ["tag:web:22"], "proto": "tcp"}],
        "derpMap": {"Regions": {}},
    },
)

SEEDS: Final = tuple(json.dumps({**NAMES, **sections}).encode() for sections in _SECTIONS)


def attempt(data: bytes) -> bool:
    """Read, compile and ask for everything; says whether the policy was accepted."""
    try:
        index = accept(data, MESH.network)
    except PolicyError:
        return False
    for node_id, node in MESH.network.nodes.items():
        index.filter(node_id)
        index.ssh_rules(node_id)
        index.capabilities(node_id)
        index.approvals.approved(node, node.routes)
        for peer in index.peers(node_id):
            index.peer_routes(node_id, peer)
    return True
