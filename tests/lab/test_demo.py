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
from warren_lab.run import BASE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def traces(pid: int) -> list[str]:
    """What the lab of one process has on the machine; other labs may run meanwhile."""
    ours = re.compile(rf"\bwl{pid}-|warren-lab-{pid}\b|{re.escape(str(BASE))}/{pid}\b")
    seen = [
        output("ip", "netns", "list"),
        output("cat", "/proc/self/mounts"),
        output("ps", "-eo", "args"),
        output("find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", "warren-lab-*"),
        output("find", str(BASE), "-maxdepth", "1"),
    ]
    return [line for text in seen for line in text.splitlines() if ours.search(line)]


def host_network() -> list[str]:
    """What a lab must not touch: everything of its own is in namespaces."""
    return [output("ip", "-o", "link"), output("ip", "rule"), output("nft", "list", "tables")]


@pytest.fixture(scope="module")
def machine() -> None:
    require_root_netns()
    if problems := preflight.check({"network", "cluster", "images"}):
        pytest.skip("; ".join(map(str, problems)))


@pytest.mark.usefixtures("machine")
def test_every_step_of_the_demo_happens_and_nothing_is_left(tmp_path: Path) -> None:
    before = host_network()
    facts_file = tmp_path / "facts.json"
    demo = start_demo("--json", str(facts_file), "--logs", str(tmp_path / "logs"))
    printed, _ = demo.communicate()
    assert demo.returncode == 0, printed
    facts = json.loads(facts_file.read_text())
    wanted = (
        *("relayed", "direct", "relayed_after_udp_cut", "direct_again", "stock_client_reached_pod"),
        *("source_preserved", "stock_client_pinged_nodes", "mesh_ready_home", "mesh_ready_office", "removed"),
    )
    assert {name: facts[name] for name in wanted} == dict.fromkeys(wanted, True)
    assert facts["times"].keys() >= {"registered", "first_answer", "direct", "relayed_after_udp_cut"}
    assert traces(demo.pid) == []
    assert host_network() == before


@pytest.mark.usefixtures("machine")
def test_an_interrupted_demo_leaves_nothing() -> None:
    demo = start_demo()
    assert demo.stdout is not None
    for line in demo.stdout:
        if "helm install" in line:
            break
    assert traces(demo.pid)
    demo.terminate()
    demo.communicate(timeout=120)
    assert demo.returncode != 0
    assert traces(demo.pid) == []


def start_demo(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "warren_lab", "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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
