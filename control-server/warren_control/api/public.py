"""What everyone may ask over plain HTTPS: the server's key, its health, and who may use its relays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
from aiohttp import web

from warren_control.store import Store
from warren_wire import __version__
from warren_wire.control.messages import ControlKey, encode
from warren_wire.errors import DecodeError
from warren_wire.keys import MachinePublic, NodePublic

_MAX_VERIFY_BYTES = 4096


class VerifyRequest(msgspec.Struct):
    """What a relay asks when a client connects to it."""

    node_public: str = msgspec.field(name="NodePublic", default="")


def may_use_relays(store: Store, key: NodePublic, now: datetime) -> bool:
    """Members only; a node that is disabled, logged out or expired is no member."""
    node = store.snapshot.node_by_key(key)
    return node is not None and not node.disabled and not node.expired(now)


class PublicApi:
    """Unauthenticated handlers; each is cheap."""

    def __init__(self, store: Store, key: MachinePublic, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._key = encode(ControlKey(public_key=key, legacy_public_key=MachinePublic.zero()))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/key", self.key),
            web.post("/verify", self.verify),
            web.get("/health", self.health),
            web.get("/version", self.version),
            web.get("/robots.txt", self.robots),
        ]

    async def key(self, request: web.Request) -> web.Response:
        return web.Response(body=self._key, content_type="application/json")

    async def verify(self, request: web.Request) -> web.Response:
        body = await request.content.read(_MAX_VERIFY_BYTES + 1)
        allow = False
        try:
            if len(body) <= _MAX_VERIFY_BYTES:
                wanted = msgspec.json.decode(body, type=VerifyRequest).node_public
                allow = may_use_relays(self._store, NodePublic.parse(wanted), self._clock())
        except (msgspec.DecodeError, DecodeError):
            return web.Response(status=400, text="not a verification request\n")
        return web.json_response({"Allow": allow})

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": __version__})

    async def robots(self, request: web.Request) -> web.Response:
        return web.Response(text="User-agent: *\nDisallow: /\n")
