"""The fields of a custom resource, as paths, from its definition."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

import yaml

from support.doc_tables import ROOT

CRDS = ROOT / "charts" / "warren" / "crds"


def schema(plural: str) -> dict[str, Any]:
    """The schema of a kind's `spec`."""
    definition = yaml.safe_load((CRDS / f"warren.dev_{plural}.yaml").read_text())
    whole: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec: dict[str, Any] = whole["properties"]["spec"]
    return spec


def fields(
    node: Mapping[str, Any], path: str = "spec", whole: Container[str] = ()
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every field that holds a value, with its schema; those in `whole` are not looked into."""
    inner = node.get("properties")
    if not inner or path in whole:
        yield path, node
        return
    for name, child in inner.items():
        yield from fields(child, f"{path}.{name}", whole)


def unknown(value: Any, node: Mapping[str, Any], path: str = "spec") -> Iterator[str]:
    """Fields of a value that its schema does not have."""
    if isinstance(value, Mapping) and "properties" in node:
        for name, child in value.items():
            known = node["properties"].get(name)
            if known is None:
                yield f"{path}.{name}"
            else:
                yield from unknown(child, known, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from unknown(item, node.get("items", {}), f"{path}[]")
