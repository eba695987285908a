"""Looking at the first bytes of a connection without taking them, so that TLS still finds them there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


async def peek(sock: socket.socket, decode: Callable[[bytes], Found | int], maximum: int) -> Found:
    """What `decode` finds in the first bytes; it returns the least number it needs while there are too few.

    ConnectionResetError when the connection ends before; whatever `decode` raises.
    """
    wanted = 1
    try:
        while True:
            data = await _peek(sock, wanted, maximum)
            if len(data) < wanted:
                raise ConnectionResetError("the connection ended before its first bytes")
            found = decode(data)
            if not isinstance(found, int):
                return found
            if found <= len(data):
                raise ValueError("a decoder asked for bytes that it has")
            wanted = found
    finally:
        _wake_at(sock, 1)


async def _peek(sock: socket.socket, least: int, maximum: int) -> bytes:
    # Bytes that are looked at stay readable: without a low-water mark, waiting for more would spin.
    _wake_at(sock, least)
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _finish, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    return sock.recv(maximum, socket.MSG_PEEK)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _wake_at(sock: socket.socket, count: int) -> None:
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
