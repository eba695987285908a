"""Names, labels and annotations of what the operator makes: always valid, never colliding."""

from __future__ import annotations

import hashlib
from typing import Final

from warren_operator.kinds import GROUP, Manifest

FIELD_MANAGER: Final = "warren-operator"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
COMPONENT: Final = "app.kubernetes.io/component"
MESH_LABEL: Final = f"{GROUP}/mesh"
RELAY_LABEL: Final = f"{GROUP}/relay"
FINALIZER: Final = f"{GROUP}/cleanup"
MACHINE_FINALIZER: Final = f"{GROUP}/machine"
APPLIED_ANNOTATION: Final = f"{GROUP}/applied"
CONFIG_ANNOTATION: Final = f"{GROUP}/config"
CLEANUP_ANNOTATION: Final = f"{GROUP}/cleanup"

NAME_LIMIT: Final = 63


def bounded(name: str, limit: int = NAME_LIMIT) -> str:
    """The name itself, or a shortened one that stays different from every other name."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-.')}-{digest}"


def control_name(mesh: str) -> str:
    return bounded(f"{mesh}-control")


def agent_name(mesh: str) -> str:
    return bounded(f"{mesh}-agent")


def cleanup_name(mesh: str) -> str:
    return bounded(f"{mesh}-cleanup")


def tls_name(mesh: str) -> str:
    return bounded(f"{mesh}-control-tls")


def ca_name(mesh: str) -> str:
    return bounded(f"{mesh}-ca")


def admin_name(mesh: str) -> str:
    return bounded(f"{mesh}-admin")


def join_name(mesh: str) -> str:
    return bounded(f"{mesh}-join")


def keys_name(mesh: str) -> str:
    return bounded(f"{mesh}-keys")


def relay_name(relay: str) -> str:
    return bounded(f"{relay}-relay")


def relay_peers_name(relay: str) -> str:
    return bounded(f"{relay}-relay-peers")


def relay_tls_name(relay: str) -> str:
    return bounded(f"{relay}-relay-tls")


def relay_keys_name(relay: str) -> str:
    return bounded(f"{relay}-relay-keys")


def selector(component: str, *, mesh: str | None = None, relay: str | None = None) -> dict[str, str]:
    """What finds the pods of one component of one mesh or relay. Never to change: selectors are immutable."""
    labels = {"app.kubernetes.io/name": "warren", COMPONENT: component}
    if mesh is not None:
        labels[MESH_LABEL] = mesh
    if relay is not None:
        labels[RELAY_LABEL] = relay
    return labels


def labels(component: str, *, mesh: str | None = None, relay: str | None = None) -> dict[str, str]:
    return {**selector(component, mesh=mesh, relay=relay), MANAGED_BY: FIELD_MANAGER}


def owner_reference(owner: Manifest) -> Manifest:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def query(labels: dict[str, str]) -> str:
    """The label selector of a list request."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
