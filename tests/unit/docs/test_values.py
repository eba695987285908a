"""docs/install.md names every value of the chart and every field of the resources, with their defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.crd import fields, schema, unknown
from support.doc_tables import DOCS, ROOT, blocks, given, table, value

DOCUMENT = "install.md"
VALUES = table(DOCUMENT, "value", "## The chart")
KINDS = {"Mesh": "meshes", "DerpRelay": "derprelays", "Node": "nodes"}


def flattened(values: Mapping[str, Any], whole: set[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted path; those in `whole` are not looked into."""
    for name, inner in values.items():
        here = f"{path}{name}"
        if isinstance(inner, dict) and here not in whole:
            yield from flattened(inner, whole, f"{here}.")
        else:
            yield here, inner


def test_every_value_of_the_chart_is_in_the_table_with_its_default() -> None:
    values = yaml.safe_load((ROOT / "charts" / "warren" / "values.yaml").read_text())
    documented = {name: value(cell) for name, cell in VALUES.column("default").items()}
    assert dict(flattened(values, VALUES.names)) == documented


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_resource_is_in_the_table_with_its_default(kind: str) -> None:
    documented = table(DOCUMENT, f"field of {kind}")
    found = dict(fields(schema(KINDS[kind]), whole=documented.names))
    assert found.keys() == documented.names
    for name, cell in documented.column("default").items():
        default = value(cell) if given(cell) else None
        assert found[name].get("default") == default, name


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """Our resources in the documents and the examples."""
    texts = [(path.name, text) for path in sorted(DOCS.rglob("*.md")) for text in blocks(path, "yaml")]
    texts += [
        (path.relative_to(ROOT).as_posix(), path.read_text())
        for path in sorted((ROOT / "examples").rglob("*.yaml"))
    ]
    loaded = ((name, document) for name, text in texts for document in yaml.safe_load_all(text) if document)
    return [
        (name, each) for name, each in loaded if str(each.get("apiVersion", "")).startswith("warren.dev/")
    ]


@pytest.mark.parametrize(("where", "manifest"), manifests())
def test_resources_of_documents_and_examples_have_known_fields_only(
    where: str, manifest: dict[str, Any]
) -> None:
    assert list(unknown(manifest["spec"], schema(KINDS[manifest["kind"]]))) == [], where


def test_the_build_arguments_are_those_of_the_containerfiles() -> None:
    files = [ROOT / "images" / "base", *(ROOT / name for name in COMPONENTS)]
    declared = {
        line.split()[1].partition("=")[0]
        for folder in files
        for line in Path(folder, "Containerfile").read_text().splitlines()
        if line.startswith("ARG ")
    }
    cells = [row[0] for row in table(DOCUMENT, "build argument").rows]
    assert {name.strip(" `") for cell in cells for name in cell.split(",")} == declared


COMPONENTS = ("operator", "control-server", "relay", "node-agent")
