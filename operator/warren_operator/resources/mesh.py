"""The Mesh resource as a typed value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from warren_operator.errors import InvalidResourceError
from warren_operator.kinds import Manifest
from warren_operator.resources.reading import Reader
from warren_operator.resources.selector import LabelSelector, read_selector


@dataclass(frozen=True, slots=True)
class SecretRef:
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    type: str
    node_port: int | None
    stun_node_port: int | None
    external_traffic_policy: str
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    size: str
    storage_class: str | None


@dataclass(frozen=True, slots=True)
class EmbeddedRelay:
    enabled: bool
    region_id: int
    region_code: str
    region_name: str
    host: str
    derp_port: int
    stun_port: int


@dataclass(frozen=True, slots=True)
class Managed:
    url: str
    tls_secret: str | None
    service: ServiceSpec
    claim: ClaimSpec | None
    """Nothing means an emptyDir."""
    relay: EmbeddedRelay

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"


@dataclass(frozen=True, slots=True)
class External:
    url: str
    join: SecretRef
    ca: SecretRef | None


@dataclass(frozen=True, slots=True)
class DnsSpec:
    magic: bool
    resolvers: tuple[str, ...]
    search_domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentsSpec:
    enabled: bool
    port: int
    data_plane: str
    accept_routes: bool
    pod_cidrs: tuple[str, ...]
    service_cidrs: tuple[str, ...]
    node_selector: dict[str, str]
    tolerations: tuple[dict[str, Any], ...]

    @property
    def advertised(self) -> tuple[str, ...]:
        return self.pod_cidrs + self.service_cidrs


@dataclass(frozen=True, slots=True)
class ConfigMapRef:
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Mesh:
    name: str
    namespace: str
    generation: int
    manifest: Manifest
    base_domain: str
    v4: str
    v6: str
    dns: DnsSpec
    control: Managed | External
    agents: AgentsSpec
    policy: str | ConfigMapRef | None
    """Its text, or where that is."""
    relay_selector: LabelSelector
    image_control: str | None
    image_relay: str | None
    image_agent: str | None


def parse_mesh(manifest: Manifest) -> Mesh:
    problems: list[str] = []
    metadata = manifest["metadata"]
    spec = Reader(manifest.get("spec"), "spec", problems)
    addresses = spec.child("addresses")
    images = spec.child("images")
    mesh = Mesh(
        name=metadata["name"],
        namespace=metadata["namespace"],
        generation=metadata.get("generation", 0),
        manifest=manifest,
        base_domain=spec.text("baseDomain", "mesh.internal"),
        v4=addresses.text("v4", "100.64.0.0/10"),
        v6=addresses.text("v6", "fd7a:115c:a1e0::/48"),
        dns=_dns(spec.child("dns")),
        control=_control(spec.child("controlServer"), metadata["name"]),
        agents=_agents(spec.child("agents")),
        policy=_policy(spec.child("policy")) if spec.has("policy") else None,
        relay_selector=read_selector(spec.child("relaySelector")),
        image_control=images.optional_text("control"),
        image_relay=images.optional_text("relay"),
        image_agent=images.optional_text("agent"),
    )
    if problems:
        raise InvalidResourceError(problems)
    return mesh


def _dns(dns: Reader) -> DnsSpec:
    return DnsSpec(
        magic=dns.flag("magic", True),
        resolvers=dns.texts("resolvers"),
        search_domains=dns.texts("searchDomains"),
    )


def _policy(policy: Reader) -> str | ConfigMapRef:
    if policy.has("inline") == policy.has("configMapRef"):
        policy.problems.append(f"{policy.path}: give exactly one of inline and configMapRef")
    if policy.has("configMapRef"):
        reference = policy.child("configMapRef")
        return ConfigMapRef(reference.text("name"), reference.text("key", "policy.hujson"))
    return policy.text("inline")


def _control(control: Reader, mesh: str) -> Managed | External:
    if control.has("managed") == control.has("external"):
        control.problems.append(f"{control.path}: give exactly one of managed and external")
    if control.has("external"):
        external = control.child("external")
        ca = external.child("caSecretRef")
        join = external.child("joinSecretRef")
        return External(
            url=external.url("url"),
            join=SecretRef(join.text("name"), join.text("key", "key")),
            ca=SecretRef(ca.text("name"), ca.text("key", "ca.crt")) if external.has("caSecretRef") else None,
        )
    managed = control.child("managed")
    url = managed.url("url")
    return Managed(
        url=url,
        tls_secret=managed.child("tls").text("secretName") if managed.has("tls") else None,
        service=_service(managed.child("service")),
        claim=_claim(managed.child("storage")),
        relay=_relay(managed.child("relay"), mesh, url),
    )


def _service(service: Reader) -> ServiceSpec:
    return ServiceSpec(
        type=service.text("type", "ClusterIP"),
        node_port=service.optional_number("nodePort"),
        stun_node_port=service.optional_number("stunNodePort"),
        external_traffic_policy=service.text("externalTrafficPolicy", "Local"),
        annotations=service.text_map("annotations"),
    )


def _claim(storage: Reader) -> ClaimSpec | None:
    if storage.has("emptyDir"):
        return None
    claim = storage.child("persistentVolumeClaim")
    return ClaimSpec(size=claim.text("size", "1Gi"), storage_class=claim.optional_text("storageClassName"))


def _relay(relay: Reader, mesh: str, url: str) -> EmbeddedRelay:
    try:
        parts = urlsplit(url)
        host = parts.hostname or "unknown"
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = "unknown", 443
    code = relay.text("regionCode", mesh)
    return EmbeddedRelay(
        enabled=relay.flag("enabled", True),
        region_id=relay.number("regionID", 900),
        region_code=code,
        region_name=relay.text("regionName", code),
        host=relay.text("host", host),
        derp_port=relay.number("derpPort", port),
        stun_port=relay.number("stunPort", 3478),
    )


def _agents(agents: Reader) -> AgentsSpec:
    advertise = agents.child("advertise")
    tolerations = agents.value.get("tolerations")
    return AgentsSpec(
        enabled=agents.flag("enabled", True),
        port=agents.number("port", 41641),
        data_plane=agents.text("dataPlane", "auto"),
        accept_routes=agents.flag("acceptRoutes", True),
        pod_cidrs=advertise.texts("podCIDRs"),
        service_cidrs=advertise.texts("serviceCIDRs"),
        node_selector=agents.text_map("nodeSelector"),
        tolerations=({"operator": "Exists"},)
        if tolerations is None
        else tuple(dict(item) for item in tolerations),
    )
