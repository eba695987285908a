"""The plain HTTP port of a service: `/health`, `/ready`, `/metrics` and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from .settings import Listen

ReadyCheck = Callable[[], list[str]]
"""Reasons why the service is not ready; an empty list means ready."""

Notes = Callable[[], list[str]]
"""What a person should mend although the service works."""


def health_app(
    ready: ReadyCheck, registry: CollectorRegistry = REGISTRY, notes: Notes | None = None
) -> web.Application:
    """The application; `/ready` answers 503 with one reason per line, `/health` has notes below its `ok`."""

    async def health(_: web.Request) -> web.Response:
        found = notes() if notes is not None else []
        return web.Response(text="".join(f"{line}\n" for line in ("ok", *found)))

    async def readiness(_: web.Request) -> web.Response:
        reasons = ready()
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ready\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_get("/ready", readiness)
    app.router.add_get("/metrics", metrics)
    return app


class HealthServer:
    """A running health port."""

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self._runner = runner
        self.port = port

    async def close(self) -> None:
        await self._runner.cleanup()


async def serve_health(
    listen: Listen,
    ready: ReadyCheck,
    registry: CollectorRegistry = REGISTRY,
    notes: Notes | None = None,
) -> HealthServer:
    """Start the port; OSError if the address is taken."""
    runner = web.AppRunner(health_app(ready, registry, notes), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, listen.host or None, listen.port)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    port = int(runner.addresses[0][1])
    return HealthServer(runner, port)
