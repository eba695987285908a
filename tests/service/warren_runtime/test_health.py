"""The health port."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from warren_runtime.health import serve_health
from warren_runtime.settings import Listen


async def test_probes_and_metrics() -> None:
    registry = CollectorRegistry()
    Counter("warren_test_things", "Things.", registry=registry).inc()
    reasons = ["no first netmap", "not registered"]
    server = await serve_health(Listen("127.0.0.1", 0), lambda: reasons, registry)
    url = f"http://127.0.0.1:{server.port}"
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/health") as response:
                assert response.status == 200
            async with session.get(f"{url}/ready") as response:
                assert (response.status, await response.text()) == (503, "no first netmap\nnot registered\n")
            reasons.clear()
            async with session.get(f"{url}/ready") as response:
                assert response.status == 200
            async with session.get(f"{url}/metrics") as response:
                assert "warren_test_things_total 1.0" in await response.text()
            async with session.get(f"{url}/other") as response:
                assert response.status == 404
        with pytest.raises(OSError):
            await serve_health(Listen("127.0.0.1", server.port), lambda: reasons, registry)
    finally:
        await server.close()
