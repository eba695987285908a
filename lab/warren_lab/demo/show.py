"""The demo: the whole main job, step by step, each step checked by what was really seen."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from warren_lab.demo.facts import Facts
from warren_lab.demo.story import Story
from warren_lab.errors import LabError
from warren_lab.hosts import Tailscaled, fetch
from warren_lab.scenario import Member, MeshOfTwo, World
from warren_lab.scenario.mesh import NAMESPACE
from warren_lab.scenario.stream import Stream
from warren_lab.scenario.world import CONTROL_URL, LAPTOP
from warren_lab.tools import Printer

DIRECT_SECONDS: Final = 30.0
RELAY_SECONDS: Final = 30.0
SILENCE_SECONDS: Final = 0.6
"""Of a line every 0.1 s this much silence is an interruption, not the scheduler's doing."""


class Demo:
    """One run. Fills `facts` as it goes; raises `LabError` at the first step that did not happen."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.facts = Facts()

    def run(self, *, keep: bool, logs: Path | None = None) -> None:
        began = time.monotonic()
        self.story.step("Real programs, images, two clusters behind two NAT routers")
        with World(say=self.story.say, progress=Printer(), logs=logs) as world:
            self.facts.times["world_ready"] = time.monotonic() - began
            self.story.output(PICTURE)
            mesh = MeshOfTwo(world, self._show)
            self._tell(world, mesh)
            if keep:
                world.keep()
                self.story.step("Everything is kept running")
                self.story.output(KEPT)
            else:
                self.remove(mesh)

    def _show(self, where: str, command: Sequence[str]) -> None:
        self.story.command(where, command)

    def _tell(self, world: World, mesh: MeshOfTwo) -> None:
        self._home(mesh)
        self._office(mesh)
        self._first_page(mesh)
        self._direct(mesh)
        self._cut(world, mesh)
        self._stock_client(world, mesh)

    def _home(self, mesh: MeshOfTwo) -> None:
        self.story.step("The home cluster: control server, relay and agents from one resource")
        mesh.install(mesh.home)
        mesh.give_certificate()
        began = time.monotonic()
        mesh.apply(mesh.home, "home/mesh.yaml")
        mesh.wait_ready(mesh.home)
        self._time("home_ready", time.monotonic() - began)
        self.facts.mesh_ready_home = True

    def _office(self, mesh: MeshOfTwo) -> None:
        self.story.step("The office cluster joins with a key")
        mesh.install(mesh.office)
        mesh.let_office_in()
        began = time.monotonic()
        mesh.apply(mesh.office, "office/mesh.yaml")
        mesh.wait_ready(mesh.office)
        self._time("registered", time.monotonic() - began)
        self.facts.mesh_ready_office = True
        mesh.wait_for_nodes(mesh.home, {member.node for member in mesh.members})
        self.story.output(mesh.kubectl(mesh.home, "get", "mesh,nodes.warren.dev", "--namespace", NAMESPACE))

    def _first_page(self, mesh: MeshOfTwo) -> None:
        self.story.step("A pod at home fetches a page from a pod in the office")
        for member in mesh.members:
            mesh.start_pages(member)
        client, page = mesh.client_ip(mesh.home), mesh.page_ip(mesh.office)
        before = mesh.peer(mesh.home, mesh.office.node)
        if before["path"] == "direct":
            raise LabError("the path was direct before any traffic: nothing could be relayed first")
        began = time.monotonic()
        self.story.output(text := mesh.fetch_from_pod(mesh.home, page))
        self._time("first_answer", time.monotonic() - began)
        self.facts.source_seen = asked_by(text)
        self.facts.source_preserved = self.facts.source_seen == client
        if not self.facts.source_preserved:
            raise LabError(f"the page was asked for by {client}, but saw {self.facts.source_seen}")
        self.story.good(f"the office's pod saw the home pod's own address, {client}")

    def _direct(self, mesh: MeshOfTwo) -> None:
        self.story.step("Relayed first, then direct through both NATs")
        peer = mesh.wait_for_path(mesh.home, mesh.office.node, "direct", DIRECT_SECONDS)
        self.story.command(mesh.home.name, ["warren-agent", "status"])
        self.story.output("\n".join(history_lines(peer["history"])))
        moves = [(entry["path"], moment(entry["at"])) for entry in peer["history"]]
        relayed = next((at for path, at in moves if path == "relay"), None)
        direct = next((at for path, at in moves if path == "direct"), None)
        self.facts.direct = direct is not None
        self.facts.relayed = (
            relayed is not None and direct is not None and relayed < direct and peer["relay_rx_packets"] > 0
        )
        if relayed is None or direct is None or not self.facts.relayed:
            raise LabError("the first packets did not cross the relay before the path became direct")
        self._time("direct", direct - relayed)
        self.story.good(f"direct by {peer['endpoint']}, {peer['latency_ms']:.1f} ms")
        page = mesh.fetch_from_pod(mesh.office, mesh.service_ip(mesh.home), port=80)
        self.story.output(page)
        self.facts.service_reached = "page served by" in page

    def _cut(self, world: World, mesh: MeshOfTwo) -> None:
        self.story.step(
            "UDP is cut at the office's router, then comes back; a TCP stream runs through it all"
        )
        with Stream.between(mesh, mesh.home, mesh.office) as stream:
            stream.wait_for_arrival(time.monotonic(), 10)
            cut = time.monotonic()
            world.network.set_udp("office-router", False)
            self.story.say("office-router: UDP is blocked from now on")
            resumed = stream.wait_for_resumption(cut, SILENCE_SECONDS, RELAY_SECONDS)
            mesh.wait_for_path(mesh.home, mesh.office.node, "relay", RELAY_SECONDS)
            self._time("relayed_after_udp_cut", resumed - cut)
            self.facts.relayed_after_udp_cut = True
            restored = time.monotonic()
            restored_at = time.time()
            world.network.set_udp("office-router", True)
            self.story.say("office-router: UDP passes again")
            peer = mesh.wait_for_path(mesh.home, mesh.office.node, "direct", DIRECT_SECONDS)
            self._time("direct_again", moment(peer["since"]) - restored_at)
            stream.wait_for_arrival(time.monotonic(), 10)
            self.facts.direct_again = True
            self._time("longest_gap_on_the_way_back", stream.longest_gap(restored, time.monotonic()))

    def _stock_client(self, world: World, mesh: MeshOfTwo) -> None:
        self.story.step("A laptop with the stock Tailscale client joins from a café")
        key = mesh.create_key("--expires", "1h")
        namespace = world.network.namespace(LAPTOP)
        with Tailscaled(
            world.run, world.toolbox, LAPTOP, namespace=namespace, ca_file=world.authority.pair.certificate
        ) as stock:
            self._show(
                LAPTOP,
                f"tailscale up --login-server={CONTROL_URL} --auth-key=file:key --accept-routes".split(),
            )
            began = time.monotonic()
            stock.up(CONTROL_URL, key)
            self._time("stock_client_up", time.monotonic() - began)
            for member in mesh.members:
                address = node_address(mesh, member)
                self._show(LAPTOP, ["tailscale", "ping", address])
                self.story.output(stock.ping(address))
            self.facts.stock_client_pinged_nodes = True
            for member in mesh.members:
                page = mesh.page_ip(member)
                self._show(LAPTOP, ["curl", f"http://{page}:8080/cgi-bin/source"])
                text = fetch(namespace, page, 8080, "/cgi-bin/source", timeout_seconds=15)
                self.story.output(text)
            self.facts.stock_client_reached_pod = asked_by(text) in stock.addresses()
            mesh.wait_for_nodes(mesh.home, {LAPTOP, *(member.node for member in mesh.members)})
            nodes = mesh.kubectl(mesh.home, "get", "nodes.warren.dev", "--namespace", NAMESPACE)
            self.story.output(nodes)

    def remove(self, mesh: MeshOfTwo) -> None:
        """Delete both meshes and look for anything that stayed."""
        self.story.step("The meshes are deleted; the nodes are as they were found")
        for member in reversed(mesh.members):
            began = time.monotonic()
            mesh.delete(member)
            self._time(f"deleted_{member.name}", time.monotonic() - began)
            if left := mesh.leftovers(member):
                raise LabError(f"after deleting the mesh {member.name} still has " + "; ".join(left))
            self.story.good(f"nothing of it is left in {member.name}")
        self.facts.removed = True

    def _time(self, name: str, seconds: float) -> None:
        self.facts.times[name] = seconds
        self.story.good(f"{name.replace('_', ' ')}: {seconds:.2f} s")


PICTURE: Final = f"""\
home-node 192.168.10.10 ── home-router 203.0.113.10 (NAT) ──┐
                                                            ├── the internet
