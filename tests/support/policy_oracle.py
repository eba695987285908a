"""What a policy allows, decided packet by packet and pair by pair straight from its JSON.

Slow and simple on purpose: the compiler is compared with it. It shares no code with the compiler beyond the
values that describe a mesh.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from warren_control.policy.network import Network, Node, Role

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

MESH: Final = (ip_network("100.64.0.0/10"), ip_network("fd7a:115c:a1e0::/48"))
NOT_MESH: Final = ip_network("100.115.92.0/23")
PUBLIC: Final = (ip_network("0.0.0.0/0"), ip_network("2000::/3"))
PRIVATE: Final = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
)
DEFAULT_PROTOCOLS: Final = (6, 17, 1, 58)
NUMBERS: Final = {"tcp": 6, "udp": 17, "icmp": 1}


@dataclass(frozen=True)
class Packet:
    source: Address
    destination: Address
    port: int
    protocol: int


def is_public(address: Address) -> bool:
    return _in_any(address, PUBLIC) and not _in_any(address, PRIVATE)


def is_public_prefix(prefix: Prefix) -> bool:
    """Whether all of a prefix is public."""
    inside = any(prefix.version == one.version and prefix.subnet_of(one) for one in PUBLIC)  # type: ignore[arg-type]
    return inside and not any(_overlap(prefix, one) for one in PRIVATE)


def _in_any(address: Address, prefixes: tuple[Prefix, ...]) -> bool:
    return any(address.version == one.version and address in one for one in prefixes)


def _overlap(one: Prefix, other: Prefix) -> bool:
    return one.version == other.version and one.overlaps(other)


def subnets(node: Node) -> list[Prefix]:
    return [route for route in node.routes if route.prefixlen]


def is_exit(node: Node) -> bool:
    return any(not route.prefixlen for route in node.routes)


class Oracle:
    def __init__(self, policy: Mapping[str, Any], network: Network) -> None:
        self._policy = policy
        self._nodes = list(network.nodes.values())
        self._users = network.users
        self._rules = list(self._all_rules())

    def _all_rules(self) -> Iterator[dict[str, Any]]:
        grants, acls = self._policy.get("grants"), self._policy.get("acls")
        if grants is None and acls is None:
            yield {"src": ["*"], "dst": ["*"], "ip": ["*"]}
        yield from grants or ()
        for acl in acls or ():
            for target in acl["dst"]:
                name, _, ports = target.rpartition(":")
                entry = f"{acl['proto']}:{ports}" if acl.get("proto") else ports
                yield {"src": acl["src"], "dst": [name], "ip": [entry]}

    # Packets

    def allows(self, packet: Packet, node: Node) -> bool:
        """Whether a node lets a packet in that is for itself or for what it routes."""
        return any(
            self._fits(rule, packet.port, packet.protocol) and self._lets_in(rule, packet, node)
            for rule in self._rules
        )

    def _lets_in(self, rule: Mapping[str, Any], packet: Packet, node: Node) -> bool:
        if rule.get("via"):
            return (
                bool(node.tags & set(rule["via"]))
                and self._is_source(rule, packet.source)
                and any(self._via_prefix(one, packet.destination, node) for one in rule["dst"])
            )
        others = [one for one in rule["dst"] if one != "autogroup:self"]
        if self._is_source(rule, packet.source) and any(
            self._is_destination(one, packet.destination, node) for one in others
        ):
            return True
        if "autogroup:self" not in rule["dst"] or node.owner_id is None:
            return False
        owner = self._owner(packet.source)
        target = self._owner(packet.destination)
        return (
            owner is not None
            and target is not None
            and owner.owner_id == node.owner_id == target.owner_id
            and self._is_source(rule, packet.source)
        )

    def _fits(self, rule: Mapping[str, Any], port: int, protocol: int) -> bool:
        for entry in rule.get("ip") or ():
            name, colon, ports = entry.rpartition(":")
            protocols = (NUMBERS[name],) if colon else DEFAULT_PROTOCOLS
            if protocol in protocols and any(_in_ports(port, one) for one in ports.split(",")):
                return True
        return False

    def _owner(self, address: Address) -> Node | None:
        return next((node for node in self._nodes if address in node.addresses), None)

    def _is_source(self, rule: Mapping[str, Any], address: Address) -> bool:
        return any(self._source(one, address) for one in rule["src"])

    def _source(self, selector: str, address: Address) -> bool:
        if selector == "*":
            mesh = _in_any(address, MESH) and not _in_any(address, (NOT_MESH,))
            return mesh or any(_in_any(address, (route,)) for node in self._nodes for route in subnets(node))
        if selector == "autogroup:danger-all":
            return True
        prefix = self._literal(selector)
        if prefix is not None:
            return _in_any(address, (prefix,))
        node = self._owner(address)
        return node is not None and self._is_member(selector, node)

    def _is_destination(self, selector: str, address: Address, node: Node) -> bool:
        """Whether the destination means the address, and the node's filter keeps it."""
        if selector == "*":
            return True
        if selector == "autogroup:internet":
            return is_public(address) and (is_exit(node) or self._is_for(address, node))
        prefix = self._literal(selector)
        if prefix is not None:
            kept = (
                any(_in_any(own, (prefix,)) for own in node.addresses)
                or any(_overlap(prefix, route) for route in subnets(node))
                or (is_exit(node) and is_public_prefix(prefix))
            )
            return kept and _in_any(address, (prefix,))
        owner = self._owner(address)
        return owner is not None and self._is_member(selector, owner) and self._is_for(address, node)

    @staticmethod
    def _is_for(address: Address, node: Node) -> bool:
        return address in node.addresses or _in_any(address, tuple(subnets(node)))

    def _via_prefix(self, selector: str, address: Address, node: Node) -> bool:
        if selector == "autogroup:internet":
            return is_public(address) and (is_exit(node) or self._is_for(address, node))
        prefix = self._literal(selector)
        if prefix is None:
            return False
        return any(_overlap(prefix, route) for route in subnets(node)) and _in_any(address, (prefix,))

    def _literal(self, selector: str) -> Prefix | None:
        selector = self._policy.get("hosts", {}).get(selector, selector)
        try:
            return ip_network(selector)
        except ValueError:
            return None

    def _is_member(self, selector: str, node: Node) -> bool:
        user = None if node.owner_id is None else self._users.get(node.owner_id)
        head = selector.partition(":")[0]
        match selector:
            case "autogroup:member":
                return not node.tags
            case "autogroup:tagged":
                return bool(node.tags)
            case "autogroup:admin":
                return user is not None and bool(user.roles & {Role.ADMIN, Role.OWNER})
        if head == "tag":
            return selector in node.tags
        if head == "group":
            return user is not None and user.email in self._policy["groups"][selector]
        if selector.startswith("user:*@"):
            return user is not None and user.email.endswith(selector[len("user:*") :])
        return user is not None and user.email == selector

    # Visibility

    def sees(self, one: Node, other: Node) -> bool:
        """Whether a rule of either lets one be source and the other destination."""
        return any(
            (self._may_source(rule, holder, a) and self._may_target(rule, holder, b))
            for holder in (one, other)
            for rule in self._rules
            for a, b in ((one, other), (other, one))
            for rule in self._directions(rule, holder)
        )

    def _directions(self, rule: Mapping[str, Any], holder: Node) -> Iterator[dict[str, Any]]:
        """A rule as a node has it, its parts, and the companions of its capabilities the other way round."""
        if rule.get("via"):
            if holder.tags & set(rule["via"]):
                served = [one for one in rule["dst"] if self._serves(one, holder)]
                yield {"src": rule["src"], "dst": served, "own": False}
            return
        plain = [one for one in rule["dst"] if one != "autogroup:self"]
        yield {"src": rule["src"], "dst": plain, "own": False}
        if {"tailscale.com/cap/drive", "tailscale.com/cap/relay"} & set(rule.get("app") or ()):
            yield {"src": plain, "dst": rule["src"], "own": False}
        if len(plain) < len(rule["dst"]) and holder.owner_id is not None:
            yield {"src": rule["src"], "dst": [], "own": True}

    def _serves(self, selector: str, node: Node) -> bool:
        if selector == "autogroup:internet":
            return is_exit(node) or any(_touches_public(route) for route in subnets(node))
        prefix = self._literal(selector)
        return prefix is not None and any(_overlap(prefix, route) for route in subnets(node))

    def _may_source(self, rule: Mapping[str, Any], holder: Node, node: Node) -> bool:
        if rule["own"]:
            chosen = [
                one
                for one in self._nodes
                if one.owner_id == holder.owner_id
                and any(self._is_source(rule, own) for own in one.addresses)
            ]
            return node in chosen or _routes_to(node, chosen)
        return any(self._source_meets(one, node) for one in rule["src"])

    def _source_meets(self, selector: str, node: Node) -> bool:
        if any(self._source(selector, address) for address in node.addresses):
            return True
        if selector in ("*", "autogroup:danger-all"):
            return bool(subnets(node)) or selector != "*"
        return self._meets(selector, node)

    def _meets(self, selector: str, node: Node) -> bool:
        """Whether a subnet route of the node shares an address with what a selector means."""
        prefix = self._literal(selector)
        if prefix is not None:
            return any(_overlap(prefix, route) for route in subnets(node))
        if selector == "autogroup:internet":
            return any(_touches_public(route) for route in subnets(node))
        return _routes_to(node, [one for one in self._nodes if self._is_member(selector, one)])

    def _may_target(self, rule: Mapping[str, Any], holder: Node, node: Node) -> bool:
        if rule["own"]:
            own = [one for one in self._nodes if one.owner_id == holder.owner_id]
            return node in own or _routes_to(node, own)
        if is_exit(node) and self._covers_internet(rule["dst"]):
            return True
        return any(self._target_meets(one, node) for one in rule["dst"])

    def _target_meets(self, selector: str, node: Node) -> bool:
        if selector in ("*", "autogroup:danger-all"):
            return True
        prefix = self._literal(selector)
        if prefix is not None and any(_in_any(own, (prefix,)) for own in node.addresses):
            return True
        if prefix is None and selector != "autogroup:internet" and self._is_member(selector, node):
            return True
        if selector == "autogroup:internet" and any(is_public(own) for own in node.addresses):
            return True
        return self._meets(selector, node)

    def _covers_internet(self, destinations: list[str]) -> bool:
        literals = [self._literal(one) for one in destinations]
        return any(one in ("*", "autogroup:internet") for one in destinations) or any(
            one is not None and one.prefixlen == 0 for one in literals
        )


def _touches_public(route: Prefix) -> bool:
    """Whether some address of a route is public. The routes of tests are private or public as a whole."""
    return is_public(route.network_address)


def _routes_to(node: Node, others: list[Node]) -> bool:
    return any(_in_any(address, tuple(subnets(node))) for one in others for address in one.addresses)


def _in_ports(port: int, text: str) -> bool:
    if text == "*":
        return True
    first, _, last = text.partition("-")
    return int(first) <= port <= int(last or first)


def address(text: str) -> Address:
    return ip_address(text)
