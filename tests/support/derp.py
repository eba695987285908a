"""A DERP client on asyncio streams, for tests of relays."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from types import TracebackType
from typing import Self, TypeVar

from warren_wire.derp.client import ClientEvent, DerpClient, Ready
from warren_wire.keys import NodePrivate, NodePublic

_Event = TypeVar("_Event")


class DerpSession:
    """A connected `DerpClient`; use as `async with await DerpSession.connect(...)`."""

    def __init__(self, node: NodePrivate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.node = node
        self.machine = DerpClient(node, lambda: os.urandom(24))
        self.reader = reader
        self.writer = writer
        self._events: deque[ClientEvent] = deque()

    @classmethod
    async def connect(
        cls,
        port: int,
        node: NodePrivate | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> Self:
        """Upgrade, handshake, and wait until the relay takes us in (ConnectionError if it does not)."""
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        session = cls(node or NodePrivate.from_seed(os.urandom(32)), reader, writer)
        writer.write(session.machine.upgrade_request("localhost"))
        try:
            await session.expect(Ready)
        except ConnectionError:
            await session.close()
            raise
        return session

    @property
    def key(self) -> NodePublic:
        return self.node.public

    async def send(self, destination: NodePublic, *packets: bytes) -> None:
        for packet in packets:
            self.machine.send_packet(destination, packet)
        await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.machine.data_to_send())
        await self.writer.drain()

    async def next_event(self) -> ClientEvent:
        """The next event; ConnectionError when the relay closes."""
        while not self._events:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("the relay closed the connection")
            self.machine.receive_data(data)
            self._events.extend(self.machine.events())
            await self.flush()
        return self._events.popleft()

    async def expect(self, kind: type[_Event]) -> _Event:
        """The next event, which must be of this kind."""
        event = await self.next_event()
        assert isinstance(event, kind), event
        return event

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
