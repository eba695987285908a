"""The agent's settings: a YAML file, overridden by WARREN_AGENT_* variables, overridden by flags.

Every problem is found at once and named with its place. Nothing is read at import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from warren_agent.host import Network
from warren_agent.paths.portmap import ALL_PROTOCOLS, MappingProtocol
from warren_runtime.settings import Listen, Problems, Section, from_environment, load_yaml, overlay
from warren_wire.addresses import parse_prefix
from warren_wire.errors import DecodeError

ENVIRONMENT_PREFIX: Final = "WARREN_AGENT"


class DataPlane(Enum):
    AUTO = "auto"
    KERNEL = "kernel"
    USERSPACE = "userspace"


@dataclass(frozen=True, slots=True)
class Mark:
    """A firewall mark of ours within the bits that are ours."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class Config:
    server_url: str
    """Address of the control server; HTTPS, except for a server in a private network."""
    auth_key_file: Path | None = None
    """Holds the join key; not needed once registered."""
    ca_file: Path | None = None
    """Certificates that the control server and the relays are checked with, beside the system's."""
    hostname: str = "localhost"
    """Name of this node; default: the host's."""
    state_dir: Path = Path("/var/lib/warren-agent")
    interface: str = "warren0"
    listen_port: int = 41641
    data_plane: DataPlane = DataPlane.AUTO
    userspace_program: str = "wireguard"
    userspace_external: bool = False
    """Another container runs WireGuard; the agent waits for its socket."""
    uapi_dir: Path = Path("/var/run/wireguard")
    advertise_routes: tuple[Network, ...] = ()
    accept_routes: bool = True
    keep_source_local: tuple[Network, ...] = ()
    """Local ranges whose source addresses other members see unchanged."""
    masquerade: bool = True
    """Machines in the advertised ranges see this host's address, so they need no way back to the mesh. Not
    for the ranges of `keep_source_local`."""
    table: int = 22345
    mark: Mark = field(default_factory=lambda: Mark(0x5700000, 0xFF00000))
    rule_priority: int = 5300
    socket: Path = Path("/run/warren/agent.sock")
    health_listen: Listen | None = field(default_factory=lambda: Listen("127.0.0.1", 9473))
    """None: no health port."""
    tags: tuple[str, ...] = ()
    port_mapping: frozenset[MappingProtocol] = ALL_PROTOCOLS
    """How a home router may be asked for an open port; empty: not at all."""


_DEFAULTS: Final = Config(server_url="")
_PRIVATE: Final = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128")
)
_LISTS: Final = frozenset({"advertise_routes", "keep_source.local", "port_mapping", "tags"})
FIELDS: Final = (
    "server_url",
    "auth_key_file",
    "ca_file",
    "hostname",
    "state_dir",
    "interface",
    "listen_port",
    "data_plane",
    "userspace.program",
    "userspace.external",
    "uapi_dir",
    "advertise_routes",
    "accept_routes",
    "keep_source.local",
    "masquerade",
    "table",
    "mark",
    "rule_priority",
    "socket",
    "health_listen",
    "tags",
    "port_mapping",
)


def _server_url(section: Section, required: bool) -> str:
    url = section.text("server_url", required=required).rstrip("/")
    if not url:
        return url
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
        usable = usable and not (parts.path or parts.query or parts.fragment or parts.username)
        open_to_all = parts.scheme == "http" and not _is_private(parts.hostname or "")
    except ValueError:
        usable, open_to_all = False, False
    if not usable:
        section.problem("server_url", "must be like https://203.0.113.10 or https://control.example.net:8443")
    elif open_to_all:
        section.problem("server_url", "http:// is only for a server with a private address; use https://")
    return url


