"""The operator with a real API server and a real control server; the test plays kubelet and controllers."""

from __future__ import annotations

import asyncio
import contextlib

from support.podplay import available, on_host, scheduled
from warren_operator.kinds import Kind, Manifest

from .stage import MADE, OURS, Stage, absent, announced, condition, is_ready, present


async def test_a_mesh_becomes_a_control_server_and_agents(stage: Stage) -> None:
    mesh = await stage.ready_mesh()
    assert mesh["status"]["observedGeneration"] == mesh["metadata"]["generation"]
    assert mesh["status"]["url"] == "https://127.0.0.1"
    assert mesh["status"]["secrets"] == {
        "adminToken": "home-admin",
        "ca": "home-control-tls",
        "joinKey": "home-join",
    }
    assert {item["type"]: item["status"] for item in mesh["status"]["conditions"]} == {
        "Ready": "True",
        "ControlServerReady": "True",
        "AgentsReady": "True",
        "JoinKeyAccepted": "True",
    }


async def test_a_restarted_operator_writes_nothing(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.join("web")
    await stage.until(Kind.NODE, "web", is_ready)
    await stage.until(Kind.MESH, "home", lambda mesh: mesh and mesh["status"].get("online") == 1)
    before = await stage.versions()
    await stage.kill()
    stage.start()
    node = await stage.make(Kind.NODE, "later", {"meshRef": {"name": "home"}})
    await stage.until(Kind.NODE, "later", lambda node: condition(node).get("reason") == "NotJoined")
    assert node
    after = await stage.versions()
    del after["Node/later"]
    assert after == before


def has_online(mesh: Manifest | None, count: int) -> bool:
    """Registered machines are online a moment later, with their first poll."""
    status = (mesh or {}).get("status") or {}
    return bool(status.get("nodes") == status.get("online") == count)


async def test_machines_and_node_objects_follow_each_other(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.make(Kind.NODE, "nas", {"meshRef": {"name": "home"}, "tags": ["tag:storage"]})
    await stage.join("web")
    await stage.join("nas")
    web = await stage.until(
        Kind.NODE, "web", lambda node: node and is_ready(node) and node["status"]["online"]
    )
    assert web["status"]["addresses"][0].startswith("100.")
    nas = await stage.until(Kind.NODE, "nas", is_ready)
    assert nas["status"]["tags"] == ["tag:storage"]
    await stage.until(Kind.MESH, "home", lambda mesh: has_online(mesh, 2))

    await stage.cluster.merge(Kind.NODE, stage.namespace, "web", {"spec": {"name": "page"}})
    await stage.until(Kind.NODE, "web", lambda node: node and node["status"]["name"] == "page")
    await stage.cluster.merge(Kind.NODE, stage.namespace, "web", {"spec": {"name": "nas"}})
    taken = await stage.until(Kind.NODE, "web", lambda node: condition(node).get("reason") == "Refused")
    assert "nas" in condition(taken)["message"]

    await stage.cluster.delete(Kind.NODE, stage.namespace, "web")
    await stage.until(Kind.NODE, "web", absent)
    await stage.until(Kind.MESH, "home", lambda mesh: mesh and mesh["status"].get("nodes") == 1)


async def test_a_machine_that_goes_offline_is_shown_as_such(stage: Stage) -> None:
    await stage.ready_mesh()
    client = await stage.join("web")
    await stage.until(Kind.NODE, "web", lambda node: node and (node.get("status") or {}).get("online"))
    await client.close()
    gone = await stage.until(Kind.NODE, "web", lambda node: node and not node["status"]["online"])
    assert gone["status"]["lastSeen"]


async def test_a_relay_comes_into_the_relay_map_and_goes(stage: Stage) -> None:
    await stage.ready_mesh()
    client = await stage.join("web")
    spec = {"regionID": 901, "exposure": {"host": "192.0.2.7", "type": "ClusterIP"}}
    await stage.make(Kind.DERP_RELAY, "balcony", spec)
    await stage.until(Kind.DEPLOYMENT, "balcony-relay", present)
    await available(stage.cluster, stage.namespace, "balcony-relay")
    relay = await stage.until(Kind.DERP_RELAY, "balcony", is_ready)
    assert relay["status"]["meshes"] == ["home"]

    def regions() -> set[int]:
        derp_map = client.netmap.derp_map
        return set(derp_map.regions or {}) if derp_map is not None else set()

    await client.until(lambda: regions() == {900, 901})
    await stage.make(Kind.DERP_RELAY, "cellar", spec)
    second = await stage.until(
        Kind.DERP_RELAY, "cellar", lambda relay: announced(relay)["reason"] == "Refused"
    )
    assert "already that of DerpRelay balcony" in announced(second)["message"]
    await stage.cluster.delete(Kind.DERP_RELAY, stage.namespace, "cellar")
    await stage.cluster.delete(Kind.DERP_RELAY, stage.namespace, "balcony")
    await client.until(lambda: regions() == {900})


async def test_replicas_on_the_hosts_network_are_nodes_of_the_region_and_stay_while_a_pod_is_replaced(
    stage: Stage,
) -> None:
    await stage.ready_mesh()
    client = await stage.join("web")
    spec = {"regionID": 901, "replicas": 2, "exposure": {"host": "relay.example.org", "type": "HostNetwork"}}
    await stage.make(Kind.DERP_RELAY, "roof", spec)
    await stage.until(Kind.DEPLOYMENT, "roof-relay", present)
    pods = [
        await on_host(stage.cluster, stage.namespace, "roof-relay", index, f"192.0.2.{index}")
        for index in (1, 2)
    ]
    await available(stage.cluster, stage.namespace, "roof-relay", 2)

    def nodes() -> list[tuple[str, str]]:
        derp_map = client.netmap.derp_map
        found = ((derp_map.regions or {}) if derp_map is not None else {}).get(901)
        return [(node.host_name, node.ipv4) for node in (found.nodes or [])] if found is not None else []

    both = [("relay.example.org", "192.0.2.1"), ("relay.example.org", "192.0.2.2")]
    await client.until(lambda: nodes() == both)
    await stage.until(Kind.DERP_RELAY, "roof", is_ready)
    await stage.cluster.delete(Kind.POD, stage.namespace, pods[1])
    await available(stage.cluster, stage.namespace, "roof-relay", 1)
    await stage.until(
        Kind.DERP_RELAY, "roof", lambda relay: relay and relay["status"]["addresses"] == ["192.0.2.1:443"]
    )
    assert nodes() == both
    await on_host(stage.cluster, stage.namespace, "roof-relay", 3, "192.0.2.3")
    await available(stage.cluster, stage.namespace, "roof-relay", 2)
    await client.until(lambda: nodes() == [both[0], ("relay.example.org", "192.0.2.3")])


async def test_a_control_server_that_goes_and_comes_back(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.pod.stop()
    await stage.until(Kind.MESH, "home", lambda mesh: condition(mesh).get("reason") == "NotAnswering")
    await stage.pod.start("home-control")
    await stage.until(Kind.MESH, "home", is_ready)


async def test_what_someone_changed_is_put_back(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.cluster.merge(
        Kind.DEPLOYMENT, stage.namespace, "home-control", {"spec": {"strategy": {"type": "RollingUpdate"}}}
    )
    await stage.until(
        Kind.DEPLOYMENT,
        "home-control",
        lambda found: found and found["spec"]["strategy"]["type"] == "Recreate",
    )
    await stage.cluster.delete(Kind.SERVICE, stage.namespace, "home-control")
    await stage.until(Kind.SERVICE, "home-control", present)


async def test_a_deleted_mesh_leaves_nothing(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.join("web")
    await stage.until(Kind.NODE, "web", is_ready)
    await stage.cluster.delete(Kind.MESH, stage.namespace, "home")
    await stage.until(Kind.DAEMON_SET, "home-cleanup", present)
    assert await stage.get(Kind.DAEMON_SET, "home-agent") is None
    await scheduled(stage.cluster, stage.namespace, "home-cleanup")
    # No controller takes the volume's or the pods' place here, so what is left is what the operator left.
    await stage.until(Kind.MESH, "home", absent)
    for kind in MADE:
        assert await stage.cluster.list(kind, stage.namespace, OURS) == []
    assert await stage.cluster.list(Kind.NODE, stage.namespace) == []


async def test_deletion_finishes_although_the_operator_is_killed_again_and_again(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.cluster.delete(Kind.MESH, stage.namespace, "home")
    for _ in range(20):
        await stage.kill()
        stage.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await stage.until(Kind.MESH, "home", absent)
        if await stage.get(Kind.MESH, "home") is None:
            break
    assert await stage.get(Kind.MESH, "home") is None
    assert await stage.cluster.list(Kind.DAEMON_SET, stage.namespace) == []


async def test_keys_are_never_replaced(stage: Stage) -> None:
    await stage.ready_mesh()
    names = ("home-keys", "home-admin", "home-join", "home-ca")
    before = [(await stage.get(Kind.SECRET, name) or {})["data"] for name in names]
    await stage.kill()
    await stage.cluster.merge(Kind.MESH, stage.namespace, "home", {"spec": {"agents": {"port": 51820}}})
    stage.start()
    await stage.until(
        Kind.MESH,
        "home",
        lambda mesh: mesh and mesh["status"]["observedGeneration"] == mesh["metadata"]["generation"],
    )
    assert [(await stage.get(Kind.SECRET, name) or {})["data"] for name in names] == before
