"""Looks at the configuration of a control server on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from warren_cli.asking import Problem


@click.group("config")
def config_group() -> None:
    """The configuration of a control server on this machine."""


@config_group.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Say whether a control server could use FILE; every problem on a line."""
    command = shutil.which("warren-control", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if command is None:
        raise Problem("warren-control is not installed here: pip install 'warren[control]'")
    sys.exit(subprocess.run([command, "config", "check", "--config", str(file)], check=False).returncode)
