"""The agent's own rtnetlink conversation against a real kernel, read back by iproute2."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from support.lab import require_namespaces
from support.requirements import require_root_netns
from warren_agent.errors import KernelError
from warren_agent.host import Network as Range
from warren_agent.kernel.route_netlink import DELROUTE, NEWROUTE, RouteSocket
from warren_lab.net import Network, PublicHost, Topology
from warren_lab.process import entering

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

TABLE = 22345
MANY: list[Range] = [ip_network(f"100.64.{n // 250}.{n % 250}/32") for n in range(2000)]
MANY += [ip_network(f"fd7a:115c:a1e0::{n:x}/128") for n in range(1, 1000)]
MANY += [ip_network("10.2.0.0/16"), ip_network("0.0.0.0/0"), ip_network("::/0")]


@pytest.fixture
def network() -> Iterator[Network]:
    require_root_netns()
    require_namespaces()
    from ipaddress import IPv4Address

    with Network(Topology(public_hosts=(PublicHost("home", IPv4Address("203.0.113.9")),))) as built:
        yield built


def listed(network: Network) -> set[Range]:
    """What iproute2 says is in the table."""
    found: set[Range] = set()
    for family in ("-4", "-6"):
        command = ["ip", family, "-json", "route", "show", "table", str(TABLE)]
        done = subprocess.run(
            entering(command, network.namespace("home")), capture_output=True, text=True, check=False
        )
        default = "0.0.0.0/0" if family == "-4" else "::/0"
        for route in json.loads(done.stdout or "[]"):
            found.add(ip_network(default if route["dst"] == "default" else route["dst"]))
    return found


def index(network: Network) -> int:
    command = ["ip", "-json", "link", "show", "eth0"]
    done = subprocess.run(
        entering(command, network.namespace("home")), capture_output=True, text=True, check=True
    )
    return int(json.loads(done.stdout)[0]["ifindex"])


def test_thousands_of_routes_are_added_read_and_removed(network: Network) -> None:
    eth0 = index(network)
    with network.inside("home", RouteSocket) as routes:
        assert routes.routes(TABLE, eth0) == frozenset(), "a table that is not there yet"
        assert routes.change(NEWROUTE, TABLE, eth0, MANY) == {}
        assert listed(network) == set(MANY)
        assert routes.routes(TABLE, eth0) == routes.routes(TABLE, None) == frozenset(MANY)
        assert routes.routes(TABLE, eth0 + 1) == frozenset()
        assert routes.change(NEWROUTE, TABLE, eth0, MANY[:3]) == {}, "again is no failure"
        assert routes.change(DELROUTE, TABLE, eth0, MANY[:500]) == {}
        assert routes.change(DELROUTE, TABLE, eth0, MANY[:1]) == {}, "gone is no failure"
        assert routes.routes(TABLE, eth0) == listed(network) == set(MANY[500:])
        assert routes.change(DELROUTE, TABLE, None, MANY[500:]) == {}
        assert listed(network) == set()


def test_a_route_that_cannot_be_is_named_and_the_others_are_made(network: Network) -> None:
    nowhere = 9999
    with network.inside("home", RouteSocket) as routes:
        failures = routes.change(NEWROUTE, TABLE, nowhere, MANY[:2])
        assert set(failures) == set(MANY[:2])
        assert "No such device" in failures[MANY[0]]
        assert routes.change(NEWROUTE, TABLE, index(network), MANY[:2]) == {}


def test_a_closed_conversation_is_an_error_in_words(network: Network) -> None:
    routes = network.inside("home", RouteSocket)
    routes.__exit__()
    with pytest.raises(KernelError, match="netlink"):
        routes.routes(TABLE, None)
