"""The configuration file: typed, checked as a whole, every problem reported at once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from warren_control import names, routes
from warren_control.allocation import Pools
from warren_control.errors import InvalidError
from warren_control.relaymap import check_region
from warren_control.routes import Prefix
from warren_runtime.acme.settings import AcmeSettings, read_acme
from warren_runtime.derp_connection import RateLimit
from warren_runtime.proxies import Proxies, read_proxies
from warren_runtime.relay_settings import read_limit
from warren_runtime.settings import Listen, Problems, Section, from_environment, load_yaml, overlay
from warren_wire.addresses import CGNAT_V4, ULA_V6, AddrPort
from warren_wire.control.messages import DERPNode, DERPRegion, DNSConfig, DNSRecord, Resolver, decode
from warren_wire.errors import DecodeError

ENVIRONMENT_PREFIX: Final = "WARREN_CONTROL"
_ENVIRONMENT_FIELDS: Final = (
    "server_url",
    "listen",
    "health_listen",
    "database",
    "noise_key_file",
    "derp_key_file",
    "base_domain",
    "admin_token_file",
    "policy.file",
    "tls.certificate",
    "tls.key",
)
_PRIVATE: Final = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM, reloaded when they change."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class EmbeddedRelay:
    """The relay and STUN server inside this process, as clients are told to reach them."""

    region_id: int
    region_code: str
    region_name: str
    host: str
    derp_port: int
    stun_port: int
    stun_listen: Listen | None
    cert_name: str
    limit: RateLimit | None = None
    """What one client may send."""


@dataclass(frozen=True, slots=True)
class BootstrapKey:
    """A pre-auth key given from outside."""

    secret_file: Path
    reusable: bool
    ephemeral: bool
    tags: tuple[str, ...]
    approve_routes: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one server."""

    server_url: str
    listen: Listen
    tls: Tls | AcmeSettings | None
    health_listen: Listen | None
    database: str
    noise_key_file: Path
    derp_key_file: Path
    pools: Pools
    base_domain: str
    dns: DNSConfig
    dns_records_file: Path | None
    """More records, read again whenever the file changes."""
    policy_file: Path | None
    """Alone decides the policy; read again whenever it changes."""
    policy_domains: tuple[str, ...]
    """Domains of e-mail addresses that belong to the mesh, beside those of its users."""
    relay: EmbeddedRelay | None
    regions: dict[int, DERPRegion]
    admin_token_file: Path | None
    admin_socket: Path | None
    bootstrap_keys: tuple[BootstrapKey, ...]
    proxies: Proxies
    web_approval: bool
    node_expiry: timedelta | None

    @property
    def server_host(self) -> str:
        return urlsplit(self.server_url).hostname or ""


def load(path: Path) -> Config:
    """The file with `WARREN_CONTROL_*` variables over it; `SettingsError` names every problem."""
    given = from_environment(ENVIRONMENT_PREFIX, _ENVIRONMENT_FIELDS)
    return parse(overlay(load_yaml(path), given))


def parse(data: dict[str, Any]) -> Config:
    """The configuration in a mapping; `SettingsError` names every problem."""
    problems = Problems()
    root = Section(data, "", problems)
    server_url = _server_url(root)
    base_domain = _base_domain(root, server_url)
    pools = _pools(root.section("addresses"))
    relay = _relay(root.section("relay"), server_url)
    dns, records_file = _dns(root.section("dns"), base_domain)
    policy_file, policy_domains = _policy(root.section("policy"))
    web_approval, node_expiry = _registration(root.section("registration"))
    config = Config(
        server_url=server_url,
        listen=root.listen("listen", "0.0.0.0:8443") or Listen("0.0.0.0", 8443),  # noqa: S104
        tls=_tls(root),
        health_listen=root.listen("health_listen"),
        database=root.text("database", "sqlite:////var/lib/warren/control.db"),
        noise_key_file=root.path("noise_key_file", "/var/lib/warren/noise.key") or Path(),
        derp_key_file=root.path("derp_key_file", "/var/lib/warren/derp.key") or Path(),
        pools=pools,
        base_domain=base_domain,
        dns=dns,
        dns_records_file=records_file,
        policy_file=policy_file,
        policy_domains=policy_domains,
        relay=relay,
        regions=_regions(root, relay),
        admin_token_file=root.path("admin_token_file"),
        admin_socket=root.path("admin_socket"),
        bootstrap_keys=tuple(_bootstrap_key(section) for section in root.sections("bootstrap_keys")),
        proxies=read_proxies(root),
        web_approval=web_approval,
        node_expiry=node_expiry,
    )
    root.finish()
    problems.raise_if_any()
    return config


