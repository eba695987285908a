"""Two real clusters at once, each in a namespace of its own.

home -- home-router --+            +-- office-router -- office
                      +- internet -+
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from support.certificates import self_signed
from support.lab import eventually, home_and_office
from support.operator_cases import example
from warren_lab import cluster, images, preflight, tools
from warren_lab.cluster import Cluster, ClusterError, ClusterSpec
from warren_lab.cluster.cgroups import matching
from warren_lab.images import Images as LabImages
from warren_lab.net import Network, namespaces
from warren_lab.run import sweep
from warren_lab.tools import Toolbox
from warren_operator.config import Images
from warren_operator.desired.relay import relay_objects, tls_secret_name
from warren_operator.naming import relay_keys_name, relay_name
from warren_operator.resources.derprelay import parse_relay

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

RANGES = {
    "home": (IPv4Network("10.1.0.0/16"), IPv4Network("10.96.0.0/16")),
    "office": (IPv4Network("10.2.0.0/16"), IPv4Network("10.97.0.0/16")),
}
HOST_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


@dataclass(frozen=True, slots=True)
class World:
    """What the tests of this file share."""

    network: Network
    toolbox: Toolbox
    images: LabImages
    home: Cluster
    office: Cluster
    settings_before: tuple[str, ...]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    problems = preflight.check({"network", "cluster", "images"})
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    sweep()
    cluster.sweep(kept=False)
    toolbox = tools.ensure(("cluster", "wireguard"))
    system = images.ensure(("pause", "coredns"), toolbox=toolbox)
    made = images.ensure(("web", "wireguard"), toolbox=toolbox)
    before = host_settings()
    with Network(home_and_office()) as network:
        home, office = (
            Cluster(
                ClusterSpec(name, network.namespace(name), network.address(name), *RANGES[name]),
                run_dir=cluster.cluster_dir(name),
                toolbox=toolbox,
                images=system,
            )
            for name in RANGES
        )
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Cluster.start, (home, office)))
            home.load_image(made.archive)
            yield World(network, toolbox, made, home, office, before)
        finally:
            home.stop()
            office.stop()
            cluster.finish_run()


def test_each_cluster_has_its_own_ready_node_in_its_own_range(world: World) -> None:
    for each in (world.home, world.office):
        (node,) = each.kubectl_json("get", "nodes")["items"]
        ready = {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}["Ready"]
        assert (node["metadata"]["name"], ready) == (each.name, "True")
        assert IPv4Network(node["spec"]["podCIDR"]).subnet_of(each.spec.pod_cidr)
        assert each.node_exec("hostname").strip() == each.name


def test_pods_reach_each_other_by_address_service_and_name(world: World) -> None:
    home = world.home
    home.apply(web_server(world.images.reference("web")))
    home.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    home.kubectl(
        *("run", "client", f"--image={world.images.reference('web')}", "--image-pull-policy=Never"),
        *("--restart=Never", "--command", "--", "sleep", "600"),
    )
    home.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    (pod,) = home.kubectl_json("get", "pods", "--selector=app=web")["items"]
    service = home.kubectl_json("get", "service", "web")["spec"]["clusterIP"]
    for host in (pod["status"]["podIP"], service, "web.default.svc.cluster.local"):
        fetched = home.kubectl("exec", "client", "--", "wget", "-qO-", f"http://{host}/")
        assert fetched == "hello from web\n"
    assert "hello from web" in home.node_exec("busybox", "wget", "-qO-", f"http://{service}/")
    assert "starting" in home.kubectl("logs", "deployment/web")


def test_a_claim_of_the_default_class_is_bound(world: World) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "writer"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "writer",
                    "image": world.images.reference("web"),
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", "echo kept > /data/file"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }
    world.home.apply({"apiVersion": "v1", "kind": "List", "items": [claim, pod]})
    world.home.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/writer", "--timeout=60s")
    assert world.home.kubectl_json("get", "pvc", "data")["status"]["phase"] == "Bound"


def test_a_pod_with_two_capabilities_makes_a_tunnel_on_its_node_and_nowhere_else(world: World) -> None:
    world.home.apply(tunnel_daemon(world.images.reference("wireguard")))
    world.home.kubectl("rollout", "status", "daemonset/tunnel", "--timeout=60s")
    world.home.node_exec("sh", "-c", "until ip link show wg-test; do sleep 0.1; done", timeout=30)
    assert "wg-test" not in world.office.node_exec("ip", "-o", "link")
    assert "wg-test" not in Path("/proc/net/dev").read_text()
    # The hostPath the pod wrote to is the node's, not the machine's.
    assert "wg-test.sock" in world.home.node_exec("ls", "/run/wireguard")
    assert not Path("/run/wireguard/wg-test.sock").exists()


def test_the_machine_s_kernel_settings_stay_as_they_were(world: World) -> None:
    assert host_settings() == world.settings_before
    assert world.home.node_exec("cat", "/proc/sys/kernel/panic").strip() == "10"


def test_a_command_that_fails_says_what_kubectl_said(world: World) -> None:
    with pytest.raises(ClusterError, match='nodes "nobody" not found'):
        world.home.kubectl("get", "node", "nobody")


def test_a_killed_program_of_the_node_comes_back(world: World) -> None:
    (before,) = programs(world, "kube-scheduler")
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: len(set(programs(world, "kube-scheduler")) - {before}) == 1)


def test_stopping_leaves_nothing(world: World) -> None:
    folder = cluster.cluster_dir("office")
    world.office.stop()
    assert traces("office", world) == []
    assert not folder.exists()
    world.office.stop()
    # The other one went on.
    assert world.home.kubectl("get", "--raw=/readyz") == "ok"


def test_a_killed_lab_leaves_no_process_and_the_sweep_removes_the_rest(world: World) -> None:
    program = textwrap.dedent(
        f"""
        import sys, time
        from ipaddress import IPv4Address, IPv4Network
        from warren_lab import cluster, images, tools
        toolbox = tools.ensure(("cluster", "wireguard"))
        made = images.ensure(("pause", "coredns"), toolbox=toolbox)
        spec = cluster.ClusterSpec(
            "office", "{world.network.namespace("office")}", IPv4Address("{world.network.address("office")}"),
            IPv4Network("{RANGES["office"][0]}"), IPv4Network("{RANGES["office"][1]}"),
        )
        cluster.Cluster(spec, run_dir=cluster.cluster_dir("office"), toolbox=toolbox, images=made).start()
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout is not None
        assert lab.stdout.readline() == "ready\n"
        lab.send_signal(signal.SIGKILL)
    folder = cluster.cluster_dir("office", lab.pid)
    assert eventually(lambda: namespaces.processes(world.network.namespace("office")) == [])
    assert cluster.sweep(kept=False) == [f"{lab.pid}/office"]
    assert not folder.exists()
    assert matching(f"warren-lab-{lab.pid}-") == set()


