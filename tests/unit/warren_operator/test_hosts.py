"""One Mesh with agents in a cluster."""

from __future__ import annotations

from typing import Any

from warren_operator.hosts import taken_by


def mesh(
    name: str, created: str, uid: str = "", *, agents: bool = True, runs: bool = False
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "n", "name": name, "uid": uid or name, "creationTimestamp": created},
        "spec": {"agents": {"enabled": agents}},
        "status": {"agents": {"desired": 1, "ready": 1} if runs else None},
    }


OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def test_the_older_mesh_has_the_hosts() -> None:
    old, new = mesh("b", OLD), mesh("a", NEW)
    assert taken_by(new, [old, new]) == "n/b"
    assert taken_by(old, [old, new]) is None


def test_meshes_made_in_the_same_second_are_told_apart_by_their_uid() -> None:
    first, second = mesh("z", OLD, "1"), mesh("a", OLD, "2")
    assert taken_by(second, [first, second]) == "n/z"
    assert taken_by(first, [first, second]) is None


def test_a_mesh_without_agents_takes_no_hosts() -> None:
    assert taken_by(mesh("a", NEW), [mesh("b", OLD, agents=False)]) is None


def test_agents_that_run_stay_where_an_older_mesh_wants_some_later() -> None:
    old, new = mesh("old", OLD), mesh("new", NEW, runs=True)
    assert taken_by(new, [old, new]) is None
    assert taken_by(old, [old, new]) == "n/new"


def test_a_mesh_that_goes_has_its_hosts_until_they_are_clean() -> None:
    going = mesh("old", OLD, runs=True)
    going["metadata"]["deletionTimestamp"] = NEW
    assert taken_by(mesh("new", NEW), [going]) == "n/old"
    going["status"] = {}
    assert taken_by(mesh("new", NEW), [going]) is None


def test_defaults_of_the_schema_hold_for_a_bare_mesh() -> None:
    bare = mesh("old", OLD)
    bare["spec"], bare["status"] = {}, None
    assert taken_by(mesh("new", NEW), [bare]) == "n/old"
