"""What the path engine is told about each member. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from warren_agent.member import Member
from warren_agent.paths.values import PathPeer
from warren_wire.keys import DiscoPublic, NodePublic


class PathPeers:
    """Reads the members of one map after the other; one that did not change gives the same value again, so
    that whoever gets it need not compare."""

    def __init__(self, own: NodePublic) -> None:
        self._own = own
        self._read: dict[NodePublic, tuple[Member, PathPeer]] = {}

    def of(self, members: Iterable[Member]) -> dict[NodePublic, PathPeer]:
        """Those that may be reached, by key."""
        read: dict[NodePublic, tuple[Member, PathPeer]] = {}
        for member in members:
            if member.disco is None or member.expired or member.key == self._own:
                continue
            known = self._read.get(member.key)
            if known is None or known[0] is not member:
                known = (member, _path_peer(member, member.disco))
            read[member.key] = known
        self._read = read
        return {key: peer for key, (_, peer) in read.items()}


def _path_peer(member: Member, disco: DiscoPublic) -> PathPeer:
    return PathPeer(
        disco=disco,
        endpoints=member.endpoints,
        home_relay=member.home_relay,
        addresses=tuple(network.network_address for network in member.addresses),
        name=member.name,
    )
