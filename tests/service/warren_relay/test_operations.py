"""The program with several workers, its own certificate, a list of keys, and rights of an ordinary user."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from support.derp import DerpSession
from support.eventually import eventually
from warren_runtime.tls import client_context
from warren_wire import stun
from warren_wire.derp.client import PacketReceived, Restarting
from warren_wire.keys import NodePrivate


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def relay(
    folder: Path, *arguments: str, processes: int = 1
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The running program, after all its processes said that they serve."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "warren_relay", "serve", f"--derp-key-file={folder / 'state' / 'derp.key'}"),
        *("--log-json=true", "--stun-listen=off", "--drain-seconds=0", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    assert process.stderr is not None
    try:
        for _ in range(processes):
            while b'"relay is serving"' not in (line := await process.stderr.readline()):
                assert line, "the relay ended"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def metrics(port: int) -> dict[str, float]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        lines = [line for line in (await response.text()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def ready(port: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/ready") as response,
        ):
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def all_ready(*ports: int) -> bool:
    return all([await ready(port) for port in ports])


async def not_ready(*ports: int) -> bool:
    return not await all_ready(*ports)


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await check():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


def of_proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_workers_share_a_port_and_one_that_dies_comes_back(tmp_path: Path) -> None:
    derp, health = free_port(), 20000 + os.getpid() % 20000
    arguments = (
        *("--workers=3", f"--listen=127.0.0.1:{derp}", "--admission-mode=open"),
        f"--health-listen=127.0.0.1:{health}",
    )
    ports = range(health, health + 3)
    async with relay(tmp_path, *arguments, processes=3) as process, AsyncExitStack() as stack:
        await until(lambda: all_ready(*ports))
        # Enough clients that the kernel deals them out to more than one worker.
        clients = [await stack.enter_async_context(await DerpSession.connect(derp)) for _ in range(24)]
        async with asyncio.timeout(20):
            for number, client in enumerate(clients):
                other = clients[number - 1]
                received = asyncio.create_task(other.expect(PacketReceived))
                while not received.done():
                    await client.send(other.key, b"hello")
                    await asyncio.wait([received], timeout=0.1)
                assert (await received).source == client.key
        figures = [await metrics(port) for port in ports]
        counts = [each["warren_relay_clients"] for each in figures]
        assert sum(counts) == 24
        assert max(counts) < 24
        assert all(each["warren_relay_links"] == 2 for each in figures)
        assert sum(each["warren_relay_queue_delay_seconds_count"] for each in figures) > 0
        children = await asyncio.to_thread(of_proc, process.pid, f"task/{process.pid}/children")
        os.kill(int(children.split()[0]), signal.SIGKILL)
        await until(lambda: not_ready(*ports))
        await until(lambda: all_ready(*ports))
        async with await DerpSession.connect(derp) as late:
            await late.send(late.key, b"to myself")
            await late.expect(PacketReceived)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_certificate_of_its_own_is_kept_and_can_be_pinned(tmp_path: Path) -> None:
    port = free_port()
    arguments = (
        *(f"--listen=127.0.0.1:{port}", "--tls-self-signed=127.0.0.1,relay.example.net"),
        *("--admission-mode=open", "--health-listen=off"),
    )
    seen = set()
    for _ in range(2):
        async with relay(tmp_path, *arguments):
            context = client_context(tmp_path / "state" / "self-signed.crt")
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            peer = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            seen.add(hashlib.sha256(peer).hexdigest())
            writer.close()
            await reader.read()
    assert len(seen) == 1


async def test_the_relays_key_is_announced_in_the_handshake(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    port = free_port()
    arguments = (
        *(f"--listen=127.0.0.1:{port}", "--tls-self-signed=127.0.0.1"),
        *("--admission-mode=open", "--health-listen=off"),
    )
    async with relay(tmp_path, *arguments):
        shown = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-showcerts"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await shown.communicate()
    key = NodePrivate.parse((tmp_path / "state" / "derp.key").read_text().strip())
    assert f"derpkey{key.public.raw.hex()}".encode() in output


async def test_old_tls_and_plain_text_are_refused_and_counted(tmp_path: Path) -> None:
    port, health = free_port(), free_port()
    arguments = (
        *(f"--listen=127.0.0.1:{port}", "--tls-self-signed=127.0.0.1", "--admission-mode=open"),
        f"--health-listen=127.0.0.1:{health}",
    )
    async with relay(tmp_path, *arguments):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        figures = await metrics(health)
    assert figures['warren_relay_tls_handshake_failures_total{reason="version"}'] == 1
    assert figures['warren_relay_tls_handshake_failures_total{reason="not_tls"}'] == 1


async def test_only_keys_of_the_list_get_in_and_the_list_may_change(tmp_path: Path) -> None:
    port = free_port()
    home, office = (NodePrivate.from_seed(os.urandom(32)) for _ in range(2))
    keys = tmp_path / "keys"
    keys.write_text(f"# members\n{home.public}  # home\n\n")
    arguments = (
        *(f"--listen=127.0.0.1:{port}", "--admission-mode=list", f"--admission-keys-file={keys}"),
        "--health-listen=off",
    )
    async with relay(tmp_path, *arguments), await DerpSession.connect(port, home):
        with pytest.raises(ConnectionError):
            await DerpSession.connect(port, office)
        keys.write_text(f"{office.public}\n")
        async with await DerpSession.connect(port, office):
            pass
        keys.write_text("nonsense\n")
        async with await DerpSession.connect(port, office):
            pass


async def test_clients_are_served_while_they_move(tmp_path: Path) -> None:
    port = free_port()
    arguments = (
        *(f"--listen=127.0.0.1:{port}", "--admission-mode=open", "--health-listen=off", "--drain-seconds=60"),
    )
    async with relay(tmp_path, *arguments) as process, AsyncExitStack() as stack:
        home = await stack.enter_async_context(await DerpSession.connect(port))
        office = await stack.enter_async_context(await DerpSession.connect(port))
        process.send_signal(signal.SIGTERM)
        await home.expect(Restarting)
        await office.expect(Restarting)
        with pytest.raises(ConnectionError):
            await DerpSession.connect(port)
        await home.send(office.key, b"still here")
        assert (await office.expect(PacketReceived)).packet == b"still here"
        await home.close()
        await office.close()
        assert await process.wait() == 0


async def test_pages(tmp_path: Path) -> None:
    port = free_port()
    arguments = (f"--listen=127.0.0.1:{port}", "--admission-mode=open", "--health-listen=off")
    async with relay(tmp_path, *arguments), aiohttp.ClientSession() as session:
        for path, text in (("/", "Warren relay"), ("/robots.txt", "Disallow: /"), ("/derp/probe", "")):
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                assert response.status == 200
                assert text in await response.text()


async def test_an_ordinary_user_with_one_capability_serves_ports_443_and_3478() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, setpriv and unshare")
    program = (
        "import sys, warren_relay.__main__ as m;"
        "sys.argv = ['warren-relay', 'serve', '--admission-mode=open', '--health-listen=off',"
        " '--derp-key-file=/tmp/warren-relay-' + str(__import__('os').getpid()) + '/derp.key',"
        " '--listen=127.0.0.1:443', '--stun-listen=127.0.0.1:100', '--log-json=true']; m.main()"
    )
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "sh", "-c", 'ip link set lo up; exec setpriv "$@"', "sh"),
        *("--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all,+net_bind_service"),
        *("--ambient-caps=-all,+net_bind_service", "--bounding-set=-all,+net_bind_service"),
        *("--no-new-privs", sys.executable, "-c", program),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    lines = []
    while line := await process.stderr.readline():
        lines.append(line)
        if b"relay is serving" in line:
            break
    assert b"relay is serving" in b"".join(lines), lines
    status = await asyncio.to_thread(of_proc, process.pid, "status")
    process.terminate()
    await process.communicate()
    assert "Uid:\t65532" in status
    assert f"CapEff:\t{1 << 10:016x}" in status


async def test_stun_is_answered_by_every_worker_on_one_port(tmp_path: Path) -> None:
    port, stun_port = free_port(), free_port()
    arguments = (
        *("--workers=2", f"--listen=127.0.0.1:{port}", f"--stun-listen=127.0.0.1:{stun_port}"),
        *("--admission-mode=open", "--health-listen=off"),
    )
    loop = asyncio.get_running_loop()
    async with relay(tmp_path, *arguments, processes=2):
        for _ in range(16):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.connect(("127.0.0.1", stun_port))
                sock.send(stun.binding_request(bytes(12)))
                assert stun.parse_binding_response(await loop.sock_recv(sock, 2048))[0] == bytes(12)


async def test_two_relays_of_a_region_by_their_settings(tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    mesh_key = tmp_path / "mesh.key"
    mesh_key.write_text("5a" * 32 + "\n")
    common = (
        *("--admission-mode=open", "--health-listen=off", "--tls-self-signed=127.0.0.1"),
        *(f"--mesh-key-file={mesh_key}", f"--mesh-peers=127.0.0.1:{one},127.0.0.1:{two}"),
    )
    trusted = tmp_path / "trusted.crt"
    trusted.write_text("")
    async with AsyncExitStack() as stack:
        for number, port in ((1, one), (2, two)):
            folder = tmp_path / str(number)
            # Each makes its pair at its first start; both are trusted from the second on.
            async with relay(folder, f"--listen=127.0.0.1:{port}", *common):
                pass
            with trusted.open("a") as file:
                file.write((folder / "state" / "self-signed.crt").read_text())
        for number, port in ((1, one), (2, two)):
            arguments = (f"--listen=127.0.0.1:{port}", f"--mesh-ca-file={trusted}", *common)
            await stack.enter_async_context(relay(tmp_path / str(number), *arguments))
        tls = client_context(trusted)
        home = await stack.enter_async_context(await DerpSession.connect(one, tls=tls))
        office = await stack.enter_async_context(await DerpSession.connect(two, tls=tls))
        received = asyncio.create_task(office.expect(PacketReceived))
        async with asyncio.timeout(20):
            while not received.done():
                await home.send(office.key, b"across the region")
                await asyncio.wait([received], timeout=0.1)
        assert await received == PacketReceived(home.key, b"across the region")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--admission-mode=list",), "admission.keys_file: is required"),
        (("--admission-mode=list", "--admission-keys-file=/nonexistent"), "cannot read /nonexistent"),
        (("--admission-mode=open", "--workers=0"), "workers: must be a whole number"),
        (("--admission-mode=open", "--mesh-key-file=/nonexistent"), "cannot read mesh.key_file"),
        (("--admission-mode=open", "--limit-bytes-per-second=1"), "limit.bytes_per_second"),
        (("--admission-mode=open", "--tls-self-signed=a", "--tls-key=b"), "tls.self_signed: excludes"),
        (("--admission-mode=open", "--workers=2", "--admission-mode=list", "--admission-keys-file=/x"), "/x"),
    ],
)
async def test_bad_settings_are_named(arguments: tuple[str, ...], text: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "warren_relay", "serve", f"--derp-key-file={tmp_path / 'derp.key'}"),
        *(f"--listen=127.0.0.1:{free_port()}", "--stun-listen=off", "--health-listen=off", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert text in errors.decode()
    assert b"Traceback" not in errors
    await eventually(lambda: process.returncode is not None)
