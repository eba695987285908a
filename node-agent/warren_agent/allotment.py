"""Which ranges each member gets on this host. Pure.

A range that would cut this host off from its own networks, its control server or its relays is refused and
reported, whoever offers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from warren_agent.config import Config
from warren_agent.host import Network, Peer
from warren_agent.member import Member
from warren_wire.keys import NodePublic

Address = IPv4Address | IPv6Address


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


def overlaps(network: Network, others: Iterable[Network]) -> bool:
    return any(network.version == other.version and network.overlaps(other) for other in others)


def _holds(network: Network, addresses: Iterable[Address]) -> bool:
    return any(address in network for address in addresses)


def _is_one_of(network: Network, addresses: Iterable[Address]) -> bool:
    return network.prefixlen == network.max_prefixlen and network.network_address in set(addresses)


def _refused(network: Network, own: Member, config: Config, around: Surroundings) -> Reason | None:
    if network.prefixlen == 0:
        return Reason.DEFAULT_ROUTE
    if overlaps(network, own.addresses):
        return Reason.OWN_ADDRESS
    if _holds(network, around.control):
        return Reason.CONTROL_SERVER
    if _holds(network, around.relays):
        return Reason.RELAY
    # To offer the whole internet takes nothing from the others' ranges.
    served = (*config.advertise_routes, *config.keep_source_local)
    if overlaps(network, (each for each in served if each.prefixlen)):
        return Reason.ADVERTISED
    if overlaps(network, around.local_networks) or _is_one_of(network, around.local_addresses):
        return Reason.LOCAL_NETWORK
    return None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One member's ranges, judged without the others."""

    addresses: tuple[Network, ...]
    routes: tuple[Network, ...]
    refusals: tuple[Refusal, ...]
    peer: Peer
    """With all of `addresses` and `routes`."""
    claimed: frozenset[Network]
    """The addresses, those that are refused too."""


def judge(member: Member, own: Member, config: Config, around: Surroundings) -> Judgement:
    refusals: list[Refusal] = []

    def usable(networks: Iterable[Network]) -> tuple[Network, ...]:
        kept: list[Network] = []
        for network in networks:
            if network.version == 6 and not around.ipv6:
                continue
            reason = _refused(network, own, config, around)
            if reason is None:
                kept.append(network)
            else:
                refusals.append(Refusal(member.name, network, reason))
        return tuple(kept)

    addresses = usable(member.addresses)
    routes = usable(member.routes) if config.accept_routes else ()
    return Judgement(
        addresses,
        routes,
        tuple(refusals),
        Peer(frozenset((*addresses, *routes))),
        frozenset(member.addresses),
    )


class Judgements:
    """Remembers the judgement of each member while it and the grounds stay the same.

    Of a thousand members one changes at a time; without this memory the outcome is the same, and slow.
    """

    def __init__(self) -> None:
        self._grounds: tuple[Sequence[Network], Config, Surroundings] | None = None
        self._known: dict[NodePublic, tuple[Member, Judgement]] = {}
        self.made = 0
        """Judgements that were not remembered, so far."""

    def of(
        self, members: Iterable[Member], own: Member, config: Config, around: Surroundings
    ) -> dict[NodePublic, Judgement]:
        grounds = (own.addresses, config, around)
        if grounds != self._grounds:
            self._grounds, self._known = grounds, {}
        known: dict[NodePublic, tuple[Member, Judgement]] = {}
        for member in members:
            before = self._known.get(member.key)
            if before is None or before[0] is not member:
                self.made += 1
                before = (member, judge(member, own, config, around))
            known[member.key] = before
        self._known = known
        return {key: judgement for key, (_, judgement) in known.items()}


@dataclass(frozen=True, slots=True)
class Allotment:
    peers: Mapping[NodePublic, Peer]
    routes: frozenset[Network]
    addresses: frozenset[Network]
    """Addresses of members, given or not."""
    refusals: tuple[Refusal, ...]


def allot(
    peers: Sequence[Member], own: Member, config: Config, around: Surroundings, judgements: Judgements
) -> Allotment:
    """Every range goes to one member: addresses before routes, and the first of `peers` before later ones."""
    judged = judgements.of(peers, own, config, around)
    values = judged.values()
    routes = frozenset[Network]().union(*(each.peer.allowed_ips for each in values))
    given: Mapping[NodePublic, Peer] = {key: each.peer for key, each in judged.items()}
    refusals = [refusal for each in values for refusal in each.refusals]
    if len(routes) != sum(len(each.peer.allowed_ips) for each in values):
        given, taken = _without_conflicts(peers, judged)
        refusals += taken
    addresses = frozenset[Network]().union(*(each.claimed for each in values))
    return Allotment(given, routes, addresses, tuple(refusals))


def _without_conflicts(
    peers: Sequence[Member], judged: Mapping[NodePublic, Judgement]
) -> tuple[dict[NodePublic, Peer], list[Refusal]]:
    holder: dict[Network, NodePublic] = {}
    allowed: dict[NodePublic, set[Network]] = {peer.key: set() for peer in peers}
    taken: list[Refusal] = []
    wanted = [(peer, network) for peer in peers for network in judged[peer.key].addresses]
    wanted += [(peer, network) for peer in peers for network in judged[peer.key].routes]
    for peer, network in wanted:
        if holder.setdefault(network, peer.key) == peer.key:
            allowed[peer.key].add(network)
        else:
            taken.append(Refusal(peer.name, network, Reason.TAKEN))
    return {key: Peer(frozenset(networks)) for key, networks in allowed.items()}, taken
