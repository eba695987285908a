"""Brings the host to the newest network map, again and again.

A round is started by a new map, by a lost device and by a slow timer, and needs no memory of the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final

from warren_agent import metrics
from warren_agent.allotment import Judgements, Surroundings
from warren_agent.apply import Applier
from warren_agent.config import Config
from warren_agent.control.address import ServerAddress
from warren_agent.data_plane import Plane, link_index
from warren_agent.desired import Desired, desired, taken_range
from warren_agent.errors import AgentError, SetupError
from warren_agent.host import Network
from warren_agent.inbound import DENY_ALL, PacketFilter
from warren_agent.kernel.interfaces import WireGuardError
from warren_agent.kernel.network import HostNetwork
from warren_agent.keystore import Keys
from warren_agent.member import Member
from warren_agent.names import Resolver, relay_hosts
from warren_agent.netmap_report import NetmapReport
from warren_wire.control.messages import DERPMap

logger = logging.getLogger(__name__)

SLOW_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 0.5
MAX_POKES: Final = 256
_DISCARD_PORT: Final = 9


class Reconciler:
    """Owns what is desired; the rest of the agent reads its outcome."""

    def __init__(
        self,
        *,
        config: Config,
        keys: Keys,
        network: HostNetwork,
        plane: Plane,
        applier: Applier,
        on_setup_error: Callable[[SetupError], None],
    ) -> None:
        self._config = config
        self._keys = keys
        self._network = network
        self._plane = plane
        self._applier = applier
        self._on_setup_error = on_setup_error
        self._resolver = Resolver()
        self._judgements = Judgements()
        self._control_host = ServerAddress.parse(config.server_url).host
        self._wake = asyncio.Event()
        self._own: Member | None = None
        self._members: tuple[Member, ...] = ()
        self._derp_map: DERPMap | None = None
        self._packet_filter = DENY_ALL
        self._current = False
        self._index: int | None = None
        self._poke_next = False
        self._look = True
        self._looked_at = 0.0
        self._looked_with: DERPMap | None = None
        self._around: Surroundings | None = None
        self._report = NetmapReport()
        self.desired: Desired | None = None
        self.problems: tuple[str, ...] = ()
        self.applied = False
        """The first network map is in force."""

    def set_map(
        self,
        own: Member,
        members: tuple[Member, ...],
        derp_map: DERPMap | None,
        packet_filter: PacketFilter,
        *,
        current: bool,
    ) -> None:
        """Take a map. One that is not `current` was read from disk and may miss the newest peers: it takes
        nothing away, since a peer that is removed and added again loses its session.
        """
        self._current = current
        self._own = own
        self._members = members
        self._derp_map = derp_map
        self._packet_filter = packet_filter
        self._wake.set()

    async def prepare(self, *, was_known: bool) -> bool:
        """Have a configured WireGuard device; True if it was made just now. Raises `SetupError`."""
        new = await self._plane.ensure()
        try:
            await self._plane.wireguard.configure(
                self._keys.node, self._config.listen_port, self._config.mark.value
            )
        except WireGuardError as error:
            port = self._config.listen_port
            raise SetupError(f"{error}; if UDP port {port} is taken, set listen_port to another") from error
        self._index = link_index(self._config.interface)
        self._poke_next = new and was_known
        return new

    async def run(self) -> None:
        while True:
            self._wake.clear()
            with metrics.APPLY_SECONDS.time() if self._own is not None else contextlib.nullcontext():
                failed = await self._round() if self._own is not None else False
            try:
                async with asyncio.timeout(RETRY_SECONDS if failed else self._until_look()):
                    await self._wake.wait()
            except TimeoutError:
                self._look = True

    def _until_look(self) -> float:
        """Maps that come one after the other must not put off the look at the host."""
        return max(0.0, self._looked_at + SLOW_SECONDS - asyncio.get_running_loop().time())

    async def watch_device(self) -> None:
        """A restarted WireGuard program comes with a new interface and knows no peer."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if link_index(self._config.interface) == self._index:
                continue
            if self._index is not None:
                logger.warning("WireGuard device is gone, setting it up again")
            self._index = None
            try:
                await self.prepare(was_known=True)
            except SetupError as error:
                self.problems = (str(error),)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._poke_next = True
            self._look = True
            metrics.WIREGUARD_RESTORED.inc()
            self._wake.set()

    async def _round(self) -> bool:
        """One round; True if it has to be repeated soon."""
        assert self._own is not None
        own, members, derp_map = self._own, self._members, self._derp_map
        try:
            look, self._look = self._look or self._around is None or not self._until_look(), False
            if look or derp_map is not self._looked_with:
                self._around = await self._surroundings()
                self._looked_with = derp_map
            around = self._around
            assert around is not None
            if look:
                self._looked_at = asyncio.get_running_loop().time()
            if not self.applied:
                self._require_free_range(own, around)
            wanted = desired(
                own, members, self._config, around, self._packet_filter.allowances, self._judgements
            )
            actions, problems = await self._applier.round(wanted.host, remove=self._current, look=look)
        except SetupError as error:
            self._on_setup_error(error)
            return False
        except (AgentError, WireGuardError) as error:
            actions, problems = [], [str(error)]
        else:
            metrics.PEERS.set(len(wanted.host.peers))
            self._report.update(wanted.refusals, members)
            self.desired = wanted
        metrics.ACTIONS.inc(len(actions))
        metrics.APPLIES.labels("failed" if problems else "changed" if actions else "unchanged").inc()
        if tuple(problems) != self.problems and problems:
            logger.warning("host not as wanted, trying again", extra={"reason": problems[0]})
        self.problems = tuple(problems)
        self._look = self._look or bool(problems)
        if not problems:
            self._finish(members, bool(actions))
        return bool(problems)

    def _finish(self, members: tuple[Member, ...], changed: bool) -> None:
        if changed:
            logger.info("network map applied", extra={"peers": len(members)})
        self.applied = True
        if self._poke_next:
            self._poke_next = False
            self._poke(members)

    async def _surroundings(self) -> Surroundings:
        control = await self._resolver.addresses([self._control_host])
        relays = await self._resolver.addresses(relay_hosts(self._derp_map))
        hood = await asyncio.to_thread(self._network.neighbourhood)
        return Surroundings(
            control=control,
            relays=relays,
            local_networks=hood.networks,
            local_addresses=hood.addresses,
            ipv6=await asyncio.to_thread(self._network.ipv6),
        )

    @staticmethod
    def _require_free_range(own: Member, around: Surroundings) -> None:
        taken: tuple[Network, Network] | None = taken_range(own, around)
        if taken is not None:
            address, network = taken
            raise SetupError(
                f"the mesh gave this node {address.network_address}, but this host is attached to {network}"
                " already; choose other mesh addresses or leave that network"
            )

    def _poke(self, members: tuple[Member, ...]) -> None:
        """One packet to each peer: a peer with a dead session of ours would take 15 seconds to notice."""
        targets = [m.addresses[0] for m in members if m.online and m.addresses and not m.expired]
        for network in targets[:MAX_POKES]:
            family = socket.AF_INET if network.version == 4 else socket.AF_INET6
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                try:
                    sock.sendto(b"", (str(network.network_address), _DISCARD_PORT))
                except OSError as error:
                    logger.debug("peer not poked", extra={"reason": error.strerror})
