"""Recorded answers of a control service to policies: reading them, and comparing ours by meaning."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import msgspec

from warren_control.policy.acceptance import accept
from warren_control.policy.index import PolicyIndex
from warren_control.policy.network import Network, Node, Role, Settings, User, elect_oldest
from warren_control.policy.problems import PolicyError
from warren_wire.control.messages import FilterRule

REPOSITORY: Final = Path(__file__).resolve().parents[2]
# Every case belongs to one tailnet with this verified domain.
DOMAIN: Final = "example.com"
# The outcome of these was renumbered after recording; it means nothing.
REMAPPED: Final = "address-remap"

Runs = tuple[tuple[int, int], ...]


def folder() -> Path:
    given = os.environ.get("WARREN_POLICY_CASES")
    return Path(given) if given else REPOSITORY.parent / "shared" / "conformance" / "policy"


def case_files() -> list[Path]:
    return sorted(folder().glob("*/*.json"))


@dataclass(frozen=True)
class Case:
    kind: str
    name: str
    policy: str
    network: Network
    announced: Mapping[int, frozenset[Any]]
    approved: Mapping[int, frozenset[Any]]
    primary: Mapping[int, frozenset[Any]]
    ids: Mapping[str, int]
    expect: Mapping[str, Any]
    flags: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Case:
        data = json.loads(path.read_text("utf-8"))
        users = {
            one["id"]: User(
                one["id"],
                one["name"],
                one.get("email", ""),
                "",
                frozenset(Role(r) for r in one.get("roles", ())),
            )
            for one in data["users"]
        }
        by_name = {user.name: user.id for user in users.values()}
        nodes: dict[int, Node] = {}
        routes: dict[str, dict[int, frozenset[Any]]] = {
            key: {} for key in ("routable_ips", "approved_routes", "primary_routes")
        }
        for number, one in enumerate(data["nodes"], start=1):
            for key, found in routes.items():
                found[number] = frozenset(ip_network(route) for route in one.get(key, ()))
            nodes[number] = Node(
                number,
                one["name"],
                (ip_address(one["ipv4"]), ip_address(one["ipv6"])),
                by_name[one["user"]] if "user" in one else None,
                frozenset(one.get("tags", ())),
                routes["routable_ips"][number] & routes["approved_routes"][number],
            )
        settings = data.get("tailnet", {}).get("settings", {})
        network = Network(
            nodes,
            users,
            Settings(frozenset({DOMAIN}), bool(settings.get("devices_auto_updates_on", False))),
            elect_oldest(nodes),
        )
        return cls(
            data["kind"],
            data["name"],
            data["policy"],
            network,
            routes["routable_ips"],
            routes["approved_routes"],
            routes["primary_routes"],
            {one["name"]: number for number, one in enumerate(data["nodes"], start=1)},
            data["expect"],
            frozenset(data.get("flags", ())),
        )


def differences(case: Case, policy: str | None = None) -> Iterator[str]:
    """What our answer has otherwise than the recorded one, in words."""
    if REMAPPED in case.flags:
        return
    try:
        index = accept(policy or case.policy, case.network)
    except PolicyError as error:
        if case.expect["accepted"]:
            yield f"refused: {error}"
        elif case.expect["status"] < 500 and case.expect["error"] not in str(error):
            yield f"refused with {str(error)!r} instead of {case.expect['error']!r}"
        return
    if not case.expect["accepted"]:
        yield f"accepted; the service refused it: {case.expect['error']}"
        return
    yield from _approval_differences(case, index)
    for name, expected in case.expect["nodes"].items():
        for difference in _node_differences(case, index, case.ids[name], expected):
            yield f"{name}: {difference}"


def _approval_differences(case: Case, index: PolicyIndex) -> Iterator[str]:
    for node_id, node in case.network.nodes.items():
        got = index.approvals.approved(node, case.announced[node_id])
        if got != case.approved[node_id]:
            yield f"{node.name}: approved routes {_shown(got)} instead of {_shown(case.approved[node_id])}"
        primary = frozenset(index.primary_routes(node_id))
        if primary != case.primary[node_id]:
            yield f"{node.name}: primary routes {_shown(primary)} instead of {_shown(case.primary[node_id])}"


def _node_differences(
    case: Case, index: PolicyIndex, node_id: int, expected: Mapping[str, Any]
) -> Iterator[str]:
    wire = json.loads(msgspec.json.encode(index.filter(node_id)))
    yield from _map_difference("filter", filter_meaning(wire), filter_meaning(expected["filter"]))
    yield from _peer_differences(case, index, node_id, expected)
    addresses = [str(ip_network(one)) for one in index.addresses(node_id)]
    yield from _difference("addresses", addresses, expected.get("addresses", _default(case, node_id)))
    if "caps" in expected:
        yield from _difference("caps", _caps(index.capabilities(node_id)), _caps(expected["caps"]))
    if "ssh" in expected:
        rules = json.loads(msgspec.json.encode(index.ssh_rules(node_id)))
        yield from _difference(
            "ssh", [_ssh(rule) for rule in rules], [_ssh(rule) for rule in expected["ssh"]]
        )
    whois = {
        name: found
        for name, other in case.ids.items()
        if other != node_id
        and (found := whois_capabilities(index, case.network.nodes[other], case.network.nodes[node_id]))
    }
    if "whois_caps" in expected:
        want = {name: _caps(caps) for name, caps in expected["whois_caps"].items() if caps}
        whois = {name: caps for name, caps in whois.items() if name in expected["whois_caps"]}
        yield from _map_difference("whois_caps", whois, want)


def _peer_differences(
    case: Case, index: PolicyIndex, node_id: int, expected: Mapping[str, Any]
) -> Iterator[str]:
    names = {number: name for name, number in case.ids.items()}
    recorded = {name: frozenset(routes) for name, routes in expected["peers"].items()}
    peers: dict[str, frozenset[str]] = {}
    for peer in index.peers(node_id):
        view = index.peer_routes(node_id, peer)
        peers[names[peer]] = frozenset(str(route) for route in (*view.subnets, *view.exits))
    yield from _map_difference("peers", peers, recorded)
    caps = {
        names[peer]: found for peer in index.peers(node_id) if (found := _caps(index.peer_capabilities(peer)))
    }
    yield from _map_difference(
        "peer_caps", caps, {n: _caps(c) for n, c in expected.get("peer_caps", {}).items()}
    )
    for name, number in case.ids.items():
        if number != node_id and name in recorded:
            got = [str(ip_network(one)) for one in index.peer_addresses(node_id, number)]
            want = expected.get("peer_addresses", {}).get(name, _default(case, number))
            yield from _difference(f"addresses of {name}", got, want)


def _default(case: Case, node_id: int) -> list[str]:
    return [str(ip_network(address)) for address in case.network.nodes[node_id].addresses]


def _caps(caps: Mapping[str, Any]) -> dict[str, Any]:
    """Null, a missing list and an empty list are the same."""
    return {name: json.loads(msgspec.json.encode(values or [])) for name, values in caps.items()}


def _ssh(rule: Mapping[str, Any]) -> dict[str, Any]:
    action = dict(rule["action"])
    held = action.pop("holdAndDelegate", "")
    if held:
        for word in ("$SRC_NODE_ID", "$DST_NODE_ID", "$LOCAL_USER"):
            assert word in held
    return {
        "principals": sorted({one["nodeIP"] for one in rule["principals"]}),
        "sshUsers": rule["sshUsers"],
        "acceptEnv": list(rule.get("acceptEnv") or ()),
        "action": "hold" if held else action,
    }


def filter_meaning(rules: list[dict[str, Any]]) -> dict[tuple[Any, ...], Runs]:
    """Destination, ports and protocol, or destination and capability, to the union of sources."""
    found: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for rule in rules:
        sources = [run for text in rule.get("SrcIPs") or () for run in text_runs(text)]
        protocols: list[int | None] = rule.get("IPProto") or [None]
        for port in rule.get("DstPorts") or ():
            for run in text_runs(port["IP"]):
                for protocol in protocols:
                    key = (run, port["Ports"]["First"], port["Ports"]["Last"], protocol)
                    found.setdefault(key, []).extend(sources)
        for grant in rule.get("CapGrant") or ():
            for text in grant["Dsts"]:
                for run in text_runs(text):
                    for name, values in grant["CapMap"].items():
                        found.setdefault((run, name, json.dumps(values, sort_keys=True)), []).extend(sources)
    return {key: union(runs) for key, runs in found.items()}


@lru_cache(maxsize=4096)
def text_runs(text: str) -> list[tuple[int, int]]:
    """A destination or source of a filter as runs; IPv6 stands above every IPv4 address."""
    if text == "*":
        return [*text_runs("0.0.0.0/0"), *text_runs("::/0")]
    first, dash, last = text.partition("-")
    if dash:
        return [(_number(ip_address(first)), _number(ip_address(last)))]
    network = ip_network(text)
    return [(_number(network.network_address), _number(network.broadcast_address))]


def _number(address: IPv4Address | IPv6Address) -> int:
    return int(address) + (1 << 130 if address.version == 6 else 0)


def union(runs: list[tuple[int, int]]) -> Runs:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def whois_capabilities(index: PolicyIndex, source: Node, node: Node) -> dict[str, Any]:
    """What the node's client reports as capabilities of a connection from the source."""
    found: dict[str, Any] = {}
    for rule in index.filter(node.id):
        for name, values in _matching_caps(rule, source, node):
            found[name] = [*found.get(name, []), *json.loads(msgspec.json.encode(values or []))]
    return found


