"""Packets that somebody made up or sent again: dropped, counted, and without effect on any path."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import asdict
from ipaddress import IPv4Address
from typing import cast

import pytest

from support.members import node_key
from support.simnet import RELAY_REGION, Host, Nat, SimNet, pair
from warren_agent.paths.actions import SendDatagram, SendRelayed
from warren_agent.paths.counters import TransportCounters
from warren_agent.paths.loopback_addresses import LoopbackAddresses
from warren_agent.paths.values import PathKind
from warren_agent.transport.loopback import LoopbackSocket
from warren_agent.transport.relay_dial import RelayTls
from warren_agent.transport.relayed import RelayedTraffic
from warren_agent.transport.spoofing import SpoofingSocket
from warren_agent.transport.surveyor import Surveyor
from warren_wire import disco, stun
from warren_wire.addresses import AddrPort
from warren_wire.crypto import SharedBox
from warren_wire.derp.client import PacketReceived
from warren_wire.disco import CallMeMaybe, Message, Ping, Pong
from warren_wire.keys import DiscoPrivate

STRANGER = DiscoPrivate.from_seed(b"stranger".ljust(32, b"."))
ATTACKER = AddrPort(IPv4Address("198.51.100.66"), 41641)
TXID = b"t" * 12


@pytest.fixture
def met() -> tuple[SimNet, Host, Host]:
    """Two nodes with a direct path between them."""
    net, home, office = pair(Nat.NONE, Nat.NONE)
    net.send(home, office, b"request")
    net.run_until(lambda: home.path_to(office) is PathKind.DIRECT, 10.0)
    net.run(1.0)
    return net, home, office


def sealed(message: Message, sender: DiscoPrivate, to: Host, name: DiscoPrivate | None = None) -> bytes:
    """From `sender`, in an envelope that says it is of `name`."""
    box = SharedBox(sender.raw, to.disco.public.raw)
    return disco.seal(message, (name or sender).public, box, b"n" * 24)


def counted(host: Host) -> dict[str, int]:
    return asdict(host.machine.counters)


def effect(met: tuple[SimNet, Host, Host], data: bytes) -> dict[str, int]:
    """What counters say of a datagram that must change no path and get no answer."""
    net, home, office = met
    before, wanted = counted(home), home.peers[office.key].endpoint
    home.machine.receive_datagram(data, ATTACKER, home.address.ip, net.now)
    assert not [each for each in home.machine.actions() if isinstance(each, SendDatagram | SendRelayed)]
    assert home.path_to(office) is PathKind.DIRECT
    assert home.peers[office.key].endpoint == wanted
    return {name: count - before[name] for name, count in counted(home).items() if count != before[name]}


def test_a_stranger_is_not_answered(met: tuple[SimNet, Host, Host]) -> None:
    _, home, _ = met
    ping = sealed(Ping(TXID, node_key("stranger")), STRANGER, home)
    assert effect(met, ping) == {"disco_unknown_key": 1}


def test_who_takes_a_peers_name_without_its_key_is_not_answered(met: tuple[SimNet, Host, Host]) -> None:
    _, home, office = met
    ping = sealed(Ping(TXID, office.key), STRANGER, home, office.disco)
    assert effect(met, ping) == {"disco_bad_box": 1}


def test_a_message_that_was_changed_on_the_way_is_dropped(met: tuple[SimNet, Host, Host]) -> None:
    _, home, office = met
    ping = bytearray(sealed(Ping(TXID, office.key), office.disco, home))
    ping[-1] ^= 1
    assert effect(met, bytes(ping)) == {"disco_bad_box": 1}
    assert effect(met, bytes(ping[:63])) == {"disco_malformed": 1}


def test_a_pong_that_answers_nothing_proves_no_address(met: tuple[SimNet, Host, Host]) -> None:
    _, home, office = met
    assert effect(met, sealed(Pong(TXID, ATTACKER), office.disco, home)) == {"disco_unexpected": 1}


def test_a_call_is_believed_from_a_relay_only(met: tuple[SimNet, Host, Host]) -> None:
    _, home, office = met
    assert effect(met, sealed(CallMeMaybe((ATTACKER,)), office.disco, home)) == {"disco_unexpected": 1}


def test_a_ping_that_was_recorded_and_sent_again_moves_no_traffic(met: tuple[SimNet, Host, Host]) -> None:
    net, home, office = met
    ping = sealed(Ping(TXID, office.key), office.disco, home)
    home.machine.receive_datagram(ping, office.address, home.address.ip, net.now)
    home.machine.actions()
    assert effect_of_replay(met, ping, office.address) == {"disco_duplicate": 1}
    # From elsewhere it makes a candidate at most: only a pong to a ping of ours proves an address.
    home.machine.receive_datagram(ping, ATTACKER, home.address.ip, net.now)
    net.run(10.0)
    assert home.peers[office.key].endpoint != ATTACKER


def effect_of_replay(met: tuple[SimNet, Host, Host], data: bytes, source: AddrPort) -> dict[str, int]:
    net, home, _ = met
    before = counted(home)
    home.machine.receive_datagram(data, source, home.address.ip, net.now)
    assert not [each for each in home.machine.actions() if isinstance(each, SendDatagram)]
    return {name: count - before[name] for name, count in counted(home).items() if count != before[name]}


def test_a_relay_that_names_another_sender_than_the_envelope_is_not_believed(
    met: tuple[SimNet, Host, Host],
) -> None:
    net, home, _ = met
    ping = sealed(Ping(TXID, node_key("stranger")), STRANGER, home)
    before = home.machine.counters.disco_unknown_key
    home.machine.receive_relayed(RELAY_REGION, met[2].key, ping, net.now)
    assert home.machine.counters.disco_unknown_key == before + 1
    assert not home.machine.actions()


def test_relayed_packets_of_unknown_keys_reach_nobody(met: tuple[SimNet, Host, Host]) -> None:
    _, home, _ = met
    counters = TransportCounters()
    traffic = RelayedTraffic(
        machine=home.machine, addresses=LoopbackAddresses(), peers=dict, records={}, counters=counters
    )
    packets = [PacketReceived(node_key("stranger"), data) for data in (b"\x04" * 64, disco.MAGIC + bytes(60))]
    # No socket is there: nothing may be sent into WireGuard.
    sockets = cast(LoopbackSocket, None), cast(SpoofingSocket, None)
    traffic.from_relay(RELAY_REGION, packets, *sockets)
    assert (counters.relay_unknown_source, counters.relay_received) == (2, 0)
    assert not home.machine.actions()


def test_stun_answers_that_nobody_asked_for_are_counted_and_say_nothing() -> None:
    async def receive() -> tuple[TransportCounters, Surveyor]:
        counters = TransportCounters()
        surveyor = Surveyor(
            node=node_key("home"),
            tls=RelayTls(ssl.create_default_context()),
            mark=0,
            ipv6=False,
            counters=counters,
            send=lambda data, to, local: True,
            heard_at=lambda region: None,
            home_may_move=lambda: True,
            known_home=0,
            on_report=lambda report: None,
        )
        surveyor.receive_stun(stun.binding_response(TXID, ATTACKER))
        surveyor.receive_stun(stun.binding_response(TXID, ATTACKER)[:-3])
        return counters, surveyor

    counters, surveyor = asyncio.run(receive())
    assert (counters.stun_unexpected, counters.raw_malformed, counters.stun_received) == (1, 1, 0)
    assert surveyor.last.ipv4 is None
