"""Settings of the agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.members import networks
from warren_agent.config import DataPlane, Mark, load, parse
from warren_runtime.settings import Listen, SettingsError

URL = {"server_url": "https://203.0.113.10"}


def test_a_server_is_enough() -> None:
    config = parse(URL, "home")
    assert (config.hostname, config.interface, config.listen_port) == ("home", "warren0", 41641)
    assert (config.table, config.mark, config.rule_priority) == (22345, Mark(0x5700000, 0xFF00000), 5300)
    assert config.data_plane is DataPlane.AUTO
    assert config.health_listen == Listen("127.0.0.1", 9473)


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        """
server_url: https://control.example.net:8443/
auth_key_file: /run/secrets/join
userspace: {program: wireguard, external: true}
advertise_routes: [10.1.0.0/16, "fd00:1::/64"]
accept_routes: false
keep_source: {local: [10.1.0.0/16]}
mark: 0x100/0xff00
tags: [tag:cluster]
health_listen: 'off'
"""
    )
    config = load(path, {}, {}, "home")
    assert config.server_url == "https://control.example.net:8443"
    assert config.auth_key_file == Path("/run/secrets/join")
    assert config.userspace_external
    assert config.advertise_routes == networks("10.1.0.0/16", "fd00:1::/64")
    assert config.keep_source_local == networks("10.1.0.0/16")
    assert not config.accept_routes
    assert config.mark == Mark(0x100, 0xFF00)
    assert config.tags == ("tag:cluster",)
    assert config.health_listen is None


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "server_url: https://203.0.113.10\nhostname: from-file\ninterface: mesh0\nlisten_port: 1\n"
    )
    environ = {
        "WARREN_AGENT_HOSTNAME": "from-environment",
        "WARREN_AGENT_INTERFACE": "mesh1",
        "WARREN_AGENT_ADVERTISE_ROUTES": "10.1.0.0/16, 10.96.0.0/16",
        "WARREN_AGENT_USERSPACE_EXTERNAL": "true",
    }
    config = load(path, environ, {"hostname": "from-flag", "interface": None}, "home")
    assert (config.hostname, config.interface, config.listen_port) == ("from-flag", "mesh1", 1)
    assert config.advertise_routes == networks("10.1.0.0/16", "10.96.0.0/16")
    assert config.userspace_external


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "server_url: is required"),
        ({"server_url": "203.0.113.10"}, "server_url: must be like"),
        ({"server_url": "https://203.0.113.10/path"}, "server_url: must be like"),
        ({"server_url": "https://[::1"}, "server_url: must be like"),
        ({"server_url": "http://203.0.113.10"}, "server_url: http:// is only for"),
        ({"server_url": "http://control.example.net"}, "server_url: http:// is only for"),
        (URL | {"interface": "a-name-that-is-too-long"}, "interface: must be 1 to 15"),
        (URL | {"interface": "../etc"}, "interface: must be 1 to 15"),
        (URL | {"listen_port": 0}, "listen_port: must be a whole number"),
        (URL | {"listen_port": True}, "listen_port: must be a whole number"),
        (URL | {"table": 254}, "table: must be a whole number"),
        (URL | {"mark": "0x1/0x2"}, "mark: must be VALUE/MASK"),
        (URL | {"mark": "none"}, "mark: must be VALUE/MASK"),
        (URL | {"data_plane": "magic"}, "data_plane: must be one of"),
        (URL | {"advertise_routes": ["10.1.0.1/16"]}, "advertise_routes: '10.1.0.1/16'"),
        (URL | {"advertise_routes": "10.1.0.0/16"}, "advertise_routes: must be a list"),
        (URL | {"tags": ["cluster"]}, "tags: 'cluster' must be"),
        (URL | {"keep_source": {"remote": []}}, "keep_source.remote: unknown setting"),
        (URL | {"keep_source": []}, "keep_source: must be a mapping"),
        (URL | {"sever_url": "x"}, "sever_url: unknown setting"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(values, "home")
    assert problem in str(caught.value)


def test_all_problems_are_found_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"listen_port": "many", "mark": "blue", "colour": "red"}, "home")
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    "url", ["http://192.168.1.10:8080", "http://127.0.0.1", "http://localhost", "http://[fd00::1]"]
)
def test_a_private_server_may_do_without_tls(url: str) -> None:
    assert parse({"server_url": url}, "home").server_url == url


def test_a_clean_up_needs_no_server() -> None:
    assert load(None, {}, {"interface": "mesh0"}, "home", joining=False).interface == "mesh0"
