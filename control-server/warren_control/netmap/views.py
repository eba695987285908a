"""What each node may be shown of a snapshot, and the answer while there is no policy: everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from warren_control import routes
from warren_control.model import Node, Snapshot
from warren_control.routes import Prefix
from warren_wire.control.messages import FilterRule, NetPortRange, PortRange

CapMap = Mapping[str, tuple[Any, ...] | None]

ALL_PORTS: Final = PortRange(first=0, last=0xFFFF)
_NO_CAPABILITIES: Final[CapMap] = {}
# As under a policy that allows everything: clients then propose the node as an exit.
_EXIT_CAPABILITIES: Final[CapMap] = {"suggest-exit-node": None}
_OPEN_CAPABILITIES: Final[CapMap] = {
    "https://tailscale.com/cap/file-sharing": None,
    "default-auto-update": (False,),
}


class PeerView(NamedTuple):
    """What differs between the views of one peer. Equal views share one description."""

    subnets: tuple[Prefix, ...] = ()
    """Subnet routes that the viewer reaches through the peer."""
    exits: tuple[Prefix, ...] = ()
    only_v6: bool = False
    """The peer's own IPv4 address is left out."""


PLAIN: Final = PeerView()


class Views(Protocol):
    """Of one snapshot. Answers are values; nodes given to it are of that snapshot."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def uniform(self) -> bool:
        """Everybody sees everybody, and alike: a change is the same news for all it is not about."""
        ...

    def known_to_all(self, number: int) -> bool:
        """Whether everybody may know a node that is to be seen no more."""
        ...

    def visible(self, viewer: Node) -> list[Node]:
        """The peers of a node, by id."""
        ...

    def sees(self, viewer: Node, peer: Node) -> bool: ...

    def peer(self, viewer: Node, peer: Node) -> PeerView:
        """How a node sees a peer that is visible to it."""
        ...

    def packet_filter(self, viewer: Node) -> tuple[FilterRule, ...]: ...

    def ssh_rules(self, viewer: Node) -> Sequence[object]: ...

    def only_v6(self, node: Node) -> bool:
        """Whether a node's own IPv4 address is left out of its own view."""
        ...

    def capabilities(self, node: Node) -> CapMap:
        """In the node's own view."""
        ...

    def peer_capabilities(self, peer: Node) -> CapMap:
        """In everybody else's view."""
        ...


@dataclass(frozen=True, slots=True)
class OpenViews:
    """Without a policy: everybody sees everybody and may send anything."""

    snapshot: Snapshot
    uniform = True

    def known_to_all(self, number: int) -> bool:
        return True

    def visible(self, viewer: Node) -> list[Node]:
        if viewer.disabled:
            return []
        others = (node for node in self.snapshot.nodes.values() if node.id != viewer.id and not node.disabled)
        return sorted(others, key=lambda node: node.id)

    def sees(self, viewer: Node, peer: Node) -> bool:
        return not peer.disabled

    def peer(self, viewer: Node, peer: Node) -> PeerView:
        if not peer.advertised_routes:
            return PLAIN
        served = self.snapshot.served_routes(peer)
        return PeerView(
            tuple(route for route in served if route not in routes.DEFAULTS),
            tuple(route for route in served if route in routes.DEFAULTS),
        )

    def packet_filter(self, viewer: Node) -> tuple[FilterRule, ...]:
        """Everything among members: to the node itself and to the routes approved for it.

        Any source is named, because WireGuard already binds each peer to the addresses in its AllowedIPs;
        so a route that comes or goes changes the filter of nobody else.
        """
        if viewer.disabled:
            return ()
        destinations = (*viewer.addresses, *viewer.effective_routes)
        ports = tuple(NetPortRange(ip=str(one), ports=ALL_PORTS) for one in destinations)
        return (FilterRule(src_ips=("*",), dst_ports=ports),)

    def ssh_rules(self, viewer: Node) -> Sequence[object]:
        return ()

    def only_v6(self, node: Node) -> bool:
        return False

    def capabilities(self, node: Node) -> CapMap:
        return _OPEN_CAPABILITIES

    def peer_capabilities(self, peer: Node) -> CapMap:
        exits = peer.advertised_routes and not routes.DEFAULTS.isdisjoint(peer.effective_routes)
        return _EXIT_CAPABILITIES if exits else _NO_CAPABILITIES
