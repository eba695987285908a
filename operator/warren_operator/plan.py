"""What to write so that the cluster holds what is desired. Pure.

Only fields of ours count: whatever else the API server, controllers or people put into an object is theirs.
Server-side apply removes fields that an earlier version of the operator wrote and this one does not; a
fingerprint of what was applied, kept in an annotation, tells when that is due. What others wrote and must not
be there (a null among what is desired) takes a patch of its own before.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from warren_operator.kinds import Kind, Manifest
from warren_operator.naming import APPLIED_ANNOTATION, FIELD_MANAGER, MANAGED_BY

Key = tuple[Kind, str]

_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_FACTORS: Final[dict[str | None, Decimal]] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}
# Lists whose entries are known by a name rather than a place.
_LIST_KEYS: Final = ("name", "mountPath", "containerPort", "uid")


@dataclass(frozen=True, slots=True)
class Apply:
    manifest: Manifest
    removal: Manifest | None = None
    """A merge patch to send before."""

    def __str__(self) -> str:
        return f"apply {self.manifest['kind']} {self.manifest['metadata']['name']}"


@dataclass(frozen=True, slots=True)
class Delete:
    kind: Kind
    namespace: str
    name: str
    uid: str | None = None

    def __str__(self) -> str:
        return f"delete {self.kind.kind} {self.name}"


Action = Apply | Delete


def plan(desired: Sequence[Manifest], observed: Mapping[Key, Manifest]) -> list[Action]:
    """First what is missing or different, in the order given; then what is ours and no longer wanted."""
    actions: list[Action] = []
    wanted: set[Key] = set()
    for manifest in desired:
        key = (Kind.of(manifest), manifest["metadata"]["name"])
        wanted.add(key)
        stamped = stamp(manifest)
        found = observed.get(key)
        if found is None or not contains(found, stamped):
            actions.append(Apply(stamped, removal(found, stamped) if found is not None else None))
    for key, found in observed.items():
        if key not in wanted and _is_disposable(key[0], found):
            metadata = found["metadata"]
            actions.append(Delete(key[0], metadata["namespace"], metadata["name"], metadata.get("uid")))
    return actions


def stamp(manifest: Manifest) -> Manifest:
    """The manifest with the fingerprint of itself."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED_ANNOTATION: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def removal(observed: object, desired: object) -> Manifest | None:
    """The merge patch that removes what is desired to be null, with the plain values beside it.

    Beside it, because the API server checks them together: a strategy without parameters has to be named.
    """
    if not isinstance(observed, Mapping) or not isinstance(desired, Mapping):
        return None
    patch: Manifest = {}
    for key, value in desired.items():
        inner = removal(observed.get(key), value)
        if inner is not None:
            patch[key] = inner
        elif value is None and observed.get(key) is not None:
            patch |= {name: plain for name, plain in desired.items() if isinstance(plain, str | int)}
            patch[key] = None
    return patch or None


def without_nulls(desired: Manifest) -> Manifest:
    """What server-side apply takes."""
    return {
        key: without_nulls(value) if isinstance(value, dict) else value
        for key, value in desired.items()
        if value is not None
    }


def contains(observed: object, desired: object) -> bool:
    """Whether everything desired is there. What is observed beyond that does not matter."""
    if isinstance(desired, Mapping):
        if not isinstance(observed, Mapping):
            return False
        return all(
            _is_unset(value, observed.get(key)) or contains(observed.get(key), value)
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        return isinstance(observed, list) and _contains_list(observed, desired)
    if isinstance(desired, str) and isinstance(observed, str) and desired != observed:
        return _same_quantity(desired, observed)
    return desired == observed


def _is_unset(desired: object, observed: object) -> bool:
    """The API server drops what is empty: false, {} and [] read back as nothing."""
    return observed is None and (desired is False or desired in ({}, [], ""))


def _contains_list(observed: list[object], desired: list[object]) -> bool:
    name = next((key for key in _LIST_KEYS if desired and all(_has(item, key) for item in desired)), None)
    if name is None:
        return len(observed) == len(desired) and all(map(contains, observed, desired))
    entries = {_value(item, name): item for item in observed}
    return len(observed) == len(desired) and all(
        contains(entries.get(_value(item, name)), item) for item in desired
    )


def _has(item: object, key: str) -> bool:
    return isinstance(item, Mapping) and key in item


def _value(item: object, key: str) -> object:
    return item.get(key) if isinstance(item, Mapping) else None


def _same_quantity(left: str, right: str) -> bool:
    first, second = _QUANTITY.match(left), _QUANTITY.match(right)
    if first is None or second is None:
        return False
    return Decimal(first[1]) * _FACTORS[first[2]] == Decimal(second[1]) * _FACTORS[second[2]]


def _is_disposable(kind: Kind, found: Manifest) -> bool:
    """Ours and without anything that would be lost: volumes and secrets go with their owner only."""
    if kind in (Kind.PERSISTENT_VOLUME_CLAIM, Kind.SECRET) or "deletionTimestamp" in found["metadata"]:
        return False
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY) == FIELD_MANAGER
