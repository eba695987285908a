"""The control client against a server that answers as each test says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from support.certificates import self_signed
from support.eventually import eventually
from support.members import disco_key, node_key, node_private
from support.scripted_control import Poll, ScriptedControl
from warren_agent.config import Config
from warren_agent.control.client import ControlClient, KeyRotationError
from warren_agent.keystore import Keys
from warren_agent.paths.values import LocalState
from warren_runtime.tls import client_context, server_context
from warren_wire.addresses import AddrPort
from warren_wire.control.mapstream import encode_frame
from warren_wire.control.messages import (
    DERPMap,
    MapResponse,
    NetInfo,
    Node,
    PeerChange,
    PingRequest,
    PingResponse,
    RegisterRequest,
    RegisterResponse,
    decode,
)
from warren_wire.control.netmap import Netmap
from warren_wire.keys import DiscoPrivate, MachinePrivate

KEYS = Keys(
    machine=MachinePrivate.from_seed(b"m" * 32),
    node=node_private("home"),
    disco=DiscoPrivate.from_seed(b"d" * 32),
)
LOCAL = LocalState((AddrPort.parse("203.0.113.20:41641"),), (2,), NetInfo(preferred_derp=900))
FIRST = MapResponse(
    node=Node(id=1, name="home.mesh.internal.", key=node_key("home"), addresses=("100.64.0.1/32",)),
    peers=(
        Node(
            id=2,
            name="office.mesh.internal.",
            key=node_key("office"),
            disco_key=disco_key("office"),
            addresses=("100.64.0.2/32",),
            online=False,
        ),
    ),
    derp_map=DERPMap(regions={}),
)


@dataclass
class Node_:  # noqa: N801
    """A client under test and what it told."""

    client: ControlClient
    maps: list[Netmap] = field(default_factory=list)
    registered: list[bool] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


Start = Callable[..., Awaitable[Node_]]


async def pinged(kind: str, address: str) -> PingResponse:
    return PingResponse(type=kind, ip=address, latency_seconds=0.25)


@pytest.fixture
async def control() -> AsyncIterator[ScriptedControl]:
    server = ScriptedControl()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def start(control: ScriptedControl, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts clients of the server; they end with the test."""
    (tmp_path / "join").write_text("join-key\n")
    nodes: list[Node_] = []

    async def make(
        *, known: bool = False, join_key: bool = True, watchdog_seconds: float = 60.0, keys: Keys = KEYS
    ) -> Node_:
        maps: list[Netmap] = []
        registered: list[bool] = []
        links: list[str] = []
        config = Config(
            server_url=control.url, hostname="home", auth_key_file=tmp_path / "join" if join_key else None
        )
        client = ControlClient(
            # Marked sockets need privileges that these tests do not.
            config=replace(config, mark=replace(config.mark, value=0)),
            keys=keys,
            known=known,
            ssl_context=client_context(),
            on_netmap=maps.append,
            on_registered=lambda: registered.append(True),
            on_login=links.append,
            ping=pinged,
            watchdog_seconds=watchdog_seconds,
        )
        node = Node_(client, maps, registered, links, asyncio.create_task(client.run()))
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        if node.task is not None:
            node.task.cancel()
            await asyncio.gather(node.task, return_exceptions=True)


async def polled(control: ScriptedControl) -> Poll:
    async with asyncio.timeout(20):
        return await control.polls.get()


async def test_a_node_joins_with_its_key_and_follows_the_map(control: ScriptedControl, start: Start) -> None:
    node = await start()
    poll = await polled(control)
    assert (poll.request.disco_key, poll.request.compress) == (KEYS.disco.public, "zstd")
    poll.send(FIRST)
    poll.keep_alive()
    poll.send(MapResponse(peers_changed_patch=(PeerChange(node_id=2, online=True),)))
    await eventually(lambda: len(node.maps) == 2)
    assert [netmap.peers[2].online for netmap in node.maps] == [False, True]
    (registration,) = control.registrations
    assert registration.auth is not None
    assert registration.auth.auth_key == "join-key"
    assert node.registered == [True]
    assert node.client.status.connected
    assert node.client.status.last_error is None


async def test_a_known_node_does_not_spend_its_join_key(control: ScriptedControl, start: Start) -> None:
    await start(known=True)
    await polled(control)
    (registration,) = control.registrations
    assert registration.auth is None


