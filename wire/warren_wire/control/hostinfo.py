"""What a node tells about its host, and what of it concerns the network.

Servers store it and pass it on to peers, so members that are not known here are kept as they came.
"""

from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

from warren_wire.control.codec import Message, OpenObject, convert, encode


class Service(Message, frozen=True, kw_only=True):
    """Something that listens on the node: `peerapi4`, `peerapi6`, `peerapi-dns-proxy`, `tcp`, `udp`."""

    proto: str = ""
    port: int = 0
    description: str = ""


class NetInfo(Message, frozen=True, kw_only=True):
    """The node's view of its network. `preferred_derp` is the home relay's region, 0 = none."""

    mapping_varies_by_dest_ip: bool | None = None
    working_ipv6: bool | None = None
    os_has_ipv6: bool | None = None
    working_udp: bool | None = None
    working_icmpv4: bool | None = None
    have_port_map: bool = False
    upnp: bool | None = None
    pmp: bool | None = None
    pcp: bool | None = None
    preferred_derp: int = 0
    link_type: str = ""
    derp_latency: Mapping[str, float] | None = None
    firewall_mode: str = ""


class _Members(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    hostname: str = msgspec.field(default="", name="Hostname")
    os: str = msgspec.field(default="", name="OS")
    os_version: str = msgspec.field(default="", name="OSVersion")
    ipn_version: str = msgspec.field(default="", name="IPNVersion")
    device_model: str = msgspec.field(default="", name="DeviceModel")
    go_arch: str = msgspec.field(default="", name="GoArch")
    package: str = msgspec.field(default="", name="Package")
    app: str = msgspec.field(default="", name="App")
    backend_log_id: str = msgspec.field(default="", name="BackendLogID")
    shields_up: bool = msgspec.field(default=False, name="ShieldsUp")
    userspace: bool | None = msgspec.field(default=None, name="Userspace")
    userspace_router: bool | None = msgspec.field(default=None, name="UserspaceRouter")
    routable_ips: tuple[str, ...] | None = msgspec.field(default=None, name="RoutableIPs")
    request_tags: tuple[str, ...] | None = msgspec.field(default=None, name="RequestTags")
    services: tuple[Service, ...] | None = msgspec.field(default=None, name="Services")
    net_info: NetInfo | None = msgspec.field(default=None, name="NetInfo")
    ssh_host_keys: tuple[str, ...] | None = msgspec.field(default=None, name="sshHostKeys")


_WIRE_NAMES: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Members))


class Hostinfo(OpenObject):
    """Immutable. `extra` holds the members not named here, as plain JSON values."""

    __slots__ = ("_json", "_members", "extra")

    def __init__(
        self,
        *,
        hostname: str = "",
        os: str = "",
        os_version: str = "",
        ipn_version: str = "",
        device_model: str = "",
        go_arch: str = "",
        package: str = "",
        app: str = "",
        backend_log_id: str = "",
        shields_up: bool = False,
        userspace: bool | None = None,
        userspace_router: bool | None = None,
        routable_ips: tuple[str, ...] | None = None,
        request_tags: tuple[str, ...] | None = None,
        services: tuple[Service, ...] | None = None,
        net_info: NetInfo | None = None,
        ssh_host_keys: tuple[str, ...] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._members = _Members(
            hostname=hostname,
            os=os,
            os_version=os_version,
            ipn_version=ipn_version,
            device_model=device_model,
            go_arch=go_arch,
            package=package,
            app=app,
            backend_log_id=backend_log_id,
            shields_up=shields_up,
            userspace=userspace,
            userspace_router=userspace_router,
            routable_ips=routable_ips,
            request_tags=request_tags,
            services=services,
            net_info=net_info,
            ssh_host_keys=ssh_host_keys,
        )
        self.extra: Mapping[str, Any] = dict(extra or {})
        self._json: bytes | None = None

    @classmethod
    def _of(cls, members: _Members, extra: Mapping[str, Any]) -> Self:
        hostinfo = cls(extra=extra)
        hostinfo._members = members
        return hostinfo

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Self:
        extra = {name: value for name, value in members.items() if name not in _WIRE_NAMES}
        return cls._of(convert(members, _Members), extra)

    def replace(self, **changes: Any) -> Self:
        """A copy with some members changed, by the names of the constructor."""
        extra = changes.pop("extra", self.extra)
        return self._of(msgspec.structs.replace(self._members, **changes), extra)

    def to_json(self) -> bytes:
        if self._json is None:
            known: dict[str, Any] = msgspec.json.decode(encode(self._members))
            self._json = encode(known | dict(self.extra))
        return self._json

    @property
    def hostname(self) -> str:
        return self._members.hostname

    @property
    def os(self) -> str:
        return self._members.os

    @property
    def os_version(self) -> str:
        return self._members.os_version

    @property
    def ipn_version(self) -> str:
        return self._members.ipn_version

    @property
    def device_model(self) -> str:
        return self._members.device_model

    @property
    def go_arch(self) -> str:
        return self._members.go_arch

    @property
    def package(self) -> str:
        return self._members.package

    @property
    def app(self) -> str:
        return self._members.app

    @property
    def backend_log_id(self) -> str:
        return self._members.backend_log_id

    @property
    def shields_up(self) -> bool:
        return self._members.shields_up

    @property
    def userspace(self) -> bool | None:
        return self._members.userspace

    @property
    def userspace_router(self) -> bool | None:
        return self._members.userspace_router

    @property
    def routable_ips(self) -> tuple[str, ...]:
        return self._members.routable_ips or ()

    @property
    def request_tags(self) -> tuple[str, ...]:
        return self._members.request_tags or ()

    @property
    def services(self) -> tuple[Service, ...]:
        return self._members.services or ()

    @property
    def net_info(self) -> NetInfo | None:
        return self._members.net_info

    @property
    def ssh_host_keys(self) -> tuple[str, ...]:
        return self._members.ssh_host_keys or ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hostinfo) and (self._members, self.extra) == (other._members, other.extra)

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Hostinfo({self.hostname!r}, {self.os!r})"
