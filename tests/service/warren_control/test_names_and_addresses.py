"""Addresses of one family, random ones, chosen ones; split DNS; records from a watched file."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from support.control_client import ControlClient

from .conftest import BOOTSTRAP, Running, StartServer


@pytest.mark.parametrize(
    ("settings", "addresses"),
    [
        ({"v4": "none"}, ("fd7a:115c:a1e0::1/128",)),
        ({"v6": "none"}, ("100.64.0.1/32",)),
        (
            {"v4": "100.71.0.0/24", "v6": "fd7a:115c:a1e0:7::/64"},
            ("100.71.0.1/32", "fd7a:115c:a1e0:7::1/128"),
        ),
    ],
)
async def test_nodes_get_addresses_of_the_ranges_there_are(
    start_server: StartServer, settings: dict[str, str], addresses: tuple[str, ...]
) -> None:
    server = await start_server(addresses=settings)
    web = await server.member("web")
    assert web.netmap.self_node is not None
    assert web.netmap.self_node.addresses == addresses
    destinations = [port.ip for rule in web.netmap.rules for port in rule.dst_ports or ()]
    assert destinations == [address.partition("/")[0] for address in addresses]
    await server.stop()
    await server.start()
    _, node = await server.api("GET", "/api/v1/nodes/1")
    assert node["addresses"] == destinations


async def test_random_addresses_are_spread_and_never_given_twice(start_server: StartServer) -> None:
    server = await start_server(addresses={"v4": "100.64.7.0/28", "allocation": "random"})
    for number in range(14):
        assert (await (await server.client(f"node{number}")).register(BOOTSTRAP)).error == ""
    assert "no free address" in (await (await server.client("late")).register(BOOTSTRAP)).error
    _, document = await server.api("GET", "/api/v1/nodes")
    found = [ip_address(node["addresses"][0]) for node in document["nodes"]]
    assert sorted(found) == list(ip_network("100.64.7.0/28").hosts())
    v6 = {node["addresses"][1] for node in document["nodes"]}
    assert len(v6) == 14
    assert "fd7a:115c:a1e0::1" not in v6


async def test_a_chosen_address_reaches_peers_and_must_be_free(server: Running) -> None:
    web = await server.member("web")
    await server.member("office")
    assert (await server.api("PATCH", "/api/v1/nodes/2", {"addresses": ["100.64.7.7"]}))[0] == 200

    def moved() -> bool:
        peer = web.peer("office")
        return peer is not None and peer.addresses is not None and peer.addresses[0] == "100.64.7.7/32"

    await web.until(moved)
    for wrong in (["100.64.0.1"], ["192.0.2.1"], ["100.100.100.100"], ["x"]):
        assert (await server.api("PATCH", "/api/v1/nodes/2", {"addresses": wrong}))[0] == 422


async def test_split_dns_and_fallback_resolvers_are_told(start_server: StartServer) -> None:
    server = await start_server(
        dns={"resolvers": ["192.0.2.53"], "override_local": False, "split": {"corp.example": ["10.0.0.53"]}}
    )
    dns = (await server.member("web")).netmap.dns
    assert dns is not None
    assert dns.routes is not None
    assert [resolver.addr for resolver in dns.routes["corp.example"] or ()] == ["10.0.0.53"]
    assert dns.resolvers is None
    assert [resolver.addr for resolver in dns.fallback_resolvers or ()] == ["192.0.2.53"]


def _names(client: ControlClient) -> list[str]:
    dns = client.netmap.dns
    return [record.name for record in (dns.extra_records or ())] if dns is not None else []


async def test_records_of_a_watched_file_come_and_go(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    record: dict[str, Any] = {"name": "nas.example.net", "value": "100.64.0.9"}
    file.write_text(json.dumps([record]))
    server = await start_server(dns={"extra_records_file": str(file)})
    web = await server.member("web")
    assert _names(web) == ["nas.example.net"]
    file.write_text(json.dumps([record, {"name": "tv.example.net", "value": "100.64.0.8"}]))
    await web.until(lambda: _names(web) == ["nas.example.net", "tv.example.net"])
    # Half a file, as a program leaves it that writes in place, takes nothing away.
    file.write_text('[{"name": "nas')
    office = await server.member("office")
    assert len(_names(office)) == 2
    file.write_text("[]")
    await web.until(lambda: _names(web) == [])
