"""The stock relay and ours: our client on the stock relay, and both as two relays of one region."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.derp import DerpSession
from support.eventually import eventually
from warren_lab import tools
from warren_lab.certificates import Authority
from warren_wire import disco
from warren_wire.derp.client import PacketReceived, PeerGone, PongReceived
from warren_wire.derp.frames import PeerGoneReason
from warren_wire.keys import NodePublic

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
NOBODY = NodePublic(b"\x77" * 32)


@dataclass
class Relays:
    """Two ports that speak the same protocol."""

    ours: int
    stock: int
    tls: ssl.SSLContext
    log: Path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@asynccontextmanager
async def region(folder: Path) -> AsyncIterator[Relays]:
    toolbox = await asyncio.to_thread(tools.ensure, ("peers",))
    pair = Authority.create(folder).issue(folder, ["localhost"])
    mesh_key = folder / "mesh.key"
    mesh_key.write_text("5a" * 32 + "\n")
    ours, stock = free_port(), free_port()
    commands = [
        [
            *(sys.executable, "-m", "warren_relay", "serve", f"--listen=127.0.0.1:{ours}"),
            *(f"--tls-certificate={pair.certificate}", f"--tls-key={pair.key}", "--stun-listen=off"),
            *("--health-listen=off", "--admission-mode=open", f"--derp-key-file={folder / 'derp.key'}"),
            *(f"--mesh-key-file={mesh_key}", f"--mesh-peers=localhost:{stock}"),
            f"--mesh-ca-file={folder / 'ca.crt'}",
        ],
        [
            *(str(toolbox.path("derper")), f"--a=127.0.0.1:{stock}", "--http-port=-1", "--stun=false"),
            *("--certmode=manual", f"--certdir={folder}", "--hostname=localhost"),
            *(f"--c={folder}/derper.json", f"--mesh-psk-file={mesh_key}", f"--mesh-with=localhost:{ours}"),
        ],
    ]
    environment = os.environ | {"SSL_CERT_FILE": str(folder / "ca.crt")}
    log = folder / "log"
    with log.open("wb") as output:
        processes = [
            subprocess.Popen(command, stdout=output, stderr=output, env=environment)  # noqa: ASYNC220
            for command in commands
        ]
        try:
            await eventually(lambda: listens(ours) and listens(stock))
            yield Relays(ours, stock, ssl.create_default_context(cafile=str(folder / "ca.crt")), log)
        finally:
            for process in processes:
                process.kill()
                process.wait()


async def test_our_client_on_the_stock_relay(tmp_path: Path) -> None:
    async with (
        region(tmp_path) as relays,
        await DerpSession.connect(relays.stock, tls=relays.tls, host="localhost") as home,
        await DerpSession.connect(relays.stock, tls=relays.tls, host="localhost") as office,
    ):
        for size in (0, 1, 1280, 65536):
            await home.send(office.key, bytes(size))
            assert await office.expect(PacketReceived) == (home.key, bytes(size))
        home.machine.send_ping(b"12345678")
        await home.flush()
        assert await home.expect(PongReceived) == PongReceived(b"12345678")
        await home.send(NOBODY, disco.MAGIC + bytes(100))
        assert await home.expect(PeerGone) == PeerGone(NOBODY, PeerGoneReason.NOT_HERE)
        await home.close()
        assert await office.expect(PeerGone) == PeerGone(home.key, PeerGoneReason.DISCONNECTED)


async def test_the_stock_relay_and_ours_serve_one_region(tmp_path: Path) -> None:
    async with (
        region(tmp_path) as relays,
        await DerpSession.connect(relays.ours, tls=relays.tls, host="localhost") as home,
        await DerpSession.connect(relays.stock, tls=relays.tls, host="localhost") as office,
    ):
        for sender, receiver in ((home, office), (office, home)):
            received = asyncio.create_task(receiver.expect(PacketReceived))
            async with asyncio.timeout(60):
                while not received.done():
                    await sender.send(receiver.key, b"across the region")
                    await asyncio.wait([received], timeout=0.2)
            assert await received == (sender.key, b"across the region")
