"""What to write so that the cluster holds what is desired."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_operator.kinds import Kind
from warren_operator.naming import FIELD_MANAGER, MANAGED_BY
from warren_operator.plan import Apply, contains, plan, stamp, without_nulls

OURS = {MANAGED_BY: FIELD_MANAGER}


def manifest(kind: str = "ConfigMap", name: str = "a", **fields: Any) -> dict[str, Any]:
    version = {"Deployment": "apps/v1"}.get(kind, "v1")
    metadata = {"name": name, "namespace": "default", "labels": OURS}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def lines(*args: Any) -> list[str]:
    return [str(action) for action in plan(*args)]


def test_what_is_missing_is_applied_and_what_is_there_is_left_alone() -> None:
    config = manifest(data={"x": "1"})
    assert lines([config], {}) == ["apply ConfigMap a"]
    assert lines([config], {(Kind.CONFIG_MAP, "a"): stamp(config)}) == []


def test_fields_of_others_do_not_count() -> None:
    config = manifest(data={"x": "1"})
    found = copy.deepcopy(stamp(config))
    found["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": []}
    found["metadata"]["annotations"]["example.org/seen"] = "yes"
    found["data"]["theirs"] = "2"
    assert lines([config], {(Kind.CONFIG_MAP, "a"): found}) == []


def test_a_field_of_ours_that_someone_changed_is_taken_back() -> None:
    config = manifest(data={"x": "1"})
    found = copy.deepcopy(stamp(config))
    found["data"]["x"] = "2"
    assert lines([config], {(Kind.CONFIG_MAP, "a"): found}) == ["apply ConfigMap a"]


def test_a_field_that_is_no_longer_desired_is_removed() -> None:
    before = manifest(data={"x": "1", "y": "2"})
    after = manifest(data={"x": "1"})
    assert lines([after], {(Kind.CONFIG_MAP, "a"): stamp(before)}) == ["apply ConfigMap a"]


def test_what_is_ours_and_unwanted_goes_after_what_is_new() -> None:
    old, new = manifest(name="old"), manifest(name="new")
    assert lines([new], {(Kind.CONFIG_MAP, "old"): stamp(old)}) == [
        "apply ConfigMap new",
        "delete ConfigMap old",
    ]


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Secret"])
def test_what_holds_data_goes_with_its_owner_only(kind: str) -> None:
    found = manifest(kind)
    assert lines([], {(Kind.of(found), "a"): found}) == []


def test_what_is_not_ours_or_going_already_is_not_deleted() -> None:
    foreign = manifest()
    foreign["metadata"] = {**foreign["metadata"], "labels": {}}
    going = manifest(name="b")
    going["metadata"] = {**going["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert lines([], {(Kind.CONFIG_MAP, "a"): foreign, (Kind.CONFIG_MAP, "b"): going}) == []


def test_lists_are_compared_by_the_name_of_their_entries() -> None:
    desired = [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]
    assert contains([{"name": "b", "value": "2"}, {"name": "a", "value": "1", "x": 1}], desired)
    assert not contains([{"name": "a", "value": "1"}], desired)
    assert not contains([{"name": "a", "value": "1"}, {"name": "c", "value": "2"}], desired)
    assert not contains([{"name": "a"}, {"name": "b", "value": "2"}, {"name": "c"}], desired)


@pytest.mark.parametrize(
    ("left", "right"), [("1024Mi", "1Gi"), ("1000m", "1"), ("0.5", "500m"), ("1G", "1000M")]
)
def test_equal_quantities_are_equal_however_they_are_written(left: str, right: str) -> None:
    assert contains(left, right)


@pytest.mark.parametrize(("left", "right"), [("1Gi", "1G"), ("1", "1x"), ("a", "b")])
def test_other_texts_differ(left: str, right: str) -> None:
    assert not contains(left, right)


def test_what_the_api_server_drops_because_it_is_empty_is_no_difference() -> None:
    assert contains({}, {"emptyDir": {}, "hostNetwork": False, "items": []})
    assert not contains({}, {"replicas": 1})


def test_what_must_not_be_there_is_removed_before() -> None:
    strategy = {"type": "Recreate", "rollingUpdate": None}
    desired = manifest("Deployment", spec={"strategy": strategy, "replicas": 1})
    found = copy.deepcopy(stamp(desired))
    assert lines([desired], {(Kind.DEPLOYMENT, "a"): without_nulls(found)}) == []
    found["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    (action,) = plan([desired], {(Kind.DEPLOYMENT, "a"): found})
    assert isinstance(action, Apply)
    assert action.removal == {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(json)
def test_everything_contains_itself(value: object) -> None:
    assert contains(value, value)


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=4))
def test_applying_a_plan_leaves_nothing_to_do(data: dict[str, str]) -> None:
    desired = [manifest(data=data)]
    observed = {
        (Kind.of(action.manifest), action.manifest["metadata"]["name"]): action.manifest
        for action in plan(desired, {})
        if hasattr(action, "manifest")
    }
    assert plan(desired, observed) == []
