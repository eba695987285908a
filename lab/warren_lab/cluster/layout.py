"""Where the files of one cluster lie: on this machine, and as the node's programs see them.

Pure. The node has its own ``/etc``, ``/var/lib``, ``/var/log``, ``/opt`` and ``/run``, so the paths inside
are the ordinary ones of a Kubernetes node.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

KUBERNETES_ETC: Final = Path("/etc/kubernetes")
CNI_CONF: Final = Path("/etc/cni/net.d")
CONTAINERD_SOCKET: Final = Path("/run/containerd/containerd.sock")
OVERLAID: Final = ("/etc", "/var/lib", "/var/log", "/opt")
"""Folders of the machine the node sees copy-on-write: what is written there ends with the cluster."""
BOUND: Final = ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd")
"""Folders of the node on the plain file system, since an overlay cannot lie on an overlay."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of one cluster."""

    root: Path

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def client(self) -> Path:
        """Caches of kubectl and helm."""
        return self.root / "client"

    @property
    def node_pid(self) -> Path:
        return self.root / "node.pid"

    @property
    def owner(self) -> Path:
        """Process id and start time of the process whose end frees the cluster for a sweep."""
        return self.root / "owner"

    @property
    def kept(self) -> Path:
        """There if the cluster is to outlive its owner."""
        return self.root / "kept"

    @property
    def plan(self) -> Path:
        """What the node's first process is told."""
        return self.root / "node.json"

    @property
    def events(self) -> Path:
        """One line for each program of the node that ended by itself."""
        return self.logs / "events.log"

    def upper(self, folder: str) -> Path:
        return self.root / "overlay" / folder.strip("/").replace("/", "-") / "upper"

    def work(self, folder: str) -> Path:
        return self.root / "overlay" / folder.strip("/").replace("/", "-") / "work"

    def bound(self, folder: str) -> Path:
        return self.root / "data" / folder.rsplit("/", 1)[1]

    def etc(self, path: Path) -> Path:
        """Where a file of the node's ``/etc`` is prepared."""
        return self.upper("/etc") / path.relative_to("/etc")
