"""The whole admin API, as the port and the local socket serve it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from warren_control.api.keys import KeysApi
from warren_control.api.nodes import NodesApi
from warren_control.api.openapi import OpenApi
from warren_control.api.pending import PendingApi
from warren_control.api.policy import PolicyApi
from warren_control.api.relays import RelaysApi
from warren_control.api.settings import SettingsApi
from warren_control.api.ssh_checks import SshChecksApi
from warren_control.api.status import StatusApi
from warren_control.api.tokens import TokensApi
from warren_control.api.users import UsersApi
from warren_control.config import Config
from warren_control.dns_records import RecordsFile
from warren_control.hub import Hub
from warren_control.pending import PendingLogins
from warren_control.policies.keeper import PolicyKeeper
from warren_control.relaymap import RelayMap
from warren_control.ssh_checks import SshChecks
from warren_control.store import Store
from warren_control.transport.registering import Registrar


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a server the API shows and changes."""

    store: Store
    hub: Hub
    registrar: Registrar
    policies: PolicyKeeper
    relays: RelayMap
    pending: PendingLogins
    records: RecordsFile
    checks: SshChecks


def admin_routes(config: Config, parts: Parts, clock: Callable[[], datetime]) -> list[web.RouteDef]:
    """Every operation, and the OpenAPI document of them."""
    store, pools, domain = parts.store, config.pools, config.base_domain
    apis = (
        NodesApi(store, parts.hub, pools, parts.relays, domain, clock),
        KeysApi(store, clock),
        UsersApi(store, clock),
        PendingApi(store, parts.pending, parts.registrar),
        SshChecksApi(store, parts.checks),
        TokensApi(store, clock),
        RelaysApi(store, parts.relays),
        SettingsApi(domain, parts.records),
        PolicyApi(parts.policies),
        StatusApi(store, parts.hub, parts.registrar, parts.policies, pools, config.server_url, domain, clock),
    )
    found = [route for api in apis for route in api.routes()]
    return [*found, *OpenApi(found).routes()]
