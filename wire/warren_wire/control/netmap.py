"""The client's picture of the mesh: map responses folded into one immutable value.

A stream starts from `EMPTY`; its first message has to be complete. What of a message cannot be used is left
out and listed in `problems`, the rest applies. This goes beyond stock clients in two places: `Online` and
`LastSeen` count also when they first appear in a later `PeersChanged`, and a self node that comes without
addresses keeps those it had.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from msgspec import structs

from warren_wire.addresses import AddrPort, parse_prefix
from warren_wire.control.codec import is_zero_time, known_time
from warren_wire.control.map_reader import Problem
from warren_wire.control.messages import (
    DERPMap,
    DisplayMessage,
    DNSConfig,
    FilterRule,
    MapResponse,
    Node,
    PeerChange,
    SSHPolicy,
    UserProfile,
)
from warren_wire.errors import DecodeError, RemoteProtocolError
from warren_wire.keys import NodePublic

BASE_FILTER: Final = "base"
_CLEAR_ALL: Final = "*"
_LEGACY_HOME_PREFIX: Final = "127.3.3.40:"


@dataclass(frozen=True, slots=True)
class Netmap:
    """Nodes in here are ready to use: `allowed_ips` is never None, legacy home relays are in `home_derp`.

    No packet filter at all means that nothing may come in.
    """

    self_node: Node | None = None
    peers: Mapping[int, Node] = field(default_factory=dict)
    derp_map: DERPMap | None = None
    dns: DNSConfig | None = None
    domain: str = ""
    packet_filters: Mapping[str, tuple[FilterRule, ...]] = field(default_factory=dict)
    user_profiles: Mapping[int, UserProfile] = field(default_factory=dict)
    ssh_policy: SSHPolicy | None = None
    health: tuple[str, ...] = ()
    display_messages: Mapping[str, DisplayMessage] = field(default_factory=dict)
    collect_services: bool = False
    control_time: datetime | None = None
    problems: tuple[Problem, ...] = ()
    """What of the last message was left out."""

    @property
    def rules(self) -> tuple[FilterRule, ...]:
        """The packet filter as one list."""
        return tuple(rule for name in sorted(self.packet_filters) for rule in self.packet_filters[name])


EMPTY: Final = Netmap()


def apply(netmap: Netmap, response: MapResponse, *, now: datetime | None = None) -> Netmap:
    """The picture after one message. `now` dates peers just seen; without it the server's time does."""
    netmap = replace(
        netmap, problems=(), control_time=known_time(response.control_time) or netmap.control_time
    )
    if response.keep_alive:
        return netmap
    if netmap.self_node is None and response.node is None:
        raise RemoteProtocolError("the first map response carries no node")
    problems: list[Problem] = []
    self_node = _self_node(netmap.self_node, response.node, problems)
    return Netmap(
        self_node=self_node,
        peers=_peers(netmap, response, self_node, now, problems),
        derp_map=_derp_map(netmap.derp_map, response.derp_map),
        dns=netmap.dns if response.dns_config is None else response.dns_config,
        domain=response.domain or netmap.domain,
        packet_filters=_packet_filters(netmap.packet_filters, response),
        user_profiles=_user_profiles(netmap.user_profiles, response.user_profiles),
        ssh_policy=netmap.ssh_policy if response.ssh_policy is None else response.ssh_policy,
        health=netmap.health if response.health is None else response.health,
        display_messages=_display_messages(netmap.display_messages, response.display_messages),
        collect_services=netmap.collect_services
        if response.collect_services is None
        else response.collect_services,
        control_time=netmap.control_time,
        problems=tuple(problems),
    )


def snapshot(netmap: Netmap) -> MapResponse:
    """One complete message that gives this picture again, for a cache on disk."""
    return MapResponse(
        node=netmap.self_node,
        peers=tuple(netmap.peers.values()) or None,
        derp_map=netmap.derp_map,
        dns_config=netmap.dns,
        domain=netmap.domain,
        packet_filters=netmap.packet_filters,
        user_profiles=tuple(netmap.user_profiles.values()),
        ssh_policy=netmap.ssh_policy,
        health=netmap.health,
        display_messages=netmap.display_messages,
        collect_services=netmap.collect_services,
        control_time=netmap.control_time,
    )