async def test_a_refusal_is_told_in_the_servers_words_and_retried(
    control: ScriptedControl, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [RegisterResponse(error="the key was already used"), RegisterResponse()]
    control.on_register = lambda _: answers.pop(0)
    with caplog.at_level(logging.WARNING):
        node = await start()
        await eventually(lambda: node.client.status.last_error == "the key was already used")
        (await polled(control)).send(FIRST)
    await eventually(lambda: node.client.status.connected)
    assert "refused to register" in caplog.text
    assert "join-key" not in caplog.text


async def test_a_node_that_the_server_forgot_registers_again_with_its_key(
    control: ScriptedControl, start: Start
) -> None:
    answers = [404, 200]
    control.on_poll = lambda _: answers.pop(0)
    await start(known=True)
    await polled(control)
    assert [request.auth is not None for request in control.registrations] == [False, True]


async def test_after_a_break_the_node_polls_again_without_registering(
    control: ScriptedControl, start: Start
) -> None:
    node = await start()
    (await polled(control)).send(FIRST)
    await eventually(lambda: node.client.status.connected)
    await control.stop()
    await eventually(lambda: not node.client.status.connected)
    await control.start()
    (await polled(control)).send(FIRST)
    await eventually(lambda: node.client.status.connected)
    assert len(control.registrations) == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff",
        b"\x04\0\0\0junk",
        encode_frame(b"[]", compress=True),
        encode_frame(b"{}", compress=True),
    ],
)
async def test_a_frame_without_sense_ends_the_stream_and_the_node_comes_back(
    control: ScriptedControl, start: Start, frame: bytes
) -> None:
    node = await start()
    (await polled(control)).send_bytes(frame)
    poll = await polled(control)
    assert node.client.status.last_error is not None
    poll.send(FIRST)
    await eventually(lambda: node.client.status.connected)


async def test_an_ended_stream_is_opened_again(control: ScriptedControl, start: Start) -> None:
    node = await start()
    poll = await polled(control)
    poll.send(FIRST)
    await eventually(lambda: node.client.status.connected)
    poll.end()
    (await polled(control)).send(FIRST)
    await eventually(lambda: len(node.maps) == 2)


async def test_a_silent_server_is_given_up(control: ScriptedControl, start: Start) -> None:
    node = await start(watchdog_seconds=0.1)
    await polled(control)
    await polled(control)
    assert node.client.status.last_error is not None
    assert "nothing heard" in node.client.status.last_error


async def test_changes_of_our_side_are_told_once(control: ScriptedControl, start: Start) -> None:
    node = await start()
    (await polled(control)).send(FIRST)
    node.client.set_local_state(LOCAL)
    await eventually(lambda: len(control.updates) == 1)
    slower = replace(LOCAL, net_info=NetInfo(preferred_derp=900, derp_latency={"900-v4": 0.02}))
    node.client.set_local_state(slower)
    moved = replace(slower, endpoints=(AddrPort.parse("203.0.113.21:41641"),))
    node.client.set_local_state(moved)
    await eventually(lambda: len(control.updates) == 2)
    first, second = control.updates
    assert (first.endpoints, first.endpoint_types) == (("203.0.113.20:41641",), (2,))
    assert (first.omit_peers, first.stream) == (True, False)
    assert first.hostinfo is not None
    assert first.hostinfo.net_info is not None
    assert first.hostinfo.net_info.preferred_derp == 900
    assert second.endpoints == ("203.0.113.21:41641",)


async def test_a_change_during_a_break_is_told_afterwards(control: ScriptedControl, start: Start) -> None:
    node = await start()
    (await polled(control)).send(FIRST)
    await eventually(lambda: node.client.status.connected)
    await control.stop()
    await eventually(lambda: not node.client.status.connected)
    node.client.set_local_state(LOCAL)
    await control.start()
    poll = await polled(control)
    assert poll.request.endpoints == ("203.0.113.20:41641",)
    await eventually(lambda: len(control.updates) == 1)


async def test_a_sign_of_life_is_given_once_for_each_request(control: ScriptedControl, start: Start) -> None:
    await start()
    poll = await polled(control)
    poll.send(FIRST)
    for number in (1, 1, 2):
        ping = PingRequest(url=f"{control.url}/alive?id={number}")
        poll.send(MapResponse(keep_alive=True, ping_request=ping))
    async with asyncio.timeout(20):
        seen = {await control.signs_of_life.get(), await control.signs_of_life.get()}
    assert seen == {"HEAD /alive?id=1", "HEAD /alive?id=2"}
    assert control.signs_of_life.empty()


