"""What a router's nftables rules are, as text: the NAT kinds, port forwards and the UDP switch.

Pure. ``wan`` and ``lan0`` are the router's two interfaces.
"""

from __future__ import annotations

from typing import Final

from warren_lab.net.topology import Router, RouterKind

TABLE: Final = "lab"
UDP_CHAIN: Final = "udp_switch"
OTHER_PORTS: Final = "40000-50000"
HOLE_LIFETIME: Final = "5m"


def router_rules(router: Router) -> str:
    """The whole ruleset of a router for ``nft -f``."""
    return f"""
table ip {TABLE} {{
  chain {UDP_CHAIN} {{
  }}
  chain kind {{
    {_kind_rules(router.kind, RouterKind.IPV4_BROKEN)}
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname {{ "lo", "lan0" }} accept
    ct state established,related accept
    icmp type echo-request accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    jump {UDP_CHAIN}
    jump kind
    ct state established,related accept
    iifname "lan0" accept
    ct status dnat accept
  }}
{_holes(router.kind)}
  chain prerouting {{
    type nat hook prerouting priority -100;
    {_forward_rules(router)}
    {_inward_rule(router)}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    iifname "lan0" oifname "lan0" ct status dnat snat to {router.wan}
    {_outward_rule(router.kind)}
  }}
}}
table ip6 {TABLE} {{
  chain {UDP_CHAIN} {{
  }}
  chain kind {{
    {_kind_rules(router.kind, RouterKind.IPV6_BROKEN)}
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    jump {UDP_CHAIN}
    jump kind
    ct state established,related accept
    iifname "lan0" accept
    icmpv6 type {{ echo-request, packet-too-big }} accept
  }}
}}
"""


def udp_rules(allowed: bool) -> str:
    """The change that cuts UDP in both directions, or lets it pass again; TCP is left alone."""
    lines: list[str] = []
    for family in ("ip", "ip6"):
        lines.append(f"flush chain {family} {TABLE} {UDP_CHAIN}")
        if not allowed:
            lines.append(f"add rule {family} {TABLE} {UDP_CHAIN} meta l4proto udp drop")
    return "\n".join(lines) + "\n"


def _kind_rules(kind: RouterKind, broken: RouterKind) -> str:
    """What a kind forbids in one family; `broken` is the kind that breaks this family."""
    if kind is broken:
        return "drop"
    match kind:
        case RouterKind.UDP_BLOCKED:
            return "meta l4proto udp drop"
        case RouterKind.TCP_443:
            # Only what begins inside is limited; a port forward is the owner's wish.
            outgoing = 'oifname "wan" ct direction original'
            return f"{outgoing} tcp dport != 443 drop\n    {outgoing} meta l4proto != tcp drop"
        case _:
            return ""


def _outward_rule(kind: RouterKind) -> str:
    match kind:
        case RouterKind.FIREWALL:
            return ""
        case RouterKind.HARD:
            return 'oifname "wan" masquerade fully-random'
        case RouterKind.EASY_OTHER:
            return (
                f'oifname "wan" meta l4proto udp masquerade to :{OTHER_PORTS}\n    oifname "wan" masquerade'
            )
        case _:
            return 'oifname "wan" masquerade'


def _inward_rule(router: Router) -> str:
    """Who gets in by a public port that the router has given to somebody inside."""
    match router.kind:
        case RouterKind.ONE_TO_ONE:
            return f"ip daddr {router.wan} dnat to {router.address_of(router.hosts[0])}"
        case RouterKind.FULL_CONE:
            # From inside too: hosts reach each other by the public address (hairpin).
            return f"ip daddr {router.wan} meta l4proto udp dnat to udp dport map @holes"
        case RouterKind.ADDRESS_FILTERED:
            return 'iifname "wan" meta l4proto udp dnat to ip saddr . udp dport map @holes'
        case _:
            return ""


def _holes(kind: RouterKind) -> str:
    """Notes each public port that the kernel gave out, after it did, so that others may come in by it."""
    match kind:
        case RouterKind.FULL_CONE:
            key_type, key = "inet_service", "udp sport"
        case RouterKind.ADDRESS_FILTERED:
            key_type, key = "ipv4_addr . inet_service", "ip daddr . udp sport"
        case _:
            return ""
    return f"""  map holes {{
    type {key_type} : ipv4_addr . inet_service; flags dynamic,timeout; timeout {HOLE_LIFETIME};
  }}
  chain record {{
    type filter hook postrouting priority 110;
    oifname "wan" meta l4proto udp update @holes {{ {key} : ct original ip saddr . ct original proto-src }}
  }}
"""


def _forward_rules(router: Router) -> str:
    # No interface is named: hosts inside reach the public address too (hairpin).
    return "\n    ".join(
        f"ip daddr {router.wan} {forward.transport.value} dport {forward.port} "
        f"dnat to {router.address_of(forward.host)}:{forward.to_port}"
        for forward in router.forwards
    )
