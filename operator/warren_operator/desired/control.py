"""What a managed Mesh runs: one control server with its configuration, service and volume."""

from __future__ import annotations

from typing import Final

from warren_operator.config import Images
from warren_operator.desired.objects import (
    HEALTH_PORT,
    config_map,
    fingerprint,
    head,
    http_probe,
    match,
    mount,
    pod_template,
    pull_secrets,
    requests,
    unprivileged_container,
    unprivileged_pod,
)
from warren_operator.kinds import Kind, Manifest
from warren_operator.naming import admin_name, control_name, join_name, keys_name, labels, selector, tls_name
from warren_operator.resources.mesh import Managed, Mesh, ServiceSpec

CONTROL: Final = "control"
LISTEN_PORT: Final = 8443
STUN_LISTEN_PORT: Final = 3478
SERVICE_PORT: Final = 443
CLUSTER_TAG: Final = "tag:cluster"


def control_objects(mesh: Mesh, managed: Managed, images: Images) -> list[Manifest]:
    """In the order in which they are made."""
    config = config_map(control_name(mesh.name), mesh.manifest, _labels(mesh), control_config(mesh, managed))
    objects = [config, _service_account(mesh), _service(mesh, managed)]
    if managed.claim is not None:
        objects.append(_claim(mesh, managed))
    objects.append(_deployment(mesh, managed, images, fingerprint(config)))
    return objects


def tls_secret_name(mesh: Mesh, managed: Managed) -> str:
    return managed.tls_secret or tls_name(mesh.name)


def control_config(mesh: Mesh, managed: Managed) -> Manifest:
    relay = managed.relay
    config: Manifest = {
        "server_url": managed.url,
        "listen": f"0.0.0.0:{LISTEN_PORT}",
        "health_listen": f"0.0.0.0:{HEALTH_PORT}",
        "database": "sqlite:////var/lib/warren/control.db",
        "noise_key_file": "/etc/warren/keys/noise.key",
        "derp_key_file": "/etc/warren/keys/derp.key",
        "addresses": {"v4": mesh.v4, "v6": mesh.v6},
        "base_domain": mesh.base_domain,
        "dns": {
            "magic": mesh.dns.magic,
            "resolvers": list(mesh.dns.resolvers),
            "search_domains": list(mesh.dns.search_domains),
        },
        "relay": {
            "enabled": relay.enabled,
            "region_id": relay.region_id,
            "region_code": relay.region_code,
            "region_name": relay.region_name,
            "host": relay.host,
            "derp_port": relay.derp_port,
            "stun_port": relay.stun_port,
            "stun_listen": f"0.0.0.0:{STUN_LISTEN_PORT}",
        },
        "admin_token_file": "/etc/warren/admin/token",
        "bootstrap_keys": [
            {
                "secret_file": "/etc/warren/join/key",
                "reusable": True,
                "tags": [CLUSTER_TAG],
                "approve_routes": list(mesh.agents.advertised),
            }
        ],
    }
    if managed.secure:
        config["tls"] = {"certificate": "/etc/warren/tls/tls.crt", "key": "/etc/warren/tls/tls.key"}
    return config


def _labels(mesh: Mesh) -> dict[str, str]:
    return labels(CONTROL, mesh=mesh.name)


def _service_account(mesh: Mesh) -> Manifest:
    account = head(Kind.SERVICE_ACCOUNT, control_name(mesh.name), mesh.manifest, _labels(mesh))
    return {**account, "automountServiceAccountToken": False}


def _service(mesh: Mesh, managed: Managed) -> Manifest:
    service = head(Kind.SERVICE, control_name(mesh.name), mesh.manifest, _labels(mesh))
    if managed.service.annotations:
        service["metadata"]["annotations"] = dict(managed.service.annotations)
    ports = [("https", SERVICE_PORT, "https", "TCP", managed.service.node_port)]
    if managed.relay.enabled:
        ports.append(("stun", managed.relay.stun_port, "stun", "UDP", managed.service.stun_node_port))
    service["spec"] = service_spec(managed.service, selector(CONTROL, mesh=mesh.name), ports)
    return service


