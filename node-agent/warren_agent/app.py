"""Starting and ending the agent on a host. The only module that puts everything together."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

from warren_agent import netmap_cache
from warren_agent.agent import Agent
from warren_agent.config import Config, DataPlane
from warren_agent.control.client import KeyRotationError
from warren_agent.control.leave import leave
from warren_agent.data_plane import choose, link_index, wireguard_process
from warren_agent.errors import ControlError, SetupError, StateError
from warren_agent.kernel.network import HostNetwork
from warren_agent.keystore import Keys, load, load_or_create, save, with_new_node_key
from warren_agent.local_client import is_served
from warren_agent.requirements import require_capabilities
from warren_runtime.tls import TlsError, client_context

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def only_agent(state_dir: Path) -> Iterator[None]:
    """One agent per state folder: two would overwrite each other's keys."""
    path = state_dir / "lock"
    try:
        lock = path.open("wb")
    except OSError as error:
        raise SetupError(
            f"cannot write {path}: {error.strerror}; set state_dir to a writable folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(f"another agent uses {state_dir}; stop it, or set state_dir") from error
        yield


def _trust(config: Config) -> ssl.SSLContext:
    try:
        return client_context(config.ca_file)
    except TlsError as error:
        raise SetupError(f"ca_file: {error}") from error


async def up(config: Config) -> None:
    """Be a node of the mesh until stopped. A signal leaves traffic flowing; `down` takes everything away."""
    require_capabilities()
    ssl_context = _trust(config)
    network = HostNetwork(config)
    await asyncio.to_thread(network.check)
    had_link = link_index(config.interface) is not None
    plane = await asyncio.to_thread(choose, config)
    keys = _keys(config)
    with only_agent(config.state_dir):
        while True:
            agent = Agent(
                config=config,
                keys=keys,
                plane=plane,
                network=network,
                ssl_context=ssl_context,
                take_down=lambda: _take_down(config),
            )
            try:
                await agent.run()
            except KeyRotationError:
                keys = _rotated(config, keys)
                continue
            except SetupError:
                if not had_link:
                    await asyncio.to_thread(cleanup, config)
                raise
            return


def _take_down(config: Config) -> None:
    for problem in cleanup(config):
        logger.warning("not everything could be removed", extra={"reason": problem})


def _keys(config: Config) -> Keys:
    try:
        return load_or_create(config.state_dir)
    except StateError as error:
        raise SetupError(str(error)) from error


def _rotated(config: Config, keys: Keys) -> Keys:
    logger.info("making a new node key, the old one has expired")
    netmap_cache.forget(config.state_dir)
    new = with_new_node_key(keys)
    save(config.state_dir, new)
    return new


def cleanup(config: Config) -> list[str]:
    """Leave the host as it was found, keys aside. Harmless to repeat. Returns what could not be removed."""
    problems = HostNetwork(config).remove_everything()
    process = wireguard_process(config)
    try:
        if config.data_plane is not DataPlane.KERNEL:
            process.stop()
    except StateError as error:
        problems.append(str(error))
    # A program that was killed leaves its socket behind.
    if not process.answers():
        process.socket_path.unlink(missing_ok=True)
    if not is_served(config.socket):
        config.socket.unlink(missing_ok=True)
    return problems


async def forget(config: Config) -> str | None:
    """Leave the mesh for good and drop the keys. Returns why the control server could not be told, if so."""
    untold = await _tell_leaving(config)
    if config.state_dir.exists():
        await asyncio.to_thread(shutil.rmtree, config.state_dir)
    return untold


async def log_out(config: Config) -> None:
    """Leave the mesh and drop the keys once the control server knows it; raises `AgentError` before that."""
    keys = load(config.state_dir)
    if keys is None:
        raise StateError(f"this host is in no mesh: {config.state_dir} holds no keys")
    await leave(config, keys, _trust(config))
    await asyncio.to_thread(shutil.rmtree, config.state_dir)


async def _tell_leaving(config: Config) -> str | None:
    try:
        keys = load(config.state_dir)
        if keys is None or not config.server_url:
            return None
        await leave(config, keys, _trust(config))
    except (ControlError, SetupError, StateError) as error:
        return f"the control server was not told and still lists this node: {error}"
    return None
