"""What this host should look like: network map and settings in, `Host` out. Pure.

A route that would cut this host off from its own networks, its control server or its relays is refused and
reported, whoever offers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from socket import AF_INET, AF_INET6
from typing import Final

from warren_agent.config import Config
from warren_agent.host import MTU, Device, Host, Network, Peer, Rule
from warren_agent.inbound import Allowance
from warren_agent.member import Member
from warren_agent.plan import network_order
from warren_agent.ruleset import ruleset
from warren_wire.keys import NodePublic

Address = IPv4Address | IPv6Address
_FAMILY: Final = {4: int(AF_INET), 6: int(AF_INET6)}


class Reason(Enum):
    DEFAULT_ROUTE = "it is a default route and no exit node is chosen"
    CONTROL_SERVER = "the control server is inside"
    RELAY = "a relay is inside"
    ADVERTISED = "it overlaps a range of this node or its cluster"
    LOCAL_NETWORK = "this host is attached to a network that overlaps it"
    OWN_ADDRESS = "this node's own address is inside"
    TAKEN = "another member has it already"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A range of a member that is not used, and why."""

    peer: str
    network: Network
    reason: Reason

    def __str__(self) -> str:
        return f"{self.network} of {self.peer} is not used: {self.reason.value}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What must stay reachable without the mesh."""

    control: frozenset[Address] = frozenset()
    relays: frozenset[Address] = frozenset()
    local_networks: frozenset[Network] = frozenset()
    local_addresses: frozenset[Address] = frozenset()
    """Addresses of this host outside the mesh."""
    ipv6: bool = True
    """False where the kernel has IPv6 switched off."""


@dataclass(frozen=True, slots=True)
class Desired:
    host: Host
    refusals: tuple[Refusal, ...]


def _overlaps(network: Network, others: Iterable[Network]) -> bool:
    return any(network.version == other.version and network.overlaps(other) for other in others)


def _holds(network: Network, addresses: Iterable[Address]) -> bool:
    return any(address in network for address in addresses)


def _is_one_of(network: Network, addresses: Iterable[Address]) -> bool:
    return network.prefixlen == network.max_prefixlen and network.network_address in set(addresses)


def _refused(network: Network, own: Member, config: Config, around: Surroundings) -> Reason | None:
    if network.prefixlen == 0:
        return Reason.DEFAULT_ROUTE
    if _overlaps(network, own.addresses):
        return Reason.OWN_ADDRESS
    if _holds(network, around.control):
        return Reason.CONTROL_SERVER
    if _holds(network, around.relays):
        return Reason.RELAY
    # To offer the whole internet takes nothing from the others' ranges.
    served = (*config.advertise_routes, *config.keep_source_local)
    if _overlaps(network, (each for each in served if each.prefixlen)):
        return Reason.ADVERTISED
    if _overlaps(network, around.local_networks) or _is_one_of(network, around.local_addresses):
        return Reason.LOCAL_NETWORK
    return None


def taken_range(own: Member, around: Surroundings) -> tuple[Network, Network] | None:
    """An address of this node that lies in a network this host is attached to already, and that network."""
    networks = around.local_networks | {ip_network(address) for address in around.local_addresses}
    for address in own.addresses:
        for network in sorted(networks, key=network_order):
            if _overlaps(address, [network]):
                return address, network
    return None


def _allotted(
    own: Member, peers: Sequence[Member], config: Config, around: Surroundings
) -> tuple[dict[NodePublic, set[Network]], list[Refusal]]:
    """Every range goes to one member: addresses before routes, lower ids before higher ones."""
    allowed: dict[NodePublic, set[Network]] = {peer.key: set() for peer in peers}
    holder: dict[Network, NodePublic] = {}
    refusals: list[Refusal] = []
    wanted = [(peer, network) for peer in peers for network in peer.addresses]
    if config.accept_routes:
        wanted += [(peer, network) for peer in peers for network in peer.routes]
    for peer, network in wanted:
        if network.version == 6 and not around.ipv6:
            continue
        reason = _refused(network, own, config, around)
        if reason is None and holder.setdefault(network, peer.key) != peer.key:
            reason = Reason.TAKEN
        if reason is None:
            allowed[peer.key].add(network)
        else:
            refusals.append(Refusal(peer.name, network, reason))
    return allowed, refusals


def _rules(config: Config, around: Surroundings) -> frozenset[Rule]:
    versions = (4, 6) if around.ipv6 else (4,)
    mark = config.mark
    return frozenset(
        Rule(_FAMILY[version], config.rule_priority, config.table, mark.value, mark.mask)
        for version in versions
    )


def desired(
    own: Member,
    members: Iterable[Member],
    config: Config,
    around: Surroundings,
    allowances: Iterable[Allowance] = (),
) -> Desired:
    """`own` and `members` come from one network map. Expired members keep their key but get nothing."""
    peers = sorted(
        (m for m in members if m.key != own.key and not m.expired and m.disco is not None), key=lambda m: m.id
    )
    allowed, refusals = _allotted(own, peers, config, around)
    routes = frozenset(network for networks in allowed.values() for network in networks)
    mesh_addresses = {address for peer in peers for address in peer.addresses}
    remote = sorted(routes - mesh_addresses, key=network_order)
    host = Host(
        link_up=True,
        mtu=MTU,
        device=Device(own.key, config.listen_port, config.mark.value),
        addresses=frozenset(
            ip_interface(str(network)) for network in own.addresses if network.version == 4 or around.ipv6
        ),
        peers={key: Peer(frozenset(networks)) for key, networks in allowed.items()},
        routes=routes,
        rules=_rules(config, around),
        firewall=ruleset(
            config.interface,
            config.listen_port,
            config.keep_source_local,
            remote,
            allowances,
            own.addresses,
            config.advertise_routes,
            config.advertise_routes if config.masquerade else (),
        ),
    )
    return Desired(host, tuple(refusals))
