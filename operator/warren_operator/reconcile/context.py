"""What every look needs, wired up once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from warren_operator.cluster import Cluster
from warren_operator.config import OperatorConfig
from warren_operator.control_clients import ControlClients
from warren_operator.keys import Key
from warren_operator.references import ConfigMapReaders
from warren_operator.watcher import Watcher


@dataclass(frozen=True, slots=True)
class Context:
    config: OperatorConfig
    cluster: Cluster
    controls: ControlClients
    watcher: Watcher
    clock: Callable[[], datetime]
    poke: Callable[[Key, float], None]
    config_maps: ConfigMapReaders = field(default_factory=ConfigMapReaders)
    refused_regions: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why a DerpRelay's region is in no relay map; found again after a restart."""
