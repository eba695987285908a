"""The relay inside the control server, its STUN port, and the certificate that announces it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from warren_control.api.public import may_use_relays
from warren_control.config import Config
from warren_control.errors import ConfigError
from warren_control.keyfiles import relay_key
from warren_control.presence import Presence
from warren_control.relay_guard import RelayGuard
from warren_control.store import Store
from warren_runtime.acme import service as acme
from warren_runtime.acme.service import AcmeService
from warren_runtime.acme.settings import AcmeSettings
from warren_runtime.certificates import FileCertificate
from warren_runtime.derp_server import DerpService
from warren_runtime.relay_certificates import announcement
from warren_runtime.stun_server import StunServer
from warren_runtime.tls import TlsError
from warren_wire.keys import NodePublic

Certificate = AcmeService | FileCertificate


def certificate_of(config: Config) -> Certificate | None:
    """The certificate of the port, None for plain HTTP; `ConfigError` if it cannot be read."""

    def announced() -> bytes:
        """Lets clients of the relay send their first frame with the request."""
        return b"" if config.relay is None else announcement(relay_key(config.derp_key_file).public)

    settings = config.tls
    try:
        if isinstance(settings, AcmeSettings):
            folder = config.noise_key_file.parent / "acme"
            acme.prepare(settings, folder)
            return AcmeService(settings, folder, extra=announced)
        return FileCertificate(settings.certificate, settings.key, announced) if settings else None
    except TlsError as error:
        raise ConfigError(f"tls: {error}") from error


def relay_of(
    config: Config, store: Store, presence: Presence, clock: Callable[[], datetime]
) -> DerpService | None:
    """The relay for the members of `store`, and only as long as they are; None if it is switched off."""
    if config.relay is None:
        return None

    async def admit(key: NodePublic, _source: str) -> bool:
        return may_use_relays(store, key, clock())

    service = DerpService(relay_key(config.derp_key_file), admit, limit=config.relay.limit)
    guard = RelayGuard(service, store, clock)
    store.on_nodes, presence.on_expired = guard.changed, guard.expired
    return service


async def started_stun(config: Config) -> StunServer | None:
    """The STUN port, listening; None if there is none."""
    relay = config.relay
    if relay is None or relay.stun_listen is None:
        return None
    stun = StunServer(relay.stun_listen.host, relay.stun_listen.port)
    await stun.start()
    return stun
