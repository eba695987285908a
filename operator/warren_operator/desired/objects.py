"""The shapes that all builders share: an object's head, and the safe defaults of pods and containers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from warren_operator.config import Images
from warren_operator.kinds import Kind, Manifest
from warren_operator.naming import CONFIG_ANNOTATION, labels, owner_reference, selector

UNPRIVILEGED_USER: Final = 65532
HEALTH_PORT: Final = 9090


def head(kind: Kind, name: str, owner: Manifest, component_labels: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(component_labels),
            "ownerReferences": [owner_reference(owner)],
        },
    }


def config_map(name: str, owner: Manifest, component_labels: Mapping[str, str], config: Manifest) -> Manifest:
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=False)
    return {**head(Kind.CONFIG_MAP, name, owner, component_labels), "data": {"config.yaml": text}}


def fingerprint(manifest: Manifest) -> str:
    """Changes the pod template when the configuration changes, which is what restarts the pods."""
    return hashlib.sha256(manifest["data"]["config.yaml"].encode()).hexdigest()[:16]


def pod_template(component: str, owners: Mapping[str, str], config: str, spec: Manifest) -> Manifest:
    return {
        "metadata": {"labels": labels(component, **owners), "annotations": {CONFIG_ANNOTATION: config}},
        "spec": spec,
    }


def match(component: str, owners: Mapping[str, str]) -> Manifest:
    return {"matchLabels": selector(component, **owners)}


def pull_secrets(images: Images) -> Manifest:
    """Part of a pod spec; nothing if none are configured."""
    if not images.pull_secrets:
        return {}
    return {"imagePullSecrets": [{"name": name} for name in images.pull_secrets]}


def unprivileged_pod() -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": UNPRIVILEGED_USER,
        "runAsGroup": UNPRIVILEGED_USER,
        "fsGroup": UNPRIVILEGED_USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def unprivileged_container() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def network_container() -> Manifest:
    """Root inside the container with the two capabilities that changing the host's network takes."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
    }


def http_probe(
    path: str, port: int | str, *, period: int, failures: int, host: str | None = None
) -> Manifest:
    target: dict[str, Any] = {"path": path, "port": port, "scheme": "HTTP"}
    if host is not None:
        target["host"] = host
    return {"httpGet": target, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 3}


def requests(cpu: str, memory: str) -> Manifest:
    return {"requests": {"cpu": cpu, "memory": memory}}


def secret_volume(name: str, secret: str, items: Sequence[tuple[str, str]], mode: int = 0o440) -> Manifest:
    return {
        "name": name,
        "secret": {
            "secretName": secret,
            "defaultMode": mode,
            "items": [{"key": key, "path": path} for key, path in items],
        },
    }


def mount(name: str, path: str, *, read_only: bool = False) -> Manifest:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