office-node 192.168.20.10 ── office-router 203.0.113.20 (NAT)┤
laptop 192.168.30.10 ── cafe-router 203.0.113.30 (NAT) ─────┘
home-router forwards TCP 443 and UDP 3478 to the home cluster: {CONTROL_URL}"""


KEPT: Final = """\
warren-lab shell             lists the hosts; warren-lab shell home-node opens a shell there
warren-lab kubectl home get mesh,nodes.warren.dev -A
warren-lab down              removes everything"""


def asked_by(page: str) -> str | None:
    """The address a page of examples/web.yaml saw."""
    for line in page.splitlines():
        if line.startswith("asked by "):
            return line.removeprefix("asked by ").strip().strip("[]").removeprefix("::ffff:")
    return None


def moment(text: str) -> float:
    """An RFC 3339 time as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def history_lines(history: Sequence[dict[str, Any]]) -> list[str]:
    """How a path changed, one line each."""
    return [
        f"{entry['at']}  {entry['path']:<7} {entry.get('endpoint') or '-':<22} {entry.get('reason') or ''}"
        for entry in history
    ]


def node_address(mesh: MeshOfTwo, member: Member) -> str:
    """The IPv4 address of a member's node in the mesh."""
    addresses: list[str] = mesh.agent_status(member)["node"]["addresses"]
    return next(address.split("/")[0] for address in addresses if ":" not in address)


def write_facts(facts: Facts, file: Path) -> None:
    file.write_text(json.dumps(facts.document(), indent=2) + "\n")