def _matching_caps(rule: FilterRule, source: Node, node: Node) -> Iterator[tuple[str, Any]]:
    sources = union([run for text in rule.src_ips or () for run in text_runs(text)])
    for grant in rule.cap_grant or ():
        targets = union([run for text in grant.dsts or () for run in text_runs(text)])
        pairs = [
            (one, other)
            for one in source.addresses
            for other in node.addresses
            if one.version == other.version and _inside(sources, one) and _inside(targets, other)
        ]
        if pairs:
            yield from (grant.cap_map or {}).items()


def _inside(runs: Runs, address: IPv4Address | IPv6Address) -> bool:
    number = _number(address)
    return any(first <= number <= last for first, last in runs)


def _difference(what: str, got: Any, want: Any) -> Iterator[str]:
    if got != want:
        yield f"{what} is {got} instead of {want}"


def _map_difference(what: str, got: Mapping[Any, Any], want: Mapping[Any, Any]) -> Iterator[str]:
    for key in [*got, *(key for key in want if key not in got)]:
        if got.get(key) != want.get(key):
            yield f"{what}[{_shown(key)}] is {_shown(got.get(key))} instead of {_shown(want.get(key))}"


def _shown(value: Any) -> str:
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(str(one) for one in value)) + "}"
    if isinstance(value, tuple) and value and all(isinstance(one, int) for one in value[:1]):
        return "-".join(_address(one) if index < 2 else str(one) for index, one in enumerate(value))
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(one) for one in value) + ")"
    return str(value)


def _address(number: int) -> str:
    return str(IPv6Address(number - (1 << 130))) if number >= 1 << 130 else str(IPv4Address(number))
