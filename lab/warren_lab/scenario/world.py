"""The machines of the scenario: a home and an office with a cluster each, and a laptop in a café.

Builds and removes; knows nothing of Warren beyond its images.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from warren_lab import cluster, images, tools
from warren_lab.certificates import Authority, KeyPair
from warren_lab.cluster import Cluster, ClusterSpec
from warren_lab.net import Forward, Network, Router, Topology, Transport
from warren_lab.run import Run, sweep
from warren_lab.scenario.standing import Standing
from warren_lab.tools import Progress

Say = Callable[[str], None]

HOME: Final = "home"
OFFICE: Final = "office"
LAPTOP: Final = "laptop"
CONTROL_ADDRESS: Final = IPv4Address("203.0.113.10")
CONTROL_URL: Final = f"https://{CONTROL_ADDRESS}"
# What examples/home/mesh.yaml asks for, and what a person would enter in the router's page.
CONTROL_NODE_PORT: Final = 30443
STUN_NODE_PORT: Final = 30478
RANGES: Final = {
    HOME: (IPv4Network("10.1.0.0/16"), IPv4Network("10.101.0.0/16")),
    OFFICE: (IPv4Network("10.2.0.0/16"), IPv4Network("10.102.0.0/16")),
}
"""Pod and service range of each cluster."""
PRODUCT_IMAGES: Final = ("operator", "control", "relay", "agent")
BUSYBOX: Final = "docker.io/library/busybox:1.36"
"""The image that examples/web.yaml names; in the lab it is the machine's own static busybox."""

TOPOLOGY: Final = Topology(
    routers=(
        Router(
            "home-router",
            CONTROL_ADDRESS,
            IPv4Network("192.168.10.0/24"),
            ("home-node",),
            forwards=(
                Forward(Transport.TCP, 443, "home-node", CONTROL_NODE_PORT),
                Forward(Transport.UDP, 3478, "home-node", STUN_NODE_PORT),
                # For the relay of examples/home/derprelay.yaml.
                Forward(Transport.TCP, 8443, "home-node", 30843),
                Forward(Transport.UDP, 3479, "home-node", 30879),
            ),
        ),
        Router(
            "office-router", IPv4Address("203.0.113.20"), IPv4Network("192.168.20.0/24"), ("office-node",)
        ),
        Router("cafe-router", IPv4Address("203.0.113.30"), IPv4Network("192.168.30.0/24"), (LAPTOP,)),
    )
)


class World(Standing):
    """A context manager: everything runs when it is entered, and nothing is left when it ends."""

    def __init__(self, *, say: Say, progress: Progress, logs: Path | None = None) -> None:
        self._say = say
        self._progress = progress
        self._logs = logs
        super().__init__()

    def _build(self) -> None:
        self.toolbox = tools.ensure(progress=self._progress)
        self.images = images.ensure((*images.SYSTEM, *PRODUCT_IMAGES), toolbox=self.toolbox, say=self._say)
        # One world at a time: what an earlier one left, also on purpose, makes room.
        cluster.sweep()
        sweep(kept=True)
        self.run = self._stack.enter_context(Run(logs=self._logs))
        self._stack.callback(cluster.finish_run)
        self.network = self._stack.enter_context(Network(TOPOLOGY, self.run.prefix))
        self.authority = Authority.create(self.run.path / "ca")
        self.certificate: KeyPair = self.authority.issue(
            self.run.path / "ca", [str(CONTROL_ADDRESS), "home-control.warren-system.svc"], "control"
        )
        self.home, self.office = self._start_clusters()

    def _start_clusters(self) -> tuple[Cluster, Cluster]:
        clusters = [self._cluster(name) for name in (HOME, OFFICE)]
        for each in clusters:
            # Registered before the start: one may fail while the other is half up.
            self._stack.callback(each.stop)
        with ThreadPoolExecutor(len(clusters)) as pool:
            list(pool.map(self._start, clusters))
        return clusters[0], clusters[1]

    def _start(self, each: Cluster) -> None:
        each.start()
        # As a registry would bring them, in one go: the images share most of their layers.
        each.load_image(self.images.archive)
        each.node_exec(
            str(self.toolbox.path("ctr")),
            *("--address=/run/containerd/containerd.sock", "--namespace=k8s.io"),
            *("images", "tag", "--force", self.images.reference("web"), BUSYBOX),
        )

    def _cluster(self, name: str) -> Cluster:
        pods, services = RANGES[name]
        spec = ClusterSpec(
            name=f"{name}-node",
            namespace=self.network.namespace(f"{name}-node"),
            node_ip=self.network.address(f"{name}-node"),
            pod_cidr=pods,
            service_cidr=services,
        )
        return Cluster(
            spec,
            run_dir=cluster.cluster_dir(name),
            toolbox=self.toolbox,
            images=self.images,
            say=self._say,
        )

    def keep(self) -> None:
        """Leave everything running when this process ends; `warren-lab down` removes it."""
        self.run.keep()
        self.home.detach()
        self.office.detach()
        self._stack.pop_all()