# Nodes.


def _self_node(old: Node | None, new: Node | None, problems: list[Problem]) -> Node | None:
    if new is None:
        return old
    if not new.addresses and old is not None:
        problems.append(Problem("self node", "no addresses; the old ones are kept"))
        new = structs.replace(new, addresses=old.addresses)
    try:
        return _usable(new, problems)
    except DecodeError as error:
        if old is None:
            raise RemoteProtocolError("the self node cannot be used") from error
        problems.append(Problem("self node", str(error)))
        return old


def _usable(node: Node, problems: list[Problem]) -> Node:
    """The node with its implied values filled in. DecodeError if it cannot be used at all."""
    addresses = node.addresses or ()
    allowed_ips = addresses if node.allowed_ips is None else node.allowed_ips
    for prefix in (*addresses, *allowed_ips):
        parse_prefix(prefix)
    return structs.replace(
        node,
        addresses=addresses,
        allowed_ips=allowed_ips,
        endpoints=_endpoints(node.id, node.endpoints or (), problems),
        home_derp=node.home_derp or _legacy_home(node.derp),
        derp="",
    )


def _endpoints(node_id: int, endpoints: Iterable[str], problems: list[Problem]) -> tuple[str, ...]:
    usable: list[str] = []
    for endpoint in endpoints:
        try:
            AddrPort.parse(endpoint)
        except DecodeError as error:
            problems.append(Problem(f"endpoint of peer {node_id}", str(error)))
        else:
            usable.append(endpoint)
    return tuple(usable)


def _legacy_home(text: str) -> int:
    digits = text.removeprefix(_LEGACY_HOME_PREFIX)
    return int(digits) if digits != text and digits.isascii() and digits.isdigit() and len(digits) < 16 else 0


# Peers.


def _peers(
    netmap: Netmap,
    response: MapResponse,
    self_node: Node | None,
    now: datetime | None,
    problems: list[Problem],
) -> Mapping[int, Node]:
    peers = _Peers(netmap.peers, self_node, problems)
    if response.peers:
        # A complete list; an empty one means "unchanged", and the other peer fields do not count beside it.
        peers.replace_all(response.peers)
        return peers.found
    if self_node is not None:
        peers.found.pop(self_node.id, None)
    for node_id in response.peers_removed or ():
        peers.found.pop(node_id, None)
    for node in response.peers_changed or ():
        peers.put(node)
    for node_id, seen in (response.peer_seen_change or {}).items():
        seen_at = known_time(now) or netmap.control_time
        peers.update(node_id, last_seen=seen_at if seen else None)
    for node_id, online in (response.online_change or {}).items():
        peers.update(node_id, online=online)
    for change in response.peers_changed_patch or ():
        peers.patch(change)
    return peers.found


class _Peers:
    """Peers under change. Neither an ID nor a node key stands for two peers; who came first keeps it."""

    def __init__(self, old: Mapping[int, Node], self_node: Node | None, problems: list[Problem]) -> None:
        self.found = dict(old)
        self._old = old
        self._self = self_node
        self._problems = problems
        self._owners: dict[NodePublic, int] | None = None

    def replace_all(self, nodes: Iterable[Node]) -> None:
        self.found = {}
        for node in nodes:
            if node.id in self.found:
                self._report(node.id, "another peer has the same ID")
            else:
                self.put(node)

    def put(self, node: Node) -> None:
        try:
            usable = _usable(node, self._problems)
            self._claim(node.id, node.key)
        except DecodeError as error:
            self._report(node.id, str(error))
            return
        self.found[node.id] = _with_fresh_disco_key(self._old.get(node.id), usable)

    def _claim(self, node_id: int, key: NodePublic) -> None:
        if key.is_zero:
            raise DecodeError("the node key is zero")
        if self._self is not None and node_id == self._self.id:
            raise DecodeError("it has the ID of the self node")
        if self._self is not None and key == self._self.key:
            raise DecodeError("it has the key of the self node")
        if self._owners is None:
            self._owners = {node.key: node.id for node in self.found.values()}
        owner = self.found.get(self._owners.get(key, node_id))
        if owner is not None and owner.id != node_id and owner.key == key:
            raise DecodeError(f"peer {owner.id} has the same key")
        self._owners[key] = node_id

    def update(self, node_id: int, **values: object) -> None:
        node = self.found.get(node_id)
        if node is not None:
            self.found[node_id] = structs.replace(node, **values)
        elif self._self is None or node_id != self._self.id:
            self._report(node_id, "a change of a peer that is not known")

    def patch(self, change: PeerChange) -> None:
        node = self.found.get(change.node_id)
        if node is None:
            self.update(change.node_id)
        elif not _is_stale(node, change):
            try:
                if change.key is not None:
                    self._claim(node.id, change.key)
                self.found[node.id] = _patched(node, change, self._problems)
            except DecodeError as error:
                self._report(node.id, str(error))

    def _report(self, node_id: int, reason: str) -> None:
        self._problems.append(Problem(f"peer {node_id}", reason))


