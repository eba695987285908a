"""The control server under stock Tailscale clients, of the wheel's version and of the newest pinned one."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from support.certificates import self_signed
from support.stock import StockClient, peer
from warren_control import backup, config
from warren_control.app import ControlServer
from warren_control.metrics import ControlMetrics
from warren_lab import tools

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

VERSIONS = {"wheel": "client", "newest": "peers"}


class World:
    """A server with TLS and a relay on loopback, and clients of it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._pair = self_signed(folder, "control")
        self._port = 0
        self._task: asyncio.Task[None] | None = None
        self.clients: list[StockClient] = []
        self.server: ControlServer

    def config(self) -> config.Config:
        return config.parse(
            {
                "server_url": f"https://127.0.0.1:{self._port or 8443}",
                "listen": f"127.0.0.1:{self._port}",
                "tls": {"certificate": str(self._pair.certificate), "key": str(self._pair.key)},
                "database": f"sqlite:///{self.folder}/state/control.db",
                "noise_key_file": str(self.folder / "state/noise.key"),
                "derp_key_file": str(self.folder / "state/derp.key"),
                "relay": {
                    "enabled": True,
                    "host": "127.0.0.1",
                    "stun_listen": "127.0.0.1:0",
                    "stun_port": -1,
                },
                "dns": {"extra_records_file": str(self.folder / "records.json")},
                "admin_socket": str(self.folder / "control.sock"),
            }
        )

    async def start(self) -> None:
        if not self._port:
            # Links and relay map name the port, so it is chosen first.
            probe = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
            self._port = probe.sockets[0].getsockname()[1]
            probe.close()
            await probe.wait_closed()
        self.server = ControlServer(self.config(), metrics=ControlMetrics(CollectorRegistry()))
        await self.server.start()
        self._task = asyncio.create_task(self.server.run(), name="control server")

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.server.stop()

    async def client(self, name: str, *, state: str | None = None) -> StockClient:
        url = f"https://127.0.0.1:{self._port}"
        number = len(self.clients)
        client = StockClient(self.folder / f"c{number}", self._programs, url, self._pair.certificate, name)
        self.clients.append(client)
        await client.start(state=state)
        return client

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        connector = aiohttp.UnixConnector(str(self.folder / "control.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://localhost/api/v1{path}", json=body) as response,
        ):
            assert response.status < 400, await response.text()
            return await response.json() if response.status != 204 else None

    async def key(self, **fields: Any) -> str:
        return str((await self.api("POST", "/keys", {"reusable": True, **fields}))["key"])

    async def member(self, name: str, *arguments: str, **fields: Any) -> StockClient:
        client = await self.client(name)
        code, output = await client.up(f"--auth-key={await self.key(**fields)}", *arguments)
        assert code == 0, output
        return client

    async def node_id(self, name: str) -> int:
        return int((await self.api("GET", f"/nodes?name={name}"))["nodes"][0]["id"])


