"""What runs beside the agent in a pod."""

from __future__ import annotations

from pathlib import Path

from warren_agent.config import Config
from warren_agent.data_plane import companion_command

USERSPACE = ["wireguard", "-f", "warren0"]


def config(folder: Path) -> Config:
    return Config(server_url="https://203.0.113.10", uapi_dir=folder)


def test_the_userspace_program_runs_where_the_kernel_has_no_wireguard(tmp_path: Path) -> None:
    assert companion_command(config(tmp_path), in_kernel=False) == USERSPACE


def test_it_idles_where_the_kernel_has_wireguard(tmp_path: Path) -> None:
    assert companion_command(config(tmp_path), in_kernel=True)[0] == "/bin/sh"


def test_a_pod_that_began_in_user_space_stays_there(tmp_path: Path) -> None:
    (tmp_path / "warren0.sock").touch()
    assert companion_command(config(tmp_path), in_kernel=True) == USERSPACE
