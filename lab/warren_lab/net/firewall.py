"""What a router's nftables rules are, as text: the NAT kinds, port forwards and the UDP switch.

Pure. ``wan`` and ``lan0`` are the router's two interfaces.
"""

from __future__ import annotations

from typing import Final, assert_never

from warren_lab.net.topology import Router, RouterKind

TABLE: Final = "lab"
UDP_CHAIN: Final = "udp_switch"


def router_rules(router: Router) -> str:
    """The whole ruleset of a router for ``nft -f``."""
    return f"""
table ip {TABLE} {{
  chain {UDP_CHAIN} {{
  }}
  chain kind {{
    {_kind_rules(router.kind)}
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
  chain prerouting {{
    type nat hook prerouting priority -100;
    {_forward_rules(router)}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    iifname "lan0" oifname "lan0" ct status dnat snat to {router.wan}
    oifname "wan" masquerade{" fully-random" if router.kind is RouterKind.HARD else ""}
  }}
}}
table ip6 {TABLE} {{
  chain {UDP_CHAIN} {{
  }}
  chain kind {{
    {_kind_rules(router.kind)}
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


def _kind_rules(kind: RouterKind) -> str:
    match kind:
        case RouterKind.EASY | RouterKind.HARD:
            return ""
        case RouterKind.UDP_BLOCKED:
            return "meta l4proto udp drop"
        case RouterKind.TCP_443:
            # Only what begins inside is limited; a port forward is the owner's wish.
            outgoing = 'oifname "wan" ct direction original'
            return f"{outgoing} tcp dport != 443 drop\n    {outgoing} meta l4proto != tcp drop"
        case _:
            assert_never(kind)


def _forward_rules(router: Router) -> str:
    # No interface is named: hosts inside reach the public address too (hairpin).
    return "\n    ".join(
        f"ip daddr {router.wan} {forward.transport.value} dport {forward.port} "
        f"dnat to {router.address_of(forward.host)}:{forward.to_port}"
        for forward in router.forwards
    )
