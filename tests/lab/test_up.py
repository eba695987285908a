"""`warren-lab up` leaves a mesh behind, and `warren-lab down` takes it away."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support.lab import require_namespaces
from support.requirements import require_nftables, require_program, require_tun
from warren_lab import tools
from warren_lab.matrix.measure import GROUPS
from warren_lab.net import namespaces
from warren_lab.process import entering
from warren_lab.run import BASE, WIREGUARD_SOCKETS

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def lab(*arguments: str) -> str:
    """What the command prints."""
    answer = subprocess.run(
        [sys.executable, "-m", "warren_lab", *arguments], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_a_mesh_stays_until_it_is_taken_down() -> None:
    require_namespaces()
    require_tun()
    require_nftables()
    require_program("miniupnpd")
    tools.ensure(GROUPS)
    try:
        printed = lab("up", "--ours", "easy-mapped", "--stock", "hard")
        assert "h1-easy-mapped-ours" in lab("shell").splitlines()
        shown = re.findall(r"^  # (.*)$", printed, re.MULTILINE)
        (pid,) = {found[1] for each in shown if (found := re.search(rf"{BASE}/(\d+)/", each))}
        assert len(shown) == 2
        for host, command in zip(("h1-easy-mapped-ours", "h2-hard-stock"), shown, strict=True):
            looked = subprocess.run(
                entering(command.split(), f"wl{pid}-{host}"), capture_output=True, text=True, check=True
            )
            assert "h1-easy-mapped-ours" in looked.stdout
            assert "h2-hard-stock" in looked.stdout
    finally:
        lab("down")
    assert namespaces.names(f"wl{pid}-") == []
    assert list(WIREGUARD_SOCKETS.glob(f"wl{pid}x*")) == []
    assert not (BASE / pid).exists()
