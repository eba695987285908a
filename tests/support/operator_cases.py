"""Resources and the manifests that the operator builds of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from warren_operator.config import Images
from warren_operator.desired.agents import agent_objects, cleanup_daemon_set
from warren_operator.desired.control import control_objects
from warren_operator.desired.relay import admission, relay_objects
from warren_operator.kinds import Manifest
from warren_operator.resources.derprelay import parse_relay
from warren_operator.resources.mesh import Managed, parse_mesh

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "examples"
IMAGES: Final = Images("warren-control:1", "warren-relay:1", "warren-agent:1")


def example(path: str, **spec: Any) -> Manifest:
    """A resource of the examples, with the number the API server would give it."""
    manifest: Manifest = yaml.safe_load((EXAMPLES / path).read_text())
    manifest["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    manifest["metadata"]["generation"] = 1
    manifest["spec"] |= spec
    return manifest


def _with_everything() -> Manifest:
    manifest = example("home/mesh.yaml", baseDomain="net.example.org", images={"agent": "mine/agent:2"})
    managed = manifest["spec"]["controlServer"]["managed"]
    del managed["tls"]
    managed["storage"] = {"persistentVolumeClaim": {"size": "2Gi", "storageClassName": "fast"}}
    managed["relay"] = {"enabled": False}
    managed["service"] = {"type": "LoadBalancer", "annotations": {"example.org/pool": "public"}}
    manifest["spec"]["dns"] = {"resolvers": ["192.0.2.53"], "searchDomains": ["example.org"]}
    manifest["spec"]["agents"] |= {
        "dataPlane": "kernel",
        "port": 51820,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [],
    }
    return manifest


CASES: Final[dict[str, Manifest]] = {
    "managed": example("home/mesh.yaml"),
    "managed-everything": _with_everything(),
    "external": example("office/mesh.yaml"),
    "relay": example("home/derprelay.yaml"),
    "relay-hosts": example(
        "home/derprelay.yaml",
        replicas=2,
        exposure={"type": "HostNetwork", "host": "relay.example.org", "derpPort": 443},
    ),
    "relay-open": example("home/derprelay.yaml", admission="Anyone", tls={"secretName": "mine"}),
}


def built(case: str, resource: Manifest | None = None) -> list[Manifest]:
    """All that is made for a case, the clean-up of a Mesh included."""
    manifest = CASES[case] if resource is None else resource
    if manifest["kind"] == "DerpRelay":
        members = admission(parse_mesh(CASES["managed"]), private_ca=True)
        return relay_objects(parse_relay(manifest), members, IMAGES)
    mesh = parse_mesh(manifest)
    control = control_objects(mesh, mesh.control, IMAGES) if isinstance(mesh.control, Managed) else []
    return [*control, *agent_objects(mesh, IMAGES, private_ca=True), cleanup_daemon_set(mesh, IMAGES)]
