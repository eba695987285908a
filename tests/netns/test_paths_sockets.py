"""The sockets of the path engine beside a real UDP socket on the same port, in real network stacks.

home -- internet -- office
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

import pytest
from pyroute2 import IPRoute

from support.lab import require_namespaces
from support.requirements import require_root_netns
from warren_agent.kernel.addresses import reachable, read_addresses
from warren_agent.paths.actions import IPAddress
from warren_agent.paths.counters import TransportCounters
from warren_agent.transport.loopback import SOL_UDP, UDP_GRO, UDP_SEGMENT, LoopbackSocket
from warren_agent.transport.raw_udp import RawUdp
from warren_agent.transport.spoofing import SpoofingSocket
from warren_lab.net import Network, PublicHost, Topology
from warren_wire import disco, stun
from warren_wire.addresses import AddrPort
from warren_wire.crypto import SharedBox
from warren_wire.keys import DiscoPrivate, NodePrivate

pytestmark = pytest.mark.netns

T = TypeVar("T")

PORT = 41641
HOME, OFFICE = IPv4Address("203.0.113.11"), IPv4Address("203.0.113.12")
HOME_V6, OFFICE_V6 = IPv6Address("2001:db8::b"), IPv6Address("2001:db8::c")
KEY = DiscoPrivate.from_seed(b"\x11" * 32)
BOX = SharedBox(KEY.raw, DiscoPrivate.from_seed(b"\x22" * 32).public.raw)
PING = disco.seal(
    disco.Ping(bytes(12), NodePrivate.from_seed(b"\x33" * 32).public), KEY.public, BOX, bytes(24)
)
PONG = disco.seal(disco.Pong(bytes(12), AddrPort(HOME, PORT)), KEY.public, BOX, bytes(24))
DATA = b"\x04\0\0\0" + bytes(1196)
STAND_IN = 127 << 24 | 64 << 16 | 258


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    require_root_netns()
    require_namespaces()
    plan = Topology(public_hosts=(PublicHost("home", HOME), PublicHost("office", OFFICE)), public_v6=True)
    with Network(plan) as built:
        yield built


def at_home(network: Network, action: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine on a loop whose sockets are opened in the home host's namespace."""

    async def limited() -> T:
        async with asyncio.timeout(20):
            return await action()

    return network.inside("home", lambda: asyncio.run(limited()))


def udp(address: IPAddress, port: int = PORT) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((str(address), port))
    sock.settimeout(10)
    return sock


class Inbox:
    """A raw socket whose messages can be awaited."""

    def __init__(self) -> None:
        self.counters = TransportCounters()
        self.queue: asyncio.Queue[tuple[bytes, AddrPort, IPAddress]] = asyncio.Queue()
        self.raw = RawUdp(
            port=PORT,
            mark=0x5700000,
            ipv6=True,
            counters=self.counters,
            on_message=lambda data, source, local: self.queue.put_nowait((data, source, local)),
        )


@pytest.mark.parametrize(("home", "office"), [(HOME, OFFICE), (HOME_V6, OFFICE_V6)])
def test_disco_leaves_from_wireguards_port_and_answers_come_in_beside_it(
    network: Network, home: IPAddress, office: IPAddress
) -> None:
    async def exchange() -> None:
        inbox = Inbox()
        with udp(ip_address("::" if home.version == 6 else "0.0.0.0")) as wireguard:
            assert inbox.raw.send(PING, AddrPort(office, PORT), None)
            data, source = await asyncio.to_thread(far.recvfrom, 2048)
            assert (data, source[:2]) == (PING, (str(home), PORT))
            far.sendto(DATA, (str(home), PORT))
            far.sendto(PONG, (str(home), PORT))
            assert await inbox.queue.get() == (PONG, AddrPort(office, PORT), home)
            assert inbox.queue.empty()
            # WireGuard's own socket gets everything as before, and throws away what it does not know.
            assert [wireguard.recv(2048), wireguard.recv(2048)] == [DATA, PONG]
        inbox.raw.close()

    with network.inside("office", lambda: udp(office)) as far:
        at_home(network, exchange)


def test_a_stun_answer_finds_its_way(network: Network) -> None:
    async def exchange() -> None:
        inbox = Inbox()
        with udp(IPv4Address("0.0.0.0")):
            inbox.raw.send(stun.binding_request(bytes(12)), AddrPort(OFFICE, 3478), None)
            data, source = await asyncio.to_thread(server.recvfrom, 2048)
            seen = AddrPort(IPv4Address(source[0]), source[1])
            server.sendto(stun.binding_response(stun.parse_binding_request(data), seen), source)
            answer, _, _ = await inbox.queue.get()
            assert stun.parse_binding_response(answer) == (bytes(12), AddrPort(HOME, PORT))
        inbox.raw.close()

    with network.inside("office", lambda: udp(OFFICE, 3478)) as server:
        at_home(network, exchange)


def test_an_answer_leaves_from_the_address_that_was_asked(network: Network) -> None:
    second = IPv4Address("203.0.113.111")

    async def exchange() -> None:
        await asyncio.to_thread(add_address, second)
        inbox = Inbox()
        inbox.raw.send(PONG, AddrPort(OFFICE, PORT), second)
        _, source = await asyncio.to_thread(far.recvfrom, 2048)
        assert source[0] == str(second)
        inbox.raw.close()

    with network.inside("office", lambda: udp(OFFICE)) as far:
        at_home(network, exchange)


