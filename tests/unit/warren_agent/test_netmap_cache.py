"""The cached network map."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from support.members import disco_key, node_key
from warren_agent import netmap_cache
from warren_wire.control.messages import DERPMap, DERPNode, DERPRegion, MapResponse, Node
from warren_wire.control.netmap import EMPTY, Netmap, apply


def netmap() -> Netmap:
    region = DERPRegion(region_id=900, region_code="home", nodes=(DERPNode(name="900a", host_name="relay"),))
    office = Node(
        id=2,
        name="office.mesh.internal.",
        key=node_key("office"),
        disco_key=disco_key("office"),
        addresses=("100.64.0.2/32",),
        allowed_ips=("100.64.0.2/32", "10.2.0.0/16"),
        endpoints=("203.0.113.20:41641",),
        home_derp=900,
        online=True,
    )
    response = MapResponse(
        node=Node(id=1, name="home.mesh.internal.", key=node_key("home"), addresses=("100.64.0.1/32",)),
        peers=(office,),
        derp_map=DERPMap(regions={900: region}),
        domain="mesh.internal",
    )
    return apply(EMPTY, response)


def test_a_map_is_found_again(tmp_path: Path) -> None:
    netmap_cache.save(tmp_path, netmap())
    found = netmap_cache.load(tmp_path, node_key("home"))
    assert found is not None
    assert (found.self_node, found.peers, found.derp_map) == (
        netmap().self_node,
        netmap().peers,
        netmap().derp_map,
    )


def test_a_map_of_another_node_key_is_not_used(tmp_path: Path) -> None:
    netmap_cache.save(tmp_path, netmap())
    assert netmap_cache.load(tmp_path, node_key("laptop")) is None


def test_no_map_is_no_problem(tmp_path: Path) -> None:
    assert netmap_cache.load(tmp_path, node_key("home")) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"Node":', b'{"Node":{"ID":1,"Key":"nodekey:00"}}'])
def test_a_damaged_map_is_as_good_as_none(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / netmap_cache.FILE_NAME).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert netmap_cache.load(tmp_path, node_key("home")) is None
    assert "cached network map not used" in caplog.text


def test_a_forgotten_map_is_gone(tmp_path: Path) -> None:
    netmap_cache.save(tmp_path, netmap())
    netmap_cache.forget(tmp_path)
    netmap_cache.forget(tmp_path)
    assert netmap_cache.load(tmp_path, node_key("home")) is None
