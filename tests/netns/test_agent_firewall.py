"""The agent's table in a real kernel, read back word for word."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from support.agents import topology
from support.lab import require_namespaces
from support.members import networks
from support.requirements import require_nftables
from warren_agent.errors import KernelError
from warren_agent.host import Ruleset
from warren_agent.kernel.firewall import Firewall
from warren_agent.ruleset import ruleset
from warren_lab.net import Network
from warren_lab.process import entering

pytestmark = pytest.mark.netns

RULESET = ruleset(
    "warren0",
    41641,
    networks("10.1.0.0/16", "fd00:1::/64"),
    networks("10.2.0.0/16", "10.3.0.7/32", "fd00:2::/64", "fd00:3::/64"),
    masqueraded=networks("10.0.0.0/8", "192.168.2.0/24", "::/0"),
)
SMALLER = ruleset("warren0", 41641, networks("10.1.0.0/16"), networks("10.2.0.0/16"))


@pytest.fixture
def network() -> Iterator[Network]:
    require_namespaces()
    require_nftables()
    with Network(topology()) as built:
        yield built


def nft(network: Network, *words: str) -> str:
    command = entering(["nft", *words], network.namespace("home"))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_table_is_listed_as_it_was_written(network: Network) -> None:
    network.inside("home", lambda: Firewall().replace(RULESET))
    # A new object knows nothing of what was written.
    assert network.inside("home", lambda: Firewall().observe()) == RULESET


def test_a_table_is_replaced_whole_and_removed_whole(network: Network) -> None:
    firewall = Firewall()
    for wanted in (RULESET, SMALLER, RULESET):
        network.inside("home", partial(firewall.replace, wanted))
        assert network.inside("home", firewall.observe) == wanted
    network.inside("home", firewall.remove)
    network.inside("home", firewall.remove)
    assert network.inside("home", firewall.observe) is None
    assert nft(network, "list", "ruleset") == ""


def test_a_foreign_change_of_our_table_is_seen_and_other_tables_are_left_alone(network: Network) -> None:
    nft(network, "table inet other { chain c { type filter hook input priority 0; }; }")
    other = nft(network, "list", "table", "inet", "other")
    firewall = Firewall()
    network.inside("home", lambda: firewall.replace(RULESET))
    nft(network, "flush", "chain", "inet", "warren", "keep-source")
    assert network.inside("home", firewall.observe) not in (None, RULESET)
    network.inside("home", firewall.remove)
    assert nft(network, "list", "table", "inet", "other") == other


def test_a_table_that_the_kernel_refuses_leaves_the_old_one(network: Network) -> None:
    firewall = Firewall()
    network.inside("home", lambda: firewall.replace(SMALLER))
    broken = Ruleset(
        (*RULESET.objects, {"rule": {"family": "inet", "table": "warren", "chain": "no", "expr": []}})
    )
    with pytest.raises(KernelError):
        network.inside("home", lambda: firewall.replace(broken))
    assert network.inside("home", firewall.observe) == SMALLER
