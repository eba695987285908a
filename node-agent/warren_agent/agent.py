"""The running agent: puts control client, path engine and reconciler together and answers for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.structs import replace
from prometheus_client import REGISTRY

from warren_agent import metrics, netmap_cache
from warren_agent.apply import Applier
from warren_agent.config import Config, DataPlane
from warren_agent.control.client import ControlClient, KeyRotationError
from warren_agent.data_plane import Plane
from warren_agent.doors import Doors
from warren_agent.inbound import DENY_ALL, packet_filter
from warren_agent.kernel.interfaces import PeerStats, WireGuardError
from warren_agent.kernel.network import HostNetwork
from warren_agent.keystore import Keys, save, with_accepted_node_key
from warren_agent.local_client import RequestError
from warren_agent.member import Member, MemberReader, self_of
from warren_agent.path_peers import PathPeers
from warren_agent.paths.values import LocalState, PingKind
from warren_agent.reconciler import Reconciler
from warren_agent.requirements import host_warnings
from warren_agent.status import Snapshot, document, find_member, region_code, region_name
from warren_agent.transport.engine import PathEngine
from warren_runtime.tasks import supervise
from warren_wire.control.messages import PingResponse
from warren_wire.control.netmap import Netmap
from warren_wire.keys import NodePublic

logger = logging.getLogger(__name__)

CONTROL_PING_SECONDS: Final = 10.0


class Agent:
    """One node of one mesh, from start to stop. `run` ends when a person takes the node down."""

    def __init__(
        self,
        *,
        config: Config,
        keys: Keys,
        plane: Plane,
        network: HostNetwork,
        ssl_context: ssl.SSLContext,
        take_down: Callable[[], None],
    ) -> None:
        """`take_down` removes everything of ours from the host, when a person asks for it. It may block."""
        self._config = config
        self._take_down = take_down
        self._keys = keys
        self._plane = plane
        self._netmap = netmap_cache.load(config.state_dir, keys.node.public)
        self._engine = PathEngine(
            node=keys.node,
            disco=keys.disco,
            listen_port=config.listen_port,
            mark=config.mark.value,
            wireguard=plane.wireguard,
            ssl_context=ssl_context,
            on_local_change=self._on_local_change,
            interface=config.interface,
            port_mapping=config.port_mapping,
            home_may_move=lambda: self._client.status.connected,
            # The userspace program mixes up addresses when peers of both families are in use.
            one_family=plane.kind is DataPlane.USERSPACE,
        )
        self._reconciler = Reconciler(
            config=config,
            keys=keys,
            network=network,
            plane=plane,
            applier=Applier(
                network=network,
                wireguard=plane.wireguard,
                private=keys.node,
                loopback_endpoint=self._engine.loopback_endpoint,
            ),
            on_setup_error=self._give_up,
        )
        self._client = ControlClient(
            config=config,
            keys=keys,
            known=self._netmap is not None,
            ssl_context=ssl_context,
            on_netmap=self._on_netmap,
            on_registered=self._on_registered,
            on_login=_ask_for_login,
            ping=self._ping_for_control,
        )
        self._own: Member | None = None
        self._members: tuple[Member, ...] = ()
        self._reader = MemberReader()
        self._path_peers = PathPeers(keys.node.public)
        self._packet_filter = DENY_ALL
        self._registered = self._netmap is not None
        self._local: LocalState | None = None
        self._prepared = False
        self._map_is_current = False
        self._running: list[asyncio.Task[None]] = []
        self._cache = netmap_cache.NetmapWriter(config.state_dir)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Raises `SetupError` where the host does not allow it, `KeyRotationError` for an expired key."""
        doors = Doors(self._config, self, self.not_ready)
        opening = asyncio.create_task(doors.open(), name="doors")
        opening.add_done_callback(self._on_doors)
        try:
            await self._serve()
            # The socket stays until all is gone, so that `down` can wait for it.
            await asyncio.to_thread(self._take_down)
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await doors.close()

    def _on_doors(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled() and (failure := opening.exception()) is not None:
            self._give_up(failure)

    async def _serve(self) -> None:
        collector = metrics.PathCollector(
            paths=self._engine.path_counters,
            transport=self._engine.transport_counters,
            status=self._engine.status,
            carried=self._engine.carried,
        )
        REGISTRY.register(collector)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._work(group), name="work")]
                try:
                    await self._ended
                    await self._engine.release()
                finally:
                    for task in [*tasks, *self._running]:
                        task.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            with contextlib.suppress(KeyError):
                REGISTRY.unregister(collector)
            await self._cache.flush()
            await self._plane.wireguard.close()

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """The control server is asked beside the making of the device, but not while another container's
        WireGuard is waited for: a node that is shown to others must be able to answer them."""

        def start(name: str, run: Callable[[], Awaitable[None]]) -> None:
            self._running.append(group.create_task(supervise(name, run), name=name))

        if not self._config.userspace_external:
            start("control", self._follow_control)
        await self._reconciler.prepare(was_known=self._netmap is not None)
        self._prepared = True
        if self._netmap is not None and not self._map_is_current:
            self._use(self._netmap, current=False)
        if self._config.userspace_external:
            start("control", self._follow_control)
        for name, run in self._tasks().items():
            start(name, run)

    def _tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {
            "paths": self._engine.run,
            "host": self._reconciler.run,
            "device": self._reconciler.watch_device,
            "cache": self._cache.run,
        }

    def _give_up(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    async def _follow_control(self) -> None:
        try:
            await self._client.run()
        except KeyRotationError as error:
            self._give_up(error)
            await asyncio.Event().wait()

    def _on_local_change(self, local: LocalState) -> None:
        self._local = local
        self._client.set_local_state(local)

    def _on_registered(self) -> None:
        self._registered = True
        if self._keys.previous_node is not None:
            self._keys = with_accepted_node_key(self._keys)
            save(self._config.state_dir, self._keys)

    def _on_netmap(self, netmap: Netmap) -> None:
        self._netmap = netmap
        self._map_is_current = True
        self._use(netmap, current=True)
        self._cache.put(netmap)

    def _use(self, netmap: Netmap, *, current: bool) -> None:
        if netmap.self_node is None:
            return
        self._own = self_of(netmap.self_node)
        self._engine.set_known_home(self._own.home_relay)
        self._members = self._reader.members(netmap.peers.values())
        if netmap.derp_map is not None:
            self._engine.set_relay_map(netmap.derp_map)
        self._engine.set_peers(self._path_peers.of(self._members))
        self._packet_filter = packet_filter(netmap)
        self._reconciler.set_map(
            self._own, self._members, netmap.derp_map, self._packet_filter, current=current
        )

    def not_ready(self) -> list[str]:
        """Reasons; empty once this node is registered and its first network map is in force."""
        if not self._prepared:
            return ["waiting for WireGuard"]
        reasons = []
        if not self._registered:
            reasons.append(self._client.status.last_error or "not registered yet")
        if not self._reconciler.applied:
            reasons.append("no network map applied yet")
        return reasons

    # What a person may ask

    async def status(self) -> Mapping[str, Any]:
        wireguard: Mapping[NodePublic, PeerStats] = {}
        errors: list[str] = []
        try:
            wireguard = await self._plane.wireguard.peers()
        except WireGuardError as error:
            errors.append(str(error))
        errors += self._reconciler.problems
        errors += self._engine.problems()
        errors += self._packet_filter.problems
        if self._netmap is not None:
            errors += [f"control server: {message}" for message in self._netmap.health]
        if self._cache.error is not None:
            errors.append(self._cache.error)
        wanted = self._reconciler.desired
        if wanted is not None:
            errors += [str(refusal) for refusal in wanted.refusals]
        for member in self._members:
            errors += [f"{member.name}: {problem}" for problem in member.problems]
        errors += await asyncio.to_thread(host_warnings, self._config)
        return document(
            Snapshot(
                key=self._keys.node.public,
                own=self._own,
                members=self._members,
                control=self._client.status,
                derp_map=self._netmap.derp_map if self._netmap is not None else None,
                home_relay=self._engine.home_relay(),
                local=self._local,
                data_plane=self._plane.kind.value,
                desired=wanted,
                paths=self._engine.status(),
                wireguard=wireguard,
                now=datetime.now(UTC),
                errors=tuple(dict.fromkeys(errors)),
            )
        )

    async def ping(self, peer: str, kind: PingKind) -> Mapping[str, Any]:
        member = find_member(self._members, peer)
        if member is None:
            raise RequestError(f"no member is called {peer} or has that address; see 'warren-agent status'")
        try:
            result = await self._engine.ping(member.key, kind)
        except KeyError as error:
            raise RequestError(f"{member.name} cannot be reached now: it has no way to be found") from error
        derp_map = self._netmap.derp_map if self._netmap is not None else None
        latency = result.latency_seconds
        return {
            "name": member.name,
            "kind": kind.value,
            "answered": latency is not None,
            "path": result.path.value,
            "endpoint": None if result.endpoint is None else str(result.endpoint),
            "relay": region_code(derp_map, result.relay) if result.relay else None,
            "latency_ms": None if latency is None else round(latency * 1000, 3),
        }

    async def _ping_for_control(self, kind: str, address: str) -> PingResponse:
        """The kinds are the protocol's words; the answer says why where there is none."""
        member = find_member(self._members, address)
        name = member.name if member is not None else ""
        answer = PingResponse(type=kind, ip=address, node_ip=address, node_name=name)
        if kind.lower() not in {known.value for known in PingKind}:
            return replace(answer, err=f"this node does not send {kind[:20]} pings")
        if member is None:
            return replace(answer, err="no peer has that address")
        try:
            async with asyncio.timeout(CONTROL_PING_SECONDS):
                found = await self._engine.ping(member.key, PingKind(kind.lower()), CONTROL_PING_SECONDS)
        except (KeyError, TimeoutError):
            return replace(answer, err="the peer cannot be reached now")
        if found.latency_seconds is None:
            return replace(answer, err="no answer")
        derp_map = self._netmap.derp_map if self._netmap is not None else None
        return replace(
            answer,
            latency_seconds=found.latency_seconds,
            endpoint="" if found.endpoint is None else str(found.endpoint),
            derp_region_id=found.relay or 0,
            derp_region_code=region_code(derp_map, found.relay) if found.relay else "",
        )

    async def netcheck(self) -> Mapping[str, Any]:
        try:
            report = await self._engine.netcheck()
        except RuntimeError as error:
            raise RequestError(str(error)) from error
        derp_map = self._netmap.derp_map if self._netmap is not None else None
        return {
            "udp": report.udp,
            "ipv4": None if report.ipv4 is None else str(report.ipv4),
            "ipv6": None if report.ipv6 is None else str(report.ipv6),
            "mapping_varies": report.mapping_varies,
            "port_mapping": self._engine.port_mapping(),
            "home_relay": {"region_id": report.home, "code": region_code(derp_map, report.home)}
            if report.home
            else None,
            "relays": [
                {
                    "region_id": region,
                    "code": region_code(derp_map, region),
                    "name": region_name(derp_map, region),
                    "latency_ms": round(latency * 1000, 3),
                    "latency_v4_ms": _milliseconds(report.region_latency_v4.get(region)),
                    "latency_v6_ms": _milliseconds(report.region_latency_v6.get(region)),
                }
                for region, latency in sorted(report.region_latency_seconds.items(), key=lambda item: item[1])
            ],
        }

    def down(self) -> None:
        """A person takes this node down: `run` ends."""
        if not self._ended.done():
            self._ended.set_result(None)


def _ask_for_login(url: str) -> None:
    logger.warning("a person must log in to let this node join", extra={"url": url})
    if sys.stderr.isatty():
        sys.stderr.write(f"\nTo let this host join, open:\n\n\t{url}\n\n")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
