"""Descriptions of nodes as they are sent. One is made once per version of a node and way to see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from warren_control.changes import Patch
from warren_control.hosts import shown_hostinfo
from warren_control.model import Node, Snapshot
from warren_control.netmap.views import CapMap, PeerView, Views
from warren_control.relaymap import RelayMap
from warren_wire.control import messages
from warren_wire.control.messages import prepare

# Ways to see one peer: routes through different routers, with or without IPv4.
_MAX_VIEWS: Final = 64


@dataclass(slots=True)
class _Described:
    """What a description was made of, and what was made for each way to see the node."""

    node: Node
    expired: bool
    home: int
    capabilities: CapMap
    by_view: dict[PeerView, msgspec.Raw] = field(default_factory=dict)

    def is_of(self, node: Node, expired: bool, home: int, capabilities: CapMap) -> bool:
        same = self.node is node and self.expired == expired and self.home == home
        return same and (self.capabilities is capabilities or self.capabilities == capabilities)


class Descriptions:
    """Describes nodes to themselves and to peers, and remembers what viewers share."""

    def __init__(self, base_domain: str, relays: RelayMap) -> None:
        self._base_domain = base_domain
        self._relays = relays
        self._known: dict[int, _Described] = {}

    def peer(self, views: Views, node: Node, view: PeerView, now: datetime) -> msgspec.Raw:
        """The node as viewers with that view of it see it."""
        made_of = (node, node.expired(now), self._home(views.snapshot, node), views.peer_capabilities(node))
        known = self._known.get(node.id)
        if known is None or not known.is_of(*made_of):
            known = self._known[node.id] = _Described(*made_of)
            self._forget_deleted(views.snapshot)
        raw = known.by_view.get(view)
        if raw is None:
            if len(known.by_view) >= _MAX_VIEWS:
                known.by_view.clear()
            raw = known.by_view[view] = prepare(self._as_peer(views, node, view, now))
        return raw

    def _forget_deleted(self, snapshot: Snapshot) -> None:
        if len(self._known) > 2 * len(snapshot.nodes):
            self._known = {number: one for number, one in self._known.items() if number in snapshot.nodes}

    def _as_peer(self, views: Views, node: Node, view: PeerView, now: datetime) -> messages.Node:
        own = addresses(node, only_v6=view.only_v6)
        return msgspec.structs.replace(
            self.describe(views.snapshot, node, now),
            addresses=own,
            allowed_ips=own + texts(view.subnets) + texts(view.exits),
            primary_routes=texts(view.subnets) or None,
            last_seen=None if node.online else node.last_seen,
            cap_map=views.peer_capabilities(node) or None,
        )

    def itself(self, views: Views, node: Node, now: datetime) -> messages.Node:
        """The node as it sees itself. It must carry its addresses in every message: stock clients on Linux
        lose their peer routes for good otherwise."""
        own = addresses(node, only_v6=views.only_v6(node))
        return msgspec.structs.replace(
            self.describe(views.snapshot, node, now),
            addresses=own,
            allowed_ips=own + texts(node.effective_routes),
            primary_routes=texts(views.snapshot.primary_routes(node)) or None,
            online=True,
            machine_authorized=not node.disabled,
            cap_map={**views.capabilities(node), "tailnet-display-name": (self._base_domain,)},
        )

    def describe(self, snapshot: Snapshot, node: Node, now: datetime) -> messages.Node:
        """What is the same for everybody."""
        own = addresses(node)
        return messages.Node(
            id=node.id,
            stable_id=node.stable_id,
            name=f"{node.name}.{self._base_domain}.",
            user=node.user_id,
            key=node.node_key,
            key_expiry=node.expiry,
            machine=node.machine_key,
            disco_key=node.disco_key,
            addresses=own,
            allowed_ips=own,
            endpoints=node.endpoints or None,
            home_derp=self._home(snapshot, node),
            # Stock clients crash in `status` on a peer without Hostinfo.
            hostinfo=shown_hostinfo(node.hostinfo),
            created=node.created,
            cap=node.capability_version,
            tags=node.tags or None,
            machine_authorized=not node.expired(now),
            expired=node.expired(now),
            # Never left out: stock clients ignore a later value for a peer that came without one.
            online=node.online,
        )

    def _home(self, snapshot: Snapshot, node: Node) -> int:
        """The home relay; a node that has not measured yet is looked for where everybody must be."""
        return node.home_region or self._relays.only_region(snapshot)

    def patches(self, snapshot: Snapshot, node: Node, fields: Patch) -> list[messages.PeerChange]:
        patches: list[messages.PeerChange] = []
        if Patch.DISCO in fields and Patch.ONLINE in fields and not node.online:
            # Stock clients discard a disco key that comes together with the news of being offline.
            patches.append(messages.PeerChange(node_id=node.id, disco_key=node.disco_key))
            fields &= ~Patch.DISCO
        offline = Patch.ONLINE in fields and not node.online
        patches.append(
            messages.PeerChange(
                node_id=node.id,
                endpoints=node.endpoints if Patch.ENDPOINTS in fields else None,
                derp_region=self._home(snapshot, node) if Patch.HOME in fields else 0,
                disco_key=node.disco_key if Patch.DISCO in fields else None,
                key=node.node_key if Patch.KEY in fields else None,
                online=node.online if Patch.ONLINE in fields else None,
                last_seen=node.last_seen if offline else None,
                cap=node.capability_version if Patch.VERSION in fields else 0,
            )
        )
        return patches


def addresses(node: Node, *, only_v6: bool = False) -> tuple[str, ...]:
    """Its own addresses as prefixes, IPv4 first. A node without IPv6 keeps its only address in any case."""
    shown = [one for one in node.addresses if not only_v6 or one.version == 6] or node.addresses
    return tuple(f"{address}/{address.max_prefixlen}" for address in shown)


def texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
