"""Which Node object stands for which machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from warren_operator.machines import HomeRelay, Machine
from warren_operator.members import bind, lost_status, new_node, patch_for, status_of, status_patch
from warren_operator.naming import FIELD_MANAGER, MANAGED_BY
from warren_operator.resources.mesh import parse_mesh
from warren_operator.resources.node import NodeResource, parse_node

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def machine(number: int, name: str, **fields: Any) -> Machine:
    return Machine(id=number, name=name, machine_key=f"mkey:{name}", **fields)


def node(name: str, /, *, ours: bool = False, bound: Machine | None = None, **spec: Any) -> NodeResource:
    manifest: dict[str, Any] = {
        "apiVersion": "warren.dev/v1alpha1",
        "kind": "Node",
        "metadata": {"name": name, "namespace": "default", "generation": 3},
        "spec": {"meshRef": {"name": "home"}, **spec},
    }
    if ours:
        manifest["metadata"]["labels"] = {MANAGED_BY: FIELD_MANAGER}
    if bound is not None:
        manifest["status"] = {"id": bound.id, "keys": {"machine": bound.machine_key}}
    return parse_node(manifest)


def pairs(machines: list[Machine], nodes: list[NodeResource]) -> list[tuple[str, int]]:
    return [(found.name, stands_for.id) for found, stands_for in bind(machines, nodes).pairs]


def test_a_machine_without_a_node_is_new() -> None:
    web = machine(1, "web")
    assert bind([web], []).new == (web,)


def test_a_node_written_beforehand_claims_the_machine_of_its_name() -> None:
    assert pairs([machine(1, "web"), machine(2, "nas")], [node("nas")]) == [("nas", 2)]
    assert pairs([machine(2, "nas")], [node("storage", name="nas")]) == [("storage", 2)]


def test_a_node_stays_with_its_machine_when_that_is_renamed() -> None:
    before, after = machine(1, "web"), Machine(id=1, name="page", machine_key="mkey:web")
    assert pairs([after], [node("web", bound=before)]) == [("web", 1)]


def test_a_number_that_another_machine_got_is_no_bond() -> None:
    """A control server that lost its database counts from one again."""
    binding = bind([machine(1, "nas")], [node("web", ours=True, bound=machine(1, "web"))])
    assert [found.name for found in binding.lost] == ["web"]
    assert [found.name for found in binding.new] == ["nas"]


def test_a_node_whose_machine_came_back_with_new_keys_is_claimed_again() -> None:
    back = Machine(id=7, name="web", machine_key="mkey:other")
    assert pairs([back], [node("web", ours=True, bound=machine(1, "web"))]) == [("web", 7)]


def test_what_a_person_wrote_is_claimed_before_what_stood_for_a_machine() -> None:
    mine = node("web", ours=True, bound=machine(1, "web"))
    written = node("page", name="web")
    assert pairs([Machine(id=9, name="web", machine_key="mkey:new")], [mine, written]) == [("page", 9)]


@pytest.mark.parametrize(
    ("spec", "patch"),
    [
        ({}, {}),
        ({"name": "web"}, {}),
        ({"name": "page"}, {"name": "page"}),
        ({"tags": ["tag:b", "tag:a"]}, {}),
        ({"tags": []}, {"tags": []}),
        ({"approvedRoutes": ["10.2.0.0/16"]}, {"approved_routes": ["10.2.0.0/16"]}),
        ({"approvedRoutes": ["10.1.0.0/16"]}, {}),
        ({"disabled": True}, {"disabled": True}),
        ({"disabled": False}, {}),
        ({"addresses": {"v4": "100.64.0.1"}}, {}),
        ({"addresses": {"v4": "100.64.0.9"}}, {"addresses": ["100.64.0.9"]}),
    ],
)
def test_only_what_the_spec_says_and_the_machine_is_not_is_changed(
    spec: dict[str, Any], patch: dict[str, Any]
) -> None:
    web = machine(
        1,
        "web",
        tags=("tag:a", "tag:b"),
        approved_routes=("10.1.0.0/16",),
        addresses=("100.64.0.1", "fd7a:115c:a1e0::1"),
    )
    assert patch_for(node("web", **spec), web) == patch


def test_the_status_tells_what_the_control_server_knows() -> None:
    web = machine(
        1,
        "web",
        addresses=("100.64.0.1",),
        endpoints=("203.0.113.20:41641",),
        home_relay=HomeRelay(900, "home"),
        online=True,
        last_seen="2026-01-02T03:04:05.678901Z",
    )
    status = status_of(node("web").manifest, web, None, NOW)
    assert status["homeRelay"] == {"regionID": 900, "code": "home"}
    assert status["lastSeen"] == "2026-01-02T03:04:05Z"
    assert status["observedGeneration"] == 3
    assert [(item["type"], item["status"], item["reason"]) for item in status["conditions"]] == [
        ("Ready", "True", "Joined")
    ]


def test_a_refused_change_is_told_in_the_words_of_the_control_server() -> None:
    status = status_of(node("web").manifest, machine(1, "web"), "the name page is taken", NOW)
    assert status["conditions"][0]["reason"] == "Refused"
    assert status["conditions"][0]["message"] == "the name page is taken"


def test_being_seen_again_is_not_written_each_time() -> None:
    web = node("web").manifest
    first = status_of(web, machine(1, "web", online=True, last_seen="2026-01-02T03:00:00Z"), None, NOW)
    told = {**web, "status": first}
    soon = status_of(told, machine(1, "web", online=True, last_seen="2026-01-02T03:01:00Z"), None, NOW)
    later = status_of(told, machine(1, "web", online=True, last_seen="2026-01-02T03:06:00Z"), None, NOW)
    gone = status_of(told, machine(1, "web", online=False, last_seen="2026-01-02T03:01:00Z"), None, NOW)
    assert status_patch(told, first) is None
    assert status_patch(told, soon) is None
    assert status_patch(told, later) == {"lastSeen": "2026-01-02T03:06:00Z"}
    assert status_patch(told, gone) == {"online": False, "lastSeen": "2026-01-02T03:01:00Z"}


def test_a_node_that_waits_for_its_machine_says_so() -> None:
    waiting = lost_status(node("nas").manifest, NOW)
    gone = lost_status(node("nas", bound=machine(1, "nas")).manifest, NOW)
    assert waiting["conditions"][0]["message"] == "no machine of this name has joined yet"
    assert "online" not in waiting
    assert gone["conditions"][0]["message"] == "the machine is not registered any more"
    assert gone["online"] is False


def test_a_new_node_takes_a_name_that_is_free() -> None:
    mesh = parse_mesh(
        {
            "apiVersion": "warren.dev/v1alpha1",
            "kind": "Mesh",
            "metadata": {"name": "home", "namespace": "default", "uid": "u"},
            "spec": {"controlServer": {"managed": {"url": "https://203.0.113.10"}}},
        }
    )
    names = [
        new_node(mesh, machine(1, "web"), taken)["metadata"]["name"]
        for taken in (set(), {"web"}, {"web", "home-web"})
    ]
    assert names == ["web", "home-web", "home-web-1"]
