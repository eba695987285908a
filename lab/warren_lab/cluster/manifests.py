"""Objects every cluster of the lab starts with: CoreDNS and a default storage class.

Pure. Kubernetes' JSON, as ``kubectl create`` takes it.
"""

from __future__ import annotations

from typing import Any

from warren_lab.cluster.spec import ClusterSpec

# A JSON boundary: these are Kubernetes' own shapes.
Manifest = dict[str, Any]

VOLUMES = 4


def base_objects(spec: ClusterSpec, dns_image: str) -> Manifest:
    """All of them as one list."""
    return {"apiVersion": "v1", "kind": "List", "items": [*dns(spec, dns_image), *storage(spec)]}


def corefile(spec: ClusterSpec) -> str:
    """CoreDNS for the cluster's names; other names only if there is somebody to ask."""
    forward = f"    forward . {' '.join(spec.upstream_dns)}\n" if spec.upstream_dns else ""
    return (
        ".:53 {\n"
        "    errors\n"
        "    health :8080\n"
        "    ready :8181\n"
        "    kubernetes cluster.local in-addr.arpa ip6.arpa {\n"
        "        pods insecure\n"
        "        fallthrough in-addr.arpa ip6.arpa\n"
        "        ttl 5\n"
        "    }\n"
        f"{forward}"
        "    cache 5\n"
        "    reload\n"
        "}\n"
    )


def dns(spec: ClusterSpec, image: str) -> list[Manifest]:
    labels = {"k8s-app": "kube-dns"}
    meta: Manifest = {"name": "coredns", "namespace": "kube-system", "labels": labels}
    container: Manifest = {
        "name": "coredns",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
    }
    pod: Manifest = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["endpoints", "services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:coredns",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": corefile(spec)}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "clusterIP": str(spec.dns_service_ip),
                "selector": labels,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                ],
            },
        },
    ]


def volume_paths() -> list[str]:
    """Folders of the node that its volumes lie in; they must be there before a pod claims one."""
    return [f"/var/lib/volumes/{number}" for number in range(1, VOLUMES + 1)]


def storage(spec: ClusterSpec) -> list[Manifest]:
    """A default class of a few volumes on the node, so that claims of a chart's defaults are bound."""
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [spec.name]}
    volumes: list[Manifest] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{spec.name}-{number}"},
            "spec": {
                "storageClassName": "standard",
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                # Unlike hostPath, a local volume gets the group that a pod asks for.
                "local": {"path": path},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
            },
        }
        for number, path in enumerate(volume_paths(), start=1)
    ]
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        *volumes,
    ]
