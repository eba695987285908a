"""Reads how many clients a relay has from its metrics port."""

from __future__ import annotations

import ipaddress
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from warren_operator.desired.objects import HEALTH_PORT

CLIENTS: Final = "warren_relay_clients"
ANSWER_SECONDS: Final = 3.0
MAX_BYTES: Final = 1024 * 1024


async def connected_clients(address: str, port: int = HEALTH_PORT) -> int:
    """Zero if the relay does not answer: its readiness is told elsewhere."""
    host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{host}:{port}/metrics") as answer,
        ):
            text = (await answer.content.read(MAX_BYTES)).decode("utf-8", "replace")
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 0
    return clients_in(text)


def clients_in(text: str) -> int:
    try:
        families = [family for family in text_string_to_metric_families(text) if family.name == CLIENTS]
    except ValueError:
        return 0
    return int(sum(sample.value for family in families for sample in family.samples))