@pytest.mark.parametrize("noise", [False, True])
async def test_the_result_of_each_kind_of_ping_is_posted(
    control: ScriptedControl, start: Start, noise: bool
) -> None:
    await start()
    poll = await polled(control)
    poll.send(FIRST)
    ping = PingRequest(
        url=f"{control.url}/pong?id=7", url_is_noise=noise, types="disco,TSMP", ip="100.64.0.2"
    )
    poll.send(MapResponse(keep_alive=True, ping_request=ping))
    async with asyncio.timeout(20):
        posted = [await control.ping_results.get() for _ in range(2)]
    assert [(path, decode(PingResponse, body).type) for path, body in posted] == [
        ("/pong?id=7", "disco"),
        ("/pong?id=7", "TSMP"),
    ]
    answer = decode(PingResponse, posted[0][1])
    assert (answer.ip, answer.latency_seconds, answer.err) == ("100.64.0.2", 0.25, "")


async def test_a_request_into_the_node_is_answered_over_noise(control: ScriptedControl, start: Start) -> None:
    await start()
    poll = await polled(control)
    poll.send(FIRST)
    asked = b"POST /echo HTTP/1.1\r\nHost: node\r\nContent-Length: 5\r\n\r\nhello"
    # Nothing listens at that address outside Noise.
    ping = PingRequest(url="http://127.0.0.1:9/pong?id=8", types="c2n", payload=asked)
    poll.send(MapResponse(keep_alive=True, ping_request=ping))
    async with asyncio.timeout(20):
        path, body = await control.ping_results.get()
    assert path == "/pong?id=8"
    assert body.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body.endswith(b"\r\n\r\nhello")


async def test_a_login_link_is_shown_once_and_followed(control: ScriptedControl, start: Start) -> None:
    link = "https://203.0.113.10/register/abc"
    done = asyncio.Event()

    def answer(request: RegisterRequest) -> RegisterResponse:
        if done.is_set() and request.followup == link:
            return RegisterResponse()
        return RegisterResponse(auth_url=link)

    control.on_register = answer
    node = await start(join_key=False)
    # The server gave the follow-up up, and the login is asked for anew.
    await eventually(
        lambda: [request.followup for request in control.registrations[:4]] == ["", link, "", link]
    )
    assert node.links == [link]
    assert node.client.status.last_error is not None
    assert link in node.client.status.last_error
    done.set()
    (await polled(control)).send(FIRST)
    await eventually(lambda: node.client.status.connected)
    assert (node.links, node.client.status.login_url) == ([link], None)


async def test_an_expired_node_key_without_join_key_must_be_rotated(
    control: ScriptedControl, start: Start
) -> None:
    control.on_register = lambda _: RegisterResponse(node_key_expired=True)
    node = await start(join_key=False)
    assert node.task is not None
    with pytest.raises(KeyRotationError):
        await node.task


async def test_a_rotated_key_names_the_one_before(control: ScriptedControl, start: Start) -> None:
    await start(keys=replace(KEYS, previous_node=node_private("old")))
    await polled(control)
    assert control.registrations[0].old_node_key == node_key("old")


async def test_a_server_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "localhost")
    server = ScriptedControl()
    await server.start(server_context(pair.certificate, pair.key))
    config = Config(server_url=f"https://127.0.0.1:{server.port}", hostname="home")
    client = ControlClient(
        config=replace(config, mark=replace(config.mark, value=0)),
        keys=KEYS,
        known=False,
        ssl_context=client_context(),
        on_netmap=lambda _: None,
        on_registered=lambda: None,
        on_login=lambda _: None,
        ping=pinged,
    )
    task = asyncio.create_task(client.run())
    try:
        await eventually(lambda: client.status.last_error is not None)
        assert client.status.last_error is not None
        assert "certificate is not trusted" in client.status.last_error
        assert "ca_file" in client.status.last_error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.stop()


async def test_nobody_there_is_said_in_plain_words(control: ScriptedControl, start: Start) -> None:
    await control.stop()
    node = await start()
    await eventually(lambda: node.client.status.last_error is not None)
    assert node.client.status.last_error == f"cannot reach {control.url}: Connection refused"
