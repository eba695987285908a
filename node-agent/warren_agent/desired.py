"""What this host should look like: network map and settings in, `Host` out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from socket import AF_INET, AF_INET6
from typing import Final

from warren_agent.allotment import Judgements, Refusal, Surroundings, allot, overlaps
from warren_agent.config import Config
from warren_agent.host import MTU, Device, Host, Network, Rule
from warren_agent.inbound import Allowance
from warren_agent.member import Member
from warren_agent.plan import network_order
from warren_agent.ruleset import ruleset

Address = IPv4Address | IPv6Address
_FAMILY: Final = {4: int(AF_INET), 6: int(AF_INET6)}


@dataclass(frozen=True, slots=True)
class Desired:
    host: Host
    refusals: tuple[Refusal, ...]


def taken_range(own: Member, around: Surroundings) -> tuple[Network, Network] | None:
    """An address of this node that lies in a network this host is attached to already, and that network."""
    networks = around.local_networks | {ip_network(address) for address in around.local_addresses}
    for address in own.addresses:
        for network in sorted(networks, key=network_order):
            if overlaps(address, [network]):
                return address, network
    return None


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
    judgements: Judgements | None = None,
) -> Desired:
    """`own` and `members` come from one network map. Expired members keep their key but get nothing.

    `judgements` remembers from one map to the next; it changes nothing but the time that this takes.
    """
    peers = sorted(
        (m for m in members if m.key != own.key and not m.expired and m.disco is not None), key=lambda m: m.id
    )
    given = allot(peers, own, config, around, judgements or Judgements())
    remote = sorted(given.routes - given.addresses, key=network_order)
    host = Host(
        link_up=True,
        mtu=MTU,
        device=Device(own.key, config.listen_port, config.mark.value),
        addresses=frozenset(
            ip_interface(str(network)) for network in own.addresses if network.version == 4 or around.ipv6
        ),
        peers=given.peers,
        routes=given.routes,
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
    return Desired(host, given.refusals)
