"""One mesh of two real clusters behind NAT: what it refuses, what it survives, and how it goes away.

home-node -- home-router --+                +-- office-router -- office-node
                           +-- internet ----+
                                            +-- cafe-router -- laptop
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from support.lab import eventually
from support.requirements import require_root_netns
from warren_lab import preflight
from warren_lab.cluster import ClusterError
from warren_lab.demo.show import asked_by
from warren_lab.errors import LabError
from warren_lab.hosts import Tailscaled
from warren_lab.images.build import checkout
from warren_lab.scenario import Member, MeshOfTwo, World
from warren_lab.scenario.mesh import NAMESPACE
from warren_lab.scenario.relays import metrics_in
from warren_lab.scenario.stream import Stream
from warren_lab.scenario.world import CONTROL_URL, LAPTOP

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SETTLE_SECONDS = 90.0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_root_netns()
    if problems := preflight.check({"network", "cluster", "images"}):
        pytest.skip("; ".join(map(str, problems)))
    with World(say=print, progress=lambda _step: None) as world:
        yield world


@pytest.fixture(scope="module")
def home_only(world: World) -> MeshOfTwo:
    """The home mesh is ready; the office has the operator and nothing else."""
    mesh = MeshOfTwo(world)
    for member in mesh.members:
        mesh.install(member)
    mesh.give_certificate()
    mesh.apply(mesh.home, "home/mesh.yaml")
    mesh.wait_ready(mesh.home)
    return mesh


@pytest.fixture(scope="module")
def mesh(home_only: MeshOfTwo) -> MeshOfTwo:
    """Both clusters are in the mesh, and pods of one have reached pods of the other."""
    home_only.let_office_in()
    home_only.apply(home_only.office, "office/mesh.yaml")
    home_only.wait_ready(home_only.office)
    for member in home_only.members:
        home_only.start_pages(member)
    home_only.fetch_from_pod(home_only.home, home_only.page_ip(home_only.office))
    home_only.wait_for_path(home_only.home, home_only.office.node, "direct", 30)
    return home_only


def condition(member: Member, kind: str) -> dict[str, Any]:
    """One condition of the member's Mesh, empty if it has none of that kind."""
    document = member.cluster.kubectl_json("get", member.mesh, "--namespace", NAMESPACE)
    conditions: list[dict[str, Any]] = document.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def manifest(member: Member, **changes: Any) -> str:
    """The member's example Mesh under another name, with parts of its spec replaced."""
    live = member.cluster.kubectl_json("get", member.mesh, "--namespace", NAMESPACE)
    spec = {**live["spec"], **changes}
    return json.dumps(
        {
            "apiVersion": live["apiVersion"],
            "kind": "Mesh",
            "metadata": {"name": "other", "namespace": NAMESPACE},
            "spec": {name: value for name, value in spec.items() if value is not None},
        }
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"addresses": {"v4": "100.64.0.0/99"}}, "addresses"),
        ({"addresses": {"v4": "192.168.0.0/16"}}, "100.64.0.0/10"),
        (
            {"agents": {"advertise": {"podCIDRs": ["10.1.0.0/16"], "serviceCIDRs": ["10.1.128.0/17"]}}},
            "overlap",
        ),
        ({"agents": {"port": 70000}}, "65535"),
        ({"controlServer": {}}, "managed"),
        ({"colour": "green"}, "colour"),
    ],
    ids=[
        "bad prefix",
        "foreign range",
        "overlapping ranges",
        "bad port",
        "no control server",
        "unknown field",
    ],
)
def test_an_invalid_mesh_is_refused_with_readable_words(
    home_only: MeshOfTwo, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClusterError) as refusal:
        home_only.home.cluster.kubectl("apply", "-f", "-", input=manifest(home_only.home, **changes))
    assert words in str(refusal.value)


