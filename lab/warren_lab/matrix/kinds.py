"""How a node can be attached to the internet, and which pairs of nodes can reach each other directly.

Pure. Words are those of RFC 4787: a NAT has a *mapping* behaviour (does the public port depend on the
destination?) and a *filtering* behaviour (who may send in).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warren_lab.net import RouterKind


class Filtering(enum.Enum):
    """Who may send to a public address and port that a node has sent from."""

    NONE = enum.auto()
    """Everybody."""
    ADDRESS = enum.auto()
    """Every port of an address that was sent to."""
    ADDRESS_AND_PORT = enum.auto()
    """Exactly who was sent to."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be attached. `router` None: a public address of its own."""

    name: str
    router: RouterKind | None
    filtering: Filtering
    predictable: bool = True
    """What STUN servers see is what peers will see."""
    udp: bool = True
    maps_ports: bool = False
    """The router gives port mappings by NAT-PMP, PCP and UPnP."""


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("public", None, Filtering.NONE),
        Kind("one-to-one", RouterKind.ONE_TO_ONE, Filtering.NONE),
        Kind("firewall", RouterKind.FIREWALL, Filtering.ADDRESS_AND_PORT),
        Kind("full-cone", RouterKind.FULL_CONE, Filtering.NONE),
        Kind("easy-af", RouterKind.ADDRESS_FILTERED, Filtering.ADDRESS),
        Kind("easy", RouterKind.EASY, Filtering.ADDRESS_AND_PORT),
        Kind("easy-other", RouterKind.EASY_OTHER, Filtering.ADDRESS_AND_PORT),
        # A mapped port is open to everybody, and known whatever the router does to other traffic.
        Kind("easy-mapped", RouterKind.EASY, Filtering.NONE, maps_ports=True),
        Kind("hard", RouterKind.HARD, Filtering.ADDRESS_AND_PORT, predictable=False),
        Kind("hard-mapped", RouterKind.HARD, Filtering.NONE, maps_ports=True),
        Kind("udp-blocked", RouterKind.UDP_BLOCKED, Filtering.ADDRESS_AND_PORT, udp=False),
    )
}
"""By name, from the most open to the most closed."""


def can_be_direct(near: Kind, far: Kind) -> bool:
    """Whether two nodes that tell each other their STUN addresses by relay can reach each other.

    One ping that arrives is enough: its receiver learns the true source, and the answer finds the sender's
    NAT open, because the sender has just sent to exactly there.
    """
    return near.udp and far.udp and (_arrives(near, far) or _arrives(far, near))


def _arrives(sender: Kind, receiver: Kind) -> bool:
    """Whether a ping to the receiver's known address gets in; the receiver has sent to the sender's."""
    if not receiver.predictable:
        return False
    match receiver.filtering:
        case Filtering.NONE | Filtering.ADDRESS:
            return True
        case Filtering.ADDRESS_AND_PORT:
            return sender.predictable