def is_private_host(host: str) -> bool:
    """Whether stock clients accept plain HTTP on this host: decided on the text of the URL alone."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or any(address in network for network in _PRIVATE)


def _server_url(root: Section) -> str:
    url = root.text("server_url", required=True)
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        root.problem("server_url", "is not a URL")
        return url
    if parts.scheme not in ("http", "https") or not host:
        root.problem("server_url", "must be https://HOST[:PORT] (or http:// on a private address)")
    elif parts.path not in ("", "/") or parts.query or parts.fragment:
        root.problem("server_url", "must have no path")
    elif parts.scheme == "http" and not is_private_host(host):
        root.problem(
            "server_url",
            "http:// works only with a private address: after one lost connection, stock clients try nothing"
            " but TLS on a public host and never come back; use https://",
        )
    return url.rstrip("/")


def _base_domain(root: Section, server_url: str) -> str:
    domain = root.text("base_domain", "mesh.internal").lower().rstrip(".")
    if not names.is_domain(domain):
        root.problem("base_domain", "must be a DNS domain such as mesh.internal")
        return domain
    try:
        host = urlsplit(server_url).hostname or ""
    except ValueError:
        return domain
    if host == domain or host.endswith(f".{domain}"):
        root.problem(
            "base_domain", "must not contain the server's own name: clients would look it up in the mesh"
        )
    return domain


def _pools(section: Section) -> Pools:
    v4 = _prefix(section, "v4", str(CGNAT_V4))
    v6 = _prefix(section, "v6", str(ULA_V6))
    order = section.choice("allocation", ("sequential", "random"), "sequential")
    section.finish()
    if v4 is None and v6 is None:
        section.problem("v4", "one of v4 and v6 must be a range: nodes need an address")
    if v4 is not None and not (isinstance(v4, IPv4Network) and v4.subnet_of(CGNAT_V4) and v4.prefixlen <= 30):
        section.problem("v4", f"must be a range inside {CGNAT_V4} with room for nodes, or none")
        v4 = CGNAT_V4
    if v6 is not None and not (isinstance(v6, IPv6Network) and v6.subnet_of(ULA_V6) and v6.prefixlen <= 126):
        section.problem("v6", f"must be a range inside {ULA_V6} with room for nodes, or none")
        v6 = ULA_V6
    return Pools(v4, v6, secrets.randbelow if order == "random" else None)


def _registration(section: Section) -> tuple[bool, timedelta | None]:
    days = section.integer("node_expiry_days", 0, low=0, high=3660)
    web_approval = section.boolean("web_approval", True)
    section.finish()
    return web_approval, timedelta(days=days) if days else None


def _policy(section: Section) -> tuple[Path | None, tuple[str, ...]]:
    file = section.path("file")
    domains = section.texts("domains")
    section.finish()
    for domain in domains:
        if not names.is_domain(domain.lower()):
            section.problem("domains", f"{domain[:64]!r} is not a domain")
    return file, domains


def _prefix(section: Section, name: str, default: str) -> Prefix | None:
    text = section.text(name, default)
    if text == "none":
        return None
    try:
        return routes.parse_prefix(text)
    except InvalidError as error:
        section.problem(name, str(error))
        return routes.parse_prefix(default)


def _prefixes(section: Section, name: str) -> tuple[Prefix, ...]:
    try:
        return routes.parse_prefixes(section.texts(name))
    except InvalidError as error:
        section.problem(name, str(error))
        return ()


def _tls(root: Section) -> Tls | AcmeSettings | None:
    section = root.section("tls")
    if not root.has("tls"):
        return None
    ordered = read_acme(section.section("acme")) if section.has("acme") else None
    section.raw("acme")
    certificate = section.path("certificate", required=ordered is None)
    key = section.path("key", required=ordered is None)
    if ordered and (certificate or key):
        section.problem("acme", "excludes certificate and key")
    section.finish()
    return ordered or Tls(certificate or Path(), key or Path())


def _dns(section: Section, base_domain: str) -> tuple[DNSConfig, Path | None]:
    file = section.path("extra_records_file")
    magic = section.boolean("magic", True)
    resolvers = tuple(Resolver(addr=text) for text in section.texts("resolvers"))
    for resolver in resolvers:
        if not _is_resolver(resolver.addr):
            section.problem("resolvers", f"{resolver.addr!r} is not an address, ADDRESS:PORT or https:// URL")
    search = section.texts("search_domains")
    for domain in search:
        if not names.is_domain(domain.lower().rstrip(".")):
            section.problem("search_domains", f"{domain!r} is not a domain")
    records = tuple(_record(record) for record in section.sections("extra_records"))
    fallback = section.boolean("override_local", True)
    split = _split(section)
    section.finish()
    # The mesh's own domain first, or the host would not find short names.
    domains = (base_domain, *(domain.rstrip(".") for domain in search))
    settings = DNSConfig(
        proxied=magic,
        # Given as the fallback, the host's own resolvers stay in charge.
        resolvers=(resolvers or None) if fallback else None,
        fallback_resolvers=None if fallback else (resolvers or None),
        routes=split or None,
        domains=domains if magic else domains[1:] or None,
        extra_records=records or None,
    )
    return settings, file


def _split(section: Section) -> dict[str, tuple[Resolver, ...] | None]:
    """Domains and the resolvers that alone are asked for them."""
    given = section.raw("split")
    if given is None:
        return {}
    if not isinstance(given, dict):
        section.problem("split", "must map domains to lists of resolvers")
        return {}
    found: dict[str, tuple[Resolver, ...] | None] = {}
    for name, texts in given.items():
        domain = str(name).lower().strip(".")
        if not names.is_domain(domain):
            section.problem("split", f"{str(name)[:64]!r} is not a domain")
        usable = isinstance(texts, list) and all(
            isinstance(text, str) and _is_resolver(text) for text in texts
        )
        if not usable:
            section.problem(f"split.{domain}", "must be a list of addresses, ADDRESS:PORT or https:// URLs")
            continue
        found[domain] = tuple(Resolver(addr=text) for text in texts)
    return found


def _is_resolver(text: str) -> bool:
    if text.startswith("https://"):
        return bool(urlsplit(text).hostname)
    try:
        ip_address(text)
    except ValueError:
        try:
            AddrPort.parse(text)
        except DecodeError:
            return False
    return True


def _record(section: Section) -> DNSRecord:
    name = section.text("name", required=True).rstrip(".")
    value = section.text("value", required=True)
    kind = section.choice("type", ("A", "AAAA"), "AAAA" if ":" in value else "A")
    section.finish()
    try:
        if (ip_address(value).version == 4) != (kind == "A"):
            section.problem("value", f"must be an address for a record of type {kind}")
    except ValueError:
        section.problem("value", "must be an IP address")
    return DNSRecord(name=name, type=kind, value=value)


def _relay(section: Section, server_url: str) -> EmbeddedRelay | None:
    enabled = section.boolean("enabled", False)
    try:
        parts = urlsplit(server_url)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        host, port = "", 443
    code = section.text("region_code", "home")
    relay = EmbeddedRelay(
        region_id=section.integer("region_id", 900, low=1, high=2**31 - 1),
        region_code=code,
        region_name=section.text("region_name", code),
        host=section.text("host", host),
        derp_port=section.integer("derp_port", port, low=1, high=65535),
        stun_port=section.integer("stun_port", 3478, low=-1, high=65535),
        stun_listen=section.listen("stun_listen", "0.0.0.0:3478"),
        cert_name=section.text("cert_name", ""),
        limit=read_limit(section),
    )
    section.finish()
    return relay if enabled else None


def region_of(relay: EmbeddedRelay) -> DERPRegion:
    """How clients are told of the embedded relay."""
    literal = _literal(relay.host)
    node = DERPNode(
        name=f"{relay.region_id}a",
        region_id=relay.region_id,
        host_name=relay.host,
        cert_name=relay.cert_name,
        ipv4=relay.host if literal == 4 else "",
        ipv6=relay.host if literal == 6 else ("none" if literal == 4 else ""),
        stun_port=relay.stun_port if relay.stun_listen is not None else -1,
        derp_port=relay.derp_port,
    )
    return DERPRegion(
        region_id=relay.region_id,
        region_code=relay.region_code,
        region_name=relay.region_name,
        nodes=(node,),
    )


def _literal(host: str) -> int:
    try:
        return ip_address(host).version
    except ValueError:
        return 0


def _regions(root: Section, relay: EmbeddedRelay | None) -> dict[int, DERPRegion]:
    raw = root.raw("regions")
    found: dict[int, DERPRegion] = {}
    if raw is not None and not isinstance(raw, list):
        root.problem("regions", "must be a list of regions")
        raw = None
    for index, item in enumerate(raw or []):
        try:
            region = check_region(decode(DERPRegion, msgspec.json.encode(item)))
        except (DecodeError, InvalidError, TypeError) as error:
            root.problem(f"regions[{index}]", str(error))
            continue
        if region.region_id in found:
            root.problem(f"regions[{index}]", f"region {region.region_id} is given twice")
        found[region.region_id] = region
    if relay is not None:
        if relay.region_id in found:
            root.problem("regions", f"region {relay.region_id} is the embedded relay's")
        found[relay.region_id] = region_of(relay)
    return found


def _bootstrap_key(section: Section) -> BootstrapKey:
    file = section.path("secret_file", required=True)
    approve = _prefixes(section, "approve_routes")
    tags = section.texts("tags")
    for tag in tags:
        if not names.is_tag(tag):
            section.problem(
                "tags", f"{tag!r} is not a tag: `tag:`, a letter, then letters, digits and dashes"
            )
    key = BootstrapKey(
        secret_file=file or Path(),
        reusable=section.boolean("reusable", True),
        ephemeral=section.boolean("ephemeral", False),
        tags=tags,
        approve_routes=approve,
    )
    section.finish()
    return key