def _is_private(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return any(address in network for network in _PRIVATE if network.version == address.version)


def _mark(section: Section) -> Mark:
    value, _, mask = section.text("mark", f"{_DEFAULTS.mark.value:#x}/{_DEFAULTS.mark.mask:#x}").partition(
        "/"
    )
    try:
        mark = Mark(int(value, 0), int(mask or "0xffffffff", 0))
    except ValueError:
        mark = Mark(0, 0)
    if not 0 < mark.value <= 0xFFFFFFFF or not 0 < mark.mask <= 0xFFFFFFFF or mark.value & ~mark.mask:
        section.problem(
            "mark", "must be VALUE/MASK such as 0x5700000/0xff00000, with the value inside the mask"
        )
        return _DEFAULTS.mark
    return mark


def _interface(section: Section) -> str:
    name = section.text("interface", _DEFAULTS.interface)
    if len(name) > 15 or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
        section.problem("interface", "must be 1 to 15 letters, digits, '-' or '_'")
        return _DEFAULTS.interface
    return name


def _prefixes(section: Section, name: str) -> tuple[Network, ...]:
    networks = []
    for text in section.texts(name):
        try:
            networks.append(parse_prefix(text))
        except DecodeError as error:
            section.problem(name, f"{text!r}: {error}")
    return tuple(networks)


def _tags(section: Section) -> tuple[str, ...]:
    tags = section.texts("tags")
    for tag in tags:
        kind, _, name = tag.partition(":")
        if (
            kind != "tag"
            or not name[:1].isalpha()
            or not name.isascii()
            or not name.replace("-", "").isalnum()
        ):
            section.problem("tags", f"{tag!r} must be tag:NAME with letters, digits and dashes")
    return tags


def parse(values: Mapping[str, Any], hostname: str, *, joining: bool = True) -> Config:
    """Settings from plain values; raises `SettingsError` with all problems. Only joining needs a server."""
    problems = Problems()
    section = Section(values, "", problems)
    userspace = section.section("userspace")
    keep_source = section.section("keep_source")
    config = Config(
        server_url=_server_url(section, joining),
        auth_key_file=section.path("auth_key_file"),
        ca_file=section.path("ca_file"),
        hostname=section.text("hostname", hostname),
        state_dir=section.path("state_dir") or _DEFAULTS.state_dir,
        interface=_interface(section),
        listen_port=section.integer("listen_port", _DEFAULTS.listen_port, low=1, high=65535),
        data_plane=DataPlane(section.choice("data_plane", [plane.value for plane in DataPlane], "auto")),
        userspace_program=userspace.text("program", _DEFAULTS.userspace_program),
        userspace_external=userspace.boolean("external", default=False),
        uapi_dir=section.path("uapi_dir") or _DEFAULTS.uapi_dir,
        advertise_routes=_prefixes(section, "advertise_routes"),
        accept_routes=section.boolean("accept_routes", default=True),
        keep_source_local=_prefixes(keep_source, "local"),
        masquerade=section.boolean("masquerade", default=True),
        # 253 to 255 are the kernel's own tables.
        table=section.integer("table", _DEFAULTS.table, low=256, high=0x7FFFFFFF),
        mark=_mark(section),
        rule_priority=section.integer("rule_priority", _DEFAULTS.rule_priority, low=1, high=32765),
        socket=section.path("socket") or _DEFAULTS.socket,
        health_listen=_health_listen(section),
        tags=_tags(section),
        port_mapping=_port_mapping(section),
    )
    for part in (section, userspace, keep_source):
        part.finish()
    problems.raise_if_any()
    return config


def _port_mapping(section: Section) -> frozenset[MappingProtocol]:
    """A list of protocols, or `off`."""
    # YAML reads a bare `off` as false.
    if section.raw("port_mapping") in ("off", False, ["off"]):
        return frozenset()
    known = {protocol.value: protocol for protocol in MappingProtocol}
    names = section.texts("port_mapping") if section.raw("port_mapping") is not None else list(known)
    for name in names:
        if name not in known:
            section.problem("port_mapping", f"must be 'off' or a list of {', '.join(known)}")
            return ALL_PROTOCOLS
    return frozenset(known[name] for name in names)


def _health_listen(section: Section) -> Listen | None:
    if section.raw("health_listen") == "off":
        return None
    return section.listen("health_listen", str(_DEFAULTS.health_listen))


def load(
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    hostname: str,
    *,
    joining: bool = True,
) -> Config:
    """Settings from all three places; flags that are None were not given. Raises `SettingsError`."""
    values: dict[str, Any] = {} if path is None else load_yaml(path)
    values = overlay(values, _split_lists(from_environment(ENVIRONMENT_PREFIX, FIELDS, environ)))
    values = overlay(values, {name: value for name, value in flags.items() if value is not None})
    return parse(values, hostname, joining=joining)


def _split_lists(found: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: [item.strip() for item in text.split(",") if item.strip()] if name in _LISTS else text
        for name, text in found.items()
    }
