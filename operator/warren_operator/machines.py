"""A machine as the control server's admin API shows it, as a typed value."""

from __future__ import annotations

from typing import Any

import msgspec

from warren_operator.errors import ControlApiError


class HomeRelay(msgspec.Struct, frozen=True):
    region_id: int
    code: str = ""


class Machine(msgspec.Struct, frozen=True):
    """Unknown fields are skipped, so that server and operator may be of different age."""

    id: int
    name: str
    machine_key: str
    fqdn: str = ""
    node_key: str = ""
    disco_key: str | None = None
    hostname: str = ""
    user: str = ""
    os: str = ""
    client_version: str = ""
    addresses: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    home_relay: HomeRelay | None = None
    online: bool = False
    last_seen: str | None = None
    created: str | None = None
    expiry: str | None = None
    ephemeral: bool = False
    disabled: bool = False
    tags: tuple[str, ...] = ()
    advertised_routes: tuple[str, ...] = ()
    approved_routes: tuple[str, ...] = ()


class MachineList(msgspec.Struct, frozen=True):
    nodes: tuple[Machine, ...]
    revision: int = 0


class Failure(msgspec.Struct, frozen=True):
    """A registration that the control server refused."""

    at: str
    hostname: str
    reason: str


class ControlStatus(msgspec.Struct, frozen=True):
    nodes: int = 0
    online: int = 0
    recent_failures: tuple[Failure, ...] = ()


class RegionList(msgspec.Struct, frozen=True):
    relays: tuple[dict[str, Any], ...] = ()


def read(kind: Any, data: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ControlApiError(f"{what}: the control server's answer is not understood: {error}") from error
