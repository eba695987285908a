"""`spec.policy` of a Mesh: in force at the control server, refused with places, followed in a ConfigMap."""

from __future__ import annotations

import base64
from typing import Any

import aiohttp
import pytest

from warren_operator.errors import RefusedError
from warren_operator.kinds import Kind, Manifest
from warren_runtime.tls import client_context

from .stage import MESH, Stage, condition, is_ready

OPEN = '{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}'
WRONG = '{\n  "grants": [\n    {"src": ["*"], "dst": ["tag:web"], "ip": ["*"]},\n  ],\n}\n'
UNTRUE = '{"grants": [], "tests": [{"src": "members@", "accept": ["members@:22"]}]}'


class Policy:
    """The policy of a Mesh that is ready, and what is said of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def give(self, policy: dict[str, Any] | None) -> None:
        patch = {"spec": {"policy": policy}}
        await self._stage.cluster.merge(Kind.MESH, self._stage.namespace, "home", patch)

    async def config_map(self, text: str) -> None:
        metadata = {"name": "rules", "namespace": self._stage.namespace}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        if await self._stage.get(Kind.CONFIG_MAP, "rules") is None:
            await self._stage.cluster.create(Kind.CONFIG_MAP, {**manifest, "data": {"policy.hujson": text}})
        else:
            patch = {"data": {"policy.hujson": text}}
            await self._stage.cluster.merge(Kind.CONFIG_MAP, self._stage.namespace, "rules", patch)

    async def says(self, reason: str, version: int | None = None) -> dict[str, Any]:
        """The condition once it has that reason, and the status that version."""

        def holds(mesh: Manifest | None) -> bool:
            known = ((mesh or {}).get("status") or {}).get("policy") or {}
            told = condition(mesh, "PolicyAccepted").get("reason", "")
            return told == reason and (version is None or known.get("version") == version)

        return condition(await self._stage.until(Kind.MESH, "home", holds), "PolicyAccepted")

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = ((await self._stage.get(Kind.MESH, "home")) or {})["status"].get("policy")
        return found or {}

    async def warnings(self) -> set[str]:
        events = await self._stage.cluster.list(Kind.EVENT, self._stage.namespace)
        return {event["reason"] for event in events if event["type"] == "Warning"}


async def test_a_policy_in_the_mesh_comes_into_force_and_a_bad_one_changes_nothing(stage: Stage) -> None:
    await stage.ready_mesh()
    policy = Policy(stage)
    await policy.give({"inline": OPEN})
    await policy.says("Accepted", 1)
    shown = await policy.status()
    mesh = await stage.get(Kind.MESH, "home")
    assert mesh is not None
    assert shown["acceptedGeneration"] == mesh["metadata"]["generation"]
    assert (shown["source"], len(shown["hash"])) == ("inline", 64)
    await policy.give({"inline": WRONG})
    told = await policy.says("Invalid", 1)
    assert "line 3, column" in told["message"]
    assert "tag:web" in told["message"]
    assert is_ready(await stage.get(Kind.MESH, "home"))
    await policy.give({"inline": UNTRUE})
    assert "tests[0]" in (await policy.says("TestsFailed", 1))["message"]
    assert await policy.warnings() >= {"Invalid", "TestsFailed"}
    await policy.give(None)
    await stage.until(Kind.MESH, "home", lambda found: found and not condition(found, "PolicyAccepted"))
    assert await policy.status() == {}


async def test_the_first_policy_is_in_force_though_the_machines_of_its_tests_are_not_there(
    stage: Stage,
) -> None:
    await stage.ready_mesh()
    policy = Policy(stage)
    await policy.give({"inline": UNTRUE})
    await policy.says("Accepted", 1)


async def test_a_policy_in_a_config_map_is_followed(stage: Stage) -> None:
    await stage.ready_mesh()
    policy = Policy(stage)
    await policy.give({"configMapRef": {"name": "rules"}})
    assert "no ConfigMap rules" in (await policy.says("NotFound"))["message"]
    await policy.config_map(OPEN)
    await policy.says("Accepted", 1)
    await policy.config_map(WRONG)
    await policy.says("Invalid", 1)
    await policy.config_map(OPEN + "\n")
    await policy.says("Accepted", 2)
    assert (await policy.status())["source"] == "configMap"
    await stage.kill()
    await policy.config_map(OPEN)
    stage.start()
    await policy.says("Accepted", 3)


@pytest.mark.parametrize("policy", [{}, {"inline": "{}", "configMapRef": {"name": "x"}}])
async def test_a_mesh_names_one_place_of_its_policy(stage: Stage, policy: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="exactly one of inline and configMapRef"):
        await stage.make(Kind.MESH, "home", {**MESH, "policy": policy})


async def test_a_policy_belongs_to_the_mesh_with_the_control_server(stage: Stage) -> None:
    external = {"external": {"url": "https://203.0.113.10", "joinSecretRef": {"name": "join"}}}
    with pytest.raises(RefusedError, match="runs the control server"):
        await stage.make(Kind.MESH, "home", {"controlServer": external, "policy": {"inline": "{}"}})


async def test_a_policy_that_came_another_way_is_shown_and_left_alone(stage: Stage) -> None:
    await stage.ready_mesh()
    ca_file = await stage.pod.ca_file("home-control-tls")
    admin = await stage.get(Kind.SECRET, "home-admin")
    assert admin is not None
    token = base64.b64decode(admin["data"]["token"]).decode()
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.put(
            f"https://127.0.0.1:{stage.pod.port}/api/v1/policy",
            json={"text": OPEN},
            ssl=client_context(ca_file),
        ) as answer,
    ):
        assert answer.status == 200

    def shown(mesh: Manifest | None) -> bool:
        return (((mesh or {}).get("status") or {}).get("policy") or {}).get("source") == "api"

    mesh = await stage.until(Kind.MESH, "home", shown)
    assert not condition(mesh, "PolicyAccepted")
    assert "acceptedGeneration" not in mesh["status"]["policy"]
    # A second look writes nothing: the Node is read after the Mesh, by an operator that knows neither.
    before = await stage.versions()
    await stage.kill()
    stage.start()
    await stage.make(Kind.NODE, "later", {"meshRef": {"name": "home"}})
    await stage.until(Kind.NODE, "later", lambda node: condition(node).get("reason") == "NotJoined")
    after = await stage.versions()
    del after["Node/later"]
    assert after == before