def _with_fresh_disco_key(old: Node | None, new: Node) -> Node:
    """An offline peer that was not seen since cannot have made a new disco key: the one we hold is newer."""
    if old is None or old.disco_key is None or new.disco_key == old.disco_key or new.online is not False:
        return new
    if new.last_seen is None or old.last_seen is None or new.last_seen > old.last_seen:
        return new
    return structs.replace(new, disco_key=old.disco_key)


def _is_stale(node: Node, change: PeerChange) -> bool:
    if change.disco_key is None or change.online is not False or change.last_seen is None:
        return False
    last_seen = known_time(change.last_seen)
    return node.last_seen is not None and (last_seen is None or last_seen <= node.last_seen)


def _patched(node: Node, change: PeerChange, problems: list[Problem]) -> Node:
    values: dict[str, object] = {}
    if change.derp_region:
        values["home_derp"] = change.derp_region
    if change.cap:
        values["cap"] = change.cap
    if change.endpoints is not None:
        values["endpoints"] = _endpoints(node.id, change.endpoints, problems)
    for name in ("key", "cap_map", "key_signature", "disco_key", "online"):
        value = getattr(change, name)
        if value is not None:
            values[name] = value
    for name in ("last_seen", "key_expiry"):
        time = getattr(change, name)
        if time is not None:
            values[name] = None if is_zero_time(time) else time
    return structs.replace(node, **values)


# The rest.


def _derp_map(old: DERPMap | None, new: DERPMap | None) -> DERPMap | None:
    if new is None:
        return old
    old = old or DERPMap()
    regions = old.regions
    if new.regions is not None:
        regions = {region_id: region for region_id, region in new.regions.items() if region is not None}
    home_params = old.home_params
    if new.home_params is not None and new.home_params.region_score is not None:
        home_params = new.home_params
    return DERPMap(regions=regions, home_params=home_params)


def _packet_filters(
    old: Mapping[str, tuple[FilterRule, ...]], response: MapResponse
) -> Mapping[str, tuple[FilterRule, ...]]:
    if response.packet_filter is None and response.packet_filters is None:
        return old
    filters = dict(old)
    if response.packet_filter is not None:
        filters[BASE_FILTER] = response.packet_filter
    changes = response.packet_filters or {}
    if _CLEAR_ALL in changes and changes[_CLEAR_ALL] is None:
        filters.clear()
    for name, rules in changes.items():
        if rules is not None:
            filters[name] = rules
        else:
            filters.pop(name, None)
    return filters


def _user_profiles(
    old: Mapping[int, UserProfile], new: Iterable[UserProfile] | None
) -> Mapping[int, UserProfile]:
    return {**old, **{profile.id: profile for profile in new}} if new else old


def _display_messages(
    old: Mapping[str, DisplayMessage], changes: Mapping[str, DisplayMessage | None] | None
) -> Mapping[str, DisplayMessage]:
    if not changes:
        return old
    messages = {} if _CLEAR_ALL in changes and changes[_CLEAR_ALL] is None else dict(old)
    for name, message in changes.items():
        if message is not None:
            messages[name] = message
        else:
            messages.pop(name, None)
    return messages
