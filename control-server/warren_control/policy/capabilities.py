"""What the policy gives to nodes themselves: capability maps and address pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from warren_control.policy.compiled import Compiled
from warren_control.policy.document import NodeAttributes
from warren_control.policy.network import Network, Node
from warren_control.policy.ranges import Block

CapMap = Mapping[str, tuple[Any, ...] | None]

DISABLE_IPV4: Final = "disable-ipv4"
RANDOMIZE_PORT: Final = "randomize-client-port"
SUGGEST_EXIT_NODE: Final = "suggest-exit-node"
CAP_ADMIN: Final = "https://tailscale.com/cap/is-admin"
CAP_FILE_SHARING: Final = "https://tailscale.com/cap/file-sharing"
CAP_SSH: Final = "https://tailscale.com/cap/ssh"
AUTO_UPDATE: Final = "default-auto-update"
# What an attribute brings along.
_WITH: Final = {
    "funnel": (
        "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000",
        "https://tailscale.com/cap/warn-funnel-no-https",
    )
}
_NOTHING: Final[CapMap] = MappingProxyType({})
_SUGGESTED: Final[CapMap] = MappingProxyType({SUGGEST_EXIT_NODE: None})


class NodeCapabilities:
    """Answers against one state of the nodes."""

    def __init__(self, compiled: Compiled, network: Network) -> None:
        self._compiled = compiled
        self._network = network
        self._entries = [(entry, self._targets(entry)) for entry in compiled.document.node_attributes]
        self._only_v6 = -1 if compiled.document.disable_ipv4 else 0
        for entry, targets in self._entries:
            if DISABLE_IPV4 in entry.attributes:
                self._only_v6 |= targets

    def of(self, slot: int) -> CapMap:
        """The capability map of the node itself."""
        settings = self._network.settings
        found: dict[str, tuple[Any, ...] | None] = {
            CAP_SSH: None,
            AUTO_UPDATE: (settings.auto_updates,),
        }
        if settings.file_sharing:
            found[CAP_FILE_SHARING] = None
        node = self._compiled.roster.node(slot)
        user = None if node.owner_id is None else self._network.users.get(node.owner_id)
        if user is not None and user.is_admin:
            found[CAP_ADMIN] = None
        if self._compiled.document.randomize_client_port:
            found[RANDOMIZE_PORT] = None
        for entry in self._matching(slot):
            for attribute in entry.attributes:
                found.setdefault(attribute, None)
                for more in _WITH.get(attribute, ()):
                    found.setdefault(more, None)
            for name, values in entry.capabilities.items():
                found[name] = (*(found.get(name) or ()), *values)
        return MappingProxyType(dict(sorted(found.items())))

    def of_peer(self, peer: Node) -> CapMap:
        """What every viewer is told of a peer."""
        return _SUGGESTED if peer.exit_routes else _NOTHING

    def without_ipv4(self, slot: int) -> bool:
        """Whether the node has no IPv4 address in anybody's view and sees none of its peers."""
        return bool(self._only_v6 and self._only_v6 >> slot & 1)

    def pools(self, slot: int) -> tuple[Block, ...]:
        """Where the addresses of a node that joins come from; empty: anywhere."""
        return tuple(pool for entry in self._matching(slot) for pool in entry.pools)

    def _matching(self, slot: int) -> Iterable[NodeAttributes]:
        return (entry for entry, targets in self._entries if targets >> slot & 1)

    def _targets(self, entry: NodeAttributes) -> int:
        nodes = 0
        for selector in entry.targets:
            nodes |= self._compiled.resolver.members(selector)
        return nodes
