"""A real single-node Kubernetes cluster inside a network namespace.

Knows the order in which the programs start and how to talk to the result. Everything it makes is gone after
``stop``, and after the end of the process that started it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from warren_lab.cluster import components, configs, manifests, pki, seed
from warren_lab.cluster.layout import CONTAINERD_SOCKET, Layout
from warren_lab.cluster.node import Node
from warren_lab.cluster.spec import ClusterError, ClusterSpec

Say = Callable[[str], None]
CGROUP_PREFIX = "warren-lab-"


class Programs(Protocol):
    """Where the built programs are."""

    def path(self, program: str, /) -> Path: ...


class SystemImages(Protocol):
    """What a node has from its start; ``pause`` and ``coredns`` must be among it."""

    @property
    def archive(self) -> Path: ...

    def reference(self, name: str, /) -> str: ...


def quiet(_line: str) -> None:
    """For callers that show nothing."""


class Cluster:
    """One cluster. ``with Cluster(…) as cluster:`` starts and stops it."""

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        run_dir: Path,
        toolbox: Programs,
        images: SystemImages,
        say: Say = quiet,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.kubeconfig = Layout(run_dir).kubeconfig
        self._layout = Layout(run_dir)
        self._toolbox = toolbox
        self._images = images
        self._say = say
        self._loaded: set[Path] = set()
        self._node = Node(self._layout, spec.namespace, cgroup_name(run_dir), spec.name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout_seconds: float = 120) -> None:
        """Returns when the node is ready and the cluster's DNS answers; undoes everything on failure."""
        began = time.monotonic()
        try:
            self._boot()
            self._bring_up(began + timeout_seconds)
        except BaseException as error:
            diagnosis = self.diagnosis() if isinstance(error, ClusterError) else ""
            with contextlib.suppress(ClusterError):
                self.stop()
            if diagnosis:
                raise ClusterError(f"{error}\n{diagnosis}") from error
            raise
        self._say(f"cluster {self.name}: ready after {time.monotonic() - began:.1f} s")

    def stop(self, keep_logs_in: Path | None = None) -> None:
        """End every process, mount, control group, interface and rule of the cluster; remove its folder."""
        if keep_logs_in is not None and self._layout.logs.is_dir():
            shutil.copytree(self._layout.logs, keep_logs_in, dirs_exist_ok=True)
        self._node.stop()
        clear_namespace(self.spec.namespace)

    def detach(self) -> None:
        """Let the cluster outlive this process."""
        self._node.detach()

    def kubectl(self, *args: str, input: str | None = None, timeout: float = 60) -> str:  # noqa: A002
        """Standard output of ``kubectl``; :class:`ClusterError` with its words if it fails."""
        return self._run([str(self._toolbox.path("kubectl")), *args], input, timeout)

    def kubectl_json(self, *args: str, timeout: float = 60) -> Any:
        """Like :meth:`kubectl` with ``-o json``, decoded."""
        return json.loads(self.kubectl(*args, "-o", "json", timeout=timeout))

    def helm(self, *args: str, timeout: float = 180) -> str:
        """Standard output of ``helm``."""
        return self._run([str(self._toolbox.path("helm")), *args], None, timeout)

    def apply(self, objects: object) -> None:
        """``kubectl apply`` of objects given as values."""
        self.kubectl("apply", "-f", "-", input=json.dumps(objects))

    def load_image(self, archive: Path) -> None:
        """Import an image archive into the node; one that is there already costs nothing."""
        archive = archive.resolve()
        if archive in self._loaded:
            return
        command = self._node.inside(
            [
                *(str(self._toolbox.path("ctr")), f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io"),
                *("images", "import", "--local", "-"),
            ]
        )
        with archive.open("rb") as stream:
            done = subprocess.run(command, stdin=stream, capture_output=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"{archive.name} cannot be loaded: {done.stderr.decode().strip()}")
        self._loaded.add(archive)

    def node_exec(self, *argv: str, input: str | None = None, timeout: float = 60) -> str:  # noqa: A002
        """Standard output of a command run on the node, as its root."""
        return _output(self._node.inside(argv), argv, None, input, timeout)

    def node_command(self, *argv: str) -> list[str]:
        """The command line that runs ``argv`` on the node, for callers that run it themselves."""
        return self._node.inside(argv)

    def kubectl_command(self, *args: str) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of a ``kubectl`` call, for callers that run it themselves."""
        command = [*self._in_namespace(), str(self._toolbox.path("kubectl")), *args]
        return command, self.environment()

    def environment(self) -> dict[str, str]:
        """What ``kubectl`` and ``helm`` need to meet this cluster and to leave the user's files alone."""
        client = str(self._layout.client)
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": f"{client}/kubectl",
            "HELM_CACHE_HOME": f"{client}/helm-cache",
            "HELM_CONFIG_HOME": f"{client}/helm-config",
            "HELM_DATA_HOME": f"{client}/helm-data",
        }

    def diagnosis(self) -> str:
        """Which programs ended by themselves and what they said last."""
        lines = []
        for name, reasons in self._node.exits().items():
            lines.append(f"{name} {reasons[-1]}, {len(reasons)} time(s); its last lines:")
            with contextlib.suppress(OSError):
                text = (self._layout.logs / f"{name}.log").read_text(errors="replace")
                lines += [f"  {line[:400]}" for line in text.splitlines()[-4:]]
        return "\n".join(lines)

    def _boot(self) -> None:
        spec = self.spec
        runc = shutil.which("runc", path=components.PATH)
        if runc is None:
            raise ClusterError("runc is missing: apt-get install runc")
        credentials = pki.generate(spec, datetime.datetime.now(datetime.UTC))
        files = configs.node_files(
            spec,
            credentials,
            plugins=self._toolbox.path("bridge").parent,
            runc=Path(runc),
            pause_image=self._images.reference("pause"),
            cgroup=cgroup_name(self._layout.root),
        )
        etc = {"/etc/resolv.conf": configs.resolver(spec), "/etc/hosts": configs.hosts(spec)}
        archive = self._images.archive.resolve()
        planted = seed.ensure(archive, self._toolbox.path, self._say)
        self._node.boot(files, etc, configs.KERNEL_SETTINGS, planted)
        self._loaded = {archive}
        self.kubeconfig.touch(0o600)
        self.kubeconfig.write_text(configs.kubeconfig(spec, credentials, "admin"))

    def _bring_up(self, deadline: float) -> None:
        spec, path = self.spec, self._toolbox.path
        for component in (
            components.etcd(path),
            components.api_server(spec, path),
            components.containerd(path),
        ):
            self._node.start(component)
        self._await_api(deadline)
        for component in (
            components.kubelet(spec, path),
            components.controller_manager(spec, path),
            components.scheduler(path),
            components.kube_proxy(spec, path),
        ):
            self._node.start(component)
        self.node_exec("mkdir", "--parents", *manifests.volume_paths())
        objects = json.dumps(manifests.base_objects(spec, self._images.reference("coredns")))
        self.kubectl("create", "--validate=false", "-f", "-", input=objects)
        left = max(1, int(deadline - time.monotonic()))
        rollout = ("rollout", "status", "deployment/coredns", "--namespace=kube-system")
        self.kubectl(*rollout, f"--timeout={left}s", timeout=left + 5)

    def _await_api(self, deadline: float) -> None:
        while True:
            try:
                self.kubectl("get", "--raw=/readyz", "--request-timeout=2s", timeout=10)
            except ClusterError:
                if time.monotonic() > deadline or len(self._node.exits().get("kube-apiserver", [])) > 3:
                    raise ClusterError(f"the API server of {self.name} does not get ready") from None
                time.sleep(0.1)
            else:
                return

    def _in_namespace(self) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{self.spec.namespace}", "--")

    def _run(self, command: Sequence[str], text: str | None, timeout: float) -> str:
        return _output([*self._in_namespace(), *command], command, self.environment(), text, timeout)


