"""Configuration files of a node's programs.

Pure: values in, file contents out. Where they lie is :mod:`warren_lab.cluster.layout`'s.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from warren_lab.cluster import pki
from warren_lab.cluster.layout import CNI_CONF, CONTAINERD_SOCKET, KUBERNETES_ETC
from warren_lab.cluster.spec import ClusterSpec

KERNEL_SETTINGS: Final[Mapping[str, str]] = {
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/vm/panic_on_oom": "0",
    "/proc/sys/kernel/panic": "10",
    "/proc/sys/kernel/panic_on_oops": "1",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
    "/proc/sys/kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet wants of its machine and would write there."""


def node_files(
    spec: ClusterSpec,
    credentials: pki.Credentials,
    *,
    plugins: Path,
    runc: Path,
    pause_image: str,
    cgroup: str,
) -> dict[Path, bytes]:
    """Every file below the node's ``/etc``."""
    etc = KUBERNETES_ETC
    files: dict[Path, bytes] = {
        etc / "ca.crt": credentials.ca.certificate,
        etc / "ca.key": credentials.ca.key,
        etc / "apiserver.crt": credentials.api_server.certificate,
        etc / "apiserver.key": credentials.api_server.key,
        etc / "apiserver-client.crt": credentials.api_client.certificate,
        etc / "apiserver-client.key": credentials.api_client.key,
        etc / "service-account.key": credentials.service_account_key,
        etc / "service-account.pub": credentials.service_account_public,
        etc / "tokens.csv": pki.token_file(credentials, spec.name).encode(),
        etc / "kubelet.yaml": kubelet(spec, cgroup).encode(),
        CNI_CONF / "10-bridge.conflist": cni(spec).encode(),
        Path("/etc/containerd/warren-lab.toml"): containerd(
            plugins=plugins, runc=runc, pause_image=pause_image
        ).encode(),
    }
    for user in pki.users(spec.name):
        name = user.replace(":", "-") + ".kubeconfig"
        files[etc / name] = kubeconfig(spec, credentials, user).encode()
    return files


def resolver(spec: ClusterSpec) -> str:
    """The node's ``resolv.conf``."""
    return "".join(f"nameserver {address}\n" for address in spec.upstream_dns) or "# no resolver\n"


def hosts(spec: ClusterSpec) -> str:
    """The node's ``hosts``."""
    return f"127.0.0.1 localhost\n::1 localhost\n{spec.node_ip} {spec.name}\n"


def kubeconfig(spec: ClusterSpec, credentials: pki.Credentials, user: str) -> str:
    """A kubeconfig for one user of the cluster."""
    authority = base64.b64encode(credentials.ca.certificate).decode()
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": spec.name,
                    "cluster": {"server": spec.api_url, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": user, "user": {"token": credentials.tokens[user]}}],
            "contexts": [{"name": spec.name, "context": {"cluster": spec.name, "user": user}}],
            "current-context": spec.name,
        },
        indent=1,
    )


def kubelet(spec: ClusterSpec, cgroup: str) -> str:
    """The kubelet's configuration."""
    threshold = "1%"
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{KUBERNETES_ETC}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroup}",
            # Quality-of-service groups need limits on every controller, which sandboxes often withhold.
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "protectKernelDefaults": True,
            "makeIPTablesUtilChains": False,
            "clusterDomain": "cluster.local",
            "clusterDNS": [str(spec.dns_service_ip)],
            "resolvConf": "/etc/resolv.conf",
            "evictionHard": {
                "memory.available": threshold,
                "nodefs.available": threshold,
                "nodefs.inodesFree": threshold,
                "imagefs.available": threshold,
                "imagefs.inodesFree": threshold,
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "maxPods": min(60, spec.node_pod_cidr.num_addresses - 4),
        },
        indent=1,
    )


def cni(spec: ClusterSpec) -> str:
    """The pod network: the upstream plugins, all with nftables so that the machine needs no iptables."""
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "isDefaultGateway": True,
                    "hairpinMode": True,
                    "mtu": spec.pod_mtu,
                    "ipMasq": True,
                    "ipMasqBackend": "nftables",
                    "ipam": {
                        "type": "host-local",
                        "dataDir": "/run/cni/networks",
                        "ranges": [[{"subnet": str(spec.node_pod_cidr)}]],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}, "backend": "nftables"},
            ],
        },
        indent=1,
    )


def containerd(*, plugins: Path, runc: Path, pause_image: str) -> str:
    """containerd's configuration."""
    runtime = "plugins.'io.containerd.cri.v1.runtime'"
    unused = ", ".join(
        f'"{name}"'
        for name in (
            "io.containerd.snapshotter.v1.blockfile",
            "io.containerd.snapshotter.v1.btrfs",
            "io.containerd.snapshotter.v1.devmapper",
            "io.containerd.snapshotter.v1.erofs",
            "io.containerd.snapshotter.v1.zfs",
            "io.containerd.nri.v1.nri",
            "io.containerd.tracing.processor.v1.otlp",
        )
    )
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [{unused}]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins.'io.containerd.metadata.v1.bolt']
no_sync = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause_image}"

[{runtime}]
# Without CAP_SYS_RESOURCE a container with a lower score than its parent cannot start.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[{runtime}.cni]
bin_dirs = ["{plugins}", "/opt/cni/bin"]
conf_dir = "{CNI_CONF}"

[{runtime}.containerd]
default_runtime_name = "runc"

[{runtime}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{runtime}.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""
