"""A Kubernetes API in memory, with what the operator's `Cluster` promises."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from warren_operator.errors import ConflictError, NotFoundError
from warren_operator.kinds import Kind, Manifest

Key = tuple[Kind, str, str]


class FakeCluster:
    def __init__(self, *manifests: Manifest) -> None:
        self.objects: dict[Key, Manifest] = {}
        self.logs: dict[str, str] = {}
        """The log of each pod, by name."""
        self.writes: list[str] = []
        self._versions = itertools.count(1)
        for manifest in manifests:
            self.put(manifest)

    def put(self, manifest: Manifest) -> Manifest:
        """As if someone else had made or changed it."""
        kind, metadata = Kind.of(manifest), manifest["metadata"]
        key = (kind, metadata.setdefault("namespace", "default"), metadata["name"])
        known = self.objects.get(key)
        stored = copy.deepcopy(manifest)
        fresh = {"uid": f"uid-{kind.kind}-{metadata['name']}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        stored["metadata"] = {**fresh, **stored["metadata"]}
        stored["metadata"].setdefault("generation", 1)
        if known is not None and known.get("spec") != stored.get("spec"):
            stored["metadata"]["generation"] = known["metadata"]["generation"] + 1
        if known is not None and "status" in known:
            stored.setdefault("status", known["status"])
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = stored
        return copy.deepcopy(stored)

    def set_status(self, kind: Kind, name: str, status: Manifest, namespace: str = "default") -> None:
        self.objects[(kind, namespace, name)]["status"] = status

    def names(self, kind: Kind) -> list[str]:
        return sorted(name for found, _, name in self.objects if found is kind)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        return copy.deepcopy(self.objects.get((kind, namespace or "default", name)))

    async def list(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        wanted = (labels or {}).items()
        return [
            copy.deepcopy(manifest)
            for (found, where, _), manifest in sorted(self.objects.items(), key=lambda item: item[0][2])
            if found is kind
            and (namespace is None or where == namespace)
            and wanted <= (manifest["metadata"].get("labels") or {}).items()
        ]

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        if (kind, metadata["namespace"], metadata["name"]) in self.objects:
            raise ConflictError(f"{metadata['name']} already exists")
        self.writes.append(f"create {kind.kind} {metadata['name']}")
        return self.put(manifest)

    async def apply(self, manifest: Manifest) -> Manifest:
        kind, metadata = Kind.of(manifest), manifest["metadata"]
        self.writes.append(f"apply {kind.kind} {metadata['name']}")
        known = self.objects.get((kind, metadata["namespace"], metadata["name"]), {})
        return self.put(_merged(known, manifest))

    async def merge(
        self, kind: Kind, namespace: str, name: str, patch: Manifest, subresource: str | None = None
    ) -> Manifest:
        known = self.objects.get((kind, namespace, name))
        if known is None:
            raise NotFoundError(f"no {kind.kind} {name}")
        version = (patch.get("metadata") or {}).get("resourceVersion")
        if version is not None and version != known["metadata"]["resourceVersion"]:
            raise ConflictError(f"{name} was changed meanwhile")
        self.writes.append(f"merge {kind.kind} {name}{f' {subresource}' if subresource else ''}")
        if subresource == "status":
            patch = {"status": patch["status"]}
        merged = self.put(_merged(known, patch))
        self._finish(kind, namespace, name)
        return merged

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None = None) -> None:
        known = self.objects.get((kind, namespace, name))
        if known is None or (uid is not None and known["metadata"]["uid"] != uid):
            return
        self.writes.append(f"delete {kind.kind} {name}")
        self.mark_deleted(kind, namespace, name)

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int) -> str:
        if pod not in self.logs:
            raise NotFoundError(f"no pod {pod}")
        return self.logs[pod]

    def mark_deleted(self, kind: Kind, namespace: str, name: str, when: datetime | None = None) -> None:
        moment = when or datetime(2026, 1, 1, tzinfo=UTC)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.objects[(kind, namespace, name)]["metadata"].setdefault("deletionTimestamp", stamp)
        self._finish(kind, namespace, name)

    def _finish(self, kind: Kind, namespace: str, name: str) -> None:
        metadata = self.objects[(kind, namespace, name)]["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            del self.objects[(kind, namespace, name)]


def _merged(old: Any, patch: Any) -> Any:
    """As a JSON merge patch."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
