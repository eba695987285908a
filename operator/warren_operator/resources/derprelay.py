"""The DerpRelay resource as a typed value."""

from __future__ import annotations

from dataclasses import dataclass

from warren_operator.errors import InvalidResourceError
from warren_operator.kinds import Manifest
from warren_operator.resources.mesh import ServiceSpec
from warren_operator.resources.reading import Reader


@dataclass(frozen=True, slots=True)
class DerpRelay:
    name: str
    namespace: str
    generation: int
    manifest: Manifest
    labels: dict[str, str]
    region_id: int
    region_code: str
    region_name: str
    replicas: int
    host_network: bool
    service: ServiceSpec
    host: str
    derp_port: int
    stun_port: int
    node_selector: dict[str, str]
    tls_secret: str | None
    members_only: bool
    deleting: bool

    @property
    def has_hosts(self) -> bool:
        """Whether clients reach each replica at its own node; else all are behind one address."""
        return self.host_network and self.replicas > 1


def parse_relay(manifest: Manifest) -> DerpRelay:
    problems: list[str] = []
    metadata = manifest["metadata"]
    spec = Reader(manifest.get("spec"), "spec", problems)
    exposure = spec.child("exposure")
    kind = exposure.text("type", "NodePort")
    code = spec.text("regionCode", metadata["name"])
    relay = DerpRelay(
        name=metadata["name"],
        namespace=metadata["namespace"],
        generation=metadata.get("generation", 0),
        manifest=manifest,
        labels=dict(metadata.get("labels") or {}),
        region_id=spec.number("regionID", 0),
        region_code=code,
        region_name=spec.text("regionName", code),
        replicas=spec.number("replicas", 1),
        host_network=kind == "HostNetwork",
        service=ServiceSpec(
            type="ClusterIP" if kind == "HostNetwork" else kind,
            node_port=exposure.optional_number("nodePort"),
            stun_node_port=exposure.optional_number("stunNodePort"),
            external_traffic_policy=exposure.text("externalTrafficPolicy", "Local"),
            annotations=exposure.text_map("annotations"),
        ),
        host=exposure.text("host"),
        derp_port=exposure.number("derpPort", 443),
        stun_port=exposure.number("stunPort", 3478),
        node_selector=spec.text_map("nodeSelector"),
        tls_secret=spec.child("tls").text("secretName") if spec.has("tls") else None,
        members_only=spec.text("admission", "Members") == "Members",
        deleting="deletionTimestamp" in metadata,
    )
    if not 900 <= relay.region_id <= 999:
        problems.append("spec.regionID: must be from 900 to 999")
    if problems:
        raise InvalidResourceError(problems)
    return relay
