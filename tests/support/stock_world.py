"""A small internet with a control server, two stock members of one release, and a host for guests.

laptop -- home-router --+                 +-- office-router --+-- office (router, exit node)
                        |                 |                   +-- spare  (second router)
 control (server) ------+-- internet -----+                   +-- printer (no client)
 shop (no client) ------+                 |
                                          +-- cafe-router -- guest
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from support.lab import eventually, require_namespaces
from support.requirements import require_program, require_tun
from warren_lab import tools
from warren_lab.certificates import Authority
from warren_lab.hosts import Tailscaled, WarrenControl
from warren_lab.net import Network, PublicHost, Router, Topology, namespaces
from warren_lab.run import Run

CONTROL = IPv4Address("203.0.113.10")
SHOP = IPv4Address("203.0.113.80")
OFFICE_WAN = IPv4Address("203.0.113.22")
OFFICE_LAN = IPv4Network("192.168.2.0/24")
TOPOLOGY = Topology(
    routers=(
        Router("home-router", IPv4Address("203.0.113.21"), IPv4Network("192.168.1.0/24"), ("laptop",)),
        Router("office-router", OFFICE_WAN, OFFICE_LAN, ("office", "spare", "printer")),
        Router("cafe-router", IPv4Address("203.0.113.23"), IPv4Network("192.168.3.0/24"), ("guest",)),
    ),
    public_hosts=(PublicHost("control", CONTROL), PublicHost("shop", SHOP)),
)
# How long a call that a client began while the server was away may last: a dial and its retry.
SETTLED = timedelta(seconds=30)
Status = dict[str, Any]


class StockWorld:
    """What tests share: they leave the members joined, running and without routes."""

    def __init__(self, run: Run, network: Network, release: str, stack: ExitStack) -> None:
        self.run, self.network, self.release = run, network, release
        self._absences: list[tuple[datetime, datetime]] = []
        self._toolbox = tools.ensure((release,))
        self._stack = stack
        self.folder = run.path
        self.records = run.path / "records.json"
        self.admin_socket = run.path / "admin.sock"
        self.server = WarrenControl(
            run,
            "warren",
            namespace=network.namespace("control"),
            address=CONTROL,
            authority=Authority.create(run.path),
            settings={
                "admin_socket": str(self.admin_socket),
                "dns": {
                    "extra_records_file": str(self.records),
                    "split": {"lab.example.net": ["192.0.2.53"]},
                },
            },
        )
        for router in ("office", "spare"):
            forwarding = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
            namespaces.set_kernel_values(network.namespace(router), forwarding)
        self.api("POST", "/users", {"name": "alice"})
        self.laptop = self.member("laptop", user="alice")
        self.office = self.member("office")

    @contextmanager
    def without_server(self) -> Iterator[None]:
        """The server is gone while it lasts, and starts again afterwards."""
        began = datetime.now(UTC)
        self.server.process.kill()
        yield
        self.server.start()
        self._absences.append((began, datetime.now(UTC) + SETTLED))

    def was_away(self, line: str) -> bool:
        """Whether a client wrote this line of its log about a server that was away."""
        # The clients write local time without a zone, in whole seconds.
        at = datetime.strptime(line[:19], "%Y/%m/%d %H:%M:%S").astimezone()
        return any(began - timedelta(seconds=1) <= at <= ended for began, ended in self._absences)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """What the admin API answers at the server's own socket."""
        connection = http.client.HTTPConnection("control", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock:
            connection.sock.connect(str(self.admin_socket))
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status < 400, text
        return json.loads(text) if text else None

    def warren(self, *arguments: str) -> str:
        """What the `warren` command prints."""
        command = [sys.executable, "-m", "warren_cli", "--server", f"unix:{self.admin_socket}", *arguments]
        answer = self.run.call(command)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def key(self, **fields: Any) -> str:
        return str(self.api("POST", "/keys", {"reusable": True, **fields})["key"])

    def node(self, name: str) -> dict[str, Any]:
        """What the server knows of the only node of that name."""
        (found,) = self.api("GET", f"/nodes?name={name}")["nodes"]
        return dict(found)

    def patch(self, name: str, /, **fields: Any) -> None:
        self.api("PATCH", f"/nodes/{self.node(name)['id']}", fields)

    def daemon(self, name: str, host: str | None = None, **how: Any) -> Tailscaled:
        """A stock client that has not joined yet."""
        return Tailscaled(
            self.run,
            self._toolbox,
            name,
            namespace=self.network.namespace(host or name),
            ca_file=self.server.ca_file,
            release=self.release,
            **how,
        )

    def member(self, name: str, **fields: Any) -> Tailscaled:
        client = self._stack.enter_context(self.daemon(name))
        client.up(self.server.url, self.key(**fields))
        return client

    @contextmanager
    def guest(
        self, name: str, host: str = "guest", *, joined: bool = True, **how: Any
    ) -> Iterator[Tailscaled]:
        """A further client that is gone, also from the server, afterwards."""
        with self.daemon(name, host, **how) as client:
            if joined:
                client.up(self.server.url, self.key())
            yield client
        for node in self.api("GET", "/nodes")["nodes"]:
            if node["name"] not in ("laptop", "office"):
                self.api("DELETE", f"/nodes/{node['id']}")
        shutil.rmtree(client.folder)

    def pings(self, source: str, address: str) -> bool:
        """Whether the kernel of one host answers the other's."""
        command = [require_program("busybox"), "ping", "-c1", "-W2", address]
        return self.run.call(command, namespace=self.network.namespace(source)).returncode == 0


def up_arguments(world: StockWorld, client: Tailscaled, *flags: str) -> list[str]:
    """Of `tailscale up` without a key. Never with DNS: that would rewrite the resolver of the machine."""
    same = [f"--login-server={world.server.url}", f"--hostname={client.name}", "--accept-routes"]
    return ["up", *same, "--accept-dns=false", *flags]


def until(client: Tailscaled, condition: Callable[[Status], object], within: float = 30.0) -> Status:
    """The first status for which the condition holds."""
    last: Status = {}

    def holds() -> bool:
        nonlocal last
        last = client.status()
        return bool(condition(last))

    reached = eventually(holds, within=within, every=0.1)
    assert reached, f"{client.name} never got there; its last status: {json.dumps(last)[-1500:]}"
    return last


def running(status: Status) -> bool:
    return bool(status["BackendState"] == "Running" and status["Self"]["Online"])


def peer(status: Status, name: str) -> dict[str, Any]:
    """What a status says of the peer of that name; empty if there is none."""
    found = (each for each in (status.get("Peer") or {}).values() if each["DNSName"].startswith(f"{name}."))
    return dict(next(found, {}))


@contextmanager
def stock_world(folder: Path, release: str) -> Iterator[StockWorld]:
    require_namespaces()
    require_tun()
    with ExitStack() as stack:
        run = stack.enter_context(Run(folder / "lab"))
        network = stack.enter_context(Network(TOPOLOGY, run.prefix))
        yield StockWorld(run, network, release, stack)


@pytest.fixture(scope="module", params=list(tools.STOCK))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockWorld]:
    """One world for each release of the stock client, shared by the tests of a module."""
    with stock_world(tmp_path_factory.mktemp("w"), request.param) as made:
        yield made