def cgroup_name(run_dir: Path) -> str:
    """A group of its own for each cluster of each run: ``warren-lab-<pid>-<name>``."""
    return f"{CGROUP_PREFIX}{run_dir.parent.parent.name}-{run_dir.name}"


def clear_namespace(namespace: str) -> None:
    """Remove what the pod network and kube-proxy left in a namespace that lives on."""
    if not Path("/run/netns", namespace).exists():
        return
    enter = ("nsenter", f"--net=/run/netns/{namespace}", "--")
    subprocess.run([*enter, "ip", "link", "delete", "cni0"], check=False, capture_output=True)
    listed = subprocess.run([*enter, "nft", "list", "tables"], check=False, capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        _, family, table = line.split()
        if table.startswith(("kube-proxy", "cni_")):
            subprocess.run([*enter, "nft", "delete", "table", family, table], check=False)


def _output(
    command: Sequence[str],
    meant: Sequence[str],
    environment: dict[str, str] | None,
    text: str | None,
    timeout: float,
) -> str:
    shown = " ".join((Path(meant[0]).name, *meant[1:]))[:300]
    try:
        done = subprocess.run(
            command,
            env=environment,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{shown} took longer than {timeout:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise ClusterError(f"{shown} failed with {done.returncode}: {said}")
    return done.stdout
