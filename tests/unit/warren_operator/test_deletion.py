"""The end of a Mesh: each step follows from what is observed, and every wait is bounded."""

from __future__ import annotations

from datetime import timedelta

from support.operator_cases import IMAGES, example
from support.operator_world import NAMESPACE, World
from warren_operator.config import OperatorConfig
from warren_operator.control_clients import ControlClients
from warren_operator.kinds import Kind
from warren_operator.naming import MACHINE_FINALIZER
from warren_operator.reconcile.context import Context
from warren_operator.watcher import Watcher


async def test_agents_stop_then_hosts_are_cleaned_then_everything_goes(world: World) -> None:
    world.delete()
    await world.look()
    assert world.daemon_sets == []
    await world.look()
    assert world.daemon_sets == []  # pods of the agents are still there
    world.pods_go()
    await world.look()
    assert world.daemon_sets == ["office-cleanup"]
    world.hosts_are_clean()
    await world.look()
    await world.look()
    assert world.is_gone
    assert [
        world.cluster.names(kind) for kind in (Kind.DAEMON_SET, Kind.CONFIG_MAP, Kind.SERVICE_ACCOUNT)
    ] == [[]] * 3
    assert world.cluster.names(Kind.SECRET) == ["join"]


async def test_a_restart_at_any_step_ends_in_the_same_state(world: World) -> None:
    """Nothing is kept between looks but what the cluster holds, so a new operator is only a new context."""
    world.delete()
    for _ in range(10):
        if world.is_gone:
            break
        fresh = World()
        fresh.cluster, fresh.now = world.cluster, world.now
        controls = ControlClients(world.cluster)
        watcher = Watcher(controls, lambda *_: None)
        fresh.context = Context(
            OperatorConfig(IMAGES), world.cluster, controls, watcher, lambda: world.now, lambda *_: None
        )
        await fresh.look()
        world.pods_go()
        if "office-cleanup" in world.daemon_sets:
            world.hosts_are_clean()
    assert world.is_gone
    assert "apply DaemonSet office-cleanup" in world.cluster.writes


async def test_a_node_that_never_gets_clean_does_not_keep_the_mesh(world: World) -> None:
    world.delete()
    world.pods_go()
    await world.look()
    await world.look()
    assert world.daemon_sets == ["office-cleanup"]
    world.now += timedelta(seconds=59)
    await world.look()
    assert not world.is_gone
    world.now += timedelta(seconds=2)
    await world.look()
    await world.look()
    assert world.is_gone


async def test_a_pod_that_never_ends_does_not_keep_the_mesh(world: World) -> None:
    world.delete()
    world.now += timedelta(seconds=200)
    await world.look()
    assert world.is_gone


async def test_a_mesh_without_agents_goes_at_once() -> None:
    world = World()
    world.cluster.put(example("office/mesh.yaml", agents={"enabled": False}))
    await world.look()
    world.delete()
    await world.look()
    await world.look()
    assert world.is_gone
    assert "apply DaemonSet office-cleanup" not in world.cluster.writes


async def test_nodes_are_released_and_only_those_of_ours_go(world: World) -> None:
    for name, labels in (("made", {"app.kubernetes.io/managed-by": "warren-operator"}), ("written", {})):
        world.cluster.put(
            {
                "apiVersion": "warren.dev/v1alpha1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": labels,
                    "finalizers": [MACHINE_FINALIZER],
                },
                "spec": {"meshRef": {"name": "office"}},
            }
        )
    world.delete()
    world.now += timedelta(seconds=200)
    await world.look()
    assert world.cluster.names(Kind.NODE) == ["written"]
    assert world.cluster.objects[(Kind.NODE, NAMESPACE, "written")]["metadata"]["finalizers"] == []


async def test_looking_again_at_a_ready_mesh_writes_nothing(world: World) -> None:
    before = list(world.cluster.writes)
    await world.look()
    assert world.cluster.writes == before


async def test_a_missing_join_secret_is_told(world: World) -> None:
    await world.cluster.delete(Kind.SECRET, NAMESPACE, "join")
    await world.look()
    mesh = world.cluster.objects[(Kind.MESH, NAMESPACE, "office")]
    assert mesh["status"]["conditions"][0]["reason"] == "NotApplied"
    assert "there is no Secret join" in mesh["status"]["conditions"][0]["message"]


async def test_a_refused_join_key_shows_in_the_condition_and_in_an_event(world: World) -> None:
    status = {
        "observedGeneration": 1,
        "desiredNumberScheduled": 1,
        "updatedNumberScheduled": 1,
        "numberReady": 0,
    }
    world.cluster.set_status(Kind.DAEMON_SET, "office-agent", status, NAMESPACE)
    started = {"containerStatuses": [{"name": "agent", "containerID": "containerd://1"}]}
    world.cluster.set_status(Kind.POD, "office-agent-x", started, NAMESPACE)
    world.cluster.logs["office-agent-x"] = (
        '{"message": "the control server refused to register this node", "reason": "the key is used up"}\n'
        '{"message": "something else"}\n'
    )
    await world.look()
    mesh = world.cluster.objects[(Kind.MESH, NAMESPACE, "office")]
    conditions = {item["type"]: item for item in mesh["status"]["conditions"]}
    assert conditions["JoinKeyAccepted"]["status"] == "False"
    assert conditions["JoinKeyAccepted"]["message"] == "office-node: the key is used up"
    events = [manifest for (kind, *_), manifest in world.cluster.objects.items() if kind is Kind.EVENT]
    assert {(event["type"], event["reason"]) for event in events} >= {("Warning", "JoinRefused")}
