"""Puts the server together from its configuration, starts it and stops it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from aiohttp import web

from warren_control import reports
from warren_control.api.access import Access
from warren_control.api.bootstrap_dns import BootstrapDns
from warren_control.api.keys import KeysApi
from warren_control.api.local import serve_local
from warren_control.api.nodes import NodesApi
from warren_control.api.openapi import OpenApi
from warren_control.api.pending import PendingApi
from warren_control.api.policy import PolicyApi
from warren_control.api.problems import authorise
from warren_control.api.public import PublicApi, may_use_relays
from warren_control.api.register_page import RegisterPage
from warren_control.api.relays import RelaysApi
from warren_control.api.settings import SettingsApi
from warren_control.api.ssh_check_page import SshCheckPage
from warren_control.api.ssh_checks import SshChecksApi
from warren_control.api.status import StatusApi
from warren_control.api.tokens import TokensApi
from warren_control.api.users import UsersApi
from warren_control.config import Config
from warren_control.db.engine import open_engine, parse_url
from warren_control.db.repository import Repository
from warren_control.dns_records import RecordsFile
from warren_control.enforcement.enforcer import Enforcer
from warren_control.errors import ConfigError, UnavailableError
from warren_control.hub import Hub
from warren_control.keyfiles import MIN_TOKEN, noise_key, read_secret, relay_key
from warren_control.keys import bootstrap_records
from warren_control.metrics import ControlMetrics, PortsCollector
from warren_control.netmap.builder import MapSettings, NetmapBuilder
from warren_control.pending import PendingLogins
from warren_control.policies.file import PolicyFile
from warren_control.policies.keeper import PolicyKeeper
from warren_control.presence import Presence
from warren_control.relay_guard import RelayGuard
from warren_control.relaymap import RelayMap
from warren_control.ssh_checks import SshChecks
from warren_control.store import Store, Writer, utc_now
from warren_control.transport.handshake import Handshakes
from warren_control.transport.liveness import Liveness
from warren_control.transport.machine_api import MachineApi
from warren_control.transport.maps import Maps
from warren_control.transport.polls import Polls
from warren_control.transport.registering import Registrar, RegistrationSettings
from warren_control.transport.ssh_actions import SshActions
from warren_control.transport.ts2021 import Ts2021
from warren_control.transport.websocket import WebSocketTs2021
from warren_runtime.acme import service as acme
from warren_runtime.acme.service import AcmeService
from warren_runtime.acme.settings import AcmeSettings
from warren_runtime.certificates import FileCertificate
from warren_runtime.derp_server import DerpService
from warren_runtime.health import serve_health
from warren_runtime.listener import Listener, UpgradeHandler
from warren_runtime.relay_certificates import announcement
from warren_runtime.settings import Listen
from warren_runtime.stun_server import StunServer
from warren_runtime.tasks import Supervisor
from warren_runtime.tls import TlsError
from warren_wire.control.session import UPGRADE
from warren_wire.keys import MachinePrivate, NodePublic

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
        self._store: Store | None = None
        self._policies: PolicyKeeper | None = None

    @property
    def port(self) -> int:
        """The port clients connect to."""
        assert self._listener is not None, "not started"
        return self._listener.port

    @property
    def store(self) -> Store:
        assert self._store is not None, "not started"
        return self._store

    @property
    def policies(self) -> PolicyKeeper:
        assert self._policies is not None, "not started"
        return self._policies

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
        certificate = await asyncio.to_thread(self._certificate)
        store, machine_key = await self._open_store()
        policy_file = await self._open_policy_file()
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
        self.metrics.ssh_checks_waiting.set_function(lambda: len(checks.undecided()))
        ssh_actions = SshActions(
            store, checks, store.enforcer.check_period, self.metrics, config.server_url, self._clock
        )
        api = MachineApi(registrar, polls, ssh_actions)
        public = PublicApi(store, machine_key.public, self._clock)
        access = Access(token, store, self._clock)
        app = web.Application(middlewares=[authorise(access, API_PREFIX)], client_max_size=MAX_API_BODY_BYTES)
        app.add_routes(public.routes())
        app.add_routes(RegisterPage(pending, config.base_domain).routes())
        app.add_routes(SshCheckPage(store, checks, access, self._clock).routes())
        records = RecordsFile(config.dns, config.dns_records_file, builder, self._hub, self.metrics)
        admin = self._admin_routes(store, registrar, relays, pending, records, checks)
        app.add_routes(admin)
        handshakes, liveness = Handshakes(machine_key, self.metrics), Liveness()
        upgrades: dict[tuple[str, str], UpgradeHandler] = {
            ("/ts2021", UPGRADE): Ts2021(handshakes, api.handle, self.metrics, liveness).upgrade
        }
        web_sockets = WebSocketTs2021(handshakes, api.handle, self.metrics, liveness)
        app.add_routes(web_sockets.routes())
        app.on_shutdown.append(web_sockets.end_all)
        app.add_routes(BootstrapDns(lambda: self._own_names(store, relays)).routes())
        if config.admin_socket is not None:
            self._stack.push_async_callback(await serve_local(config.admin_socket, admin, access))
        relay = self._relay(app, upgrades, store, presence)
        stun = await self._start_stun()
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
        if policy_file is not None:
            self._supervisor.add("policy file", policy_file.watch)
        if certificate is not None:
            await certificate.start(self._stack)
        if config.health_listen is not None:
            health = await serve_health(
                config.health_listen,
                self._reasons,
                self.metrics.registry,
                notes=certificate.notes if certificate is not None else None,
            )
            self._stack.push_async_callback(health.close)
        self._ready = True
        logger.info(
            "control server started",
            extra={
                "endpoint": str(config.listen),
                "url": config.server_url,
                "nodes": len(store.snapshot.nodes),
            },
        )

    def _own_names(self, store: Store, relays: RelayMap) -> frozenset[str]:
        regions = relays.regions(store.snapshot).values()
        hosts = (node.host_name for region in regions for node in region.nodes or ())
        return frozenset(host.lower() for host in (*hosts, self._config.server_host) if host)

    def _certificate(self) -> AcmeService | FileCertificate | None:
        settings = self._config.tls
        try:
            if isinstance(settings, AcmeSettings):
                folder = self._config.noise_key_file.parent / "acme"
                acme.prepare(settings, folder)
                return AcmeService(settings, folder, extra=self._announcement)
            return (
                FileCertificate(settings.certificate, settings.key, self._announcement) if settings else None
            )
        except TlsError as error:
            raise ConfigError(f"tls: {error}") from error

    def _announcement(self) -> bytes:
        """Lets clients of the embedded relay send their first frame with the request."""
        if self._config.relay is None:
            return b""
        return announcement(relay_key(self._config.derp_key_file).public)

    async def _open_store(self) -> tuple[Store, MachinePrivate]:
        file = self._config.noise_key_file
        # Before the tables are made: a database must never be there without the key its clients know.
        engine = await open_engine(
            parse_url(self._config.database), before_tables=lambda empty: noise_key(file, first_start=empty)
        )
        machine_key = noise_key(file, first_start=False)
        repository = Repository(engine, self.metrics.stored)
        self._stack.push_async_callback(repository.close)
        now = self._clock()
        snapshot = await repository.load(now)
        enforcer = Enforcer(snapshot, self._config.server_url)
        store = self._store = Store(repository, snapshot, self._hub.publish, enforcer)
        managed_by = str(self._config.policy_file or "")
        self._policies = PolicyKeeper(
            store, repository, self._clock, self.metrics, self._config.policy_domains, managed_by
        )
        await self._policies.load()
        async with store.writing() as writer:
            try:
                await self._take_in_configured(writer, now)
            except UnavailableError:
                # The server still serves everyone who is in; a restart takes the keys in.
                logger.exception("configured keys not taken in")
        self.metrics.nodes.set_function(lambda: len(store.snapshot.nodes))
        self.metrics.revision.set_function(lambda: store.snapshot.revision)
        self.metrics.waiting.set_function(lambda: self._hub.waiting)
        return store, machine_key

    async def _open_policy_file(self) -> PolicyFile | None:
        if self._config.policy_file is None:
            return None
        file = PolicyFile(self.policies, self._config.policy_file)
        await file.start()
        return file

    async def _take_in_configured(self, writer: Writer, now: datetime) -> None:
        for key in bootstrap_records(self._config.bootstrap_keys, writer.snapshot, now):
            await writer.put_key(key)
        # A key may cover more routes than when its nodes joined.
        for node in list(writer.snapshot.nodes.values()):
            bound = writer.snapshot.keys.get(node.auth_key_id or "")
            approved = reports.approve(node.approved_routes, node.advertised_routes, bound)
            if approved != node.approved_routes:
                await writer.put(dataclasses.replace(node, approved_routes=approved))

    def _admin_routes(
        self,
        store: Store,
        registrar: Registrar,
        relays: RelayMap,
        pending: PendingLogins,
        records: RecordsFile,
        checks: SshChecks,
    ) -> list[web.RouteDef]:
        config, clock = self._config, self._clock
        nodes = NodesApi(store, self._hub, config.pools, relays, config.base_domain, clock)
        status = StatusApi(
            store,
            self._hub,
            registrar,
            self.policies,
            config.pools,
            config.server_url,
            config.base_domain,
            clock,
        )
        parts = (
            nodes,
            KeysApi(store, clock),
            UsersApi(store, clock),
            PendingApi(store, pending, registrar),
            SshChecksApi(store, checks),
            TokensApi(store, clock),
            RelaysApi(store, relays),
            SettingsApi(config.base_domain, records),
            PolicyApi(self.policies),
            status,
        )
        found = [route for part in parts for route in part.routes()]
        return [*found, *OpenApi(found).routes()]

    def _relay(
        self,
        app: web.Application,
        upgrades: dict[tuple[str, str], UpgradeHandler],
        store: Store,
        presence: Presence,
    ) -> DerpService | None:
        if self._config.relay is None:
            return None

        async def admit(key: NodePublic, _source: str) -> bool:
            return may_use_relays(store, key, self._clock())

        service = DerpService(relay_key(self._config.derp_key_file), admit, limit=self._config.relay.limit)
        guard = RelayGuard(service, store, self._clock)
        store.on_nodes, presence.on_expired = guard.changed, guard.expired
        service.routes(app)
        upgrades.update(service.upgrades())
        return service

    async def _start_stun(self) -> StunServer | None:
        relay = self._config.relay
        if relay is None or relay.stun_listen is None:
            return None
        stun = StunServer(relay.stun_listen.host, relay.stun_listen.port)
        await stun.start()
        self._stack.push_async_callback(stun.close)
        return stun

    async def _listen(
        self,
        app: web.Application,
        upgrades: dict[tuple[str, str], UpgradeHandler],
        certificate: AcmeService | FileCertificate | None,
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