@pytest.fixture
def office_with_wrong_key(home_only: MeshOfTwo) -> Iterator[Callable[[], None]]:
    """The office's Mesh with a key that nobody gave out; what it yields puts the right one in its place."""
    office = home_only.office.cluster
    home_only.let_office_in()
    right = office.kubectl_json("get", "secret", "join", "--namespace", NAMESPACE)["data"]

    def give(patch: dict[str, Any]) -> None:
        office.kubectl("patch", "secret", "join", "--namespace", NAMESPACE, "--patch", json.dumps(patch))

    give({"stringData": {"key": f"warren-auth-{'a' * 12}-{'b' * 48}"}})
    home_only.apply(home_only.office, "office/mesh.yaml")
    yield lambda: give({"data": right})
    home_only.delete(home_only.office)
    office.kubectl("delete", "secret", "join", "--namespace", NAMESPACE)
    assert home_only.leftovers(home_only.office) == []


def test_a_wrong_join_key_shows_in_condition_event_and_log_until_the_right_one_is_there(
    home_only: MeshOfTwo, office_with_wrong_key: Callable[[], None]
) -> None:
    office = home_only.office
    assert eventually(
        lambda: condition(office, "JoinKeyAccepted").get("status") == "False", within=SETTLE_SECONDS
    )
    assert "key" in condition(office, "JoinKeyAccepted")["message"]
    assert condition(office, "Ready")["status"] == "False"
    log = office.cluster.kubectl("logs", "--namespace", NAMESPACE, "ds/office-agent", "-c", "agent")
    assert "invalid pre-auth key" in log
    assert "b" * 48 not in log
    assert eventually(lambda: "JoinRefused" in warnings(office), within=SETTLE_SECONDS)
    office_with_wrong_key()
    home_only.wait_ready(office)


def warnings(member: Member) -> str:
    return member.cluster.kubectl("get", "events", "--namespace", NAMESPACE, "--field-selector=type=Warning")


def test_pods_see_each_others_own_addresses_in_both_directions(mesh: MeshOfTwo) -> None:
    for member in mesh.members:
        page = mesh.fetch_from_pod(member, mesh.page_ip(mesh.other(member)))
        assert asked_by(page) == mesh.client_ip(member)


def test_services_of_the_other_cluster_answer(mesh: MeshOfTwo) -> None:
    for member in mesh.members:
        page = mesh.fetch_from_pod(member, mesh.service_ip(mesh.other(member)), port=80)
        assert "page served by" in page


def test_on_the_direct_path_no_packet_passes_the_agent(mesh: MeshOfTwo) -> None:
    mesh.wait_for_path(mesh.home, mesh.office.node, "direct", 30)
    before = mesh.peer(mesh.home, mesh.office.node)
    for _ in range(5):
        mesh.fetch_from_pod(mesh.home, mesh.page_ip(mesh.office))
    after = mesh.peer(mesh.home, mesh.office.node)
    assert after["tx_bytes"] > before["tx_bytes"]
    assert after["relay_tx_packets"] == before["relay_tx_packets"]
    assert after["relay_rx_packets"] == before["relay_rx_packets"]


def test_agents_are_not_privileged(mesh: MeshOfTwo) -> None:
    pods = mesh.home.cluster.kubectl_json(
        *("get", "pods", "--namespace", NAMESPACE, "--selector=app.kubernetes.io/component=agent")
    )["items"]
    contexts = [each["securityContext"] for pod in pods for each in pod["spec"]["containers"]]
    assert contexts
    for context in contexts:
        assert not context.get("privileged")
        assert sorted(context["capabilities"]["add"]) == ["NET_ADMIN", "NET_RAW"]
        assert context["capabilities"]["drop"] == ["ALL"]


def test_every_machine_has_a_node_object(mesh: MeshOfTwo) -> None:
    mesh.wait_for_nodes(mesh.home, {member.node for member in mesh.members})
    office = mesh.home.cluster.kubectl_json(
        "get", "nodes.warren.dev", mesh.office.node, "--namespace", NAMESPACE
    )["status"]
    assert office["homeRelay"]["code"] == "home"
    assert "203.0.113.20:41641" in office["endpoints"]
    assert office["lastSeen"]
    assert any(each["type"] == "Ready" and each["status"] == "True" for each in office["conditions"])