@pytest.fixture(params=sorted(VERSIONS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    toolbox = await asyncio.to_thread(tools.ensure, (VERSIONS[request.param],))
    made = World(tmp_path, toolbox.path("tailscaled").parent)
    await made.start()
    yield made
    for client in made.clients:
        await client.stop(kill=True)
    await made.stop()


async def test_two_clients_join_with_a_key_know_each_other_and_talk(world: World) -> None:
    await world.api("POST", "/users", {"name": "alice"})
    web = await world.member("web", user="alice")
    office = await world.member("office")
    status = await web.until(lambda status: peer(status, "office").get("Online"))
    assert status["Self"]["DNSName"] == "web.mesh.internal."
    assert status["MagicDNSSuffix"] == "mesh.internal"
    assert status["AuthURL"] == ""
    assert {user["LoginName"] for user in status["User"].values()} == {"alice", "members"}
    assert status["TailscaleIPs"][0].startswith("100.")
    assert "pong from office" in await web.ok("ping", "--timeout=5s", "office")
    assert "pong from web" in await office.ok("ping", "--tsmp", "--timeout=5s", "web")
    address = peer(status, "office")["TailscaleIPs"][0]
    assert "members" in await web.ok("whois", address)
    assert await web.ok("dns", "query", "office.mesh.internal.")


async def test_a_rename_is_seen_by_both(world: World) -> None:
    web, office = await world.member("web"), await world.member("office")
    await web.until(lambda status: peer(status, "office"))
    await world.api("PATCH", f"/nodes/{await world.node_id('office')}", {"name": "branch"})
    await web.until(lambda status: peer(status, "branch"), within=5)
    await office.until(lambda status: status["Self"]["DNSName"] == "branch.mesh.internal.", within=5)
    assert "pong from branch" in await web.ok("ping", "--timeout=5s", "branch")


async def test_a_machine_without_a_key_is_let_in_by_its_link(world: World) -> None:
    web = await world.client("web")
    up = await web.spawn(*web.up_arguments())
    await web.until(lambda status: status["AuthURL"])
    (pending,) = (await world.api("GET", "/pending"))["pending"]
    assert pending["hostname"] == "web"
    await world.api("POST", f"/pending/{pending['id']}/approve", {})
    async with asyncio.timeout(20):
        output, _ = await up.communicate()
    assert up.returncode == 0
    assert re.findall(rb"https://\S+", output) == [
        f"{world.config().server_url}/register/{pending['id']}".encode()
    ]
    assert (await web.status())["BackendState"] == "Running"


async def test_a_wrong_key_fails_with_the_servers_words_and_stores_nothing(world: World) -> None:
    web = await world.client("web")
    code, output = await web.up("--auth-key=warren-auth-wrong", within=20)
    assert code != 0
    assert "invalid pre-auth key" in output
    assert (await world.api("GET", "/nodes"))["nodes"] == []


async def test_a_daemon_restart_and_a_second_up_keep_node_and_addresses(world: World) -> None:
    web = await world.member("web")
    before = await web.status()
    await web.stop()
    await web.start()
    after = await web.until(lambda status: status["BackendState"] == "Running")
    assert (after["Self"]["ID"], after["TailscaleIPs"]) == (before["Self"]["ID"], before["TailscaleIPs"])
    assert (await web.up())[0] == 0
    assert len((await world.api("GET", "/nodes"))["nodes"]) == 1


async def test_a_forced_login_changes_the_key_alone(world: World) -> None:
    web, office = await world.member("web"), await world.member("office")
    before = (await web.status())["Self"]
    code, output = await web.up("--force-reauth", f"--auth-key={await world.key()}")
    assert code == 0, output
    after = (await web.until(lambda status: status["Self"]["PublicKey"] != before["PublicKey"]))["Self"]
    assert (after["ID"], after["TailscaleIPs"]) == (before["ID"], before["TailscaleIPs"])
    assert "pong" in await office.ok("ping", "--timeout=5s", "web")


async def test_logout_then_another_users_login_makes_another_node(world: World) -> None:
    await world.api("POST", "/users", {"name": "bob"})
    web, office = await world.member("web"), await world.member("office")
    before = (await web.status())["Self"]["ID"]
    await web.ok("logout")
    await office.until(lambda status: not peer(status, "web").get("Online"), within=15)
    code, output = await web.up(f"--auth-key={await world.key(user='bob')}")
    assert code == 0, output
    status = await web.status()
    assert status["Self"]["ID"] != before
    assert status["User"][str(status["Self"]["UserID"])]["LoginName"] == "bob"


async def test_expiry_acts_at_once_and_an_extension_revives(world: World) -> None:
    web, office = await world.member("web"), await world.member("office")
    number = await world.node_id("web")
    await world.api("POST", f"/nodes/{number}/expire")
    await web.until(lambda status: status["BackendState"] == "NeedsLogin", within=5)
    await office.until(lambda status: peer(status, "web").get("Expired"), within=5)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await world.api("PATCH", f"/nodes/{number}", {"expiry": later})
    await web.until(lambda status: status["BackendState"] == "Running", within=10)
    assert "pong" in await office.ok("ping", "--timeout=5s", "web")


async def test_tags_replace_the_owner_and_go_away_again(world: World) -> None:
    web = await world.member("web", tags=["tag:db"])
    status = await web.status()
    assert status["Self"]["Tags"] == ["tag:db"]
    await world.api("PATCH", f"/nodes/{await world.node_id('web')}", {"tags": []})
    await web.until(lambda status: not status["Self"].get("Tags"), within=5)


async def test_routes_and_an_exit_node_are_approved_seen_and_taken_back(world: World) -> None:
    web, office = await world.member("web"), await world.member("office", "--accept-routes")
    await web.ok("set", "--advertise-routes=10.9.0.0/16", "--advertise-exit-node")
    number = await world.node_id("web")
    approved = ["10.9.0.0/16", "0.0.0.0/0", "::/0"]
    await world.api("PATCH", f"/nodes/{number}", {"approved_routes": approved})
    status = await office.until(lambda status: peer(status, "web").get("ExitNodeOption"), within=10)
    assert peer(status, "web")["PrimaryRoutes"] == ["10.9.0.0/16"]
    assert "web.mesh.internal" in await office.ok("exit-node", "list")
    await office.ok("set", "--exit-node=web")
    await office.until(lambda status: peer(status, "web").get("ExitNode"), within=5)
    await office.ok("set", "--exit-node=")
    await world.api("PATCH", f"/nodes/{number}", {"approved_routes": []})
    await office.until(lambda status: not peer(status, "web").get("PrimaryRoutes"), within=5)


async def test_netcheck_and_relay_are_ours(world: World) -> None:
    web = await world.member("web")
    await web.until(lambda status: status["Self"]["Relay"] == "home", within=30)
    assert "home" in await web.ok("netcheck")


async def test_an_extra_record_comes_and_goes(world: World) -> None:
    web = await world.member("web")
    records = world.folder / "records.json"

    async def resolves() -> bool:
        return "100.64.0.77" in (await web.run("dns", "query", "nas.example.net."))[1]

    async def until(wanted: bool) -> None:
        async with asyncio.timeout(15):
            while await resolves() is not wanted:  # noqa: ASYNC110 - the client tells no event
                await asyncio.sleep(0.1)

    records.write_text('[{"name": "nas.example.net", "value": "100.64.0.77"}]')
    await until(True)
    records.write_text("[]")
    await until(False)


async def test_an_ephemeral_machine_is_gone_when_it_ends(world: World) -> None:
    web = await world.member("web")
    job = await world.client("job", state="mem:")
    assert (await job.up(f"--auth-key={await world.key(ephemeral=True)}"))[0] == 0
    await web.until(lambda status: peer(status, "job"))
    await job.stop()
    await web.until(lambda status: not peer(status, "job"), within=10)


async def _back(world: World, web: StockClient, change: Callable[[], Awaitable[None]]) -> None:
    before = (await web.status())["Self"]["ID"]
    await world.stop()
    await change()
    await world.start()
    await web.until(
        lambda status: status["Self"]["Online"] and status["BackendState"] == "Running", within=60
    )
    assert (await web.up())[0] == 0
    assert (await web.status())["Self"]["ID"] == before


async def test_clients_come_back_after_a_restart(world: World) -> None:
    async def nothing() -> None:
        return

    await _back(world, await world.member("web"), nothing)


async def test_clients_come_back_after_a_restore_from_a_backup(world: World) -> None:
    async def lose_everything() -> None:
        file = world.folder / "backup.tar.gz"
        await backup.make(world.config(), file, datetime.now(UTC))
        await asyncio.to_thread(shutil.rmtree, world.folder / "state")
        await backup.restore(world.config(), file)

    await _back(world, await world.member("web"), lose_everything)


async def test_a_deleted_machine_is_logged_out_and_can_join_again(world: World) -> None:
    web, office = await world.member("web"), await world.member("office")
    await office.until(lambda status: peer(status, "web"))
    await world.api("DELETE", f"/nodes/{await world.node_id('web')}")
    await office.until(lambda status: not peer(status, "web"), within=5)
    await web.until(lambda status: status["BackendState"] == "NeedsLogin", within=10)
    code, output = await web.up(f"--auth-key={await world.key()}")
    assert code == 0, output
    await office.until(lambda status: peer(status, "web"), within=10)
