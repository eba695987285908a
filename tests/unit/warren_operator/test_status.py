"""What a Mesh and a DerpRelay are told about themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from warren_operator.conditions import Condition, Truth, merged, notes
from warren_operator.status import (
    AgentCounts,
    ControlAnswer,
    MeshFacts,
    agent_counts,
    deployment_condition,
    mesh_conditions,
    relay_conditions,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def deployment(**status: Any) -> dict[str, Any]:
    running = {"observedGeneration": 2, "updatedReplicas": 1, "availableReplicas": 1}
    return {"metadata": {"name": "home-control", "generation": 2}, "status": {**running, **status}}


def facts(**changes: Any) -> MeshFacts:
    whole: dict[str, Any] = {
        "managed": True,
        "agents_wanted": True,
        "deployment": deployment(),
        "answer": ControlAnswer(nodes=2, online=2),
        "agents": AgentCounts(wanted=1, ready=1, current=True),
    }
    return MeshFacts(**{**whole, **changes})


def shown(conditions: list[Condition]) -> list[str]:
    return [f"{condition.type}={condition.status.value} {condition.reason}" for condition in conditions]


def test_a_mesh_is_ready_when_its_control_server_answers_and_its_agents_are_in() -> None:
    assert shown(mesh_conditions(facts())) == [
        "Ready=True AllReady",
        "ControlServerReady=True Answering",
        "AgentsReady=True AllReady",
        "JoinKeyAccepted=True Joined",
    ]


@pytest.mark.parametrize(
    ("changes", "ready"),
    [
        ({"deployment": None}, "Ready=False Starting"),
        ({"deployment": deployment(observedGeneration=1)}, "Ready=False Progressing"),
        ({"deployment": deployment(availableReplicas=0)}, "Ready=False PodNotReady"),
        ({"answer": None}, "Ready=False Waiting"),
        ({"answer": ControlAnswer(error="no answer in time")}, "Ready=False NotAnswering"),
        ({"agents": None}, "Ready=False Starting"),
        ({"agents": AgentCounts(2, 1, True)}, "Ready=False AgentsNotReady"),
        ({"agents": AgentCounts(2, 2, False)}, "Ready=False Progressing"),
        ({"agents": AgentCounts(0, 0, True)}, "Ready=True AllReady"),
        ({"problems": ("no Secret",)}, "Ready=False NotApplied"),
        ({"agents": AgentCounts(1, 0, True), "refusals": ("home-node: used up",)}, "Ready=False JoinRefused"),
    ],
)
def test_ready_tells_the_first_thing_that_is_amiss(changes: dict[str, Any], ready: str) -> None:
    assert shown(mesh_conditions(facts(**changes)))[0] == ready


def test_a_refused_join_key_is_told_in_the_words_of_the_control_server() -> None:
    waiting = facts(agents=AgentCounts(1, 0, True), refusals=("home-node: the key is used up",))
    conditions = {condition.type: condition for condition in mesh_conditions(waiting)}
    assert conditions["JoinKeyAccepted"].message == "home-node: the key is used up"
    assert conditions["Ready"].message == "home-node: the key is used up"


def test_an_external_mesh_is_ready_with_its_agents() -> None:
    external = facts(managed=False, deployment=None, answer=None)
    assert shown(mesh_conditions(external)) == [
        "Ready=True AllReady",
        "AgentsReady=True AllReady",
        "JoinKeyAccepted=True Joined",
    ]


def test_a_mesh_without_agents_is_ready_with_its_control_server() -> None:
    assert shown(mesh_conditions(facts(agents_wanted=False, agents=None)))[0] == "Ready=True AllReady"


def test_agents_are_counted_only_when_the_current_version_runs() -> None:
    status = {
        "observedGeneration": 1,
        "desiredNumberScheduled": 2,
        "updatedNumberScheduled": 2,
        "numberReady": 2,
    }
    old = {"metadata": {"generation": 2}, "status": status}
    assert agent_counts(old) == AgentCounts(2, 2, False)
    assert agent_counts({**old, "status": {**status, "observedGeneration": 2}}) == AgentCounts(2, 2, True)
    assert agent_counts({"metadata": {"generation": 1}}) == AgentCounts(0, 0, False)


def test_a_relay_is_ready_when_it_runs_and_every_relay_map_has_it() -> None:
    running = deployment()
    assert shown(relay_conditions(running, 1, ["home"], ["home"], None, ())) == [
        "Ready=True AllReady",
        "RelayReady=True Running",
        "RegionAnnounced=True Announced",
    ]
    assert shown(relay_conditions(running, 1, [], ["home"], None, ()))[0] == "Ready=False Waiting"
    assert shown(relay_conditions(running, 1, [], [], None, ()))[0] == "Ready=False NoMesh"
    assert shown(relay_conditions(running, 1, [], ["home"], "taken", ()))[0] == "Ready=False Refused"
    assert shown(relay_conditions(running, 0, [], ["home"], None, ()))[0] == "Ready=False Resting"
    half = deployment(updatedReplicas=2)
    conditions = relay_conditions(half, 2, ["home"], ["home"], None, ())
    assert shown(conditions)[0] == "Ready=False PodNotReady"
    assert "1 of 2 pods ready" in conditions[0].message


def test_a_deployment_that_was_never_seen_by_its_controller_is_not_running() -> None:
    assert deployment_condition("X", {"metadata": {"name": "a", "generation": 1}}).status is Truth.FALSE


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    old = merged([], [Condition.unmet("Ready", "Starting")], 1, datetime(2026, 1, 1, tzinfo=UTC))
    same = merged(old, [Condition.unmet("Ready", "JoinRefused", "used up")], 2, NOW)
    other = merged(same, [Condition.met("Ready", "AllReady")], 2, NOW)
    assert [item[0]["lastTransitionTime"] for item in (old, same, other)] == [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "2026-01-02T03:04:05Z",
    ]
    assert same[0]["observedGeneration"] == 2


def told(before: list[Condition], after: list[Condition]) -> list[str]:
    """Events, as a person reads them."""
    known = merged([], before, 1, NOW)
    kinds = {True: "Warning", False: "Normal"}
    return [f"{kinds[note.warning]} {note.reason} {note.message}" for note in notes(known, after)]


def test_only_what_is_new_is_told_as_an_event() -> None:
    refused = Condition.unmet("JoinKeyAccepted", "JoinRefused", "used up")
    assert told([], [refused]) == ["Warning JoinRefused JoinKeyAccepted: used up"]
    assert told([refused], [refused]) == []
    assert told([refused], [Condition.met("JoinKeyAccepted", "Joined")]) == ["Normal Joined JoinKeyAccepted"]
    assert told([], [Condition.unknown("JoinKeyAccepted", "Waiting")]) == []


def test_what_is_not_met_yet_is_no_warning_and_what_was_met_is() -> None:
    starting = Condition.unmet("AgentsReady", "AgentsNotReady", "0 of 1")
    assert told([], [starting]) == ["Normal AgentsNotReady AgentsReady: 0 of 1"]
    assert told([Condition.met("AgentsReady", "AllReady")], [starting]) == [
        "Warning AgentsNotReady AgentsReady: 0 of 1"
    ]


def test_the_summary_does_not_repeat_what_a_part_says() -> None:
    part = Condition.unmet("AgentsReady", "AgentsNotReady", "0 of 1")
    assert told([], [Condition.unmet("Ready", "AgentsNotReady", "0 of 1"), part]) == [
        "Normal AgentsNotReady AgentsReady: 0 of 1"
    ]
    assert told([], [Condition.unmet("Ready", "NotApplied", "no Secret join"), part]) == [
        "Warning NotApplied Ready: no Secret join",
        "Normal AgentsNotReady AgentsReady: 0 of 1",
    ]