@pytest.mark.parametrize(
    ("where", "component", "container"),
    [
        ("home", "control", "control"),
        ("home", "agent", "agent"),
        ("office", "agent", "agent"),
        ("home", "operator", "operator"),
        ("office", "operator", "operator"),
    ],
)
def test_a_stream_between_pods_survives_kill_9_and_the_mesh_gets_ready_again(
    mesh: MeshOfTwo, where: str, component: str, container: str
) -> None:
    victim = mesh.home if where == "home" else mesh.office
    with Stream.between(mesh, mesh.home, mesh.office) as stream:
        stream.wait_for_arrival(time.monotonic(), 15)
        mesh.kill_container(victim, component, container)
        stream.wait_for_arrival(time.monotonic(), 30)
        for member in mesh.members:
            mesh.wait_ready(member)
        stream.wait_for_arrival(time.monotonic(), 15)


def test_a_stream_survives_the_death_of_userspace_wireguard(mesh: MeshOfTwo) -> None:
    with Stream.between(mesh, mesh.home, mesh.office) as stream:
        stream.wait_for_arrival(time.monotonic(), 15)
        mesh.kill_container(mesh.office, "agent", "wireguard")
        stream.wait_for_arrival(time.monotonic(), 60)
        mesh.wait_ready(mesh.office)


def test_a_derp_relay_gets_into_the_relay_map_survives_kill_9_and_leaves_it_when_deleted(
    mesh: MeshOfTwo,
) -> None:
    def regions() -> set[str]:
        answer = json.loads(
            mesh.home.cluster.kubectl(
                *("exec", "--namespace", NAMESPACE, "ds/home-agent", "-c", "agent", "--"),
                *("warren-agent", "netcheck", "--output", "json"),
            )
        )
        return {region["code"] for region in answer["relays"]}

    mesh.apply(mesh.home, "home/derprelay.yaml")
    ready = ("wait", "--for=condition=Ready", "derprelay/balcony", "--namespace", NAMESPACE, "--timeout=90s")
    mesh.kubectl(mesh.home, *ready, timeout=100)
    assert eventually(lambda: "balcony" in regions(), within=SETTLE_SECONDS)
    mesh.kill_container(mesh.home, "relay", "relay")
    mesh.kubectl(mesh.home, *ready, timeout=100)
    assert eventually(lambda: "balcony" in regions(), within=SETTLE_SECONDS)
    mesh.kubectl(mesh.home, "delete", "derprelay/balcony", "--namespace", NAMESPACE, "--timeout=60s")
    assert eventually(lambda: "balcony" not in regions(), within=SETTLE_SECONDS)


@pytest.fixture
def balcony_alone(mesh: MeshOfTwo) -> Iterator[None]:
    """The relay map of the home mesh has no region but that of a DerpRelay with two replicas."""
    patch = {"spec": {"controlServer": {"managed": {"relay": {"enabled": False}}}}}
    mesh.apply(mesh.home, "home/derprelay.yaml")
    mesh.kubectl(mesh.home, "scale", "derprelay/balcony", "--replicas=2", "--namespace", NAMESPACE)
    mesh.kubectl(mesh.home, "wait", "--for=condition=Ready", *BALCONY, "--timeout=90s", timeout=100)
    patch_control_server(mesh, patch)
    yield
    patch["spec"]["controlServer"]["managed"]["relay"]["enabled"] = True
    patch_control_server(mesh, patch)
    mesh.kubectl(mesh.home, "delete", *BALCONY, "--timeout=60s")


def patch_control_server(mesh: MeshOfTwo, patch: dict[str, Any]) -> None:
    """Its new pod, on an emptyDir, has forgotten machines and keys: the office needs another key."""
    deployment = ("deployment/home-control", "--namespace", NAMESPACE)

    def generation() -> int:
        return int(mesh.home.cluster.kubectl_json("get", *deployment)["metadata"]["generation"])

    before = generation()
    arguments = ("patch", mesh.home.mesh, "--namespace", NAMESPACE, "--type=merge", "--patch")
    mesh.kubectl(mesh.home, *arguments, json.dumps(patch))
    assert eventually(lambda: generation() > before, within=SETTLE_SECONDS)
    mesh.kubectl(mesh.home, "rollout", "status", *deployment, "--timeout=90s", timeout=100)
    mesh.wait_ready(mesh.home)
    mesh.kubectl(mesh.office, "delete", "secret/join", "--namespace", NAMESPACE)
    mesh.let_office_in()
    assert eventually(lambda: page_fetched(mesh), within=SETTLE_SECONDS)


