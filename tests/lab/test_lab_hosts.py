"""Programs on hosts of the lab, behind an easy router."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.lab import WEB, home_and_office, require_namespaces
from warren_lab import tools
from warren_lab.errors import ProcessError
from warren_lab.hosts import IperfServer, Tailscaled, fetch, serve_folder, throughput_gbits
from warren_lab.net import Network
from warren_lab.run import Run

pytestmark = pytest.mark.lab


@dataclass(frozen=True, slots=True)
class Lab:
    """A run and its network."""

    run: Run
    network: Network


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    require_namespaces()
    with Run(tmp_path / "lab") as run, Network(home_and_office(), run.prefix) as network:
        yield Lab(run, network)


def test_a_page_crosses_the_router_and_a_missing_server_is_named(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("a page")
    serve_folder(lab.run, "web", namespace=lab.network.namespace("web"), folder=tmp_path)
    home = lab.network.namespace("home")
    assert fetch(home, str(WEB)) == "a page"
    with pytest.raises(ProcessError, match="404"):
        fetch(home, str(WEB), path="/missing")
    with pytest.raises(ProcessError, match=r"http://203\.0\.113\.80:81/ did not answer"):
        fetch(home, str(WEB), 81)


def test_throughput_is_measured(lab: Lab) -> None:
    IperfServer(lab.run, "web", namespace=lab.network.namespace("web"))
    assert throughput_gbits(lab.run, lab.network.namespace("home"), str(WEB), seconds=1) > 0


def test_a_program_that_ends_early_shows_its_log(lab: Lab) -> None:
    failing = lab.run.start("failing", ["sh", "-c", "echo no such option; exit 3"])
    with pytest.raises(ProcessError, match=r"(?s)ended with code 3 before it listens.*no such option"):
        failing.wait_until(lambda: False, "it listens")


@pytest.mark.timeout(300)
def test_a_stock_client_starts_restarts_and_says_why_it_cannot_join(lab: Lab) -> None:
    toolbox = tools.ensure(("client",))
    with Tailscaled(lab.run, toolbox, "home", namespace=lab.network.namespace("home")) as client:
        assert client.status()["BackendState"] == "NeedsLogin"
        client.restart()
        assert client.status()["BackendState"] == "NeedsLogin"
        with pytest.raises(ProcessError, match="`tailscale up` on home failed"):
            client.up("https://203.0.113.99", "warren-auth-x", timeout_seconds=2)
        assert "warren-auth-x" not in client.process.log.read_text()
    assert not client.process.running
