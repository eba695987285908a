"""Opens what the server remembers: database, key, snapshot and the policy in force."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

from warren_control import reports
from warren_control.config import Config
from warren_control.db.engine import open_engine, parse_url
from warren_control.db.repository import Repository
from warren_control.enforcement.enforcer import Enforcer
from warren_control.errors import UnavailableError
from warren_control.hub import Hub
from warren_control.keyfiles import noise_key
from warren_control.keys import bootstrap_records
from warren_control.metrics import ControlMetrics
from warren_control.policies.keeper import PolicyKeeper
from warren_control.store import Store, Writer
from warren_wire.keys import MachinePrivate

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """What outlives the process."""

    store: Store
    policies: PolicyKeeper
    machine_key: MachinePrivate


async def open_state(
    config: Config,
    hub: Hub,
    metrics: ControlMetrics,
    clock: Callable[[], datetime],
    stack: AsyncExitStack,
) -> State:
    """Everything read into memory; `stack` closes the database. `ConfigError` says what is in the way."""
    file = config.noise_key_file
    # Before the tables are made: a database must never be there without the key its clients know.
    engine = await open_engine(
        parse_url(config.database), before_tables=lambda empty: noise_key(file, first_start=empty)
    )
    machine_key = noise_key(file, first_start=False)
    repository = Repository(engine, metrics.stored)
    stack.push_async_callback(repository.close)
    now = clock()
    snapshot = await repository.load(now)
    store = Store(repository, snapshot, hub.publish, Enforcer(snapshot, config.server_url))
    managed_by = str(config.policy_file or "")
    policies = PolicyKeeper(store, repository, clock, metrics, config.policy_domains, managed_by)
    await policies.load()
    async with store.writing() as writer:
        try:
            await _take_in_configured(config, writer, now)
        except UnavailableError:
            # The server still serves everyone who is in; a restart takes the keys in.
            logger.exception("configured keys not taken in")
    return State(store, policies, machine_key)


async def _take_in_configured(config: Config, writer: Writer, now: datetime) -> None:
    for key in bootstrap_records(config.bootstrap_keys, writer.snapshot, now):
        await writer.put_key(key)
    # A key may cover more routes than when its nodes joined.
    for node in list(writer.snapshot.nodes.values()):
        bound = writer.snapshot.keys.get(node.auth_key_id or "")
        approved = reports.approve(node.approved_routes, node.advertised_routes, bound)
        if approved != node.approved_routes:
            await writer.put(dataclasses.replace(node, approved_routes=approved))
