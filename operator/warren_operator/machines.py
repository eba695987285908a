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


class PolicyProblem(msgspec.Struct, frozen=True):
    """Where a policy's text is wrong and how."""

    message: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    hint: str = ""


class PolicyTest(msgspec.Struct, frozen=True):
    """How one assertion of a policy about itself went."""

    passed: bool = True
    message: str = ""
    line: int = 0
    path: str = ""


class PolicyRefusal(msgspec.Struct, frozen=True):
    """What a problem document says of a policy, beside its detail."""

    problems: tuple[PolicyProblem, ...] = ()
    tests: tuple[PolicyTest, ...] = ()


class PolicyInForce(msgspec.Struct, frozen=True):
    """Version 0 and no text: there is none."""

    version: int = 0
    text: str = ""
    source: str = "none"
    author: str = ""
    warnings: tuple[PolicyProblem, ...] = ()


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


def refusal(document: bytes) -> PolicyRefusal:
    """What a problem document says of a policy; nothing where it is about something else."""
    try:
        return msgspec.json.decode(document, type=PolicyRefusal)
    except msgspec.DecodeError:
        return PolicyRefusal()


def read(kind: Any, data: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ControlApiError(f"{what}: the control server's answer is not understood: {error}") from error
