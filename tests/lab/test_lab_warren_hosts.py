"""Control server and agents on hosts of the lab, without Kubernetes."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.lab import WEB, Traces, eventually, home_and_office, require_namespaces
from support.requirements import require_nftables, require_tun
from warren_lab import tools
from warren_lab.certificates import Authority
from warren_lab.errors import ProcessError
from warren_lab.hosts import WarrenAgent, WarrenControl
from warren_lab.net import Network
from warren_lab.run import Run

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def test_two_agents_join_see_each_other_and_leave_nothing(tmp_path: Path) -> None:
    require_namespaces()
    require_tun()
    require_nftables()
    toolbox = tools.ensure(("wireguard",))
    before = Traces.of_machine()
    with Run(tmp_path / "lab") as run, Network(home_and_office(), run.prefix) as network:
        control = WarrenControl(
            run,
            "web",
            namespace=network.namespace("web"),
            address=WEB,
            authority=Authority.create(run.path / "ca"),
        )
        home, office = (
            WarrenAgent(run, toolbox, host, namespace=network.namespace(host), control=control)
            for host in ("home", "office")
        )
        with pytest.raises(ProcessError, match="home was not started"):
            home.wait_ready()
        with home, office:
            for agent in (home, office):
                assert agent.addresses() == []
                agent.up()
            for agent in (home, office):
                agent.wait_ready()
            address = office.addresses()[0]
            assert eventually(lambda: home.peer(address).get("name") == "office")
            assert home.call("ping", "office").returncode == 0
            control.restart()
            assert eventually(lambda: bool(home.status()["control"]["connected"]), within=60.0)
        assert home.status() == {}
        assert not list(Path("/var/run/wireguard").glob(f"{home.settings['interface']}.sock"))
    assert Traces.of_machine() == before
