"""A node as a map response describes it, and the patch that changes one."""

from collections.abc import Mapping
from typing import Any

from msgspec import field
from msgspec.structs import force_setattr

from warren_wire.control.codec import Identifier, Message, Time, known_time
from warren_wire.control.hostinfo import Hostinfo
from warren_wire.keys import DiscoPublic, MachinePublic, NodePublic

CapMap = Mapping[str, tuple[Any, ...] | None]


class Node(Message, frozen=True, kw_only=True):
    """The self node or a peer.

    `allowed_ips` None means "the same as `addresses`", an empty tuple means nothing. Times that are not set
    and keys that are zero read as None. Stock clients need `hostinfo` on every peer (if only an empty one),
    `addresses` on the self node in every message, and `online` on a peer from its first appearance.
    """

    id: Identifier
    stable_id: str = ""
    name: str = ""
    user: int = 0
    sharer: int = 0
    key: NodePublic
    key_expiry: Time | None = None
    key_signature: bytes | None = None
    machine: MachinePublic | None = None
    disco_key: DiscoPublic | None = None
    addresses: tuple[str, ...] | None = None
    allowed_ips: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    derp: str = field(default="", name="DERP")
    home_derp: int = 0
    hostinfo: Hostinfo | None = None
    created: Time | None = None
    cap: int = 0
    tags: tuple[str, ...] | None = None
    primary_routes: tuple[str, ...] | None = None
    last_seen: Time | None = None
    online: bool | None = None
    machine_authorized: bool = False
    capabilities: tuple[str, ...] | None = None
    cap_map: CapMap | None = None
    unsigned_peer_api_only: bool = False
    expired: bool = False
    self_node_v4_masq_addr_for_this_peer: str | None = None
    self_node_v6_masq_addr_for_this_peer: str | None = None
    is_wireguard_only: bool = False
    is_jailed: bool = False

    def __post_init__(self) -> None:
        for name in ("key_expiry", "created", "last_seen"):
            time = getattr(self, name)
            if time is not None:
                force_setattr(self, name, known_time(time))
        if self.machine is not None and self.machine.is_zero:
            force_setattr(self, "machine", None)
        if self.disco_key is not None and self.disco_key.is_zero:
            force_setattr(self, "disco_key", None)


class PeerChange(Message, frozen=True, kw_only=True):
    """A patch of one peer: what is None stays. A zero `key_expiry` means "never"."""

    node_id: Identifier
    derp_region: int = 0
    cap: int = 0
    cap_map: CapMap | None = None
    endpoints: tuple[str, ...] | None = None
    key: NodePublic | None = None
    key_signature: bytes | None = None
    disco_key: DiscoPublic | None = None
    online: bool | None = None
    last_seen: Time | None = None
    key_expiry: Time | None = None
