"""Networks that are more than one router each: which path two nodes find in them.

double -- inner -- outer --+
tunnel -- inner -- outer --+           +-- plain-router (easy) -- plain; plain-stock behind its own
lan-a, lan-b, lan-stock ---+
one, two -- inner -- carrier (hairpin) +-- left-router, right-router with the same LAN -- left, right
three, four -- inner -- carrier -------+-- guarded-router -- guarded (host firewall)
                                       +-- https-router (TCP 443 only) -- https
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from support.lab import require_namespaces
from support.requirements import require_nftables, require_tun
from warren_lab import tools
from warren_lab.net import Router, RouterKind, Topology
from warren_lab.scenario.nodes import OurNode
from warren_lab.scenario.observe import Observation, Reach, observe
from warren_lab.scenario.overlay import Overlay, sides

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

DIRECT, RELAYED = Reach.DIRECT, Reach.RELAYED
DIRECT_SECONDS, RELAYED_SECONDS = 30.0, 7.0
SAME_LAN = IPv4Network("192.168.77.0/24")
STATEFUL = """
table inet host {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    ct state established,related accept
    iifname != "eth0" accept
  }
}
"""


def public(last: int) -> IPv4Address:
    return IPv4Address(f"203.0.113.{last}")


def easy(name: str, last: int, *hosts: str, kind: RouterKind = RouterKind.EASY) -> Router:
    return Router(f"{name}-router", public(last), IPv4Network(f"192.168.{last}.0/24"), hosts, kind=kind)


def behind(outer: Router, number: int, host: str, kind: RouterKind = RouterKind.EASY) -> Router:
    """A router of its own for a host, inside another router's LAN."""
    wan = outer.lan.network_address + 100 + number
    lan = IPv4Network(f"10.{int(outer.wan) % 256}.{number}.0/24")
    return Router(f"{host}-inner", wan, lan, (host,), kind=kind, uplink=outer.name)


OUTER = easy("outer", 20)
# A carrier's range for its customers' routers; only those are in it.
CARRIER = Router("carrier", public(21), IPv4Network("100.126.1.0/24"), (), kind=RouterKind.FULL_CONE)
SILENT_CARRIER = Router("silent-carrier", public(22), IPv4Network("100.126.2.0/24"), ())
PLAN = Topology(
    routers=(
        OUTER,
        behind(OUTER, 1, "double"),
        behind(OUTER, 2, "tunnel", RouterKind.HARD),
        easy("lan", 23, "lan-a", "lan-b", "lan-stock"),
        CARRIER,
        behind(CARRIER, 1, "one"),
        behind(CARRIER, 2, "two"),
        behind(CARRIER, 3, "two-stock"),
        SILENT_CARRIER,
        behind(SILENT_CARRIER, 1, "three"),
        behind(SILENT_CARRIER, 2, "four"),
        # Each has a stranger at the other's private address.
        Router("left-router", public(24), SAME_LAN, ("left", "left-stranger")),
        Router("right-router", public(25), SAME_LAN, ("right-stranger", "right")),
        easy("guarded", 26, "guarded"),
        easy("https", 27, "https", kind=RouterKind.TCP_443),
        easy("plain", 28, "plain"),
        easy("plain-stock", 29, "plain-stock"),
    )
)
STOCK = ("lan-stock", "two-stock", "plain-stock")
STRANGERS = ("left-stranger", "right-stranger")
CASES = {
    ("double", "plain"): (DIRECT, "203.0.113.20"),
    ("double", "plain-stock"): (DIRECT, "203.0.113.20"),
    ("tunnel", "plain"): (RELAYED, None),
    ("lan-a", "lan-b"): (DIRECT, "192.168.23.10"),
    ("lan-a", "lan-stock"): (DIRECT, "192.168.23.10"),
    ("one", "two"): (DIRECT, "203.0.113.21"),
    ("one", "two-stock"): (DIRECT, "203.0.113.21"),
    ("three", "four"): (RELAYED, None),
    ("left", "right"): (DIRECT, "203.0.113.24"),
    ("left", "plain-stock"): (DIRECT, "203.0.113.24"),
    ("guarded", "plain"): (DIRECT, "203.0.113.26"),
    ("guarded", "plain-stock"): (DIRECT, "203.0.113.26"),
    ("https", "plain"): (RELAYED, None),
    ("https", "plain-stock"): (RELAYED, None),
}
"""Near and far node to what physics allows, and where the far one then reaches the near one."""


@pytest.fixture(scope="module")
def overlay() -> Iterator[Overlay]:
    require_namespaces()
    require_tun()
    require_nftables()
    hosts = [host for router in PLAN.routers for host in router.hosts if host not in STRANGERS]
    with Overlay(PLAN, tools.ensure(("wireguard", "peers"))) as mesh:
        mesh.network.load_rules("guarded", STATEFUL)
        mesh.join(sides([host for host in hosts if host not in STOCK], STOCK))
        yield mesh


@pytest.fixture(scope="module")
def seen(overlay: Overlay) -> dict[tuple[str, str], Observation]:
    """All cases, side by side: most of the time is waiting that a forbidden path does not come."""

    def look(case: tuple[str, str]) -> Observation:
        near, far = (overlay.nodes[name] for name in case)
        return observe(near, far, DIRECT_SECONDS if CASES[case][0] is DIRECT else RELAYED_SECONDS)

    with ThreadPoolExecutor(len(CASES)) as pool:
        return dict(zip(CASES, pool.map(look, CASES), strict=True))


@pytest.mark.parametrize(("near", "far"), CASES)
def test_the_path_is_what_physics_allows(
    near: str, far: str, seen: dict[tuple[str, str], Observation]
) -> None:
    reach, address = CASES[near, far]
    assert seen[near, far].reach is reach, seen[near, far]
    assert (seen[near, far].endpoint or "").rpartition(":")[0] == (address or "")


def test_with_tcp_443_only_a_node_still_has_a_home_relay(overlay: Overlay) -> None:
    node = overlay.nodes["https"]
    assert isinstance(node, OurNode)
    assert node.agent.status()["home_relay"] is not None
