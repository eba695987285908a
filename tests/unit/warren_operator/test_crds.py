"""The kinds as files: what can be said of them without an API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from support.operator_cases import EXAMPLES, ROOT
from warren_operator.kinds import Kind

CRDS = sorted((ROOT / "crds").glob("*.yaml"))
CHART = ROOT / "charts" / "warren"


def load(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(path.read_text())
    return value


def schema(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(found: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, found
    for name, child in found.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            yield from nodes(found[name], f"{path}[]")


def test_the_chart_installs_exactly_these_kinds() -> None:
    assert [path.name for path in CRDS] == sorted(path.name for path in (CHART / "crds").iterdir())
    for path in CRDS:
        assert path.read_text() == (CHART / "crds" / path.name).read_text()


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_every_field_has_a_type_and_nothing_unknown_is_kept(path: Path) -> None:
    for place, found in nodes(schema(load(path))):
        assert "type" in found, place
        assert "x-kubernetes-preserve-unknown-fields" not in found, place


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_every_list_and_text_of_a_spec_is_bounded(path: Path) -> None:
    for place, found in nodes(schema(load(path))["properties"]["spec"]):
        if found["type"] == "array":
            assert "maxItems" in found, place
        if found["type"] == "string":
            assert "maxLength" in found or "enum" in found, place


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_every_kind_has_status_columns_short_name_and_category(path: Path) -> None:
    crd = load(path)
    version = crd["spec"]["versions"][0]
    assert crd["spec"]["names"]["shortNames"]
    assert crd["spec"]["names"]["categories"] == ["warren"]
    assert version["subresources"]["status"] == {}
    assert version["additionalPrinterColumns"]
    condition = schema(crd)["properties"]["status"]["properties"]["conditions"]
    assert condition["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_examples_are_of_these_kinds_and_have_no_unknown_field(path: Path) -> None:
    kinds = {crd["spec"]["names"]["kind"]: crd for crd in map(load, CRDS)}
    ours = [each for each in yaml.safe_load_all(path.read_text()) if each["kind"] in kinds]
    assert ours
    for example in ours:
        jsonschema.validate(example, closed(schema(kinds[example["kind"]])))


def closed(found: dict[str, Any]) -> dict[str, Any]:
    """The schema with unknown fields refused, as strict decoding does."""
    result = dict(found)
    if found.get("properties"):
        result["properties"] = {name: closed(child) for name, child in found["properties"].items()}
        result["additionalProperties"] = False
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            result[name] = closed(found[name])
    return result


def test_the_operator_and_the_files_agree_on_the_kinds() -> None:
    known = {(kind.kind, kind.plural) for kind in Kind if kind.api_version.startswith("warren.dev/")}
    names = [load(path)["spec"]["names"] for path in CRDS]
    assert {(name["kind"], name["plural"]) for name in names} == known


def test_the_values_are_what_their_schema_says() -> None:
    values = load(CHART / "values.yaml")
    jsonschema.validate(values, yaml.safe_load((CHART / "values.schema.json").read_text()))
