"""The relay put together: keys, admission, paths, STUN, health."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp

from warren_runtime.acme import service as acme
from warren_runtime.acme.service import AcmeService
from warren_runtime.certificates import FileCertificate
from warren_runtime.derp_server import Admit
from warren_runtime.health import serve_health
from warren_runtime.key_files import load_or_create
from warren_runtime.relay_certificates import announcement, pinned_pair
from warren_runtime.settings import Listen
from warren_runtime.stun_server import StunServer
from warren_runtime.tls import client_context
from warren_wire.keys import NodePrivate, NodePublic

from . import metrics
from .admission import ListAdmission, MemberAdmission, admit_everyone
from .config import AdmissionMode, Config, Mesh
from .derp_path import DerpPath
from .paths import RelayPath
from .workers import Worker

logger = logging.getLogger(__name__)

_MESH_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_DRAIN_STEP_SECONDS: Final = 0.05


class StartError(Exception):
    """The relay cannot start here; the text says why in one line."""


def prepare(config: Config) -> None:
    """Make the files that must be there before the first process serves."""
    load_or_create(config.derp_key_file, NodePrivate)
    if config.tls is not None and config.tls.acme is not None:
        acme.prepare(config.tls.acme, _acme_folder(config))
    if config.tls is not None and config.tls.self_signed:
        try:
            pair = pinned_pair(config.derp_key_file.parent, config.tls.self_signed)
        except OSError as error:
            raise StartError(f"cannot write the certificate: {error.strerror}") from error
        logger.info("relay has its own certificate", extra={"cert_name": pair.cert_name})


async def serve(config: Config, worker: Worker | None = None) -> None:
    """Run until cancelled. At the end clients are told to move and get a little time for it."""
    async with AsyncExitStack() as stack:
        paths = await _start(config, worker, stack)
        try:
            await asyncio.Event().wait()
        finally:
            await _drain(paths, config.drain_seconds)


async def _drain(paths: list[RelayPath], seconds: float) -> None:
    for path in paths:
        path.stop_accepting()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while any(path.users for path in paths) and loop.time() < deadline:  # noqa: ASYNC110 - ends by time
        await asyncio.sleep(_DRAIN_STEP_SECONDS)


async def _start(config: Config, worker: Worker | None, stack: AsyncExitStack) -> list[RelayPath]:
    key = await asyncio.to_thread(load_or_create, config.derp_key_file, NodePrivate)
    certificate = await asyncio.to_thread(_certificate, config, key.public, worker)
    admission, admit = await _admission(config, stack)
    mesh_key = await asyncio.to_thread(_mesh_key, config.mesh) if config.mesh else ""
    derp = DerpPath(config, key, admit, certificate.tls if certificate else None, mesh_key, worker)
    paths: list[RelayPath] = [derp]
    stun = _stun(config.stun_listen, worker)
    try:
        if stun is not None:
            await stun.start()
            stack.push_async_callback(stun.close)
        for path in paths:
            await path.start()
            stack.push_async_callback(path.close)
        if config.health_listen is not None:
            keeper = certificate.keeper if isinstance(certificate, AcmeService) else None
            registry = metrics.registry(paths, stun, admission, keeper)
            health = await serve_health(
                _health_listen(config.health_listen, worker),
                lambda: _problems(paths),
                registry,
                notes=certificate.notes if certificate else None,
            )
            stack.push_async_callback(health.close)
        if certificate is not None:
            await certificate.start(stack, reuse_port=worker is not None)
    except OSError as error:
        raise StartError(f"cannot listen: {error.strerror or error}") from error
    logger.info(
        "relay is serving",
        extra={
            "listen": f"{config.listen.host}:{derp.port}",
            "stun": str(config.stun_listen) if config.stun_listen else "off",
            "key": key.public.short(),
            "admission": config.admission.mode.value,
            "worker": worker.index if worker else 0,
        },
    )
    return paths


def _problems(paths: list[RelayPath]) -> list[str]:
    return [problem for path in paths for problem in path.problems()]


def _stun(listen: Listen | None, worker: Worker | None) -> StunServer | None:
    return StunServer(listen.host, listen.port, reuse_port=worker is not None) if listen else None


def _health_listen(listen: Listen, worker: Worker | None) -> Listen:
    """Each worker has metrics of its own, on ports that follow each other."""
    return Listen(listen.host, listen.port + worker.index) if worker else listen


def _certificate(
    config: Config, key: NodePublic, worker: Worker | None
) -> AcmeService | FileCertificate | None:
    if config.tls is None:
        return None
    if config.tls.acme is not None:
        leads = worker is None or worker.index == 0
        return AcmeService(
            config.tls.acme, _acme_folder(config), extra=lambda: announcement(key), leader=leads
        )
    certificate, private = config.tls.certificate, config.tls.key
    if certificate is None or private is None:
        pair = pinned_pair(config.derp_key_file.parent, config.tls.self_signed)
        certificate, private = pair.certificate, pair.key
    return FileCertificate(certificate, private, lambda: announcement(key))


def _acme_folder(config: Config) -> Path:
    return config.derp_key_file.parent / "acme"


def _mesh_key(mesh: Mesh) -> str:
    try:
        with mesh.key_file.open(encoding="ascii") as file:
            text = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"cannot read mesh.key_file {mesh.key_file}: {error}") from error
    if not _MESH_KEY.fullmatch(text):
        raise StartError(f"mesh.key_file {mesh.key_file} must hold 64 hexadecimal digits")
    return text.lower()


async def _admission(
    config: Config, stack: AsyncExitStack
) -> tuple[MemberAdmission | ListAdmission | None, Admit]:
    settings = config.admission
    if settings.mode is AdmissionMode.OPEN:
        logger.warning("the relay is open to everyone")
        return None, admit_everyone
    if settings.keys_file is not None and settings.mode is AdmissionMode.LIST:
        listed = await asyncio.to_thread(ListAdmission, settings.keys_file)
        return listed, listed.admit
    connector = aiohttp.TCPConnector(ssl=client_context(settings.ca_file), limit=64)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    admission = MemberAdmission(session, settings.verify_url, when_unreachable=settings.when_unreachable)
    return admission, admission.admit