def add_address(address: IPv4Address) -> None:
    with IPRoute() as route:
        index = route.link_lookup(ifname="eth0")[0]
        route.addr("add", index=index, address=str(address), prefixlen=24)


def test_disco_that_was_merged_behind_data_is_found(network: Network) -> None:
    async def exchange() -> None:
        inbox = Inbox()
        with udp(IPv4Address("0.0.0.0")) as wireguard, udp(IPv4Address("0.0.0.0"), 5000) as sender:
            wireguard.setsockopt(SOL_UDP, UDP_GRO, 1)
            segments = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", len(DATA)))]
            sender.sendmsg([DATA * 3 + PING], segments, 0, (str(HOME), PORT))
            data, _, local = await inbox.queue.get()
            assert (data, local) == (PING, HOME)
            assert len(wireguard.recv(65536)) == 3 * len(DATA) + len(PING)
        inbox.raw.close()

    at_home(network, exchange)


def test_where_nothing_leads_is_counted_and_harms_nobody(network: Network) -> None:
    async def exchange() -> None:
        inbox = Inbox()
        network_unreachable = AddrPort(IPv4Address("203.0.113.200"), PORT)
        inbox.raw.send(PING, network_unreachable, IPv4Address("192.0.2.99"))
        assert inbox.counters.raw_send_errors == 1
        inbox.raw.close()

    at_home(network, exchange)


class Carrier:
    """A loopback socket whose batches can be awaited."""

    def __init__(self) -> None:
        self.counters = TransportCounters()
        self.queue: asyncio.Queue[tuple[bytes, list[bytes]]] = asyncio.Queue()
        self.socket = LoopbackSocket(
            wireguard_port=PORT,
            counters=self.counters,
            on_packets=lambda address, batch: self.queue.put_nowait((address, [bytes(p) for p in batch])),
        )


def test_the_loopback_socket_carries_batches_both_ways_and_names_the_peer(network: Network) -> None:
    peer = IPv4Address(STAND_IN)
    batch = [DATA] * 40 + [DATA[:80]]

    async def exchange() -> None:
        carrier = Carrier()
        with udp(IPv4Address("0.0.0.0")) as wireguard:
            segments = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", len(DATA)))]
            wireguard.sendmsg([b"".join(batch)], segments, 0, (str(peer), carrier.socket.port))
            assert await carrier.queue.get() == (peer.packed, batch)
            wireguard.sendto(b"one", (str(peer), carrier.socket.port))
            assert await carrier.queue.get() == (peer.packed, [b"one"])
            carrier.socket.inject(peer.packed, batch)
            for packet in batch:
                assert wireguard.recvfrom(2048) == (packet, (str(peer), carrier.socket.port))
        carrier.socket.close()

    at_home(network, exchange)


def test_only_wireguard_may_use_the_loopback_socket(network: Network) -> None:
    async def exchange() -> None:
        carrier = Carrier()
        with udp(IPv4Address("0.0.0.0")) as wireguard, udp(IPv4Address("0.0.0.0"), 5000) as stranger:
            stranger.sendto(b"hello", ("127.64.1.2", carrier.socket.port))
            wireguard.sendto(b"data", ("127.64.1.2", carrier.socket.port))
            assert await carrier.queue.get() == (IPv4Address(STAND_IN).packed, [b"data"])
            assert carrier.counters.loopback_foreign == 1
        carrier.socket.close()

    at_home(network, exchange)


def test_a_taken_port_gives_the_next_one(network: Network) -> None:
    async def exchange() -> None:
        with udp(IPv4Address("0.0.0.0"), PORT + 1):
            carrier = Carrier()
            assert carrier.socket.port == PORT + 2
            carrier.socket.close()

    at_home(network, exchange)


@pytest.mark.parametrize(
    ("direct", "any_address"), [(OFFICE, "0.0.0.0"), (OFFICE_V6, "::")], ids=["v4", "v6"]
)
def test_a_relayed_packet_can_claim_the_direct_address_of_its_peer(
    network: Network, direct: IPAddress, any_address: str
) -> None:
    async def exchange() -> None:
        counters = TransportCounters()
        spoofing = SpoofingSocket(wireguard_port=PORT, mark=0, counters=counters)
        with udp(ip_address(any_address)) as wireguard:
            spoofing.inject(AddrPort(direct, PORT), [DATA, b"short", b"odd"])
            for packet in (DATA, b"short", b"odd"):
                assert wireguard.recvfrom(2048)[:2] == (packet, wireguard_source(direct))
        spoofing.close()
        assert counters.injected_spoofed == 3

    def wireguard_source(address: IPAddress) -> tuple[object, ...]:
        return (str(address), PORT) if address.version == 4 else (str(address), PORT, 0, 0)

    at_home(network, exchange)


def test_a_relayed_packet_cannot_claim_an_address_of_the_host_itself(network: Network) -> None:
    async def exchange() -> None:
        counters = TransportCounters()
        spoofing = SpoofingSocket(wireguard_port=PORT, mark=0, counters=counters)
        spoofing.inject(AddrPort(IPv6Address("::1"), PORT), [DATA])
        spoofing.close()
        assert (counters.injected_spoofed, counters.loopback_send_errors) == (0, 1)

    at_home(network, exchange)


def test_the_hosts_own_addresses_are_found(network: Network) -> None:
    found = network.inside("home", lambda: reachable(read_addresses(), own="warren0"))
    assert HOME in found
    assert HOME_V6 in found
    assert not any(address.is_loopback or address.is_link_local for address in found)
