"""Map responses of the snapshot. Pure: settings, snapshot, viewer and time in, JSON out.

The description of a peer is the same for every viewer, so it is encoded once per version of the peer.
A delta that is not about its receiver is the same for all receivers, so it is encoded once as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from warren_control.changes import Change, Patch
from warren_control.hosts import shown_hostinfo
from warren_control.model import TAGGED_USER_ID, Node, Snapshot
from warren_control.relaymap import RelayMap
from warren_control.routes import Prefix
from warren_wire.control import messages
from warren_wire.control.messages import PreparedMapResponse, prepare

ALL_PORTS: Final = messages.PortRange(first=0, last=0xFFFF)
TAGGED: Final = messages.UserProfile(
    id=TAGGED_USER_ID, login_name="tagged-devices", display_name="Tagged Devices"
)
NO_SSH: Final = prepare(messages.SSHPolicy(rules=()))
# Keeps stock clients from uploading their logs to their vendor.
DEBUG: Final = prepare(messages.Debug(disable_log_tail=True))
_SHARED_DELTAS: Final = 64


@dataclass(frozen=True, slots=True)
class MapSettings:
    """What every node of the mesh is told alike."""

    base_domain: str
    dns: messages.DNSConfig
    relays: RelayMap


def profile_of(snapshot: Snapshot, node: Node) -> messages.UserProfile:
    """Whom clients show as the owner."""
    user = snapshot.users.get(node.owner)
    if node.tags:
        return TAGGED
    if user is None:
        return messages.UserProfile(id=node.owner, login_name="unknown", display_name="Unknown")
    return messages.UserProfile(id=user.id, login_name=user.name, display_name=user.display_name)


def _has_new_owner(snapshot: Snapshot, changed: Iterable[Node]) -> bool:
    """Whether one of these owners owns nothing else, and so may be new to everybody."""
    changed = tuple(changed)
    numbers = {node.id for node in changed}
    known = {node.user_id for node in snapshot.nodes.values() if node.id not in numbers}
    return any(node.user_id not in known for node in changed)


def _profiles(snapshot: Snapshot, nodes: Iterable[Node]) -> tuple[msgspec.Raw, ...]:
    """A profile for each owner: stock clients answer no `whois` for a node whose owner they were not told."""
    owners = {node.user_id: node for node in nodes}
    return tuple(prepare(profile_of(snapshot, node)) for _, node in sorted(owners.items()))


class NetmapBuilder:
    """Builds map responses and remembers the parts that receivers share."""

    def __init__(self, settings: MapSettings) -> None:
        self._settings = settings
        self._peers: dict[int, tuple[Node, tuple[Prefix, ...], bool, int, msgspec.Raw]] = {}
        self._deltas: dict[tuple[object, ...], bytes] = {}
        self._deltas_of: Snapshot | None = None
        self._dns = prepare(settings.dns)

    def set_dns(self, dns: messages.DNSConfig) -> None:
        """Other DNS settings from now on; whoever is connected must be told."""
        self._dns = prepare(dns)
        self._deltas.clear()

    def forget(self, nodes: Iterable[int]) -> None:
        """Deleted nodes need no place."""
        for node in nodes:
            self._peers.pop(node, None)

    def full(self, snapshot: Snapshot, viewer: Node, now: datetime) -> bytes:
        """The first message of a stream: stock clients start every stream from nothing."""
        visible = () if viewer.disabled else _visible(snapshot, viewer)
        peers = tuple(self._peer(snapshot, node, now) for node in visible)
        return messages.encode(
            PreparedMapResponse(
                node=prepare(self.self_node(snapshot, viewer, now)),
                derp_map=self._settings.relays.prepared(snapshot),
                peers=peers or None,
                dns_config=self._dns,
                domain=self._settings.base_domain,
                collect_services=False,
                packet_filters={"base": prepare(packet_filter(snapshot, viewer))},
                user_profiles=_profiles(snapshot, (*visible, viewer)),
                ssh_policy=NO_SSH,
                control_time=now,
                debug=DEBUG,
            )
        )

    def delta(self, snapshot: Snapshot, viewer: Node, change: Change, now: datetime) -> bytes | None:
        """What is new for the viewer, or `None` if that is nothing."""
        if viewer.disabled:
            return None
        if change.touches(viewer.id):
            return self._delta(snapshot, viewer, change, now)
        if self._deltas_of is not snapshot:
            self._deltas_of = snapshot
            self._deltas.clear()
        found = self._deltas.get(change.key)
        if found is None:
            found = self._delta(snapshot, viewer, change, now) or b""
            if len(self._deltas) < _SHARED_DELTAS:
                self._deltas[change.key] = found
        return found or None

    def _delta(self, snapshot: Snapshot, viewer: Node, change: Change, now: datetime) -> bytes | None:
        changed, removed = [], []
        shown: list[Node] = []
        for number in sorted(change.nodes - {viewer.id}):
            node = snapshot.nodes.get(number)
            if node is None or node.disabled:
                removed.append(number)
            else:
                changed.append(self._peer(snapshot, node, now))
                shown.append(node)
        patches = [
            patch
            for number, fields in sorted(change.patches.items())
            if number != viewer.id and (node := snapshot.nodes.get(number)) is not None and not node.disabled
            for patch in self._patches(snapshot, node, fields)
        ]
        about_viewer = viewer.id in change.selves
        if about_viewer:
            shown.append(viewer)
        if not (changed or removed or patches or about_viewer or change.derp_map or change.dns):
            return None
        return messages.encode(
            PreparedMapResponse(
                node=prepare(self.self_node(snapshot, viewer, now)) if about_viewer else None,
                packet_filters={"base": prepare(packet_filter(snapshot, viewer))} if about_viewer else None,
                peers_changed=tuple(changed) or None,
                peers_removed=tuple(removed) or None,
                peers_changed_patch=tuple(prepare(patch) for patch in patches) or None,
                derp_map=self._settings.relays.prepared(snapshot) if change.derp_map else None,
                dns_config=self._dns if change.dns else None,
                user_profiles=_profiles(snapshot, shown) or None,
                # Stock clients show a new owner in `status` only once something made them start afresh.
                domain=self._settings.base_domain if _has_new_owner(snapshot, shown) else "",
            )
        )

    def logged_out(self, node: Node, now: datetime) -> bytes:
        """The message for a node that was deleted: an expired self makes stock clients ask for a login."""
        return messages.encode(
            messages.MapResponse(
                node=msgspec.structs.replace(
                    self._describe(Snapshot(), node, now), key_expiry=node.deleted_at or now, expired=True
                ),
                derp_map=messages.DERPMap(regions=self._settings.relays.regions(Snapshot())),
                packet_filters={"base": ()},
                control_time=now,
            )
        )

    def self_node(self, snapshot: Snapshot, node: Node, now: datetime) -> messages.Node:
        """The node as it sees itself. It must carry its addresses in every message: stock clients on Linux
        lose their peer routes for good otherwise."""
        described = self._describe(snapshot, node, now)
        return msgspec.structs.replace(
            described,
            allowed_ips=_texts(addresses(node)) + _texts(node.effective_routes),
            online=True,
            machine_authorized=not node.disabled,
            cap_map={
                "https://tailscale.com/cap/file-sharing": None,
                "default-auto-update": (False,),
                "tailnet-display-name": (self._settings.base_domain,),
            },
        )

    def _peer(self, snapshot: Snapshot, node: Node, now: datetime) -> msgspec.Raw:
        served, expired, home = snapshot.served_routes(node), node.expired(now), self._home(snapshot, node)
        known = self._peers.get(node.id)
        if known is not None and known[0] is node and known[1:4] == (served, expired, home):
            return known[4]
        described = msgspec.structs.replace(
            self._describe(snapshot, node, now),
            # Stock clients crash in `status` on a peer without Hostinfo.
            hostinfo=shown_hostinfo(node.hostinfo),
            last_seen=None if node.online else node.last_seen,
        )
        raw = prepare(described)
        self._peers[node.id] = (node, served, expired, home, raw)
        return raw

    def _describe(self, snapshot: Snapshot, node: Node, now: datetime) -> messages.Node:
        served = snapshot.served_routes(node)
        own = _texts(addresses(node))
        return messages.Node(
            id=node.id,
            stable_id=node.stable_id,
            name=f"{node.name}.{self._settings.base_domain}.",
            user=node.user_id,
            key=node.node_key,
            key_expiry=node.expiry,
            machine=node.machine_key,
            disco_key=node.disco_key,
            addresses=own,
            allowed_ips=own + _texts(served),
            primary_routes=_texts(snapshot.primary_routes(node)) or None,
            endpoints=node.endpoints or None,
            home_derp=self._home(snapshot, node),
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
        return node.home_region or self._settings.relays.only_region(snapshot)

    def _patches(self, snapshot: Snapshot, node: Node, fields: Patch) -> list[messages.PeerChange]:
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


def addresses(node: Node) -> tuple[str, ...]:
    """Its own addresses as prefixes, IPv4 first."""
    return tuple(f"{address}/{address.max_prefixlen}" for address in node.addresses)


def packet_filter(snapshot: Snapshot, node: Node) -> tuple[messages.FilterRule, ...]:
    """Everything among members: to the node itself and to the routes approved for it.

    Any source is named, because WireGuard already binds each peer to the addresses in its AllowedIPs;
    so a route that comes or goes changes the filter of nobody else.
    """
    if node.disabled:
        return ()
    destinations = (*_texts(node.addresses), *_texts(node.effective_routes))
    ports = tuple(messages.NetPortRange(ip=text, ports=ALL_PORTS) for text in destinations)
    return (messages.FilterRule(src_ips=("*",), dst_ports=ports),)


def _visible(snapshot: Snapshot, viewer: Node) -> list[Node]:
    others = (node for node in snapshot.nodes.values() if node.id != viewer.id and not node.disabled)
    return sorted(others, key=lambda node: node.id)


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
