"""Meshes in a cluster in memory."""

from __future__ import annotations

import pytest

from support.operator_world import NAMESPACE, World
from warren_operator.kinds import Kind
from warren_operator.naming import FINALIZER


@pytest.fixture
async def world() -> World:
    """Agents run and the Mesh is ready."""
    made = World()
    await made.look()
    made.agents_run()
    await made.look()
    mesh = await made.cluster.get(Kind.MESH, NAMESPACE, "office")
    assert mesh is not None
    assert mesh["status"]["conditions"][0]["status"] == "True"
    assert mesh["metadata"]["finalizers"] == [FINALIZER]
    return made
