"""What a DerpRelay runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warren_operator.config import Images
from warren_operator.desired.agents import ca_ref
from warren_operator.desired.control import service_spec
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
from warren_operator.naming import (
    control_name,
    labels,
    relay_keys_name,
    relay_name,
    relay_peers_name,
    relay_tls_name,
    selector,
)
from warren_operator.resources.derprelay import DerpRelay
from warren_operator.resources.mesh import Managed, Mesh, SecretRef

RELAY: Final = "relay"
LISTEN_PORT: Final = 8443
LOW_PORTS_COMMAND: Final = ("/app/venv/bin/python-low-ports", "-P", "-m", "warren_relay")
"""Started directly: a shell in between would lose the capability, which non-root has by this file alone."""
STUN_LISTEN_PORT: Final = 3478
STATE: Final = "/var/lib/warren-relay"
"""A key of its own for each pod, for as long as the pod lives: clients learn it each time they connect."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Which control server says who is a member."""

    url: str
    ca: SecretRef | None
    image: str | None
    """The mesh's own choice of image."""


def admission(mesh: Mesh, *, private_ca: bool) -> Admission:
    """By the Service where the operator made the certificate, which then names it; else as clients do."""
    url = mesh.control.url
    if isinstance(mesh.control, Managed) and mesh.control.secure and mesh.control.tls_secret is None:
        url = f"https://{control_name(mesh.name)}.{mesh.namespace}.svc"
    return Admission(f"{url}/verify", ca_ref(mesh) if private_ca else None, mesh.image_relay)


def relay_objects(relay: DerpRelay, members: Admission | None, images: Images) -> list[Manifest]:
    """In the order in which they are made."""
    config = config_map(relay_name(relay.name), relay.manifest, _labels(relay), relay_config(relay, members))
    account = {
        **head(Kind.SERVICE_ACCOUNT, relay_name(relay.name), relay.manifest, _labels(relay)),
        "automountServiceAccountToken": False,
    }
    deployment = _deployment(relay, members, images, fingerprint(config))
    return [config, account, _service(relay), _peers_service(relay), deployment]


def tls_secret_name(relay: DerpRelay) -> str:
    return relay.tls_secret or relay_tls_name(relay.name)


def relay_config(relay: DerpRelay, members: Admission | None) -> Manifest:
    port, stun_port = _listen_ports(relay)
    config: Manifest = {
        "listen": f"0.0.0.0:{port}",
        "tls": {"certificate": "/etc/warren/tls/tls.crt", "key": "/etc/warren/tls/tls.key"},
        "health_listen": f"0.0.0.0:{HEALTH_PORT}",
        "stun_listen": f"0.0.0.0:{stun_port}",
        "derp_key_file": f"{STATE}/derp.key",
        "admission": {"mode": "open"},
        "mesh": {
            "key_file": "/etc/warren/keys/mesh.key",
            "discover": f"{relay_peers_name(relay.name)}.{relay.namespace}.svc:{port}",
            # All replicas show the same certificate, whose name is that of the region and not of a pod.
            "certificate_name": relay.host,
            "ca_file": "/etc/warren/tls/tls.crt",
        },
    }
    if relay.members_only and members is not None:
        config["admission"] = {"mode": "members", "verify_url": members.url}
        if members.ca is not None:
            config["admission"]["ca_file"] = "/etc/warren/ca/ca.crt"
    return config


def _labels(relay: DerpRelay) -> dict[str, str]:
    return labels(RELAY, relay=relay.name)


def _listen_ports(relay: DerpRelay) -> tuple[int, int]:
    if relay.host_network:
        return relay.derp_port, relay.stun_port
    return LISTEN_PORT, STUN_LISTEN_PORT


