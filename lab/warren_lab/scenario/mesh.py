"""What a person does with the two clusters: install, describe the mesh, let the other cluster in, look.

Every operation is the real command; `Show` is told each one, so that a demo can print it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from warren_lab.cluster import Cluster, ClusterError
from warren_lab.errors import LabError, ProcessError
from warren_lab.images.build import checkout
from warren_lab.process import entering
from warren_lab.scenario.world import HOME, OFFICE, RANGES, World

NAMESPACE: Final = "warren-system"
INTERFACE: Final = "warren0"
TABLE: Final = "22345"
READY_SECONDS: Final = 120

Show = Callable[[str, Sequence[str]], None]
"""Told where a command runs and what it is, before it runs."""


@dataclass(frozen=True, slots=True)
class Member:
    """One cluster as a member of the mesh."""

    name: str
    cluster: Cluster

    @property
    def mesh(self) -> str:
        return f"mesh/{self.name}"

    @property
    def node(self) -> str:
        """Its only node, which is also its name in the mesh."""
        return self.cluster.name


class MeshOfTwo:
    """The operations, in the order in which a person does them."""

    def __init__(self, world: World, show: Show = lambda _where, _command: None) -> None:
        self.world = world
        self.home = Member(HOME, world.home)
        self.office = Member(OFFICE, world.office)
        self._show = show
        self._examples = checkout() / "examples"

    @property
    def members(self) -> tuple[Member, Member]:
        return (self.home, self.office)

    def other(self, member: Member) -> Member:
        return self.office if member is self.home else self.home

    def kubectl(self, member: Member, *args: str, timeout: float = READY_SECONDS) -> str:
        """A command worth showing."""
        self._show(member.name, ["kubectl", *args])
        return member.cluster.kubectl(*args, timeout=timeout)

    def install(self, member: Member) -> None:
        """The operator, by its chart."""
        chart = checkout() / "charts" / "warren"
        command = [
            *("install", "warren", str(chart), "--namespace", NAMESPACE, "--create-namespace"),
            *("--wait", "--timeout=90s", *self.image_values()),
        ]
        shown = [part if part != str(chart) else "charts/warren" for part in command if "images." not in part]
        self._show(member.name, ["helm", *(part for part in shown if part != "--set"), "--set", "images.…"])
        try:
            member.cluster.helm(*command)
        except ClusterError as error:
            raise LabError(f"{error}\n{self.explain(member)}") from error

    def image_values(self) -> list[str]:
        """Chart values that name the lab's own images."""
        values: list[str] = []
        for name in ("operator", "control", "relay", "agent"):
            values += ["--set", f"images.{name}={self.world.images.reference(name)}"]
        return values

    def apply(self, member: Member, example: str, *, namespace: str | None = None) -> None:
        """`kubectl apply` of a file of examples/."""
        extra = ["--namespace", namespace] if namespace else []
        self._show(member.name, ["kubectl", "apply", *extra, "-f", f"examples/{example}"])
        member.cluster.kubectl("apply", *extra, "-f", str(self._examples / example))

    def give_certificate(self) -> None:
        """The Secret that examples/home/mesh.yaml names, as cert-manager would make it."""
        pair = self.world.certificate
        self._show(
            self.home.name,
            f"kubectl create secret generic home-tls -n {NAMESPACE} --from-file=tls.crt --from-file=tls.key "
            "--from-file=ca.crt".split(),
        )
        self.home.cluster.kubectl(
            *("create", "secret", "generic", "home-tls", "--namespace", NAMESPACE),
            f"--from-file=tls.crt={pair.certificate}",
            f"--from-file=tls.key={pair.key}",
            f"--from-file=ca.crt={self.world.authority.pair.certificate}",
        )

    def wait_ready(self, member: Member, timeout_seconds: int = READY_SECONDS) -> float:
        """Seconds until the Mesh says Ready; what it says instead goes into the error."""
        began = time.monotonic()
        arguments = [
            *("wait", "--for=condition=Ready", member.mesh, "--namespace", NAMESPACE),
            f"--timeout={timeout_seconds}s",
        ]
        try:
            self.kubectl(member, *arguments, timeout=timeout_seconds + 10)
        except ClusterError as error:
            raise LabError(f"{error}\n{self.explain(member)}") from error
        return time.monotonic() - began

    def explain(self, member: Member) -> str:
        """What the cluster says about its Mesh and pods, for a failure's report."""
        parts = []
        for arguments in (
            ("get", member.mesh, "--namespace", NAMESPACE, "-o", "jsonpath={.status.conditions}"),
            ("get", "pods", "--namespace", NAMESPACE, "-o", "wide"),
            ("logs", "--namespace", NAMESPACE, "deploy/warren-operator", "--tail=15"),
            ("logs", "--namespace", NAMESPACE, f"ds/{member.name}-agent", "-c", "agent", "--tail=15"),
            ("get", "events", "--namespace", NAMESPACE, "--field-selector=type=Warning"),
        ):
            try:
                parts.append(member.cluster.kubectl(*arguments).strip())
            except ClusterError as error:
                parts.append(str(error))
        return "\n".join(parts)

    def create_key(self, *options: str) -> str:
        """`warren keys create` at the home cluster; the key is the caller's to keep out of sight."""
        command = ["--mesh", f"{NAMESPACE}/{HOME}", "keys", "create", *options]
        self._show(HOME, ["warren", *command])
        program = [sys.executable, "-m", "warren_cli", *command]
        environment = self.home.cluster.environment()
        kubectl = self.world.toolbox.path("kubectl").parent
        done = subprocess.run(
            entering(program, self.world.network.namespace("home-node")),
            env={**environment, "PATH": f"{kubectl}:{environment['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"warren keys create failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def let_office_in(self) -> None:
        """A join key for the office and the CA it must trust, as Secrets of its cluster."""
        pods, services = RANGES[OFFICE]
        key = self.create_key(
            *("--reusable", "--expires", "1d", "--tag", "tag:cluster"),
            *("--approve-route", str(pods), "--approve-route", str(services)),
        )
        key_file = self._private_file("office-key", key)
        ca = self.world.authority.pair.certificate
        self._show(
            OFFICE,
            f"kubectl create secret generic join -n {NAMESPACE} --from-file=key --from-file=ca.crt".split(),
        )
        self.office.cluster.kubectl(
            *("create", "secret", "generic", "join", "--namespace", NAMESPACE),
            *(f"--from-file=key={key_file}", f"--from-file=ca.crt={ca}"),
        )

    def _private_file(self, name: str, text: str) -> Path:
        path = self.world.run.path / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def start_pages(self, member: Member) -> None:
        """The web page, the echo service and the client pod of examples/web.yaml."""
        self.apply(member, "web.yaml")
        member.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
        member.cluster.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s", timeout=70)

    def pod_ip(self, member: Member, selector: str) -> str:
        """The address of the pod that `kubectl get pods` finds first."""
        found = member.cluster.kubectl(
            *("get", "pods", *selector.split(), "-o", "jsonpath={.items[0].status.podIP}")
        )
        return found.strip()

    def page_ip(self, member: Member) -> str:
        return self.pod_ip(member, "--selector=app=web")

    def client_ip(self, member: Member) -> str:
        return self.pod_ip(member, "--field-selector=metadata.name=client")

    def service_ip(self, member: Member) -> str:
        found: str = member.cluster.kubectl_json("get", "service", "web")["spec"]["clusterIP"]
        return found

    def fetch_from_pod(
        self, member: Member, address: str, port: int = 8080, timeout_seconds: int = 15
    ) -> str:
        """The page at an address, asked for by the member's client pod."""
        url = f"http://{address}:{port}/cgi-bin/source"
        # Debian 12's static busybox crashes in `wget -T`.
        fetch = ("timeout", str(timeout_seconds), "wget", "-q", "-O", "-", url)
        return self.kubectl(member, "exec", "client", "--", *fetch)

    def agent_status(self, member: Member) -> dict[str, Any]:
        """`warren-agent status` on the member's node."""
        text = member.cluster.kubectl(
            *("exec", "--namespace", NAMESPACE, f"ds/{member.name}-agent", "-c", "agent", "--"),
            *("warren-agent", "status", "--output", "json"),
        )
        document: dict[str, Any] = json.loads(text)
        return document

    def peer(self, member: Member, name: str) -> Mapping[str, Any]:
        """How the member's agent sees one peer."""
        for peer in self.agent_status(member)["peers"]:
            if peer["name"] == name:
                return dict(peer)
        raise LabError(f"{member.name} has no peer {name}")

    def wait_for_path(
        self, member: Member, name: str, path: str, timeout_seconds: float
    ) -> Mapping[str, Any]:
        """Wait until the member's agent reaches a peer by `path` ("direct", "relay")."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            peer = self.peer(member, name)
            if peer["path"] == path:
                return peer
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{member.name} reaches {name} by {peer['path']}, not by {path}, "
                    f"after {timeout_seconds:.0f} s"
                )
            time.sleep(0.2)

    def wait_for_nodes(self, member: Member, names: set[str], timeout_seconds: float = 30.0) -> None:
        """Wait until machines have Node objects that show an address and where they are reached."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            nodes = member.cluster.kubectl_json("get", "nodes.warren.dev", "--namespace", NAMESPACE)["items"]
            whole = {node["metadata"]["name"] for node in nodes if _is_whole(node.get("status", {}))}
            if names <= whole:
                return
            if time.monotonic() > deadline:
                raise LabError(f"no Node object shows {', '.join(sorted(names - whole))} as online")
            time.sleep(0.2)

    def leftovers(self, member: Member) -> list[str]:
        """Everything of a mesh that is still on the member's node or in its cluster."""
        found = []
        for what, command, pattern in (
            ("interface", ("ip", "-o", "link"), rf"{INTERFACE}\b.*"),
            ("rule", ("ip", "rule"), rf".*\b{TABLE}\b.*"),
            ("IPv6 rule", ("ip", "-6", "rule"), rf".*\b{TABLE}\b.*"),
            ("route", ("ip", "route", "show", "table", "all"), rf".*table {TABLE}\b.*"),
            ("nftables table", ("nft", "list", "tables"), r"table \w+ warren.*"),
        ):
            found += [f"{what}: {line}" for line in re.findall(pattern, member.cluster.node_exec(*command))]
        kinds = (
            "pods,daemonsets,deployments,services,configmaps,secrets,persistentvolumeclaims,nodes.warren.dev"
        )
        selector = f"--selector=warren.dev/mesh={member.name}"
        listed = member.cluster.kubectl("get", kinds, "--namespace", NAMESPACE, selector, "-o", "name")
        return found + [f"object: {name}" for name in listed.split()]

    def kill_container(self, member: Member, component: str, container: str) -> None:
        """`kill -9` of a container's first process, as the kernel would do it when memory runs out."""
        before = self._container(member, component, container)
        identity = before["containerID"].removeprefix("containerd://")
        member.cluster.node_exec(
            str(self.world.toolbox.path("ctr")),
            *("--address=/run/containerd/containerd.sock", "--namespace=k8s.io"),
            *("tasks", "kill", "--signal", "SIGKILL", identity),
        )
        deadline = time.monotonic() + READY_SECONDS
        while self._container(member, component, container)["restartCount"] <= before["restartCount"]:
            if time.monotonic() > deadline:
                raise LabError(f"{container} of {member.name} was not started again")
            time.sleep(0.2)

    def _container(self, member: Member, component: str, container: str) -> Mapping[str, Any]:
        selector = f"--selector=app.kubernetes.io/component={component}"
        for pod in member.cluster.kubectl_json("get", "pods", "--namespace", NAMESPACE, selector)["items"]:
            for status in pod["status"].get("containerStatuses", ()):
                if status["name"] == container:
                    return dict(status)
        raise LabError(f"{member.name} runs no container {container} of {component}")

    def delete(self, member: Member) -> None:
        """`kubectl delete mesh`, which returns when the nodes are clean."""
        self.kubectl(member, "delete", member.mesh, "--namespace", NAMESPACE, f"--timeout={READY_SECONDS}s")


def _is_whole(status: Mapping[str, Any]) -> bool:
    return bool(status.get("addresses") and status.get("endpoints") and status.get("online"))