def page_fetched(mesh: MeshOfTwo) -> bool:
    """Whether a pod at home gets the page of one in the office."""
    try:
        page = mesh.page_ip(mesh.office)
        return "page served by" in mesh.fetch_from_pod(mesh.home, page, timeout_seconds=2)
    except ClusterError:
        return False


def test_a_stock_client_has_a_derp_relay_of_two_replicas_as_home_and_outlives_one_of_them(
    mesh: MeshOfTwo, balcony_alone: None
) -> None:
    run, network = mesh.world.run, mesh.world.network
    ca = mesh.world.authority.pair.certificate
    network.set_udp("cafe-router", allowed=False)
    with Tailscaled(
        run, mesh.world.toolbox, LAPTOP, namespace=network.namespace(LAPTOP), ca_file=ca
    ) as laptop:
        laptop.up(CONTROL_URL, mesh.create_key("--expires", "1h"))
        node = mesh.agent_status(mesh.office)["node"]["addresses"][0]

        def relayed() -> bool:
            try:
                return "via DERP(balcony)" in laptop.ping(node)
            except LabError:
                return False

        assert eventually(lambda: laptop.status()["Self"]["Relay"] == "balcony", within=SETTLE_SECONDS)
        assert "Nearest DERP: Balcony" in laptop.call(["netcheck"]).stdout
        assert eventually(relayed, within=SETTLE_SECONDS)
        # Whichever replica kube-proxy gave to whom: with one gone everyone meets on the other.
        for pod in relay_pods(mesh):
            assert relay_metrics(mesh, pod)["warren_relay_links"] == 1
            mesh.kubectl(mesh.home, "delete", "--namespace", NAMESPACE, pod, "--wait=false")
            mesh.kubectl(mesh.home, "wait", "--for=delete", "--namespace", NAMESPACE, pod, "--timeout=60s")
            assert eventually(relayed, within=SETTLE_SECONDS)
            mesh.kubectl(mesh.home, "wait", "--for=condition=Ready", *BALCONY, "--timeout=90s", timeout=100)
            assert eventually(
                lambda: all(
                    relay_metrics(mesh, each)["warren_relay_links"] == 1 for each in relay_pods(mesh)
                ),
                within=SETTLE_SECONDS,
            )
        laptop.logout()
    network.set_udp("cafe-router", allowed=True)


BALCONY = ("derprelay/balcony", "--namespace", NAMESPACE)


