"""Stock clients that have only relays: fast start, pinned certificates, two relays of a region, one killed.

home (stock) -- router without UDP --+            +-- router without UDP -- office (stock)
                                     +- internet -+
                             control, relays one and two
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.lab import eventually, require_namespaces
from support.requirements import require_tun
from warren_lab import tools
from warren_lab.errors import ProcessError
from warren_lab.hosts import Tailscaled
from warren_lab.net import Network
from warren_lab.run import Run
from warren_lab.scenario.relay_story import relay_story
from warren_lab.scenario.relays import RELAYS, RelayLab, topology
from warren_runtime.relay_certificates import pinned_pair

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RelayLab]:
    require_namespaces()
    require_tun()
    with Run(tmp_path / "lab") as run, Network(topology(), run.prefix) as network:
        yield RelayLab(run, network)


def answers(client: Tailscaled, address: str) -> bool:
    try:
        return "via DERP" in client.ping(address)
    except ProcessError:
        return False


def both_ways(home: Tailscaled, office: Tailscaled) -> bool:
    return answers(home, office.addresses()[0]) and answers(office, home.addresses()[0])


@pytest.mark.parametrize("group", ["client", "peers"])
def test_a_stock_client_starts_fast_on_a_relay_whose_certificate_is_pinned(lab: RelayLab, group: str) -> None:
    toolbox = tools.ensure((group,))
    pair = pinned_pair(lab.folder / "one", [str(RELAYS["one"])])
    lab.start_control("one", cert_names={"one": pair.cert_name})
    lab.start_relay("one", tls={"self_signed": [str(RELAYS["one"])]}, mesh=None)
    with lab.join("home", toolbox) as home, lab.join("office", toolbox) as office:
        assert eventually(lambda: both_ways(home, office), within=60)
        figures = lab.metrics("one")
        assert figures["warren_relay_fast_starts_total"] >= 2
        assert figures["warren_relay_home_clients"] == 2
        assert figures['warren_relay_admissions_total{result="allowed"}'] == 2
        office.restart()
        assert eventually(lambda: both_ways(home, office), within=60)


@pytest.mark.parametrize("release", sorted(tools.STOCK))
def test_clients_of_each_release_roam_restart_and_outlive_relays_of_their_region(
    lab: RelayLab, release: str
) -> None:
    toolbox = tools.ensure((release,))
    with relay_story(lab, toolbox, release) as story:
        assert story.home_clients() == {"one": 1, "two": 1}
        assert lab.metrics("one")["warren_relay_forwarded_out_total"] > 0
        for event in story.round():
            sys.stdout.write(f"{release}: {event.what}: {event.stall_seconds:.2f} s\n")
        assert sum(story.home_clients().values()) == 2
        assert both_ways(story.home, story.office)


def test_stock_clients_meet_across_a_region_of_the_stock_relay_and_ours(lab: RelayLab) -> None:
    toolbox = tools.ensure(("peers",))
    lab.start_control("one", "two")
    derper = lab.start_derper("two", toolbox, region=True)
    with lab.join("home", toolbox) as home:
        assert eventually(lambda: bool(home.status()["Self"]["Relay"]), within=60)
        ours = lab.start_relay("one")
        assert eventually(lambda: lab.metrics("one")["warren_relay_links"] == 1, within=60)
        assert eventually(lambda: lab.metrics("one")["warren_relay_watchers"] == 1, within=60)
        with lab.join("office", toolbox) as office:
            assert eventually(lambda: both_ways(home, office), within=60)
            # Home came before our relay did, so each is on another one.
            figures = lab.metrics("one")
            assert (figures["warren_relay_home_clients"], figures["warren_relay_remote_clients"]) == (1, 1)
            assert figures["warren_relay_forwarded_in_total"] > 0
            assert figures["warren_relay_forwarded_out_total"] > 0
            ours.stop()
            assert eventually(lambda: both_ways(home, office), within=60)
            derper.close()
            lab.start_relay("one")
            assert eventually(lambda: both_ways(home, office), within=60)


def test_stock_clients_on_several_workers_of_one_relay(lab: RelayLab) -> None:
    toolbox = tools.ensure(("peers",))
    lab.start_control("one")
    lab.start_relay("one", workers=4, mesh=None)
    with lab.join("home", toolbox) as home, lab.join("office", toolbox) as office:
        assert eventually(lambda: both_ways(home, office), within=60)
        figures = [lab.metrics("one", 9090 + index) for index in range(4)]
        assert sum(each["warren_relay_clients"] for each in figures) == 2
