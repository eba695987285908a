"""An agent on a host that fails it: a full disk, lost kernel messages, an end in the middle of news.

home --+            +-- office
       +- internet -+
control (203.0.113.10)
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from support.agents import HOME, Mesh, mesh, topology
from support.lab import accepting_tcp, connected, eventually, require_namespaces
from support.requirements import require_nftables, require_program, require_root_netns, require_tun
from warren_agent.paths.actions import IPAddress
from warren_agent.transport.address_watch import AddressWatch
from warren_lab.net import Network

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

PORT = 8080
NEW = IPv4Address("203.0.113.77")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Mesh]:
    require_root_netns()
    require_namespaces()
    require_tun()
    require_nftables()
    with mesh(tmp_path, require_program("wireguard")) as running:
        yield running


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return filler


def reaches(world: Mesh, host: str, address: str) -> bool:
    try:
        with connected(world.network, host, ip_address(address), PORT):
            return True
    except OSError:
        return False


def test_a_full_disk_costs_the_cached_map_alone_and_is_told_until_there_is_room(world: Mesh) -> None:
    with small_disk(world.folder / "home"):
        (home,) = world.joined("home")
        cache = world.folder / "home" / "netmap.json"
        assert eventually(cache.exists)
        filler = fill(cache.parent)
        old = cache.read_bytes()
        (office,) = world.joined("office")
        with accepting_tcp(world.network, "office", PORT):
            assert eventually(partial(reaches, world, "home", office.address()), within=30.0)
        assert eventually(lambda: any("No space left" in line for line in home.status()["errors"]))
        assert cache.read_bytes() == old
        assert not [path for path in cache.parent.iterdir() if path.name.startswith(".")]
        assert home.log.read_text().count("network map not cached") == 1
        filler.unlink()
        assert eventually(lambda: b"office" in cache.read_bytes(), within=20.0)
        assert eventually(lambda: not any("No space left" in line for line in home.status()["errors"]))
        assert home.process is not None
        home.process.kill()
        home.run("cleanup")


def test_the_newest_map_is_on_disk_after_a_graceful_stop(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    cache = world.folder / "home" / "netmap.json"
    assert eventually(lambda: bool(home.peer("office")))
    assert eventually(cache.exists)
    cache.unlink()
    assert home.process is not None
    home.process.stop()
    assert str(office.status()["node"]["node_key"]) in cache.read_text()


def test_addresses_are_right_after_the_kernel_dropped_its_messages() -> None:
    require_namespaces()
    with Network(topology()) as network:
        network.inside("home", lambda: asyncio.run(overrun()))


async def overrun() -> None:
    found: asyncio.Queue[tuple[IPAddress, ...]] = asyncio.Queue()

    async def changed(gone: frozenset[IPAddress]) -> None:
        found.put_nowait(watch.current)

    watch = AddressWatch("warren0", changed)
    await watch.read()
    assert watch.current == (HOME,)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    overrun_watchers()
    async with asyncio.timeout(20):
        assert NEW in await found.get()
    # And it goes on: the next change is heard as well.
    ip_batch(f"addr del {NEW}/24 dev eth0\n")
    async with asyncio.timeout(20):
        assert await found.get() == (HOME,)
    watching.cancel()


def overrun_watchers() -> None:
    """More changes than a socket holds that nobody reads meanwhile; the last of them is a new address."""
    ip_batch("addr add 198.51.100.1/24 dev eth0\naddr del 198.51.100.1/24 dev eth0\n" * 2000)
    ip_batch(f"addr add {NEW}/24 dev eth0\n")
    _, *sockets = Path("/proc/thread-self/net/netlink").read_text().splitlines()
    assert any(int(line.split()[8]) for line in sockets), "the kernel dropped nothing"


def ip_batch(lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