def relay_pods(mesh: MeshOfTwo) -> list[str]:
    selector = "--selector=warren.dev/relay=balcony"
    pods = mesh.home.cluster.kubectl_json("get", "pods", "--namespace", NAMESPACE, selector)["items"]
    return [f"pod/{pod['metadata']['name']}" for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def relay_metrics(mesh: MeshOfTwo, pod: str) -> dict[str, float]:
    """The figures of one replica, through the API server."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod.removeprefix('pod/')}:9090/proxy/metrics"
    return metrics_in(mesh.home.cluster.kubectl("get", f"--raw={path}"))


@pytest.fixture
def policy(mesh: MeshOfTwo) -> Iterator[Callable[[dict[str, Any] | None], None]]:
    """Gives the home Mesh a policy; afterwards it has none."""
    arguments = ("patch", mesh.home.mesh, "--namespace", NAMESPACE, "--type=merge", "--patch")

    def give(wanted: dict[str, Any] | None) -> None:
        # A merge patch takes away only what it names.
        whole = wanted and {"inline": None, "configMapRef": None, **wanted}
        mesh.kubectl(mesh.home, *arguments, json.dumps({"spec": {"policy": whole}}))

    yield give
    give(None)
    mesh.home.cluster.kubectl("delete", "configmap", "rules", "--namespace", NAMESPACE, "--ignore-not-found")
    assert eventually(lambda: not condition(mesh.home, "PolicyAccepted"), within=SETTLE_SECONDS)


def rules(ports: str, *, dst: str = "*") -> str:
    return json.dumps({"grants": [{"src": ["*"], "dst": [dst], "ip": [ports]}]}, indent=2)


def put_rules(member: Member, text: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "rules", "namespace": NAMESPACE},
        "data": {"policy.hujson": text},
    }
    member.cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))


def test_the_policy_of_a_mesh_closes_and_opens_a_flow_between_pods(
    mesh: MeshOfTwo, policy: Callable[[dict[str, Any] | None], None]
) -> None:
    assert page_fetched(mesh)
    policy({"inline": rules("icmp:*")})
    assert eventually(lambda: not page_fetched(mesh), within=SETTLE_SECONDS)
    assert condition(mesh.home, "PolicyAccepted")["reason"] == "Accepted"
    put_rules(mesh.home, rules("tcp:8080"))
    policy({"configMapRef": {"name": "rules"}})
    assert eventually(lambda: page_fetched(mesh), within=SETTLE_SECONDS)
    put_rules(mesh.home, rules("icmp:*", dst="tag:nobody"))

    def refused() -> bool:
        return condition(mesh.home, "PolicyAccepted").get("reason") == "Invalid"

    assert eventually(refused, within=SETTLE_SECONDS)
    assert re.search(r"line 8, column \d+: .*tag:nobody", condition(mesh.home, "PolicyAccepted")["message"])
    assert condition(mesh.home, "Ready")["status"] == "True"
    assert eventually(lambda: "Invalid" in warnings(mesh.home), within=SETTLE_SECONDS)
    assert page_fetched(mesh)


def test_a_second_mesh_in_a_cluster_gets_no_agents_and_leaves_those_of_the_first(mesh: MeshOfTwo) -> None:
    office = mesh.office
    other = Member("other", office.cluster)
    office.cluster.kubectl("apply", "-f", "-", input=manifest(office))
    assert eventually(
        lambda: condition(other, "AgentsReady").get("reason") == "HostsTaken", within=SETTLE_SECONDS
    )
    assert f"{NAMESPACE}/office" in condition(other, "AgentsReady")["message"]
    found = office.cluster.kubectl("get", "daemonsets", "--namespace", NAMESPACE, "--output=name").split()
    assert found == ["daemonset.apps/office-agent"]
    mesh.kubectl(office, "delete", other.mesh, "--namespace", NAMESPACE, "--timeout=60s")
    mesh.wait_ready(office)
    assert "page served by" in mesh.fetch_from_pod(mesh.home, mesh.page_ip(office))


def test_deleted_meshes_leave_nothing_on_the_nodes_or_in_the_clusters(mesh: MeshOfTwo) -> None:
    for member in reversed(mesh.members):
        mesh.delete(member)
        assert mesh.leftovers(member) == []
    with pytest.raises(LabError):
        mesh.wait_ready(mesh.home, timeout_seconds=1)


@pytest.fixture
def home_on_a_volume(home_only: MeshOfTwo) -> Iterator[MeshOfTwo]:
    """The home mesh once more, with its state on a volume of the default storage class."""
    document = yaml.safe_load((checkout() / "examples" / "home" / "mesh.yaml").read_text())
    document["spec"]["controlServer"]["managed"]["storage"] = {"persistentVolumeClaim": {"size": "1Gi"}}
    home_only.home.cluster.apply(document)
    home_only.wait_ready(home_only.home)
    yield home_only
    home_only.delete(home_only.home)
    assert home_only.leftovers(home_only.home) == []


def test_a_control_server_on_a_volume_knows_its_machines_when_its_pod_is_replaced(
    home_on_a_volume: MeshOfTwo,
) -> None:
    home = home_on_a_volume.home
    home_on_a_volume.wait_for_nodes(home, {home.node})
    before = home_on_a_volume.agent_status(home)["node"]
    home.cluster.kubectl(
        *(
            "delete",
            "pod",
            "--namespace",
            NAMESPACE,
            "--selector=app.kubernetes.io/component=control",
            "--wait",
        )
    )
    home_on_a_volume.wait_ready(home)
    assert eventually(
        lambda: home_on_a_volume.agent_status(home)["control"]["connected"], within=SETTLE_SECONDS
    )
    assert home_on_a_volume.agent_status(home)["node"] == before
