"""Clients that break the rules: each is closed and counted by its reason, holds no more than it may, and two
good clients notice nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web

from support.derp import DerpSession
from support.eventually import eventually
from warren_runtime.derp_connection import CloseReason, DerpTimes
from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_wire.crypto import SharedBox
from warren_wire.derp import frames
from warren_wire.derp.client import PacketReceived
from warren_wire.derp.frames import FrameType
from warren_wire.derp.router import DropReason, Router
from warren_wire.derp.server import MAX_EARLY_BYTES
from warren_wire.keys import NodePrivate, NodePublic

SERVER = NodePrivate.from_seed(b"\x55" * 32)
NOBODY = NodePublic(b"\x77" * 32)
QUEUE_BYTES = 64 * 1024
UPGRADE = b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"


@dataclass
class Stage:
    service: DerpService
    port: int
    members: set[NodePublic]
    strange: asyncio.Event
    """Set once a stranger may be told the answer."""

    async def admit(self, key: NodePublic, source: str) -> bool:
        if key not in self.members:
            await self.strange.wait()
        return key in self.members

    async def member(self, node: NodePrivate | None = None) -> DerpSession:
        node = node or NodePrivate.from_seed(os.urandom(32))
        self.members.add(node.public)
        return await DerpSession.connect(self.port, node)

    @asynccontextmanager
    async def upgraded(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(UPGRADE)
            await reader.readuntil(SERVER.public.raw)
            yield reader, writer
        finally:
            writer.transport.abort()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    made = Stage.__new__(Stage)
    made.members, made.strange = set(), asyncio.Event()
    made.service = DerpService(
        SERVER,
        made.admit,
        times=DerpTimes(handshake=1.0, write=0.2),
        router=Router(bulk_bytes=QUEUE_BYTES),
    )
    listener = Listener(web.Application(), made.service.upgrades())
    await listener.start("127.0.0.1", 0)
    made.port = listener.port
    try:
        yield made
    finally:
        made.service.close()
        await listener.close()


def info(node: NodePrivate, named: NodePublic | None = None) -> bytes:
    box = SharedBox(node.raw, SERVER.public.raw)
    return frames.client_info(frames.ClientInfo(2), named or node.public, box, os.urandom(24))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Waits until the relay closes. What it had not read yet makes the kernel reset the connection."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def says(stage: Stage, data: bytes) -> None:
    """Something, after which the relay closes."""
    async with stage.upgraded() as (reader, writer):
        writer.write(data)
        assert await ended(reader)


async def bytes_that_are_no_frames(stage: Stage) -> None:
    await says(stage, b"\xff" * 64)


async def another_frame_first(stage: Stage) -> None:
    await says(stage, frames.send_packet(NOBODY, b"too early"))


async def an_info_that_is_cut_short(stage: Stage) -> None:
    await says(stage, frames.encode(FrameType.CLIENT_INFO, bytes(40)))


async def an_info_larger_than_allowed(stage: Stage) -> None:
    length = frames.KEY_BYTES + frames.MAX_CLIENT_INFO_BYTES + 1
    await says(stage, b"%c%b" % (FrameType.CLIENT_INFO, length.to_bytes(4, "big")))


async def an_info_for_the_key_of_another(stage: Stage) -> None:
    await says(stage, info(NodePrivate.from_seed(os.urandom(32)), NOBODY))


async def silence_after_the_upgrade(stage: Stage) -> None:
    await says(stage, b"")


async def an_info_that_never_ends(stage: Stage) -> None:
    async with stage.upgraded() as (reader, writer):
        whole = info(NodePrivate.from_seed(os.urandom(32)))
        reading = asyncio.create_task(ended(reader))
        for byte in whole[:-1]:
            writer.write(bytes((byte,)))
            await asyncio.wait([reading], timeout=0.02)
            if reading.done():
                break
        assert await reading


async def a_stranger(stage: Stage) -> None:
    stage.strange.set()
    await says(stage, info(NodePrivate.from_seed(os.urandom(32))))


async def much_before_admission(stage: Stage) -> None:
    frame = frames.send_packet(NOBODY, bytes(60_000))
    async with stage.upgraded() as (reader, writer):
        writer.write(info(NodePrivate.from_seed(os.urandom(32))))
        sent = 0
        # Nothing is read while the key is asked about: what the kernel holds is all there is.
        while sent < 8 * MAX_EARLY_BYTES and writer.transport.get_write_buffer_size() < MAX_EARLY_BYTES:
            writer.write(frame)
            sent += len(frame)
            await asyncio.sleep(0)
        assert stage.service.stats().bytes_received < 2 * MAX_EARLY_BYTES
        stage.strange.set()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def packets_to_itself_that_it_does_not_read(stage: Stage) -> None:
    async with await stage.member() as selfish:
        selfish.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads too
        frame = frames.send_packet(selfish.key, bytes(32_000))
        while stage.service.stats().closes[CloseReason.WRITE_TIMEOUT] == 0:
            selfish.writer.write(frame * 4)
            await asyncio.sleep(0.001)
            assert stage.service.stats().queued_bytes <= QUEUE_BYTES
            if selfish.writer.transport.is_closing():
                break
        assert stage.service.stats().drops[DropReason.QUEUE_FULL] > 0


async def a_note_of_two_bytes(stage: Stage) -> None:
    async with await stage.member() as wrong:
        wrong.writer.write(frames.encode(FrameType.NOTE_PREFERRED, b"\x01\x01"))
        with pytest.raises(ConnectionError):
            await wrong.next_event()


async def the_wish_of_a_relay(stage: Stage) -> None:
    async with await stage.member() as wrong:
        wrong.writer.write(frames.close_peer(NOBODY.raw))
        with pytest.raises(ConnectionError):
            await wrong.next_event()


BAD: list[tuple[Callable[[Stage], Awaitable[None]], CloseReason, bool]] = [
    (bytes_that_are_no_frames, CloseReason.PROTOCOL_ERROR, True),
    (another_frame_first, CloseReason.PROTOCOL_ERROR, True),
    (an_info_that_is_cut_short, CloseReason.PROTOCOL_ERROR, True),
    (an_info_larger_than_allowed, CloseReason.PROTOCOL_ERROR, True),
    (an_info_for_the_key_of_another, CloseReason.AUTHENTICATION, True),
    (silence_after_the_upgrade, CloseReason.HANDSHAKE_TIMEOUT, True),
    (an_info_that_never_ends, CloseReason.HANDSHAKE_TIMEOUT, True),
    (a_stranger, CloseReason.REFUSED, True),
    (much_before_admission, CloseReason.REFUSED, True),
    (packets_to_itself_that_it_does_not_read, CloseReason.WRITE_TIMEOUT, False),
    (a_note_of_two_bytes, CloseReason.PROTOCOL_ERROR, False),
    (the_wish_of_a_relay, CloseReason.PROTOCOL_ERROR, False),
]


@pytest.mark.parametrize(("misbehave", "reason", "is_handshake"), BAD, ids=[row[0].__name__ for row in BAD])
async def test_a_bad_client_is_closed_and_counted_and_nobody_else_notices(
    misbehave: Callable[[Stage], Awaitable[None]], reason: CloseReason, is_handshake: bool
) -> None:
    async with stage() as relay, await relay.member() as home, await relay.member() as office:
        bad = asyncio.ensure_future(misbehave(relay))
        number = 0
        while number < 50 or not bad.done():
            await home.send(office.key, number.to_bytes(4, "big"))
            assert await office.expect(PacketReceived) == (home.key, number.to_bytes(4, "big"))
            number += 1
            await asyncio.sleep(0)
        await bad
        await eventually(lambda: relay.service.stats().closes[reason] == 1)
        assert relay.service.stats().handshake_failures[reason] == int(is_handshake)
        await eventually(lambda: relay.service.stats().connections == 2)


async def test_a_client_may_send_packets_to_itself() -> None:
    async with stage() as relay, await relay.member() as alone:
        await alone.send(alone.key, b"to myself")
        assert await alone.expect(PacketReceived) == (alone.key, b"to myself")
