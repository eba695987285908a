"""The programs of a node and how each is started.

Pure: values in, command lines out. The files they name are :mod:`warren_lab.cluster.configs`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from warren_lab.cluster.layout import KUBERNETES_ETC
from warren_lab.cluster.spec import ClusterSpec

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ProgramPath = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class Component:
    """One program of the node."""

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def etcd(path: ProgramPath) -> Component:
    return Component(
        "etcd",
        (
            str(path("etcd")),
            "--name=node",
            "--data-dir=/var/lib/etcd/data",
            "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=node=http://127.0.0.1:2380",
            "--log-level=warn",
        ),
        (("GOMAXPROCS", "2"),),
    )


def api_server(spec: ClusterSpec, path: ProgramPath) -> Component:
    etc = KUBERNETES_ETC
    return Component(
        "kube-apiserver",
        (
            str(path("kube-apiserver")),
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            "--secure-port=6443",
            f"--advertise-address={spec.node_ip}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={etc}/tokens.csv",
            f"--client-ca-file={etc}/ca.crt",
            f"--tls-cert-file={etc}/apiserver.crt",
            f"--tls-private-key-file={etc}/apiserver.key",
            f"--kubelet-client-certificate={etc}/apiserver-client.crt",
            f"--kubelet-client-key={etc}/apiserver-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={etc}/service-account.pub",
            f"--service-account-signing-key-file={etc}/service-account.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-cluster-ip-range={spec.service_cidr}",
            "--allow-privileged=true",
            "--enable-priority-and-fairness=false",
            "--profiling=false",
        ),
    )


def controller_manager(spec: ClusterSpec, path: ProgramPath) -> Component:
    etc = KUBERNETES_ETC
    return Component(
        "kube-controller-manager",
        (
            str(path("kube-controller-manager")),
            f"--kubeconfig={etc}/system-kube-controller-manager.kubeconfig",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={etc}/service-account.key",
            f"--root-ca-file={etc}/ca.crt",
            f"--cluster-signing-cert-file={etc}/ca.crt",
            f"--cluster-signing-key-file={etc}/ca.key",
            "--allocate-node-cidrs",
            f"--cluster-cidr={spec.pod_cidr}",
            f"--node-cidr-mask-size={spec.node_pod_cidr.prefixlen}",
            f"--service-cluster-ip-range={spec.service_cidr}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--profiling=false",
            # With the default of 20 calls a second its controllers take five seconds to start.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ),
    )


def scheduler(path: ProgramPath) -> Component:
    return Component(
        "kube-scheduler",
        (
            str(path("kube-scheduler")),
            f"--kubeconfig={KUBERNETES_ETC}/system-kube-scheduler.kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--profiling=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ),
    )


def containerd(path: ProgramPath) -> Component:
    program = path("containerd")
    return Component(
        "containerd",
        (str(program), "--config=/etc/containerd/warren-lab.toml"),
        # containerd finds its shim on PATH.
        (("PATH", f"{program.parent}:{PATH}"),),
    )


def kubelet(spec: ClusterSpec, path: ProgramPath) -> Component:
    etc = KUBERNETES_ETC
    return Component(
        "kubelet",
        (
            str(path("kubelet")),
            f"--config={etc}/kubelet.yaml",
            f"--kubeconfig={etc}/system-node-{spec.name}.kubeconfig",
            "--root-dir=/var/lib/kubelet",
            "--cert-dir=/var/lib/kubelet/pki",
            f"--hostname-override={spec.name}",
            f"--node-ip={spec.node_ip}",
        ),
    )


def kube_proxy(spec: ClusterSpec, path: ProgramPath) -> Component:
    return Component(
        "kube-proxy",
        (
            str(path("kube-proxy")),
            f"--kubeconfig={KUBERNETES_ETC}/system-kube-proxy.kubeconfig",
            "--proxy-mode=nftables",
            f"--cluster-cidr={spec.pod_cidr}",
            f"--hostname-override={spec.name}",
            # Zero leaves the machine's limits alone.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ),
    )
