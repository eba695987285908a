"""A second Mesh with agents in one cluster: refused with words, and its end touches nobody's hosts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from support.operator_cases import example
from support.operator_world import NAMESPACE, World
from warren_operator.kinds import Kind
from warren_operator.reconcile.mesh import look_at_mesh


class Two:
    """The office's Mesh with its agents, and a newer one."""

    def __init__(self, first: World) -> None:
        self.first = first
        newer = example("office/mesh.yaml")
        newer["metadata"] |= {
            "name": "branch",
            "uid": "99999999-2222-3333-4444-555555555555",
            "creationTimestamp": "2026-01-01T00:00:01Z",
        }
        first.cluster.put(newer)

    async def look(self) -> None:
        await look_at_mesh(self.first.context, NAMESPACE, "branch")

    def condition(self, kind: str) -> dict[str, Any]:
        status = self.first.cluster.objects[(Kind.MESH, NAMESPACE, "branch")]["status"]
        return next(item for item in status["conditions"] if item["type"] == kind)


@pytest.fixture
async def two(world: World) -> Two:
    made = Two(world)
    await made.look()
    return made


async def test_the_newer_mesh_gets_no_agents_and_is_told_what_to_do(two: Two) -> None:
    assert two.first.daemon_sets == ["office-agent"]
    agents = two.condition("AgentsReady")
    assert (agents["status"], agents["reason"]) == ("False", "HostsTaken")
    assert "Mesh warren-system/office" in agents["message"]
    assert "agents.enabled to false" in agents["message"]
    assert two.condition("Ready")["reason"] == "HostsTaken"
    events = [item for (kind, *_), item in two.first.cluster.objects.items() if kind is Kind.EVENT]
    assert ("Warning", "HostsTaken") in {(event["type"], event["reason"]) for event in events}


async def test_the_older_mesh_stays_as_it_is(two: Two) -> None:
    before = list(two.first.cluster.writes)
    await two.first.look()
    assert two.first.cluster.writes == before


async def test_deleting_the_refused_mesh_cleans_no_host(two: Two) -> None:
    two.first.cluster.mark_deleted(Kind.MESH, NAMESPACE, "branch", two.first.now)
    await two.look()
    await two.look()
    assert two.first.cluster.names(Kind.MESH) == ["office"]
    assert two.first.daemon_sets == ["office-agent"]
    assert "apply DaemonSet branch-cleanup" not in two.first.cluster.writes


async def test_the_newer_mesh_gets_the_hosts_once_they_are_clean(two: Two) -> None:
    two.first.delete()
    await two.first.look()
    await two.look()
    assert two.condition("AgentsReady")["reason"] == "HostsTaken"
    two.first.now += timedelta(seconds=200)
    two.first.pods_go()
    await two.first.look()
    assert two.first.cluster.names(Kind.MESH) == ["branch"]
    await two.look()
    assert two.first.daemon_sets == ["branch-agent"]
