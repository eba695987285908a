"""Machines join, see each other and follow each other's changes through the real protocol."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from support.control_client import Identity
from support.eventually import eventually
from warren_control import hub
from warren_wire.control.messages import Hostinfo, NetInfo
from warren_wire.keys import DiscoPrivate, NodePrivate

from .conftest import BOOTSTRAP, Running


async def test_two_machines_see_each_other(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    seen = office.peer("web")
    assert seen is not None
    assert seen.online is True
    assert seen.hostinfo is not None
    assert seen.addresses == ("100.64.0.1/32", "fd7a:115c:a1e0::1/128")
    assert seen.disco_key == web.identity.disco.public
    assert office.netmap.self_node is not None
    assert office.netmap.self_node.addresses == ("100.64.0.2/32", "fd7a:115c:a1e0::2/128")


async def test_the_first_message_is_complete(server: Running) -> None:
    web = await server.member("web")
    first = web.messages[0]
    assert first.node is not None
    assert first.node.machine_authorized
    assert first.derp_map is not None
    assert first.derp_map.regions is not None
    assert list(first.derp_map.regions) == [900]
    assert first.dns_config is not None
    assert first.dns_config.domains == ("mesh.internal",)
    assert first.dns_config.proxied
    assert first.user_profiles
    assert first.debug is not None
    assert first.debug.disable_log_tail
    rules = web.netmap.rules
    assert [port.ip for rule in rules for port in rule.dst_ports or ()] == ["100.64.0.1", "fd7a:115c:a1e0::1"]


async def test_endpoints_arrive_as_a_patch(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    before = len(web.messages)
    assert await office.report(endpoints=("192.0.2.7:41641", "[fe80::1]:41641")) == 200

    def endpoints_known() -> bool:
        peer = web.peer("office")
        return peer is not None and peer.endpoints == ("192.0.2.7:41641",)

    await web.until(endpoints_known)
    later = web.messages[before:]
    assert all(message.peers_changed is None and message.node is None for message in later)


async def test_a_report_without_news_is_told_to_nobody(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office", endpoints=("192.0.2.7:41641",))
    await office.report(endpoints=("192.0.2.7:41641",))
    revision = server.server.store.snapshot.revision if server.server else 0
    await office.report(endpoints=("192.0.2.7:41641",))
    assert server.server is not None
    assert server.server.store.snapshot.revision == revision
    assert web.peer("web") is None


async def test_home_relay_survives_a_report_without_it(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    measured = Hostinfo(hostname="office", os="linux", net_info=NetInfo(preferred_derp=901))
    await office.report(hostinfo=measured)
    await web.until(lambda: (peer := web.peer("office")) is not None and peer.home_derp == 901)
    await office.report(hostinfo=Hostinfo(hostname="office", os="linux", os_version="7"))

    def updated() -> bool:
        peer = web.peer("office")
        return peer is not None and peer.hostinfo is not None and peer.hostinfo.os_version == "7"

    await web.until(updated)
    assert (peer := web.peer("office")) is not None
    assert peer.home_derp == 901


async def test_a_rename_reaches_both(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    status, document = await server.api("PATCH", "/api/v1/nodes/2", {"name": "branch"})
    assert (status, document["name"]) == (200, "branch")
    await web.until(lambda: web.peer("branch") is not None)
    await office.until(
        lambda: (
            office.netmap.self_node is not None and office.netmap.self_node.name == "branch.mesh.internal."
        )
    )


async def test_equal_host_names_get_a_number(server: Running) -> None:
    first = await server.member("web")
    await server.member("web")
    await first.until(lambda: first.peer("web-1") is not None)


async def test_routes_of_the_key_are_approved_and_enter_filter_and_allowed_ips(server: Running) -> None:
    web = await server.member("web")
    routes = ("10.1.2.0/24", "10.9.0.0/16", "10.1.0.1/24")
    gateway = await server.member("gateway")
    await gateway.report(hostinfo=Hostinfo(hostname="gateway", routable_ips=routes))
    await web.until(
        lambda: (peer := web.peer("gateway")) is not None and peer.primary_routes == ("10.1.2.0/24",)
    )
    peer = web.peer("gateway")
    assert peer is not None
    assert "10.1.2.0/24" in (peer.allowed_ips or ())
    assert "10.9.0.0/16" not in (peer.allowed_ips or ())
    await gateway.until(
        lambda: "10.1.2.0/24" in [port.ip for rule in gateway.netmap.rules for port in rule.dst_ports or ()]
    )


async def test_deleting_a_node_removes_it_from_peers_and_logs_it_out(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    status, _ = await server.api("DELETE", "/api/v1/nodes/2")
    assert status == 204
    await web.until(lambda: web.peer("office") is None)

    def logged_out() -> bool:
        node = office.netmap.self_node
        return node is not None and node.key_expiry is not None and node.key_expiry <= datetime.now(UTC)

    await office.until(logged_out)
    await office.until(lambda: office.poll_ended)
    await office.poll()
    assert logged_out()


async def test_a_new_node_key_keeps_the_identity(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    office.identity.node = NodePrivate.from_seed(bytes(range(32)))
    assert (await office.register(BOOTSTRAP)).error == ""
    await web.until(
        lambda: (peer := web.peer("office")) is not None and peer.key == office.identity.node.public
    )
    peer = web.peer("office")
    assert peer is not None
    assert peer.id == 2
    assert peer.addresses == ("100.64.0.2/32", "fd7a:115c:a1e0::2/128")


async def test_the_newest_poll_replaces_the_one_before(server: Running) -> None:
    identity = Identity("web")
    first = await server.member(identity)
    second = await server.client(identity)
    assert await second.poll() == 200
    await first.until(lambda: first.poll_ended)
    office = await server.member("office")
    await second.until(lambda: second.peer("office") is not None)
    assert (peer := office.peer("web")) is not None
    assert peer.online is True


async def test_a_lite_update_does_not_disturb_the_stream(server: Running) -> None:
    web = await server.member("web")
    for port in range(1, 20):
        assert await web.report(endpoints=(f"192.0.2.1:{port}",)) == 200
    assert not web.poll_ended


async def test_a_reconnecting_client_fills_what_a_restarted_server_forgot(server: Running) -> None:
    one, two = Identity("web"), Identity("office")
    web = await server.member(one, endpoints=("192.0.2.1:1",))
    office = await server.member(two, endpoints=("192.0.2.2:2",))
    await web.until(lambda: web.peer("office") is not None)
    await server.stop()
    await web.until(lambda: web.disconnected)
    await office.until(lambda: office.disconnected)
    two.disco = DiscoPrivate.from_seed(bytes(32))
    await server.start()
    web = await server.client(one)
    await web.poll(endpoints=("192.0.2.1:1",))
    assert (peer := web.peer("office")) is not None
    assert peer.online is False
    office = await server.client(two)
    await office.poll(endpoints=("192.0.2.2:2",))

    def whole() -> bool:
        peer = web.peer("office")
        return (
            peer is not None
            and peer.online is True
            and peer.endpoints == ("192.0.2.2:2",)
            and peer.disco_key == two.disco.public
        )

    await web.until(whole)
    assert (seen := office.peer("web")) is not None
    assert seen.id == 1
    assert seen.endpoints == ("192.0.2.1:1",)


async def test_a_burst_of_registrations_reaches_everyone(server: Running) -> None:
    watcher = await server.member("watcher")
    members = await asyncio.gather(*(server.member(f"node{number}") for number in range(20)))
    await watcher.until(lambda: len(watcher.netmap.peers) == 20)
    for member in members:
        await member.until(lambda: len(member.netmap.peers) == 20)  # noqa: B023 - awaited at once
    addresses = {node.addresses for node in watcher.netmap.peers.values()}
    assert len(addresses) == 20


async def test_a_quiet_stream_is_kept_alive(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stock clients give up a stream that is silent for 120 s.
    assert hub.KEEP_ALIVE_SECONDS + hub.KEEP_ALIVE_JITTER_SECONDS < 120 / 2
    monkeypatch.setattr(hub, "KEEP_ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(hub, "KEEP_ALIVE_JITTER_SECONDS", 0.0)
    web = await server.member("web")
    await web.until(lambda: sum(bool(message.keep_alive) for message in web.messages) >= 3)
    assert not web.poll_ended


async def test_the_time_until_everyone_is_told_is_measured(server: Running) -> None:
    web = await server.member("web")
    await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    assert server.server is not None
    measured = server.server.metrics.registry.get_sample_value
    await eventually(lambda: (measured("warren_control_map_delivery_seconds_count") or 0) > 0)
    assert measured("warren_control_map_streams_waiting") == 0
