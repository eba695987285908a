"""`/api/v1/dns`: the names and resolvers clients are told, as the configuration has them."""

from __future__ import annotations

import msgspec
from aiohttp import web

from warren_control.api.access import Need, operation
from warren_control.api.problems import json_response
from warren_control.dns_records import RecordsFile
from warren_wire.control.messages import DNSConfig


class DnsSettings(msgspec.Struct):
    """What clients are told about names."""

    base_domain: str
    dns: DNSConfig


class SettingsApi:
    """Shows settings; they are changed in the configuration file."""

    def __init__(self, base_domain: str, records: RecordsFile) -> None:
        self._base_domain = base_domain
        self._records = records

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/dns", self.dns)]

    @operation(Need.READ, DnsSettings)
    async def dns(self, request: web.Request) -> web.Response:
        """Show the DNS settings."""
        return json_response(DnsSettings(self._base_domain, self._records.dns))