def service_spec(
    service: ServiceSpec, pods: dict[str, str], ports: list[tuple[str, int, str, str, int | None]]
) -> Manifest:
    """Ports are (name, port, target, protocol, node port)."""
    spec: Manifest = {
        "type": service.type,
        "selector": pods,
        "ports": [
            {
                "name": name,
                "port": port,
                "targetPort": target,
                "protocol": protocol,
                **({"nodePort": node_port} if node_port is not None else {}),
            }
            for name, port, target, protocol, node_port in ports
        ],
    }
    if service.type != "ClusterIP":
        spec["externalTrafficPolicy"] = service.external_traffic_policy
    return spec


def _claim(mesh: Mesh, managed: Managed) -> Manifest:
    assert managed.claim is not None
    claim = head(Kind.PERSISTENT_VOLUME_CLAIM, control_name(mesh.name), mesh.manifest, _labels(mesh))
    claim["spec"] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": managed.claim.size}},
    }
    if managed.claim.storage_class is not None:
        claim["spec"]["storageClassName"] = managed.claim.storage_class
    return claim


def _deployment(mesh: Mesh, managed: Managed, images: Images, config: str) -> Manifest:
    owners = {"mesh": mesh.name}
    deployment = head(Kind.DEPLOYMENT, control_name(mesh.name), mesh.manifest, _labels(mesh))
    pod: Manifest = {
        "serviceAccountName": control_name(mesh.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": unprivileged_pod(),
        **pull_secrets(images),
        "containers": [_container(mesh, managed, images)],
        "volumes": _volumes(mesh, managed),
    }
    deployment["spec"] = {
        "replicas": 1,
        # Two servers on one SQLite file would both write to it.
        "strategy": {"type": "Recreate", "rollingUpdate": None},
        "selector": match(CONTROL, owners),
        "template": pod_template(CONTROL, owners, config, pod),
    }
    return deployment


def _container(mesh: Mesh, managed: Managed, images: Images) -> Manifest:
    ports = [
        {"name": "https", "containerPort": LISTEN_PORT, "protocol": "TCP"},
        {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
    ]
    if managed.relay.enabled:
        ports.append({"name": "stun", "containerPort": STUN_LISTEN_PORT, "protocol": "UDP"})
    mounts = [
        mount("config", "/etc/warren", read_only=True),
        mount("state", "/var/lib/warren"),
        mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
    ]
    return {
        "name": "control",
        "image": mesh.image_control or images.control,
        "imagePullPolicy": images.pull_policy,
        "command": ["warren-control", "serve", "--config", "/etc/warren/config.yaml"],
        "ports": ports,
        "securityContext": unprivileged_container(),
        "resources": requests("50m", "96Mi"),
        "startupProbe": http_probe("/health", "health", period=1, failures=60),
        "livenessProbe": http_probe("/health", "health", period=10, failures=6),
        "readinessProbe": http_probe("/ready", "health", period=2, failures=2),
        "volumeMounts": mounts,
    }


def _volumes(mesh: Mesh, managed: Managed) -> list[Manifest]:
    def source(secret: str, folder: str, *keys: str) -> Manifest:
        return {
            "secret": {"name": secret, "items": [{"key": key, "path": f"{folder}/{key}"} for key in keys]}
        }

    sources: list[Manifest] = [
        {
            "configMap": {
                "name": control_name(mesh.name),
                "items": [{"key": "config.yaml", "path": "config.yaml"}],
            }
        },
        source(keys_name(mesh.name), "keys", "noise.key", "derp.key"),
        source(admin_name(mesh.name), "admin", "token"),
        source(join_name(mesh.name), "join", "key"),
    ]
    if managed.secure:
        sources.append(source(tls_secret_name(mesh, managed), "tls", "tls.crt", "tls.key"))
    state: Manifest = {"name": "state", "emptyDir": {}}
    if managed.claim is not None:
        state = {"name": "state", "persistentVolumeClaim": {"claimName": control_name(mesh.name)}}
    return [
        {"name": "config", "projected": {"defaultMode": 0o440, "sources": sources}},
        state,
        {"name": "tmp", "emptyDir": {}},
    ]
