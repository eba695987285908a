"""The command against a real control server on its local socket."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import yaml

from support.control_client import ControlClient, Identity
from warren_control.app import ControlServer
from warren_wire.control.messages import Hostinfo

from .conftest import Warren


async def test_a_machine_is_approved_by_its_link_and_looked_after(
    server: ControlServer, warren: Warren
) -> None:
    await warren("users", "create", "alice", "--display-name", "Alice")
    async with ControlClient(Identity("nas"), server.port, None) as nas:
        routes = Hostinfo(hostname="nas", os="linux", routable_ips=("10.9.0.0/16", "10.8.0.0/16"))
        url = (await nas.register(hostinfo=routes)).auth_url
        assert "nas" in await warren("nodes", "pending")
        assert "nas joined with 100.64.0.1" in await warren("nodes", "approve", url, "--user", "alice")
        await nas.poll(hostinfo=routes)
        assert "alice" in await warren("nodes", "list", "--online")
        await warren("nodes", "rename", "nas", "box")
        await warren("tags", "set", "box", "tag:storage")
        assert "tag:storage" in await warren("tags", "list")
        await warren("routes", "approve", "box")
        await warren("routes", "revoke", "box", "10.8.0.0/16")
        await warren("nodes", "set-addresses", "box", "100.64.7.7")
        await warren("nodes", "set-expiry", "box", "never")
        shown = yaml.safe_load(await warren("nodes", "show", "box"))
        assert shown["approved_routes"] == ["10.9.0.0/16"]
        assert shown["addresses"][0] == "100.64.7.7"
        assert shown["expiry_disabled"] is True
        assert "10.9.0.0/16" in await warren("routes", "list")
        await warren("nodes", "expire", "box")
        await nas.until(lambda: (me := nas.netmap.self_node) is not None and me.expired)


async def test_relays_tokens_keys_and_settings(warren: Warren, tmp_path: Path) -> None:
    region = {
        "RegionID": 901,
        "RegionCode": "far",
        "RegionName": "Far",
        "Nodes": [{"Name": "901a", "RegionID": 901, "HostName": "relay.example.net"}],
    }
    (tmp_path / "region.yaml").write_text(yaml.safe_dump(region))
    await warren("derp", "add", str(tmp_path / "region.yaml"))
    assert "relay.example.net" in await warren("derp", "list")
    await warren("derp", "delete", "901")
    assert (await warren("tokens", "create", "--scope", "read-only")).startswith("warren-api-")
    assert "read-only" in await warren("tokens", "list")
    assert (await warren("keys", "create", "--reusable")).startswith("warren-auth-")
    assert yaml.safe_load(await warren("dns", "show"))["base_domain"] == "mesh.internal"
    assert "valid" in await warren("config", "check", str(tmp_path / "config.yaml"))
    (tmp_path / "config.yaml").write_text("listen: nowhere\n")
    await warren("config", "check", str(tmp_path / "config.yaml"), code=2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_is_printed_for_each_shell(warren: Warren, shell: str) -> None:
    assert "_WARREN_COMPLETE" in await warren("completion", shell)


async def test_the_shell_completes_commands_and_names_of_machines(
    server: ControlServer, warren: Warren, tmp_path: Path
) -> None:
    key = (await warren("keys", "create")).strip()
    async with ControlClient(Identity("nas"), server.port, None) as nas:
        await nas.register(key)

        async def completed(line: str) -> str:
            script = (
                f'eval "$(warren completion bash)"; COMP_WORDS=({line} ""); '
                "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _warren_completion warren; echo ${COMPREPLY[@]}"
            )
            process = await asyncio.create_subprocess_exec(
                *("bash", "--norc", "-c", script),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={
                    "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                    "WARREN_SERVER": f"unix:{tmp_path}/control.sock",
                },
            )
            return (await process.communicate())[0].decode()

        assert {"rename", "approve", "list"} <= set((await completed("warren nodes")).split())
        assert (await completed("warren nodes rename")).split() == ["nas"]


async def test_what_is_refused_is_explained_with_exit_code_1(warren: Warren) -> None:
    assert "there is no user" in await warren("users", "delete", "nobody", code=1)
    assert "no machine waits" in await warren("nodes", "approve", "unknown", code=1)
