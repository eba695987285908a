"""Keeps this node registered and its network map current.

Register, poll, tell what changed, come back after a break. Must not know what the map is used for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from msgspec import structs

from warren_agent import metrics
from warren_agent.config import Config
from warren_agent.control import c2n
from warren_agent.control.address import ServerAddress
from warren_agent.control.connection import REQUEST_SECONDS, ControlConnection
from warren_agent.control.registration import (
    CAPABILITY_VERSION,
    LogIn,
    Refused,
    Step,
    after_registration,
    has_expired,
    hostinfo,
    map_request,
    poll_failure,
    readable,
    register_request,
)
from warren_agent.control.web import Web
from warren_agent.errors import ControlError, RegistrationError, UnknownNodeError
from warren_agent.keystore import Keys
from warren_agent.paths.values import LocalState
from warren_runtime.backoff import Backoff
from warren_wire import __version__
from warren_wire.control.map_reader import read_map_response
from warren_wire.control.mapstream import FrameDecoder
from warren_wire.control.messages import (
    Hostinfo,
    PingRequest,
    PingResponse,
    RegisterRequest,
    RegisterResponse,
    decode,
    encode,
)
from warren_wire.control.netmap import EMPTY, Netmap, apply
from warren_wire.errors import WireError

logger = logging.getLogger(__name__)

WATCHDOG_SECONDS: Final = 120.0
"""A server says something at least once a minute; silence this long means that the connection is dead."""
MAX_BACKOFF_SECONDS: Final = 30.0
MAX_PING_KINDS: Final = 8
LOGIN_SECONDS: Final = 900.0
"""How long one question waits for a person to log in; then it is asked anew, for the same login."""
_MAX_KEY_FILE_BYTES: Final = 4096
_MAX_ERROR_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """For `status`: `since` dates the last change of `connected`."""

    url: str
    connected: bool = False
    since: datetime | None = None
    last_error: str | None = None
    login_url: str | None = None
    """Where a person must log in first."""


class KeyRotationError(ControlError):
    """The node key has expired: whoever owns the keys must make a new one and start a new client."""


class ControlClient:
    """One control server, followed until cancelled."""

    def __init__(
        self,
        *,
        config: Config,
        keys: Keys,
        known: bool,
        ssl_context: ssl.SSLContext,
        on_netmap: Callable[[Netmap], None],
        on_registered: Callable[[], None],
        on_login: Callable[[str], None],
        ping: Callable[[str, str], Awaitable[PingResponse]],
        watchdog_seconds: float = WATCHDOG_SECONDS,
    ) -> None:
        """`known`: this node key was registered before, so the join key is not presented again. `on_login`
        gets each new link at which a person must log in. `ping` gets the kind and the address of a ping that
        the server asks for."""
        self._on_login = on_login
        self._ping = ping
        self._watchdog_seconds = watchdog_seconds
        self._config = config
        self._keys = keys
        self._known = known
        self._registered = False
        self._ssl = ssl_context
        self._address = ServerAddress.parse(config.server_url)
        self._web = Web(ssl_context, config.mark.value)
        self._on_netmap = on_netmap
        self._on_registered = on_registered
        self._local: LocalState | None = None
        self._local_changed = asyncio.Event()
        self._told: tuple[Hostinfo, LocalState | None] | None = None
        self._backoff = Backoff(0.5, MAX_BACKOFF_SECONDS)
        self._last_ping_url = ""
        self._login_shown = ""
        self.status = ControlStatus(config.server_url)

    def set_local_state(self, local: LocalState) -> None:
        """What peers need in order to reach this node has changed."""
        self._local = local
        self._local_changed.set()

    async def run(self) -> None:
        """Raises `KeyRotationError`; every other failure is reported and retried."""
        while True:
            try:
                await self._session()
            except KeyRotationError:
                raise
            except (ControlError, WireError) as error:
                self._failed(error)
            await asyncio.sleep(self._backoff.next_delay_seconds())

    def _failed(self, error: ControlError | WireError) -> None:
        text = str(error)
        if isinstance(error, UnknownNodeError):
            self._registered = False
            self._known = False
        changed = self.status.last_error != text or self.status.connected
        self._set_status(connected=False, error=text)
        if isinstance(error, RegistrationError):
            metrics.REGISTRATIONS.labels("refused").inc()
            # Each time: a person looks for it in the log, and the back-off makes it rare.
            logger.warning("the control server refused to register this node", extra={"reason": text})
        elif changed:
            logger.warning("no connection to the control server, trying again", extra={"reason": text})

    def _set_status(self, *, connected: bool, error: str | None, login_url: str | None = None) -> None:
        since = self.status.since
        if since is None or connected != self.status.connected:
            since = datetime.now(UTC)
        self.status = ControlStatus(self._config.server_url, connected, since, error, login_url)
        metrics.CONTROL_CONNECTED.set(1 if connected else 0)

    async def _session(self) -> None:
        server = await self._web.server_key(self._address)
        connection = await ControlConnection.open(
            self._address,
            machine=self._keys.machine,
            server=server,
            version=CAPABILITY_VERSION,
            ssl_context=self._ssl,
            mark=self._config.mark.value,
        )
        try:
            if not self._registered:
                await self._register(connection)
            await self._follow(connection)
        finally:
            await connection.close()

    def _hostinfo(self) -> Hostinfo:
        return hostinfo(self._config, __version__, platform.machine(), self._local)

    async def _register(self, connection: ControlConnection) -> None:
        auth_key = await asyncio.to_thread(self._read_auth_key)
        present = None if self._known else auth_key
        login = ""
        while True:
            request = register_request(self._keys, self._hostinfo(), present, login)
            outcome = after_registration(
                await self._registration(connection, request),
                sent_auth_key=present is not None,
                has_auth_key=auth_key is not None,
            )
            match outcome:
                case Refused(text):
                    raise RegistrationError(text)
                case Step.ROTATE:
                    if self._keys.previous_node is not None:
                        raise RegistrationError("the control server calls a fresh node key expired")
                    raise KeyRotationError("the node key has expired")
                case LogIn(url):
                    if login:
                        raise RegistrationError(f"nobody logged in at {login} in time")
                    login = url
                    self._must_log_in(url)
                case Step.USE_AUTH_KEY:
                    present = auth_key
                case Step.REGISTERED:
                    break
        self._registered = True
        self._known = True
        metrics.REGISTRATIONS.labels("accepted").inc()
        logger.info("registered with the control server", extra={"node": self._keys.node.public.short()})
        self._on_registered()

    @staticmethod
    async def _registration(connection: ControlConnection, request: RegisterRequest) -> RegisterResponse:
        seconds = LOGIN_SECONDS if request.followup else REQUEST_SECONDS
        answer = await connection.request("POST", "/machine/register", encode(request), seconds=seconds)
        if answer.status != 200:
            text = readable(answer.body.decode(errors="replace"))
            raise RegistrationError(f"registration failed with status {answer.status}: {text}")
        return decode(RegisterResponse, answer.body)

    def _must_log_in(self, url: str) -> None:
        text = f"a person must log in at {url}; or give a join key with auth_key_file"
        self._set_status(connected=False, error=text, login_url=url)
        if url != self._login_shown:
            self._login_shown = url
            self._on_login(url)

    def _read_auth_key(self) -> str | None:
        """Read each time: a mounted secret may have been renewed since."""
        path = self._config.auth_key_file
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_KEY_FILE_BYTES).decode("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not plain text"
            raise RegistrationError(f"cannot read the join key in {path}: {reason}") from error
        return text or None

    async def _follow(self, connection: ControlConnection) -> None:
        """The map stream, with updates of our own side beside it; both end with the first failure."""
        if self._local is not None and self._state_to_tell() != self._told:
            self._local_changed.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell_changes(connection), name="lite updates")
                await self._poll(connection, group)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _poll(self, connection: ControlConnection, group: asyncio.TaskGroup) -> None:
        """Raises always: a map stream has no good end."""
        loop = asyncio.get_running_loop()
        body = encode(map_request(self._keys, self._hostinfo(), self._local, stream=True))
        decoder = FrameDecoder(compressed=True)
        netmap = EMPTY
        try:
            async with asyncio.timeout(self._watchdog_seconds) as watchdog:
                async with connection.stream("POST", "/machine/map", body) as (status, chunks):
                    if status != 200:
                        raise poll_failure(status, await _beginning(chunks))
                    async for chunk in chunks:
                        for frame in decoder.feed(chunk):
                            watchdog.reschedule(loop.time() + self._watchdog_seconds)
                            netmap = self._receive(frame, netmap, group, connection)
        except TimeoutError as error:
            raise ControlError(
                f"nothing heard from the control server for {self._watchdog_seconds:.0f} s"
            ) from error
        raise ControlError("the control server ended the map stream")

    def _receive(
        self, frame: bytes, netmap: Netmap, group: asyncio.TaskGroup, connection: ControlConnection
    ) -> Netmap:
        read = read_map_response(frame)
        ping = read.response.ping_request
        if ping is not None and ping.url != self._last_ping_url:
            self._last_ping_url = ping.url
            group.create_task(self._answer(ping, connection), name="ping request")
        if read.response.keep_alive:
            metrics.MAP_RESPONSES.labels("keep_alive").inc()
            return netmap
        kind = "full" if netmap.self_node is None else "delta"
        metrics.MAP_RESPONSES.labels(kind).inc()
        now = datetime.now(UTC)
        netmap = apply(netmap, read.response, now=now)
        problems = (*read.problems, *netmap.problems)
        if problems:
            first = f"{problems[0].where}: {problems[0].reason}"
            logger.warning("part of a map response not used", extra={"reason": first, "count": len(problems)})
        if not self.status.connected:
            logger.info("following the control server", extra={"peers": len(netmap.peers)})
        self._backoff.reset()
        self._set_status(connected=True, error=None)
        self._on_netmap(netmap)
        if netmap.self_node is not None and has_expired(netmap.self_node, now):
            raise UnknownNodeError("this node's key has expired")
        return netmap

    async def _answer(self, ping: PingRequest, connection: ControlConnection) -> None:
        """A sign of life, one answer for each kind of ping, or the answer to a request into the node."""
        kinds = [kind for kind in ping.types.split(",") if kind][:MAX_PING_KINDS]
        if "c2n" in kinds:
            # Over Noise whatever the request says, as stock nodes do.
            asked = structs.replace(ping, url_is_noise=True)
            outcome, response = c2n.answer(ping.payload or b"")
            metrics.SERVER_REQUESTS.labels(outcome.value).inc()
            await self._post(asked, response, connection)
            return
        if not kinds:
            await self._post(ping, None, connection)
        for kind in kinds:
            await self._post(ping, encode(await self._ping(kind, ping.ip)), connection)

    async def _post(self, ping: PingRequest, body: bytes | None, connection: ControlConnection) -> None:
        if not ping.url_is_noise:
            await self._web.answer(ping.url, body)
            return
        parts = urlsplit(ping.url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        # An answer that is lost costs the server one measurement, not us the map stream.
        with contextlib.suppress(ControlError):
            await connection.request("HEAD" if body is None else "POST", target or "/", body or b"")

    def _state_to_tell(self) -> tuple[Hostinfo, LocalState | None]:
        """What the server should know, without the latencies that never stay the same."""
        local = self._local
        if local is not None:
            local = replace(local, net_info=structs.replace(local.net_info, derp_latency=None))
        return hostinfo(self._config, __version__, platform.machine(), local), local

    async def _tell_changes(self, connection: ControlConnection) -> None:
        while True:
            await self._local_changed.wait()
            self._local_changed.clear()
            if connection.stranded:
                raise ControlError("the address that the connection was made from is gone")
            state = self._state_to_tell()
            if state == self._told:
                continue
            request = map_request(self._keys, self._hostinfo(), self._local, stream=False)
            answer = await connection.request("POST", "/machine/map", encode(request))
            if answer.status != 200:
                raise poll_failure(answer.status, answer.body.decode(errors="replace"))
            self._told = state


async def _beginning(chunks: AsyncIterator[bytes]) -> str:
    text = b""
    async for chunk in chunks:
        text += chunk
        if len(text) > _MAX_ERROR_BYTES:
            break
    return text[:_MAX_ERROR_BYTES].decode(errors="replace")
