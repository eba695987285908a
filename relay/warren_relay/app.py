"""The relay put together: keys, admission, DERP behind one listener, STUN, health."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import aiohttp
from aiohttp import web

from warren_runtime.derp_server import Admit, DerpService
from warren_runtime.health import serve_health
from warren_runtime.key_files import load_or_create
from warren_runtime.listener import Listener
from warren_runtime.stun_server import StunServer
from warren_runtime.tasks import supervise
from warren_runtime.tls import ReloadingContext, client_context
from warren_wire.keys import NodePrivate

from . import metrics
from .admission import MemberAdmission, admit_everyone
from .config import AdmissionMode, Config

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The relay cannot start here; the text says why in one line."""


async def serve(config: Config) -> None:
    """Run until cancelled. At the end clients are told that the relay restarts."""
    async with AsyncExitStack() as stack:
        await _start(config, stack)
        await asyncio.Event().wait()


async def _start(config: Config, stack: AsyncExitStack) -> None:
    key = await asyncio.to_thread(load_or_create, config.derp_key_file, NodePrivate)
    reloading = ReloadingContext(config.tls.certificate, config.tls.key) if config.tls else None
    admission, admit = await _admission(config, stack)
    derp = DerpService(key, admit)
    app = web.Application()
    derp.routes(app)
    listener = Listener(app, derp.upgrades(), ssl_context=reloading.context if reloading else None)
    stun = StunServer(config.stun_listen.host, config.stun_listen.port) if config.stun_listen else None
    try:
        if stun is not None:
            await stun.start()
            stack.push_async_callback(stun.close)
        await listener.start(config.listen.host, config.listen.port)
        stack.push_async_callback(listener.close)
        stack.callback(derp.close)
        if config.health_listen is not None:
            registry = metrics.registry(derp, stun, listener, admission)
            health = await serve_health(config.health_listen, list, registry)
            stack.push_async_callback(health.close)
    except OSError as error:
        raise StartError(f"cannot listen: {error.strerror or error}") from error
    if reloading is not None:
        watcher = asyncio.create_task(supervise("certificate", reloading.watch), name="certificate")
        stack.callback(watcher.cancel)
    logger.info(
        "relay is serving",
        extra={
            "listen": f"{config.listen.host}:{listener.port}",
            "stun": str(config.stun_listen) if config.stun_listen else "off",
            "key": derp.public_key.short(),
            "admission": config.admission.mode.value,
        },
    )


async def _admission(config: Config, stack: AsyncExitStack) -> tuple[MemberAdmission | None, Admit]:
    if config.admission.mode is AdmissionMode.OPEN:
        logger.warning("the relay is open to everyone")
        return None, admit_everyone
    connector = aiohttp.TCPConnector(ssl=client_context(config.admission.ca_file), limit=64)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    admission = MemberAdmission(session, config.admission.verify_url)
    return admission, admission.admit
