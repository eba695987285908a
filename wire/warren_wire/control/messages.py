"""The documents of the control protocol, in Python's names.

Absent and null fields are None; an empty tuple or mapping is written as an empty list or object, which is
something else. Addresses, prefixes and endpoints are strings; `addresses` parses them. Nothing is checked
here beyond types and key texts: what a message may do is the business of who receives it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import field
from msgspec.structs import force_setattr

from warren_wire.control.codec import (
    ZERO_TIME,
    Message,
    Time,
    decode,
    encode,
    is_zero_time,
    known_time,
)
from warren_wire.control.hostinfo import Hostinfo, NetInfo, Service
from warren_wire.control.node import CapMap, Node, PeerChange
from warren_wire.keys import DiscoPublic, MachinePublic, NodePublic

__all__ = [
    "ZERO_TIME",
    "CapGrant",
    "CapMap",
    "ClientVersion",
    "ControlKey",
    "DERPHomeParams",
    "DERPMap",
    "DERPNode",
    "DERPRegion",
    "DNSConfig",
    "DNSRecord",
    "Debug",
    "DisplayMessage",
    "FilterRule",
    "Hostinfo",
    "Login",
    "MapRequest",
    "MapResponse",
    "NetInfo",
    "NetPortRange",
    "Node",
    "PeerChange",
    "PingRequest",
    "PingResponse",
    "PortRange",
    "PreparedMapResponse",
    "RegisterAuth",
    "RegisterRequest",
    "RegisterResponse",
    "Resolver",
    "SSHPolicy",
    "Service",
    "User",
    "UserProfile",
    "decode",
    "encode",
    "is_zero_time",
    "prepare",
]


class ControlKey(Message, frozen=True, kw_only=True):
    """The answer of `/key`."""

    public_key: MachinePublic = field(name="publicKey")
    legacy_public_key: MachinePublic | None = field(default=None, name="legacyPublicKey")


class RegisterAuth(Message, frozen=True, kw_only=True):
    auth_key: str = ""

    def __repr__(self) -> str:
        return "RegisterAuth(...)"


class RegisterRequest(Message, frozen=True, kw_only=True):
    """`expiry` in the past is a logout; the zero time, which stock clients always send, reads as None."""

    version: int = 0
    node_key: NodePublic
    old_node_key: NodePublic | None = None
    nl_key: str = ""
    auth: RegisterAuth | None = None
    expiry: Time | None = None
    followup: str = ""
    hostinfo: Hostinfo | None = None
    ephemeral: bool = False
    tailnet: str = ""

    def __post_init__(self) -> None:
        if self.expiry is not None:
            force_setattr(self, "expiry", known_time(self.expiry))
        if self.old_node_key is not None and self.old_node_key.is_zero:
            force_setattr(self, "old_node_key", None)


class User(Message, frozen=True, kw_only=True):
    id: int = 0
    display_name: str = ""
    profile_pic_url: str = ""
    created: Time | None = None


class Login(Message, frozen=True, kw_only=True):
    id: int = 0
    provider: str = ""
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = ""


class RegisterResponse(Message, frozen=True, kw_only=True):
    """An empty object is a success: refusals carry `error` under status 200."""

    user: User | None = None
    login: Login | None = None
    node_key_expired: bool = False
    machine_authorized: bool = False
    auth_url: str = ""
    node_key_signature: bytes | None = None
    error: str = ""


class MapRequest(Message, frozen=True, kw_only=True):
    version: int = 0
    compress: str = ""
    keep_alive: bool = False
    node_key: NodePublic
    disco_key: DiscoPublic | None = None
    stream: bool = False
    hostinfo: Hostinfo | None = None
    endpoints: tuple[str, ...] | None = None
    endpoint_types: tuple[int, ...] | None = None
    omit_peers: bool = False
    read_only: bool = False
    tka_head: str = ""
    debug_flags: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.disco_key is not None and self.disco_key.is_zero:
            force_setattr(self, "disco_key", None)


class DERPNode(Message, frozen=True, kw_only=True):
    """`stun_port` 0 = 3478, -1 = off; `derp_port` 0 = 443; `ipv4`/`ipv6` empty = by name, `none` = off."""

    name: str = ""
    region_id: int = 0
    host_name: str = ""
    cert_name: str = ""
    ipv4: str = ""
    ipv6: str = ""
    stun_port: int = 0
    stun_only: bool = False
    derp_port: int = 0
    can_port80: bool = False
    insecure_for_tests: bool = False
    stun_test_ip: str = ""


class DERPRegion(Message, frozen=True, kw_only=True):
    region_id: int = 0
    region_code: str = ""
    region_name: str = ""
    latitude: float = 0.0
    longitude: float = 0.0
    no_measure_no_home: bool = False
    avoid: bool = False
    nodes: tuple[DERPNode, ...] | None = None


class DERPHomeParams(Message, frozen=True, kw_only=True):
    region_score: Mapping[int, float] | None = None


class DERPMap(Message, frozen=True, kw_only=True):
    """In a delta `regions` None keeps the regions, anything else replaces them all."""

    home_params: DERPHomeParams | None = None
    regions: Mapping[int, DERPRegion | None] | None = None
    omit_default_regions: bool = field(default=False, name="omitDefaultRegions")


class Resolver(Message, frozen=True, kw_only=True):
    addr: str = ""
    bootstrap_resolution: tuple[str, ...] | None = None
    use_with_exit_node: bool = False


class DNSRecord(Message, frozen=True, kw_only=True):
    name: str = ""
    type: str = ""
    value: str = ""


class DNSConfig(Message, frozen=True, kw_only=True):
    resolvers: tuple[Resolver, ...] | None = None
    routes: Mapping[str, tuple[Resolver, ...] | None] | None = None
    fallback_resolvers: tuple[Resolver, ...] | None = None
    domains: tuple[str, ...] | None = None
    proxied: bool = False
    nameservers: tuple[str, ...] | None = None
    cert_domains: tuple[str, ...] | None = None
    extra_records: tuple[DNSRecord, ...] | None = None
    exit_node_filtered_set: tuple[str, ...] | None = None


class PortRange(Message, frozen=True, kw_only=True, omit_defaults=False):
    first: int
    last: int


class NetPortRange(Message, frozen=True, kw_only=True):
    """`bits` belongs to a retired form; clients refuse filters that have it."""

    ip: str
    ports: PortRange
    bits: Any = None


class CapGrant(Message, frozen=True, kw_only=True):
    dsts: tuple[str, ...] | None = None
    caps: tuple[str, ...] | None = None
    cap_map: CapMap | None = None


class FilterRule(Message, frozen=True, kw_only=True):
    """`ip_proto` None = TCP, UDP and ICMP of both families. `src_bits` is of a retired form, as `bits`."""

    src_bits: Any = None
    src_ips: tuple[str, ...] | None = None
    dst_ports: tuple[NetPortRange, ...] | None = None
    ip_proto: tuple[int, ...] | None = None
    cap_grant: tuple[CapGrant, ...] | None = None


class UserProfile(Message, frozen=True, kw_only=True):
    id: int = 0
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = ""
    groups: tuple[str, ...] | None = None


class SSHPolicy(Message, frozen=True, kw_only=True):
    rules: tuple[Any, ...] | None = field(default=None, name="rules")


class DisplayMessage(Message, frozen=True, kw_only=True):
    title: str = ""
    text: str = ""
    severity: str = ""
    impacts_connectivity: bool = False


class Debug(Message, frozen=True, kw_only=True):
    sleep_seconds: float = 0.0
    disable_log_tail: bool = False
    exit: int | None = None


class ClientVersion(Message, frozen=True, kw_only=True):
    running_latest: bool = False
    latest_version: str = ""
    urgent_security_update: bool = False
    notify: bool = False
    notify_url: str = ""
    notify_text: str = ""


class PingRequest(Message, frozen=True, kw_only=True):
    """`types` empty: answer with a HEAD on `url`."""

    url: str = ""
    url_is_noise: bool = False
    log: bool = False
    types: str = ""
    ip: str = ""
    payload: bytes | None = None


class PingResponse(Message, frozen=True, kw_only=True):
    """The result of one kind of ping that a `PingRequest` asked for, as the node posts it."""

    type: str = ""
    ip: str = ""
    node_ip: str = ""
    node_name: str = ""
    err: str = ""
    latency_seconds: float = 0.0
    endpoint: str = ""
    derp_region_id: int = 0
    derp_region_code: str = ""
    is_local_ip: bool = False


class MapResponse(Message, frozen=True, kw_only=True):
    """One message of the map stream. `peers` empty means "unchanged" to a client, like None."""

    keep_alive: bool = False
    ping_request: PingRequest | None = None
    node: Node | None = None
    derp_map: DERPMap | None = field(default=None, name="DERPMap")
    peers: tuple[Node, ...] | None = None
    peers_changed: tuple[Node, ...] | None = None
    peers_removed: tuple[int, ...] | None = None
    peers_changed_patch: tuple[PeerChange, ...] | None = None
    peer_seen_change: Mapping[int, bool] | None = None
    online_change: Mapping[int, bool] | None = None
    dns_config: DNSConfig | None = field(default=None, name="DNSConfig")
    domain: str = ""
    collect_services: bool | None = None
    packet_filter: tuple[FilterRule, ...] | None = None
    packet_filters: Mapping[str, tuple[FilterRule, ...] | None] | None = None
    user_profiles: tuple[UserProfile, ...] | None = None
    health: tuple[str, ...] | None = None
    display_messages: Mapping[str, DisplayMessage | None] | None = None
    ssh_policy: SSHPolicy | None = field(default=None, name="SSHPolicy")
    control_time: Time | None = None
    debug: Debug | None = None
    client_version: ClientVersion | None = None


class PreparedMapResponse(Message, frozen=True, kw_only=True):
    """A map response of parts that `prepare` encoded before, so that many receivers share the work."""

    keep_alive: bool = False
    ping_request: PingRequest | None = None
    node: msgspec.Raw | None = None
    derp_map: msgspec.Raw | None = field(default=None, name="DERPMap")
    peers: tuple[msgspec.Raw, ...] | None = None
    peers_changed: tuple[msgspec.Raw, ...] | None = None
    peers_removed: tuple[int, ...] | None = None
    peers_changed_patch: tuple[msgspec.Raw, ...] | None = None
    peer_seen_change: Mapping[int, bool] | None = None
    online_change: Mapping[int, bool] | None = None
    dns_config: msgspec.Raw | None = field(default=None, name="DNSConfig")
    domain: str = ""
    collect_services: bool | None = None
    packet_filters: Mapping[str, msgspec.Raw | None] | None = None
    user_profiles: tuple[msgspec.Raw, ...] | None = None
    health: tuple[str, ...] | None = None
    ssh_policy: msgspec.Raw | None = field(default=None, name="SSHPolicy")
    control_time: Time | None = None
    debug: msgspec.Raw | None = None
    client_version: msgspec.Raw | None = None


def prepare(value: Any) -> msgspec.Raw:
    """A part of a map response, encoded once."""
    return msgspec.Raw(encode(value))