def traces(name: str, world: World) -> list[str]:
    """What a stopped cluster left on the machine."""
    namespace = world.network.namespace(name)
    enter = ["nsenter", f"--net=/run/netns/{namespace}"]
    links = json.loads(subprocess.check_output([*enter, "ip", "-json", "link"]))
    tables = subprocess.check_output([*enter, "nft", "list", "tables"], text=True)
    folder = str(cluster.cluster_dir(name))
    return [
        *(f"process {pid}" for pid in namespaces.processes(namespace)),
        *(f"link {link['ifname']}" for link in links if link["ifname"] not in ("lo", "eth0")),
        *tables.splitlines(),
        *(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder in line),
        *matching(f"warren-lab-{os.getpid()}-{name}"),
    ]


def host_settings() -> tuple[str, ...]:
    return tuple(Path("/proc/sys", name).read_text() for name in HOST_SETTINGS)


def programs(world: World, name: str) -> list[int]:
    """Processes of the office node that run a program."""
    found = []
    for pid in namespaces.processes(world.network.namespace("office")):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0].endswith(f"/{name}"):
                found.append(pid)
    return found


def test_a_relay_on_the_host_s_network_serves_port_443_without_root(world: World, tmp_path: Path) -> None:
    home, made = world.home, images.ensure(("relay",), toolbox=world.toolbox)
    home.load_image(made.archive)
    manifest = example(
        "home/derprelay.yaml",
        admission="Anyone",
        exposure={"type": "HostNetwork", "host": "relay.example.org", "derpPort": 443},
    )
    relay = parse_relay(manifest)
    pair = self_signed(tmp_path, "relay.example.org")
    files = {"tls.crt": pair.certificate.read_text(), "tls.key": pair.key.read_text()}
    namespace = manifest["metadata"]["namespace"]
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        secret(namespace, tls_secret_name(relay), files),
        secret(namespace, relay_keys_name(relay.name), {"mesh.key": "00" * 32}),
        *relay_objects(relay, None, Images("", made.reference("relay"), "")),
    ]
    for each in objects:
        # There is no DerpRelay here that could own them.
        each["metadata"].pop("ownerReferences", None)
    home.apply({"apiVersion": "v1", "kind": "List", "items": objects})
    name = relay_name(relay.name)
    home.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=90s")
    (pod,) = home.kubectl_json("-n", namespace, "get", "pods")["items"]
    identity = home.kubectl("-n", namespace, "exec", pod["metadata"]["name"], "--", "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in identity.splitlines())
    assert set(fields["Uid"].split()) == {"65532"}
    # No more than the one capability, number 10, and no way to more.
    assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {1 << 10}
    assert fields["NoNewPrivs"].strip() == "1"
    url = f"https://{world.network.address('home')}/derp/probe"
    assert home.node_exec("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", url) == "200"


def secret(namespace: str, name: str, files: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": files}


def web_server(image: str) -> dict[str, object]:
    page = "/www/index.html"
    script = f"echo hello from web > {page} && echo starting && exec httpd -f -p 80 -h /www"
    labels = {"app": "web"}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "web"},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {
                            "containers": [
                                {
                                    "name": "web",
                                    "image": image,
                                    "imagePullPolicy": "Never",
                                    "command": ["sh", "-c", script],
                                    "readinessProbe": {
                                        "httpGet": {"path": "/", "port": 80},
                                        "periodSeconds": 1,
                                    },
                                }
                            ]
                        },
                    },
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"selector": labels, "ports": [{"port": 80}]},
            },
        ],
    }


def tunnel_daemon(image: str) -> dict[str, object]:
    labels = {"app": "tunnel"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "tunnel"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostNetwork": True,
                    "containers": [
                        {
                            "name": "tunnel",
                            "image": image,
                            "imagePullPolicy": "Never",
                            "command": ["/out/wireguard", "-f", "wg-test"],
                            "securityContext": {
                                "privileged": False,
                                "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
                            },
                            "volumeMounts": [
                                {"name": "tun", "mountPath": "/dev/net/tun"},
                                {"name": "sockets", "mountPath": "/var/run/wireguard"},
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": "tun", "hostPath": {"path": "/dev/net/tun", "type": "CharDevice"}},
                        {
                            "name": "sockets",
                            "hostPath": {"path": "/run/wireguard", "type": "DirectoryOrCreate"},
                        },
                    ],
                },
            },
        },
    }