def _service(relay: DerpRelay) -> Manifest:
    service = head(Kind.SERVICE, relay_name(relay.name), relay.manifest, _labels(relay))
    if relay.service.annotations:
        service["metadata"]["annotations"] = dict(relay.service.annotations)
    service["spec"] = service_spec(
        relay.service,
        selector(RELAY, relay=relay.name),
        [
            ("https", relay.derp_port, "https", "TCP", relay.service.node_port),
            ("stun", relay.stun_port, "stun", "UDP", relay.service.stun_node_port),
        ],
    )
    return service


def _peers_service(relay: DerpRelay) -> Manifest:
    """Its name has the addresses of all pods, also of those that wait for links before they are ready."""
    service = head(Kind.SERVICE, relay_peers_name(relay.name), relay.manifest, _labels(relay))
    port, _ = _listen_ports(relay)
    service["spec"] = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(RELAY, relay=relay.name),
        "ports": [{"name": "https", "port": port, "targetPort": "https", "protocol": "TCP"}],
    }
    return service


def _deployment(relay: DerpRelay, members: Admission | None, images: Images, config: str) -> Manifest:
    owners = {"relay": relay.name}
    deployment = head(Kind.DEPLOYMENT, relay_name(relay.name), relay.manifest, _labels(relay))
    pod: Manifest = {
        "serviceAccountName": relay_name(relay.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": unprivileged_pod(),
        **pull_secrets(images),
        "containers": [_container(relay, members, images)],
        "volumes": _volumes(relay, members),
    }
    if relay.node_selector:
        pod["nodeSelector"] = dict(relay.node_selector)
    if relay.host_network:
        pod |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    if relay.replicas > 1:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": match(RELAY, owners),
            }
        ]
    # On the host's network a new pod gets the port only when the old one has left it.
    surge, unavailable = (0, 1) if relay.host_network else (1, 0)
    deployment["spec"] = {
        "replicas": relay.replicas,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
        },
        "selector": match(RELAY, owners),
        "template": pod_template(RELAY, owners, config, pod),
    }
    return deployment


def _container(relay: DerpRelay, members: Admission | None, images: Images) -> Manifest:
    port, stun_port = _listen_ports(relay)
    security = unprivileged_container()
    command = ["warren-relay"]
    if relay.host_network and min(port, stun_port) < 1024:
        security["capabilities"] = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
        command = list(LOW_PORTS_COMMAND)
    return {
        "name": "relay",
        "image": (members.image if members is not None else None) or images.relay,
        "imagePullPolicy": images.pull_policy,
        "command": [*command, "serve", "--config", "/etc/warren/config.yaml"],
        "ports": [
            {"name": "https", "containerPort": port, "protocol": "TCP"},
            {"name": "stun", "containerPort": stun_port, "protocol": "UDP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "securityContext": security,
        "resources": requests("50m", "64Mi"),
        "startupProbe": http_probe("/health", "health", period=1, failures=60),
        "livenessProbe": http_probe("/health", "health", period=10, failures=6),
        "readinessProbe": http_probe("/ready", "health", period=2, failures=2),
        "volumeMounts": [
            mount("config", "/etc/warren", read_only=True),
            mount("state", STATE),
            mount("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ],
    }


def _volumes(relay: DerpRelay, members: Admission | None) -> list[Manifest]:
    def source(secret: str, folder: str, *keys: str) -> Manifest:
        items = [{"key": key, "path": f"{folder}/{key.rpartition('/')[2]}"} for key in keys]
        return {"secret": {"name": secret, "items": items}}

    sources: list[Manifest] = [
        {
            "configMap": {
                "name": relay_name(relay.name),
                "items": [{"key": "config.yaml", "path": "config.yaml"}],
            }
        },
        source(relay_keys_name(relay.name), "keys", "mesh.key"),
        source(tls_secret_name(relay), "tls", "tls.crt", "tls.key"),
    ]
    if relay.members_only and members is not None and members.ca is not None:
        ca = members.ca
        sources.append({"secret": {"name": ca.name, "items": [{"key": ca.key, "path": "ca/ca.crt"}]}})
    return [
        {"name": "config", "projected": {"defaultMode": 0o440, "sources": sources}},
        {"name": "state", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
