"""Every kind of object the operator reads or writes, with the path it has at the API server."""

from __future__ import annotations

import enum
from typing import Any, Final

Manifest = dict[str, Any]
"""An object of the Kubernetes API as its JSON: the one untyped thing that passes between modules."""

GROUP: Final = "warren.dev"
VERSION: Final = "v1alpha1"


class Kind(enum.Enum):
    MESH = (f"{GROUP}/{VERSION}", "Mesh", "meshes")
    NODE = (f"{GROUP}/{VERSION}", "Node", "nodes")
    DERP_RELAY = (f"{GROUP}/{VERSION}", "DerpRelay", "derprelays")
    CONFIG_MAP = ("v1", "ConfigMap", "configmaps")
    SECRET = ("v1", "Secret", "secrets")
    SERVICE = ("v1", "Service", "services")
    SERVICE_ACCOUNT = ("v1", "ServiceAccount", "serviceaccounts")
    PERSISTENT_VOLUME_CLAIM = ("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
    MACHINE = ("v1", "Node", "nodes")
    """A node of the Kubernetes cluster; it is in no namespace."""
    POD = ("v1", "Pod", "pods")
    EVENT = ("v1", "Event", "events")
    DEPLOYMENT = ("apps/v1", "Deployment", "deployments")
    NETWORK_POLICY = ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
    DAEMON_SET = ("apps/v1", "DaemonSet", "daemonsets")

    def __init__(self, api_version: str, kind: str, plural: str) -> None:
        self.api_version = api_version
        self.kind = kind
        self.plural = plural

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        root = "/apis" if "/" in self.api_version else "/api"
        parts = [root, self.api_version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)

    @classmethod
    def of(cls, manifest: Manifest) -> Kind:
        key = (manifest["apiVersion"], manifest["kind"])
        return next(kind for kind in cls if (kind.api_version, kind.kind) == key)
