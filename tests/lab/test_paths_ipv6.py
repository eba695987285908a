"""Hosts with IPv6 only, and hosts with both families of which one leads nowhere.

six, six-two, six-stock (IPv6 only) --+            +-- both, both-stock
broken-four (IPv4 leads nowhere) -----+- internet -+
broken-six (IPv6 leads nowhere) ------+
every LAN is routed for IPv6, behind a stateful firewall; IPv4 is behind an easy NAT
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from support.lab import require_namespaces
from support.requirements import require_nftables, require_tun
from warren_lab import tools
from warren_lab.net import Router, RouterKind, Topology
from warren_lab.scenario.observe import Observation, Reach, observe
from warren_lab.scenario.overlay import Overlay, sides

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

DIRECT_SECONDS = 60.0


def router(number: int, host: str, kind: RouterKind = RouterKind.EASY, *, v4: bool = True) -> Router:
    return Router(
        f"{host}-router",
        IPv4Address(f"203.0.113.{number}"),
        IPv4Network(f"192.168.{number}.0/24"),
        (host,),
        kind=kind,
        lan_v4=v4,
        lan_v6=IPv6Network(f"2001:db8:{number:x}::/64"),
    )


PLAN = Topology(
    routers=(
        router(20, "six", v4=False),
        router(21, "six-two", v4=False),
        router(22, "six-stock", v4=False),
        router(23, "broken-four", RouterKind.IPV4_BROKEN),
        router(24, "broken-six", RouterKind.IPV6_BROKEN),
        router(25, "both"),
        router(26, "both-stock"),
    ),
    public_v6=True,
)
STOCK = ("six-stock", "both-stock")
CASES = {
    ("six", "six-two"): "[2001:db8:14:",
    ("six", "six-stock"): "[2001:db8:14:",
    ("broken-six", "both"): "203.0.113.24",
    ("broken-six", "both-stock"): "203.0.113.24",
    ("broken-four", "both-stock"): "[2001:db8:17:",
    ("six", "both-stock"): "[2001:db8:14:",
}
"""Near and far node to how the address begins at which the far one reaches the near one."""


@pytest.fixture(scope="module")
def overlay() -> Iterator[Overlay]:
    require_namespaces()
    require_tun()
    require_nftables()
    hosts = [host for each in PLAN.routers for host in each.hosts]
    with Overlay(PLAN, tools.ensure(("wireguard", "peers"))) as mesh:
        mesh.join(sides([host for host in hosts if host not in STOCK], STOCK))
        yield mesh


@pytest.fixture(scope="module")
def seen(overlay: Overlay) -> dict[tuple[str, str], Observation]:
    """All cases, side by side."""

    def look(case: tuple[str, str]) -> Observation:
        near, far = (overlay.nodes[name] for name in case)
        return observe(near, far, DIRECT_SECONDS)

    with ThreadPoolExecutor(len(CASES)) as pool:
        return dict(zip(CASES, pool.map(look, CASES), strict=True))


@pytest.mark.parametrize(("near", "far"), CASES)
def test_the_family_that_works_is_used(near: str, far: str, seen: dict[tuple[str, str], Observation]) -> None:
    assert seen[near, far].reach is Reach.DIRECT, seen[near, far]
    assert (seen[near, far].endpoint or "").startswith(CASES[near, far])
