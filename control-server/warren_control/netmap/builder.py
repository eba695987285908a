"""Map responses: the first message of a stream, deltas, and the farewell of a deleted node.

The description of a peer is the same for every viewer that sees it alike, so it is encoded once per version
of the peer. A delta is put together once for all receivers that are told the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from warren_control.changes import Change, Patch
from warren_control.model import Node, Snapshot
from warren_control.netmap.everybody import Everybody
from warren_control.netmap.owners import Ownership, profiles
from warren_control.netmap.peers import Descriptions
from warren_control.netmap.views import PeerView, Views
from warren_control.relaymap import RelayMap
from warren_wire.control import messages
from warren_wire.control.messages import PreparedMapResponse, prepare

# Keeps stock clients from uploading their logs to their vendor.
DEBUG: Final = prepare(messages.Debug(disable_log_tail=True))
_SHARED_DELTAS: Final = 64


@dataclass(frozen=True, slots=True)
class MapSettings:
    """What every node of the mesh is told alike."""

    base_domain: str
    dns: messages.DNSConfig
    relays: RelayMap


@dataclass(slots=True)
class _News:
    """What of a change one viewer is told about others. Receivers with the same key share its encoding."""

    shown: list[tuple[Node, PeerView]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    patched: list[tuple[Node, Patch]] = field(default_factory=list)
    instead: bool = False
    """The nodes shown are all the viewer sees."""
    unknown: bool = False
    """The viewer may not know some owner."""

    def __bool__(self) -> bool:
        return bool(self.shown or self.removed or self.patched)

    @property
    def key(self) -> tuple[object, ...]:
        shown = tuple((node.id, view) for node, view in self.shown)
        patched = tuple((node.id, fields) for node, fields in self.patched)
        return shown, tuple(self.removed), patched, self.instead, self.unknown


class NetmapBuilder:
    """Builds map responses and remembers the parts that receivers share."""

    def __init__(self, settings: MapSettings) -> None:
        self._settings = settings
        self._descriptions = Descriptions(settings.base_domain, settings.relays)
        self._everybody = Everybody(self._descriptions)
        self._ownership = Ownership()
        self._deltas: dict[tuple[object, ...], bytes] = {}
        self._deltas_of: Views | None = None
        self._dns = prepare(settings.dns)

    def set_dns(self, dns: messages.DNSConfig) -> None:
        """Other DNS settings from now on; whoever is connected must be told."""
        self._dns = prepare(dns)
        self._deltas.clear()

    def full(self, views: Views, viewer: Node, now: datetime) -> bytes:
        """The first message of a stream: stock clients start every stream from nothing."""
        snapshot = views.snapshot
        peers, owners = self._peers(views, viewer, now)
        return messages.encode(
            PreparedMapResponse(
                node=prepare(self._descriptions.itself(views, viewer, now)),
                derp_map=self._settings.relays.prepared(snapshot),
                peers=peers or None,
                dns_config=self._dns,
                domain=self._settings.base_domain,
                collect_services=False,
                packet_filters={"base": prepare(views.packet_filter(viewer))},
                user_profiles=profiles(snapshot, (*owners, viewer.user_id)),
                ssh_policy=_ssh_policy(views, viewer),
                control_time=now,
                debug=DEBUG,
            )
        )

    def _peers(
        self, views: Views, viewer: Node, now: datetime
    ) -> tuple[tuple[msgspec.Raw, ...], Iterable[int]]:
        """All the viewer sees, and their owners."""
        if views.uniform and not viewer.disabled:
            return self._everybody.but(views, viewer, now), self._ownership.owners(views.snapshot)
        visible = views.visible(viewer)
        peers = (self._descriptions.peer(views, node, views.peer(viewer, node), now) for node in visible)
        return tuple(peers), {node.user_id for node in visible}

    def delta(self, views: Views, viewer: Node, change: Change, now: datetime) -> bytes | None:
        """What is new for the viewer, or `None` if that is nothing."""
        if viewer.disabled:
            return None
        if self._deltas_of is not views:
            self._deltas_of = views
            self._deltas.clear()
        if change.is_own(viewer.id):
            return self._encoded(views, _news(views, viewer, change), change, now, viewer) or None
        # Where all are told the same, what that is need not be found out for each.
        alike = views.uniform and not change.touches(viewer.id)
        news = None if alike else _news(views, viewer, change)
        key = change.key if news is None else (news.key, change.derp_map, change.dns)
        found = self._deltas.get(key)
        if found is None:
            found = self._encoded(views, news or _news(views, viewer, change), change, now)
            if len(self._deltas) < _SHARED_DELTAS:
                self._deltas[key] = found
        return found or None

    def _encoded(
        self, views: Views, news: _News, change: Change, now: datetime, own: Node | None = None
    ) -> bytes:
        """The message; empty for no news. `own`: the viewer, if it is told something of itself."""
        about = frozenset() if own is None else frozenset({own.id})
        itself, filtered, ssh = (about & nodes for nodes in (change.selves, change.filters, change.ssh))
        if not (news or itself or filtered or ssh or change.derp_map or change.dns):
            return b""
        snapshot = views.snapshot
        nodes = [node for node, _ in news.shown]
        if own is not None and itself:
            nodes.append(own)
        peers = tuple(self._descriptions.peer(views, node, view, now) for node, view in news.shown) or None
        patches = (
            patch
            for node, fields in news.patched
            for patch in self._descriptions.patches(snapshot, node, fields)
        )
        # Stock clients show a new owner in `status` only once something made them start afresh.
        afresh = news.unknown or self._ownership.new_among(snapshot, nodes)
        return messages.encode(
            PreparedMapResponse(
                node=prepare(self._descriptions.itself(views, own, now)) if own and itself else None,
                packet_filters={"base": prepare(views.packet_filter(own))} if own and filtered else None,
                ssh_policy=_ssh_policy(views, own) if own and ssh else None,
                peers=peers if news.instead else None,
                peers_changed=None if news.instead else peers,
                peers_removed=tuple(news.removed) or None,
                peers_changed_patch=tuple(prepare(patch) for patch in patches) or None,
                derp_map=self._settings.relays.prepared(snapshot) if change.derp_map else None,
                dns_config=self._dns if change.dns else None,
                user_profiles=profiles(snapshot, (node.user_id for node in nodes)) or None,
                domain=self._settings.base_domain if afresh else "",
            )
        )

    def logged_out(self, node: Node, now: datetime) -> bytes:
        """The message for a node that was deleted: an expired self makes stock clients ask for a login."""
        return messages.encode(
            messages.MapResponse(
                node=msgspec.structs.replace(
                    self._descriptions.describe(Snapshot(), node, now),
                    key_expiry=node.deleted_at or now,
                    expired=True,
                ),
                derp_map=messages.DERPMap(regions=self._settings.relays.regions(Snapshot())),
                packet_filters={"base": ()},
                control_time=now,
            )
        )


def _news(views: Views, viewer: Node, change: Change) -> _News:
    news = _News()
    if viewer.id in change.afresh:
        _all_afresh(news, views, viewer, change)
        return news
    nodes = views.snapshot.nodes
    again = change.recheck.get(viewer.id, frozenset())
    for number in sorted((change.nodes | again) - {viewer.id}):
        node = nodes.get(number)
        if node is not None and views.sees(viewer, node):
            news.shown.append((node, views.peer(viewer, node)))
        elif number in again or views.known_to_all(number):
            news.removed.append(number)
    for number, fields in sorted(change.patches.items()):
        node = nodes.get(number)
        if node is not None and number != viewer.id and views.sees(viewer, node):
            news.patched.append((node, fields))
    news.unknown = bool(again and news.shown)
    return news


def _all_afresh(news: _News, views: Views, viewer: Node, change: Change) -> None:
    visible = views.visible(viewer)
    news.shown = [(node, views.peer(viewer, node)) for node in visible]
    news.instead = news.unknown = bool(visible)
    if not visible:
        # An empty list of peers means no news to clients.
        news.removed = sorted((views.snapshot.nodes.keys() | change.nodes) - {viewer.id})


def _ssh_policy(views: Views, viewer: Node) -> msgspec.Raw:
    return prepare(messages.SSHPolicy(rules=tuple(views.ssh_rules(viewer))))
