"""What a Mesh and a DerpRelay are told about themselves. Pure: what was observed in, conditions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warren_operator.conditions import Condition, Truth
from warren_operator.kinds import Manifest

READY = "Ready"
CONTROL_SERVER_READY = "ControlServerReady"
AGENTS_READY = "AgentsReady"
JOIN_KEY_ACCEPTED = "JoinKeyAccepted"
RELAY_READY = "RelayReady"
REGION_ANNOUNCED = "RegionAnnounced"


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """What the control server said of itself, or why it did not."""

    nodes: int = 0
    online: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AgentCounts:
    wanted: int
    ready: int
    current: bool
    """Every pod runs what is desired now."""


@dataclass(frozen=True, slots=True)
class MeshFacts:
    managed: bool
    agents_wanted: bool
    deployment: Manifest | None
    answer: ControlAnswer | None
    """Nothing if it was not asked: external, or not running yet."""
    agents: AgentCounts | None
    refusals: tuple[str, ...] = ()
    """Reasons for which agents of this cluster were not let in."""
    problems: tuple[str, ...] = ()
    """What could not be written, or is missing."""
    hosts_taken_by: str | None = None
    """Another Mesh whose agents have the hosts of this cluster."""
    policy: Condition | None = None


def mesh_conditions(facts: MeshFacts) -> list[Condition]:
    parts = []
    if facts.managed:
        parts.append(_control_server(facts))
    if facts.agents_wanted:
        parts += [_agents(facts), _join_key(facts)]
    # A policy that is refused leaves the last good one in force: the mesh is ready all the same.
    about_policy = [facts.policy] if facts.policy is not None else []
    return [_summary(parts, facts.problems), *parts, *about_policy]


def deployment_condition(kind: str, deployment: Manifest | None, wanted: int = 1) -> Condition:
    if deployment is None:
        return Condition.unmet(kind, "Starting", "the Deployment is not there yet")
    status = deployment.get("status") or {}
    generation = deployment["metadata"].get("generation", 0)
    if status.get("observedGeneration", 0) < generation or status.get("updatedReplicas", 0) < wanted:
        return Condition.unmet(kind, "Progressing", "the new version is not running yet")
    available = status.get("availableReplicas", 0)
    if available < wanted:
        name = deployment["metadata"]["name"]
        text = f"{name} has {available} of {wanted} pods ready" if wanted > 1 else f"{name} has no ready pod"
        return Condition.unmet(kind, "PodNotReady", text)
    return Condition.met(kind, "Running")


def agent_counts(daemon_set: Manifest | None) -> AgentCounts | None:
    if daemon_set is None:
        return None
    status = daemon_set.get("status") or {}
    wanted = status.get("desiredNumberScheduled", 0)
    seen = status.get("observedGeneration", 0) >= daemon_set["metadata"].get("generation", 0)
    updated = status.get("updatedNumberScheduled", 0) >= wanted
    return AgentCounts(wanted, status.get("numberReady", 0), seen and updated)


def relay_conditions(
    deployment: Manifest | None,
    replicas: int,
    announced: Sequence[str],
    selected: Sequence[str],
    refusal: str | None,
    problems: Sequence[str],
) -> list[Condition]:
    """`announced` and `selected` are names of meshes: whose relay map has the region, and whose should."""
    if replicas == 0:
        running = Condition.unmet(RELAY_READY, "Resting", "spec.replicas is 0")
    else:
        running = deployment_condition(RELAY_READY, deployment, replicas)
    missing = sorted(set(selected) - set(announced))
    if refusal is not None:
        region = Condition.unmet(REGION_ANNOUNCED, "Refused", refusal)
    elif not selected:
        region = Condition.unmet(REGION_ANNOUNCED, "NoMesh", "no managed Mesh of this namespace selects it")
    elif missing:
        region = Condition.unmet(
            REGION_ANNOUNCED, "Waiting", f"not yet in the relay map of {', '.join(missing)}"
        )
    else:
        region = Condition.met(REGION_ANNOUNCED, "Announced", f"in the relay map of {', '.join(announced)}")
    return [_summary([running, region], tuple(problems)), running, region]


def _control_server(facts: MeshFacts) -> Condition:
    running = deployment_condition(CONTROL_SERVER_READY, facts.deployment)
    if running.status is not Truth.TRUE:
        return running
    if facts.answer is None:
        return Condition.unmet(CONTROL_SERVER_READY, "Waiting", "the control server was not asked yet")
    if facts.answer.error is not None:
        return Condition.unmet(CONTROL_SERVER_READY, "NotAnswering", facts.answer.error)
    return Condition.met(CONTROL_SERVER_READY, "Answering")


def _agents(facts: MeshFacts) -> Condition:
    counts = facts.agents
    if facts.hosts_taken_by is not None:
        return Condition.unmet(
            AGENTS_READY,
            "HostsTaken",
            f"the agents of Mesh {facts.hosts_taken_by} have the hosts of this cluster, which can have one:"
            " set spec.agents.enabled to false here, or delete that Mesh",
        )
    if counts is None:
        return Condition.unmet(AGENTS_READY, "Starting", "the DaemonSet is not there yet")
    if not counts.current:
        return Condition.unmet(AGENTS_READY, "Progressing", "not every node runs the current version yet")
    if counts.ready < counts.wanted:
        text = f"{counts.ready} of {counts.wanted} agents are in the mesh"
        return Condition.unmet(AGENTS_READY, "AgentsNotReady", text)
    if counts.wanted == 0:
        return Condition.met(AGENTS_READY, "NoNodes", "no node matches agents.nodeSelector")
    return Condition.met(
        AGENTS_READY, "AllReady", f"{counts.ready} of {counts.wanted} agents are in the mesh"
    )


def _join_key(facts: MeshFacts) -> Condition:
    if facts.refusals:
        return Condition.unmet(JOIN_KEY_ACCEPTED, "JoinRefused", "; ".join(facts.refusals))
    if facts.agents is not None and facts.agents.ready > 0:
        return Condition.met(JOIN_KEY_ACCEPTED, "Joined")
    return Condition.unknown(JOIN_KEY_ACCEPTED, "Waiting", "no agent has joined yet")


def _summary(parts: Sequence[Condition], problems: Sequence[str]) -> Condition:
    """The worst of the parts; a refused key says more than the agents that wait because of it."""
    if problems:
        return Condition.unmet(READY, "NotApplied", "; ".join(problems))
    unmet = [part for part in parts if part.status is Truth.FALSE]
    unmet.sort(key=lambda part: part.type != JOIN_KEY_ACCEPTED)
    if unmet:
        first = unmet[0]
        return Condition.unmet(READY, first.reason, first.message)
    return Condition.met(READY, "AllReady")
