"""The cells of the NAT matrix that differ in kind; `warren-lab matrix` measures all of them.

near node -- its router --+            +-- its router -- far node
                          +- internet -+
             control (relay, STUN), derper (STUN)
"""

from __future__ import annotations

import os

import pytest

from support.lab import require_namespaces
from support.requirements import require_nftables, require_program, require_tun
from warren_lab import tools
from warren_lab.matrix.cells import PAIRS, cells_named
from warren_lab.matrix.measure import GROUPS, measure
from warren_lab.matrix.show import line
from warren_lab.net import namespaces

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]

CELLS = (
    "public/public",
    "easy/easy",
    "easy/easy-other",
    "easy/hard",
    "hard/hard",
    "hard/easy-af",
    "hard/hard-mapped",
    "firewall/hard",
    "full-cone/hard",
    "one-to-one/hard",
    "udp-blocked/easy",
)


def test_every_cell_is_as_good_as_physics_allows() -> None:
    require_namespaces()
    require_tun()
    require_nftables()
    require_program("miniupnpd")
    toolbox = tools.ensure(GROUPS)
    wanted = cells_named(CELLS, PAIRS)
    said: list[str] = []
    results = list(measure(wanted, toolbox, width=8, say=said.append))
    assert {result.cell for result in results} == set(wanted)
    assert [line(result) for result in results if result.seen is not result.expected] == []
    assert namespaces.names(f"wl{os.getpid()}-") == []
