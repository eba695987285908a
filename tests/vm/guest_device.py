"""One device of the kernel module, driven by our codec and seen by the tool `wg`.

wg0 (here) -- veth -- wg0 (namespace far, set by `wg`)
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path

import pytest

from warren_agent.config import Config
from warren_agent.data_plane import UserspacePlane, link_index
from warren_agent.kernel.interfaces import PeerConfig, PeerStats
from warren_agent.kernel.wireguard_netlink import KernelWireGuard, kernel_has_wireguard
from warren_agent.paths.counters import TransportCounters
from warren_agent.transport.spoofing import SpoofingSocket
from warren_lab.patience import patient
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePrivate, NodePublic

HERE = NodePrivate.from_seed(b"\x01" * 32)
FAR = NodePrivate.from_seed(b"\x02" * 32)
HERE_INSIDE, FAR_INSIDE = IPv4Network("100.64.0.1/32"), IPv4Network("100.64.0.2/32")
FAR_ENDPOINTS = [AddrPort.parse("192.0.2.2:51820"), AddrPort.parse("192.0.2.3:51820")]
MANY = 5000


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def in_far(*words: str) -> str:
    return command("ip", "netns", "exec", "far", *words)


@pytest.fixture
async def device() -> AsyncIterator[KernelWireGuard]:
    command("ip", "link", "add", "wg0", "type", "wireguard")
    found = KernelWireGuard("wg0")
    try:
        yield found
    finally:
        await found.close()
        command("ip", "link", "del", "wg0")


@pytest.fixture
def far(tmp_path: Path) -> Iterator[None]:
    """A neighbour with two addresses that knows this device."""
    command("ip", "netns", "add", "far")
    try:
        command("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", "far")
        command("ip", "addr", "add", "192.0.2.1/24", "dev", "near0")
        command("ip", "addr", "add", "2001:db8::1/64", "dev", "near0", "nodad")
        command("ip", "link", "set", "near0", "up")
        for endpoint in FAR_ENDPOINTS:
            in_far("ip", "addr", "add", f"{endpoint.ip}/24", "dev", "far0")
        in_far("ip", "addr", "add", "2001:db8::2/64", "dev", "far0", "nodad")
        in_far("ip", "link", "set", "far0", "up")
        in_far("ip", "link", "add", "wg0", "type", "wireguard")
        (tmp_path / "key").write_text(base64_of(FAR.raw))
        in_far("wg", "set", "wg0", "private-key", str(tmp_path / "key"), "listen-port", "51820")
        in_far(
            *("wg", "set", "wg0", "peer", base64_of(HERE.public.raw)),
            *("allowed-ips", "100.64.0.0/16", "endpoint", "192.0.2.1:41641"),
        )
        in_far("ip", "addr", "add", "100.64.0.2/10", "dev", "wg0")
        in_far("ip", "addr", "add", "100.64.0.3/32", "dev", "wg0")
        in_far("ip", "link", "set", "wg0", "up")
        yield
    finally:
        command("ip", "netns", "del", "far")


def base64_of(raw: bytes) -> str:
    return b64encode(raw).decode()


def allowed_by_wg() -> dict[str, set[str]]:
    """What `wg` says: the allowed addresses of each peer."""
    rows = (line.split("\t") for line in command("wg", "show", "wg0", "allowed-ips").splitlines())
    return {key: set(networks.split()) - {"(none)"} for key, networks in rows}


def dump_by_wg() -> dict[str, tuple[object, ...]]:
    """All that `wg` says of each peer: endpoint, allowed addresses, last handshake, received, sent."""
    found: dict[str, tuple[object, ...]] = {}
    for line in command("wg", "show", "wg0", "dump").splitlines()[1:]:
        key, preshared, endpoint, allowed, handshake, received, sent, keepalive = line.split("\t")
        assert (preshared, keepalive) == ("(none)", "off")
        found[key] = (endpoint, set(allowed.split(",")), int(handshake), int(received), int(sent))
    return found


def fields_of(peer: PeerStats) -> tuple[object, ...]:
    """The same of what our codec read."""
    return (
        str(peer.endpoint),
        set(map(str, peer.allowed_ips)),
        peer.last_handshake_unix_ns // 10**9,
        peer.rx_bytes,
        peer.tx_bytes,
    )


async def connect(device: KernelWireGuard) -> None:
    await device.configure(HERE, 41641, 0x5700000)
    await device.update([PeerConfig(FAR.public, (FAR_INSIDE,), FAR_ENDPOINTS[0])], [])
    command("ip", "addr", "add", "100.64.0.1/10", "dev", "wg0")
    command("ip", "link", "set", "wg0", "up")
    assert pings("100.64.0.2")


def pings(address: str) -> bool:
    answer = subprocess.run(
        ["ping", "-c", "1", "-W", str(round(patient(5))), address], capture_output=True, check=False
    )
    return answer.returncode == 0


def test_the_kernel_has_wireguard() -> None:
    assert kernel_has_wireguard()


async def test_settings_are_written_and_read_back_and_wg_agrees(device: KernelWireGuard) -> None:
    fresh = await device.device()
    assert (fresh.private, fresh.fwmark, dict(fresh.peers)) == (None, 0, {})
    await device.configure(HERE, 41641, 0x5700000)
    state = await device.device()
    assert (state.private, state.listen_port, state.fwmark) == (HERE, 41641, 0x5700000)
    assert state.public == HERE.public
    fields = command("wg", "show", "wg0", "dump").splitlines()[0].split("\t")
    assert fields == [base64_of(HERE.raw), base64_of(HERE.public.raw), "41641", "0x5700000"]


async def test_peers_of_both_families_are_read_as_written(device: KernelWireGuard) -> None:
    wanted = [
        PeerConfig(FAR.public, (FAR_INSIDE, IPv6Network("fd7a:115c:a1e0::2/128")), FAR_ENDPOINTS[0]),
        PeerConfig(
            HERE.public, (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")), AddrPort.parse("[2001:db8::7]:9")
        ),
        PeerConfig(NodePublic(b"\x07" * 32), (), AddrPort.parse("127.1.2.3:4")),
    ]
    await device.update(wanted, [])
    peers = await device.peers()
    assert {key: (set(peer.allowed_ips), peer.endpoint) for key, peer in peers.items()} == {
        peer.key: (set(peer.allowed_ips), peer.endpoint) for peer in wanted
    }
    assert allowed_by_wg() == {base64_of(peer.key.raw): set(map(str, peer.allowed_ips)) for peer in wanted}
    endpoints = dict(line.split("\t") for line in command("wg", "show", "wg0", "endpoints").splitlines())
    assert endpoints == {base64_of(peer.key.raw): str(peer.endpoint) for peer in wanted}


async def test_an_unknown_peer_is_neither_created_nor_an_error(device: KernelWireGuard) -> None:
    await device.set_endpoint(FAR.public, FAR_ENDPOINTS[0])
    await device.update([PeerConfig(FAR.public, (FAR_INSIDE,))], [HERE.public])
    assert await device.peers() == {}


def many_peers() -> list[PeerConfig]:
    return [
        PeerConfig(
            NodePublic(number.to_bytes(32, "little")),
            (
                ip_network(IPv4Address("100.64.0.0") + number),
                ip_network(IPv6Address("fd7a:115c:a1e0::") + number),
            ),
            AddrPort(IPv4Address("127.64.0.0") + number, 41641),
        )
        for number in range(1, MANY + 1)
    ]


async def test_thousands_of_peers_come_back_whole(
    device: KernelWireGuard, record_property: Callable[[str, object], None]
) -> None:
    peers = many_peers()
    begin = time.monotonic()
    await device.update(peers, [])
    written = time.monotonic()
    seen = await device.peers()
    read = time.monotonic()
    record_property("emulated_seconds_to_write", round(written - begin, 2))
    record_property("emulated_seconds_to_read", round(read - written, 2))
    assert {key: set(peer.allowed_ips) for key, peer in seen.items()} == {
        peer.key: set(peer.allowed_ips) for peer in peers
    }
    assert all(seen[peer.key].endpoint == peer.endpoint for peer in peers)
    assert dump_by_wg() == {base64_of(key.raw): fields_of(peer) for key, peer in seen.items()}
    await device.update([], [peer.key for peer in peers[1:]])
    assert set(await device.peers()) == {peers[0].key}


async def test_peers_that_come_and_go_meanwhile_take_no_other_from_a_dump(device: KernelWireGuard) -> None:
    steady = many_peers()[:1000]
    passing = PeerConfig(FAR.public, (IPv4Network("100.127.0.1/32"),), FAR_ENDPOINTS[0])
    await device.update(steady, [])
    other, done = KernelWireGuard("wg0"), asyncio.Event()

    async def come_and_go() -> None:
        while not done.is_set():
            await other.update([passing], [])
            await other.update([], [passing.key])
            await asyncio.sleep(0.2)

    churn = asyncio.create_task(come_and_go())
    try:
        for _ in range(20):
            seen = await device.peers()
            assert {peer.key: len(seen[peer.key].allowed_ips) for peer in steady} == {
                peer.key: 2 for peer in steady
            }
    finally:
        done.set()
        await churn
        await other.close()


async def test_a_peer_with_very_many_routes_comes_back_whole(device: KernelWireGuard) -> None:
    routes = tuple(IPv4Network((int(IPv4Address("10.0.0.0")) + (number << 8), 24)) for number in range(3000))
    await device.update([PeerConfig(FAR.public, routes, FAR_ENDPOINTS[0])], [])
    assert set((await device.peers())[FAR.public].allowed_ips) == set(routes)
    assert allowed_by_wg() == {base64_of(FAR.public.raw): set(map(str, routes))}
    await device.update([PeerConfig(FAR.public, routes[:5])], [])
    peer = (await device.peers())[FAR.public]
    assert (set(peer.allowed_ips), peer.endpoint) == (set(routes[:5]), FAR_ENDPOINTS[0])


async def test_a_moved_endpoint_keeps_the_session(device: KernelWireGuard, far: None) -> None:
    await connect(device)
    before = (await device.peers())[FAR.public]
    assert before.last_handshake_unix_ns > 0
    assert before.rx_bytes > 0
    assert dump_by_wg() == {base64_of(FAR.public.raw): fields_of(before)}
    for endpoint in reversed(FAR_ENDPOINTS):
        await device.set_endpoint(FAR.public, endpoint)
        assert pings("100.64.0.2")
        after = (await device.peers())[FAR.public]
        assert after.endpoint == endpoint
        assert after.last_handshake_unix_ns == before.last_handshake_unix_ns
        assert after.rx_bytes > before.rx_bytes


@pytest.mark.parametrize(
    ("here", "there"),
    [("192.0.2.1:41641", "192.0.2.2:51820"), ("[2001:db8::1]:41641", "[2001:db8::2]:51820")],
    ids=["v4", "v6"],
)
async def test_a_relayed_packet_moves_neither_the_endpoint_nor_the_own_address(
    device: KernelWireGuard, far: None, here: str, there: str
) -> None:
    """What the far end sends to `relay` is handed on by us, as packets of a relay are."""
    own, direct = AddrPort.parse(here), AddrPort.parse(there)
    await connect(device)
    await device.set_endpoint(FAR.public, direct)
    assert pings("100.64.0.2")
    assert far_sees() == here
    counters = TransportCounters()
    spoofing = SpoofingSocket(wireguard_port=own.port, mark=0x5700000, counters=counters)
    before = (await device.peers())[FAR.public]
    family = socket.AF_INET if own.ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as relay:
        relay.bind((str(own.ip), 0))
        relay.settimeout(patient(5))
        in_far(
            "wg", "set", "wg0", "peer", base64_of(HERE.public.raw), *("endpoint", str(relayed(own, relay)))
        )
        far_pings = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs on this loop
            ["ip", "netns", "exec", "far", "ping", "-c", "1", "-W", str(round(patient(5))), "100.64.0.1"]
        )
        spoofing.inject(direct, [relay.recv(2048)])
        assert far_pings.wait() == 0
    spoofing.close()
    assert (counters.injected_spoofed, counters.loopback_send_errors) == (1, 0)
    after = (await device.peers())[FAR.public]
    assert after.endpoint == direct
    assert after.rx_bytes > before.rx_bytes
    assert after.last_handshake_unix_ns == before.last_handshake_unix_ns
    # The answer to the ping came straight from here, so the far end has followed it back.
    assert far_sees() == here


def relayed(own: AddrPort, relay: socket.socket) -> AddrPort:
    return AddrPort(own.ip, relay.getsockname()[1])


def far_sees() -> str:
    """Where the far end last heard this one."""
    return in_far("wg", "show", "wg0", "endpoints").split()[1]


async def test_changed_routes_keep_the_session(device: KernelWireGuard, far: None) -> None:
    await connect(device)
    before = (await device.peers())[FAR.public]
    assert not pings("100.64.0.3")
    await device.update([PeerConfig(FAR.public, (FAR_INSIDE, IPv4Network("100.64.0.3/32")))], [])
    assert pings("100.64.0.3")
    await device.update([PeerConfig(FAR.public, (IPv4Network("100.64.0.3/32"),))], [])
    assert pings("100.64.0.3")
    assert not pings("100.64.0.2")
    after = (await device.peers())[FAR.public]
    assert after.allowed_ips == (IPv4Network("100.64.0.3/32"),)
    assert after.last_handshake_unix_ns == before.last_handshake_unix_ns
    # Values that are so already are not written, which would forget the address that the peer was seen at.
    await device.configure(HERE, 41641, 0x5700000)
    assert pings("100.64.0.3")
    again = (await device.peers())[FAR.public]
    assert again.last_handshake_unix_ns == before.last_handshake_unix_ns


async def test_a_kernel_device_makes_room_when_another_container_is_to_run_userspace(tmp_path: Path) -> None:
    config = Config(server_url="", interface="wg9", userspace_external=True, uapi_dir=tmp_path)
    command("ip", "link", "add", "wg9", "type", "wireguard")
    plane = UserspacePlane(config)
    waiting = asyncio.create_task(plane.ensure())
    try:
        async with asyncio.timeout(patient(20)):
            while link_index("wg9") is not None:  # noqa: ASYNC110 - nothing tells when a link goes
                await asyncio.sleep(0.05)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await plane.wireguard.close()
