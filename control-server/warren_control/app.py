"""Puts the server together from its configuration, starts it and stops it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from aiohttp import web

from warren_control.api.access import Access
from warren_control.api.admin import Parts, admin_routes
from warren_control.api.bootstrap_dns import BootstrapDns
from warren_control.api.local import serve_local
from warren_control.api.problems import authorise
from warren_control.api.public import PublicApi
from warren_control.api.register_page import RegisterPage
from warren_control.api.ssh_check_page import SshCheckPage
from warren_control.config import Config
from warren_control.dns_records import RecordsFile
from warren_control.embedded_relay import Certificate, certificate_of, relay_of, started_stun
from warren_control.errors import UnavailableError
from warren_control.hub import Hub
from warren_control.keyfiles import MIN_TOKEN, read_secret
from warren_control.metrics import ControlMetrics, PortsCollector
from warren_control.netmap.builder import MapSettings, NetmapBuilder
from warren_control.opening import State, open_state
from warren_control.pending import PendingLogins
from warren_control.policies.file import PolicyFile
from warren_control.policies.keeper import PolicyKeeper
from warren_control.presence import Presence
from warren_control.relaymap import RelayMap
from warren_control.ssh_checks import SshChecks
from warren_control.store import Store, utc_now
from warren_control.transport.handshake import Handshakes
from warren_control.transport.liveness import Liveness
from warren_control.transport.machine_api import MachineApi
from warren_control.transport.maps import Maps
from warren_control.transport.polls import Polls
from warren_control.transport.registering import Registrar, RegistrationSettings
from warren_control.transport.ssh_actions import SshActions
from warren_control.transport.ts2021 import Ts2021
from warren_control.transport.websocket import WebSocketTs2021
from warren_runtime.acme.service import AcmeService
from warren_runtime.derp_server import DerpService
from warren_runtime.health import serve_health
from warren_runtime.listener import Listener, UpgradeHandler
from warren_runtime.settings import Listen
from warren_runtime.stun_server import StunServer
from warren_runtime.tasks import Supervisor
from warren_wire.control.session import UPGRADE

logger = logging.getLogger(__name__)

API_PREFIX: Final = "/api/"
MAX_API_BODY_BYTES: Final = 1024 * 1024


class ControlServer:
    """One server: `start`, then `run` until cancelled; `stop` ends connections and stores what is left."""

    def __init__(
        self,
        config: Config,
        *,
        metrics: ControlMetrics | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self.metrics = metrics or ControlMetrics()
        self._clock = clock
        self._hub = Hub(self.metrics.map_delivery.observe)
        self._stack = AsyncExitStack()
        self._supervisor = Supervisor(on_failure=lambda task: self.metrics.task_failures.labels(task).inc())
        self._ready = False
        self._listener: Listener | None = None
        self._state: State | None = None

    @property
    def port(self) -> int:
        """The port clients connect to."""
        assert self._listener is not None, "not started"
        return self._listener.port

    @property
    def store(self) -> Store:
        assert self._state is not None, "not started"
        return self._state.store

    @property
    def policies(self) -> PolicyKeeper:
        assert self._state is not None, "not started"
        return self._state.policies

    async def start(self) -> None:
        """Opens state and ports; `ConfigError` (or OSError for a taken port) says what is in the way."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def run(self) -> None:
        """Keeps the server going until cancelled."""
        await self._supervisor.run()

    async def stop(self) -> None:
        """Ends streams, closes ports, stores what is left."""
        self._ready = False
        await self._stack.aclose()
        logger.info("control server stopped")

    async def _start(self) -> None:
        config = self._config
        token = None
        if config.admin_token_file is not None:
            token = read_secret(config.admin_token_file, "admin_token_file", least=MIN_TOKEN)
        certificate = await asyncio.to_thread(certificate_of, config)
        state = await open_state(config, self._hub, self.metrics, self._clock, self._stack)
        store, self._state = state.store, state
        await self._start_policy_file(state.policies)
        embedded = config.relay.region_id if config.relay is not None else None
        relays = RelayMap(config.regions, embedded, lambda: store.enforcer.relays)
        builder = NetmapBuilder(MapSettings(config.base_domain, config.dns, relays))
        presence = Presence(store, self._hub, self._hub.publish, self._clock)
        self._stack.push_async_callback(self._drain, store, presence)
        pending = PendingLogins(self._clock)
        settings = RegistrationSettings(config.server_url, config.web_approval, config.node_expiry)
        registrar = Registrar(store, config.pools, self._clock, self.metrics, pending, settings)
        maps = Maps(store, builder, self._clock, self.metrics)
        polls = Polls(store, self._hub, maps, presence, self._clock, self.metrics)
        checks = SshChecks(self._clock)
        self._watch(store, checks)
        ssh_actions = SshActions(
            store, checks, store.enforcer.check_period, self.metrics, config.server_url, self._clock
        )
        api = MachineApi(registrar, polls, ssh_actions)
        public = PublicApi(store, state.machine_key.public, self._clock)
        access = Access(token, store, self._clock)
        app = web.Application(middlewares=[authorise(access, API_PREFIX)], client_max_size=MAX_API_BODY_BYTES)
        app.add_routes(public.routes())
        app.add_routes(RegisterPage(pending, config.base_domain).routes())
        app.add_routes(SshCheckPage(store, checks, access, self._clock).routes())
        records = RecordsFile(config.dns, config.dns_records_file, builder, self._hub, self.metrics)
        parts = Parts(store, self._hub, registrar, state.policies, relays, pending, records, checks)
        admin = admin_routes(config, parts, self._clock)
        app.add_routes(admin)
        handshakes, liveness = Handshakes(state.machine_key, self.metrics), Liveness()
        upgrades: dict[tuple[str, str], UpgradeHandler] = {
            ("/ts2021", UPGRADE): Ts2021(handshakes, api.handle, self.metrics, liveness).upgrade
        }
        web_sockets = WebSocketTs2021(handshakes, api.handle, self.metrics, liveness)
        app.add_routes(web_sockets.routes())
        app.on_shutdown.append(web_sockets.end_all)
        app.add_routes(BootstrapDns(lambda: self._own_names(store, relays)).routes())
        if config.admin_socket is not None:
            self._stack.push_async_callback(await serve_local(config.admin_socket, admin, access))
        relay = relay_of(config, store, presence, self._clock)
        if relay is not None:
            relay.routes(app)
            upgrades.update(relay.upgrades())
        stun = await started_stun(config)
        if stun is not None:
            self._stack.push_async_callback(stun.close)
        await self._listen(app, upgrades, certificate, relay, stun)
        if relay is not None:
            # Ends before the listener does: its clients are told that it will be back.
            self._stack.callback(relay.close)
        self._supervisor.add("changes", self._hub.run)
        self._supervisor.add("keep-alives", self._hub.keep_alive)
        self._supervisor.add("liveness", liveness.run)
        self._supervisor.add("presence", presence.run)
        self._supervisor.add("records", store.run)
        if config.dns_records_file is not None:
            self._supervisor.add("extra records", records.watch)
        if certificate is not None:
            await certificate.start(self._stack)
        await self._start_health(certificate)
        self._ready = True
        logger.info(
            "control server started",
            extra={
                "endpoint": str(config.listen),
                "url": config.server_url,
                "nodes": len(store.snapshot.nodes),
            },
        )

    def _watch(self, store: Store, checks: SshChecks) -> None:
        metrics = self.metrics
        metrics.nodes.set_function(lambda: len(store.snapshot.nodes))
        metrics.revision.set_function(lambda: store.snapshot.revision)
        metrics.waiting.set_function(lambda: self._hub.waiting)
        metrics.ssh_checks_waiting.set_function(lambda: len(checks.undecided()))

    def _own_names(self, store: Store, relays: RelayMap) -> frozenset[str]:
        regions = relays.regions(store.snapshot).values()
        hosts = (node.host_name for region in regions for node in region.nodes or ())
        return frozenset(host.lower() for host in (*hosts, self._config.server_host) if host)

    async def _start_policy_file(self, policies: PolicyKeeper) -> None:
        if self._config.policy_file is not None:
            file = PolicyFile(policies, self._config.policy_file)
            await file.start()
            self._supervisor.add("policy file", file.watch)

    async def _start_health(self, certificate: Certificate | None) -> None:
        if self._config.health_listen is None:
            return
        notes = certificate.notes if certificate is not None else None
        health = await serve_health(
            self._config.health_listen, self._reasons, self.metrics.registry, notes=notes
        )
        self._stack.push_async_callback(health.close)

    async def _listen(
        self,
        app: web.Application,
        upgrades: dict[tuple[str, str], UpgradeHandler],
        certificate: Certificate | None,
        relay: DerpService | None,
        stun: StunServer | None,
    ) -> None:
        listen: Listen = self._config.listen
        tls = certificate.tls if certificate is not None else None
        self._listener = Listener(app, upgrades, tls=tls, proxies=self._config.proxies)
        await self._listener.start(listen.host, listen.port)
        self._stack.push_async_callback(self._listener.close)
        keeper = certificate.keeper if isinstance(certificate, AcmeService) else None
        collector = PortsCollector(self._listener, relay, stun, keeper)
        self.metrics.registry.register(collector)
        self._stack.callback(self.metrics.registry.unregister, collector)

    async def _drain(self, store: Store, presence: Presence) -> None:
        await presence.all_offline()
        try:
            await store.flush()
        except UnavailableError:
            logger.warning("last reports not stored")

    def _reasons(self) -> list[str]:
        return [] if self._ready else ["starting or stopping"]


async def serve(config: Config) -> None:
    """Runs a server until cancelled."""
    server = ControlServer(config)
    await server.start()
    try:
        await server.run()
    finally:
        await asyncio.shield(server.stop())
