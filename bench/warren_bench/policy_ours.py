"""Our compiler's figures for one size, in a process of its own: arguments are nodes and stride.

The same work in the same order as `bench/headscale_policy`, which is what the ratios stand on.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from warren_bench.policy_mesh import NEW_TAGS, RETAGGED, Mesh
from warren_control.policy.acceptance import accept
from warren_control.policy.index import PolicyIndex
from warren_control.policy.live import LivePolicy
from warren_control.policy.network import Network


def measure(size: int, stride: int) -> dict[str, float]:
    """Seconds, megabytes, and counts by which the two sides' results are compared."""
    mesh = Mesh(size)
    text, network = mesh.policy(), mesh.network()
    before = _resident()

    started = time.perf_counter()
    index = accept(text, network)
    compiled = time.perf_counter() - started

    started = time.perf_counter()
    _filters(index, network)
    filters = time.perf_counter() - started
    megabytes = _resident() - before

    started = time.perf_counter()
    pairs = sum(len(index.peers(number)) for number in network.nodes)
    peers = time.perf_counter() - started
    rules = sum(_entries(index, number) for number in list(network.nodes)[::stride])

    live = LivePolicy(index)
    # Endpoints are no part of what a policy sees: the same network comes again as an equal copy.
    again = replace(network, nodes=MappingProxyType(dict(network.nodes)))
    started = time.perf_counter()
    live.update(again)
    _filters(live.index, again)
    endpoint = time.perf_counter() - started

    retagged = replace(network.nodes[RETAGGED], tags=NEW_TAGS)
    changed = replace(network, nodes=MappingProxyType({**network.nodes, RETAGGED: retagged}))
    started = time.perf_counter()
    live.update(changed)
    _filters(live.index, changed)
    tag = time.perf_counter() - started

    return {
        "compile": compiled,
        "filters": filters,
        "peers": peers,
        "tag": tag,
        "endpoint": endpoint,
        "megabytes": megabytes,
        "rules": rules,
        "pairs": pairs,
    }


def _filters(index: PolicyIndex, network: Network) -> None:
    """Every node's packet filter is made, or is there already."""
    for number in network.nodes:
        index.filter(number)


def _entries(index: PolicyIndex, number: int) -> int:
    return sum(len(rule.dst_ports or ()) for rule in index.filter(number))


def _resident() -> float:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
