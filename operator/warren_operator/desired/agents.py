"""What runs on the cluster's nodes: the agents, and the short-lived clean-up after them."""

from __future__ import annotations

from typing import Any, Final

from warren_operator.config import Images
from warren_operator.desired.control import CLUSTER_TAG, tls_secret_name
from warren_operator.desired.objects import (
    config_map,
    fingerprint,
    head,
    http_probe,
    match,
    mount,
    network_container,
    pod_template,
    pull_secrets,
    requests,
)
from warren_operator.kinds import Kind, Manifest
from warren_operator.naming import agent_name, cleanup_name, join_name, labels
from warren_operator.resources.mesh import Managed, Mesh, SecretRef

AGENT: Final = "agent"
CLEANUP: Final = "cleanup"
INTERFACE: Final = "warren0"
HEALTH_PORT: Final = 9473
CONFIG_PATH: Final = "/etc/warren/config.yaml"


def agent_objects(mesh: Mesh, images: Images, *, private_ca: bool) -> list[Manifest]:
    """In the order in which they are made; nothing if the Mesh wants no agents."""
    if not mesh.agents.enabled:
        return []
    config = config_map(
        agent_name(mesh.name), mesh.manifest, _labels(mesh), agent_config(mesh, private_ca=private_ca)
    )
    account = {
        **head(Kind.SERVICE_ACCOUNT, agent_name(mesh.name), mesh.manifest, _labels(mesh)),
        "automountServiceAccountToken": False,
    }
    return [config, account, _daemon_set(mesh, images, fingerprint(config), private_ca=private_ca)]


def join_ref(mesh: Mesh) -> SecretRef:
    """The Secret with the key that the agents join with."""
    return SecretRef(join_name(mesh.name), "key") if isinstance(mesh.control, Managed) else mesh.control.join


def ca_ref(mesh: Mesh) -> SecretRef | None:
    """The Secret that may hold the CA of the control server's certificate."""
    if isinstance(mesh.control, Managed):
        return SecretRef(tls_secret_name(mesh, mesh.control), "ca.crt") if mesh.control.secure else None
    return mesh.control.ca


def agent_config(mesh: Mesh, *, private_ca: bool) -> Manifest:
    agents = mesh.agents
    config: Manifest = {
        "server_url": mesh.control.url,
        "auth_key_file": "/etc/warren/join/key",
        "state_dir": "/var/lib/warren-agent",
        "interface": INTERFACE,
        "listen_port": agents.port,
        "data_plane": agents.data_plane,
        "userspace": {"program": "wireguard", "external": True},
        "uapi_dir": "/var/run/wireguard",
        "advertise_routes": list(agents.advertised),
        "accept_routes": agents.accept_routes,
        "keep_source": {"local": list(agents.pod_cidrs)},
        "socket": "/run/warren/agent.sock",
        "health_listen": f"127.0.0.1:{HEALTH_PORT}",
        "tags": [CLUSTER_TAG],
    }
    if private_ca:
        config["ca_file"] = "/etc/warren/ca/ca.crt"
    return config


