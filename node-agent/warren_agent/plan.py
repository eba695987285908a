"""The steps from the host as found to the host as wanted. Pure.

Additions come before removals, and a peer that stays is changed in place: removing it would end its session.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from warren_agent.host import Device, Host, Interface, Network, Peer, Rule, Ruleset
from warren_wire.keys import NodePublic


@dataclass(frozen=True, slots=True)
class ConfigureDevice:
    device: Device


@dataclass(frozen=True, slots=True)
class SetLink:
    mtu: int


@dataclass(frozen=True, slots=True)
class AddAddress:
    address: Interface


@dataclass(frozen=True, slots=True)
class AddPeer:
    """A peer the device does not have, or has without an endpoint: it starts at its loopback endpoint."""

    key: NodePublic
    peer: Peer


@dataclass(frozen=True, slots=True)
class ChangePeer:
    """New allowed addresses for a running peer, whose endpoint stays."""

    key: NodePublic
    peer: Peer


@dataclass(frozen=True, slots=True)
class AddRoute:
    destination: Network


@dataclass(frozen=True, slots=True)
class AddRule:
    rule: Rule


@dataclass(frozen=True, slots=True)
class ReplaceFirewall:
    ruleset: Ruleset


@dataclass(frozen=True, slots=True)
class RemoveFirewall:
    pass


@dataclass(frozen=True, slots=True)
class RemoveRule:
    rule: Rule


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    destination: Network


@dataclass(frozen=True, slots=True)
class RemovePeer:
    key: NodePublic


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    address: Interface


Action = (
    ConfigureDevice
    | SetLink
    | AddAddress
    | AddPeer
    | ChangePeer
    | AddRoute
    | AddRule
    | ReplaceFirewall
    | RemoveFirewall
    | RemoveRule
    | RemoveRoute
    | RemovePeer
    | RemoveAddress
)


def network_order(value: Network | Interface) -> tuple[int, int, int]:
    network = value if isinstance(value, Network) else value.network
    address = value.network_address if isinstance(value, Network) else value.ip
    return (value.version, int(address), network.prefixlen)


def _in_order(values: Iterable[Network]) -> list[Network]:
    return sorted(values, key=network_order)


def plan(desired: Host, observed: Host, *, remove: bool = True) -> list[Action]:
    """Actions in the order in which they can be run; `plan(x, x)` is empty. Without `remove` it only adds."""
    actions: list[Action] = []
    if desired.device is not None and desired.device != observed.device:
        actions.append(ConfigureDevice(desired.device))
    actions += [AddAddress(a) for a in sorted(desired.addresses - observed.addresses, key=network_order)]
    if desired.link_up and (not observed.link_up or desired.mtu != observed.mtu):
        actions.append(SetLink(desired.mtu))
    actions += _peer_changes(desired, observed)
    if desired.firewall is not None and desired.firewall != observed.firewall:
        actions.append(ReplaceFirewall(desired.firewall))
    actions += [AddRoute(route) for route in _in_order(desired.routes - observed.routes)]
    actions += [AddRule(rule) for rule in sorted(desired.rules - observed.rules)]
    return actions + (_removals(desired, observed) if remove else [])


def _peer_changes(desired: Host, observed: Host) -> list[Action]:
    actions: list[Action] = []
    for key, peer in desired.peers.items():
        present = observed.peers.get(key)
        if present is None or (peer.has_endpoint and not present.has_endpoint):
            actions.append(AddPeer(key, peer))
        elif present.allowed_ips != peer.allowed_ips:
            actions.append(ChangePeer(key, peer))
    return actions


def _removals(desired: Host, observed: Host) -> list[Action]:
    actions: list[Action] = [RemoveRule(rule) for rule in sorted(observed.rules - desired.rules)]
    actions += [RemoveRoute(route) for route in _in_order(observed.routes - desired.routes)]
    if desired.firewall is None and observed.firewall is not None:
        actions.append(RemoveFirewall())
    actions += [RemovePeer(key) for key in observed.peers if key not in desired.peers]
    actions += [RemoveAddress(a) for a in sorted(observed.addresses - desired.addresses, key=network_order)]
    return actions
