"""`warren-lab demo` as a person runs it: its facts are true, and afterwards the machine is as it was.

home-node -- home-router --+                +-- office-router -- office-node
                           +-- internet ----+
                                            +-- cafe-router -- laptop (stock client)
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.requirements import require_root_netns
from warren_lab import preflight

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

TRACES = (
    ("namespaces", ["ip", "netns", "list"], r"^wl\S+"),
    ("mounts", ["cat", "/proc/self/mounts"], r"^\S+ \S*warren-lab\S*"),
    ("nftables", ["nft", "list", "tables"], r"^table .*"),
    ("interfaces", ["ip", "-o", "link"], r"^\d+: [^:@]+"),
    (
        "processes",
        ["ps", "-eo", "args"],
        r"^\S*(?:kubelet|containerd|etcd|kube-\S+|tailscaled|wireguard)\b.*",
    ),
    ("cgroups", ["find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", "warren-lab-*"], r"^.*"),
    (
        "folders",
        ["find", "/var/lib/warren-lab", "/var/tmp/warren-lab", "-mindepth", "1", "-maxdepth", "1"],
        r"^.*",
    ),
)


def traces() -> dict[str, list[str]]:
    """What a lab could leave on the machine."""
    return {
        name: sorted(
            re.findall(
                pattern,
                subprocess.run(command, capture_output=True, text=True, check=False).stdout,
                re.MULTILINE,
            )
        )
        for name, command, pattern in TRACES
    }


@pytest.fixture(scope="module")
def machine() -> None:
    require_root_netns()
    if problems := preflight.check({"network", "cluster", "images"}):
        pytest.skip("; ".join(map(str, problems)))


@pytest.mark.usefixtures("machine")
def test_every_step_of_the_demo_happens_and_nothing_is_left(tmp_path: Path) -> None:
    before = traces()
    facts_file = tmp_path / "facts.json"
    command = [
        sys.executable,
        "-m",
        "warren_lab",
        "demo",
        "--json",
        str(facts_file),
        "--logs",
        str(tmp_path / "logs"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(facts_file.read_text())
    wanted = (
        *("relayed", "direct", "relayed_after_udp_cut", "direct_again", "stock_client_reached_pod"),
        *("source_preserved", "stock_client_pinged_nodes", "mesh_ready_home", "mesh_ready_office", "removed"),
    )
    assert {name: facts[name] for name in wanted} == dict.fromkeys(wanted, True)
    assert facts["times"].keys() >= {"registered", "first_answer", "direct", "relayed_after_udp_cut"}
    assert traces() == before


@pytest.mark.usefixtures("machine")
def test_an_interrupted_demo_leaves_nothing() -> None:
    before = traces()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "warren_lab", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "helm install" in line:
            break
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert traces() == before


def test_without_root_the_demo_says_so_in_one_line_and_ends_with_2() -> None:
    require_root_netns()
    done = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            sys.executable,
            "-m",
            "warren_lab",
            "demo",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "root" in done.stderr