def cleanup_daemon_set(mesh: Mesh, images: Images) -> Manifest:
    """Ready on a node means: that host is as it was found.

    It has no owner, so that a deletion in the foreground cannot take it away before it has run.
    """
    owners = {"mesh": mesh.name}
    daemon_set = head(Kind.DAEMON_SET, cleanup_name(mesh.name), mesh.manifest, labels(CLEANUP, **owners))
    del daemon_set["metadata"]["ownerReferences"]
    # A control server elsewhere still knows these nodes: applied again, the Mesh brings back the same members
    # instead of others beside them. One that goes with its Mesh has nothing to remember.
    purge = " --purge" if isinstance(mesh.control, Managed) else ""
    settings = {
        "WARREN_AGENT_INTERFACE": INTERFACE,
        "WARREN_AGENT_STATE_DIR": f"/var/lib/warren/{state_folder(mesh)}",
    }
    container = {
        "name": "cleanup",
        "image": mesh.image_agent or images.agent,
        "imagePullPolicy": images.pull_policy,
        "command": ["/bin/sh", "-ec"],
        "args": [f"warren-agent cleanup{purge}; : >/run/warren/cleaned; exec sleep 86400"],
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "securityContext": network_container(),
        "resources": requests("10m", "32Mi"),
        "readinessProbe": {"exec": {"command": ["test", "-e", "/run/warren/cleaned"]}, "periodSeconds": 1},
        "volumeMounts": [
            mount("run", "/run/warren"),
            mount("state", "/var/lib/warren"),
            mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    }
    pod = {
        **_pod(mesh, images),
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [
            {"name": "run", "emptyDir": {}},
            {"name": "state", "hostPath": {"path": "/var/lib/warren", "type": "DirectoryOrCreate"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    daemon_set["spec"] = {
        "selector": match(CLEANUP, owners),
        "template": pod_template(CLEANUP, owners, "", pod),
    }
    return daemon_set


def _labels(mesh: Mesh) -> dict[str, str]:
    return labels(AGENT, mesh=mesh.name)


def _daemon_set(mesh: Mesh, images: Images, config: str, *, private_ca: bool) -> Manifest:
    owners = {"mesh": mesh.name}
    daemon_set = head(Kind.DAEMON_SET, agent_name(mesh.name), mesh.manifest, _labels(mesh))
    containers = [_agent(mesh, images, private_ca=private_ca)]
    if mesh.agents.data_plane != "kernel":
        # A container of its own, so that traffic flows on while the agent restarts.
        containers.insert(0, _wireguard(mesh, images))
    pod = {
        **_pod(mesh, images),
        "serviceAccountName": agent_name(mesh.name),
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": 10,
        "containers": containers,
        "volumes": _volumes(mesh, private_ca=private_ca),
    }
    daemon_set["spec"] = {
        "selector": match(AGENT, owners),
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "template": pod_template(AGENT, owners, config, pod),
    }
    return daemon_set


def _pod(mesh: Mesh, images: Images) -> Manifest:
    pod: dict[str, Any] = {
        "hostNetwork": True,
        # The agent must find its control server on a node whose cluster DNS is not up yet.
        "dnsPolicy": "Default",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": [dict(toleration) for toleration in mesh.agents.tolerations],
        **pull_secrets(images),
    }
    if mesh.agents.node_selector:
        pod["nodeSelector"] = dict(mesh.agents.node_selector)
    return pod


def _wireguard(mesh: Mesh, images: Images) -> Manifest:
    command = ["wireguard", "-f", INTERFACE]
    if mesh.agents.data_plane == "auto":
        # Idles on a node whose kernel has WireGuard, which the agent then finds by itself.
        command = ["warren-agent", "wireguard", "--interface", INTERFACE]
    return {
        "name": "wireguard",
        "image": mesh.image_agent or images.agent,
        "imagePullPolicy": images.pull_policy,
        "command": command,
        "env": [{"name": "LOG_LEVEL", "value": "error"}],
        "securityContext": network_container(),
        "resources": requests("50m", "32Mi"),
        "volumeMounts": [mount("uapi", "/var/run/wireguard"), mount("tun", "/dev/net/tun")],
    }


def _agent(mesh: Mesh, images: Images, *, private_ca: bool) -> Manifest:
    mounts = [
        mount("config", "/etc/warren", read_only=True),
        mount("state", "/var/lib/warren-agent"),
        mount("run", "/run/warren"),
        mount("uapi", "/var/run/wireguard"),
        mount("tun", "/dev/net/tun"),
        mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
    ]
    return {
        "name": "agent",
        "image": mesh.image_agent or images.agent,
        "imagePullPolicy": images.pull_policy,
        "command": ["warren-agent", "up", "--config", CONFIG_PATH],
        "env": [
            {
                "name": "WARREN_AGENT_HOSTNAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
            }
        ],
        "ports": [{"name": "wireguard", "containerPort": mesh.agents.port, "protocol": "UDP"}],
        "securityContext": network_container(),
        "resources": requests("50m", "96Mi"),
        "startupProbe": http_probe("/health", HEALTH_PORT, host="127.0.0.1", period=1, failures=60),
        "livenessProbe": http_probe("/health", HEALTH_PORT, host="127.0.0.1", period=10, failures=6),
        "readinessProbe": http_probe("/ready", HEALTH_PORT, host="127.0.0.1", period=2, failures=2),
        "volumeMounts": mounts,
    }


def _volumes(mesh: Mesh, *, private_ca: bool) -> list[Manifest]:
    join = join_ref(mesh)
    ca = ca_ref(mesh)
    sources: list[Manifest] = [
        {
            "configMap": {
                "name": agent_name(mesh.name),
                "items": [{"key": "config.yaml", "path": "config.yaml"}],
            }
        },
        {"secret": {"name": join.name, "items": [{"key": join.key, "path": "join/key"}]}},
    ]
    if private_ca and ca is not None:
        sources.append({"secret": {"name": ca.name, "items": [{"key": ca.key, "path": "ca/ca.crt"}]}})
    return [
        {"name": "config", "projected": {"defaultMode": 0o400, "sources": sources}},
        _state_volume(mesh),
        {"name": "run", "emptyDir": {}},
        {"name": "uapi", "emptyDir": {}},
        {"name": "tun", "hostPath": {"path": "/dev/net/tun", "type": "CharDevice"}},
        {"name": "tmp", "emptyDir": {}},
    ]


def state_folder(mesh: Mesh) -> str:
    """Below /var/lib/warren of each host: the keys that make it the same member after a restart."""
    return f"{mesh.namespace}-{mesh.name}"


def _state_volume(mesh: Mesh) -> Manifest:
    path = f"/var/lib/warren/{state_folder(mesh)}"
    return {"name": "state", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
