"""A member of a mesh on a host of the lab, ours or stock, driven and asked in the same words."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from warren_lab.errors import ProcessError
from warren_lab.hosts import Tailscaled, WarrenAgent
from warren_lab.hosts.tailscale import PORT
from warren_lab.run import Run
from warren_lab.tools import Toolbox

JOIN_SECONDS = 60.0


class Side(enum.Enum):
    """Whose program a node runs."""

    OURS = "ours"
    STOCK = "stock"


class Via(enum.Enum):
    """How a node reaches a peer, as it says itself."""

    DIRECT = "direct"
    RELAY = "relay"
    NOTHING = "idle"
    """No packets flow, or it does not know the peer."""


class Control(Protocol):
    """What nodes must know of the control server that they join."""

    @property
    def url(self) -> str: ...

    @property
    def ca_file(self) -> Path: ...

    @property
    def join_key_file(self) -> Path: ...

    @property
    def join_key(self) -> str: ...


class Node(Protocol):
    """One member. Its program's state survives `restart`, and ends with the run."""

    name: str
    namespace: str
    side: Side

    def begin(self) -> None:
        """Give the command to join; joining goes on."""

    def joined(self) -> None:
        """Returns when it has joined. Raises `ProcessError` if it cannot."""

    @property
    def address(self) -> str:
        """Its IPv4 address in the mesh, once it has joined."""

    def via(self, address: str) -> Via:
        """How it reaches the peer with this mesh address now."""

    def endpoint(self, address: str) -> str | None:
        """Where it sends what is for that peer; None if not directly."""

    def restart(self) -> None:
        """Kill its program, as a crash does, and start it again."""

    def leave(self) -> None:
        """Leave the mesh; the host is as it was."""

    def abandon(self) -> None:
        """End its program at once; nobody will use the host again."""


class OurNode:
    """`warren-agent` with userspace WireGuard."""

    side = Side.OURS

    def __init__(
        self,
        run: Run,
        toolbox: Toolbox,
        name: str,
        *,
        namespace: str,
        control: Control,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.namespace = name, namespace
        self.agent = WarrenAgent(run, toolbox, name, namespace=namespace, control=control, settings=settings)
        self._address: str | None = None

    def begin(self) -> None:
        self.agent.up()

    def joined(self) -> None:
        self.agent.wait_ready(JOIN_SECONDS)

    @property
    def address(self) -> str:
        if self._address is None:
            self._address = ipv4(self.agent.addresses())
        return self._address

    def via(self, address: str) -> Via:
        return Via(self.agent.peer(address).get("path", "idle"))

    def endpoint(self, address: str) -> str | None:
        return self.agent.peer(address).get("endpoint")

    def restart(self) -> None:
        self.agent.process.kill()
        self.agent.up()

    def leave(self) -> None:
        self.agent.close()

    def abandon(self) -> None:
        self.agent.abandon()


class StockNode:
    """Stock `tailscaled`. Its daemon runs from the first moment, as a service of the host does."""

    side = Side.STOCK

    def __init__(
        self,
        run: Run,
        toolbox: Toolbox,
        name: str,
        *,
        namespace: str,
        control: Control,
        port: int = PORT,
    ) -> None:
        self.name, self.namespace = name, namespace
        self._control = control
        self.daemon = Tailscaled(run, toolbox, name, namespace=namespace, ca_file=control.ca_file, port=port)
        self._pool = ThreadPoolExecutor(1)
        self._joining: Future[None] | None = None
        self._address: str | None = None

    def begin(self) -> None:
        up, control = self.daemon.up, self._control
        self._joining = self._pool.submit(up, control.url, control.join_key, timeout_seconds=JOIN_SECONDS)

    def joined(self) -> None:
        assert self._joining is not None, "begin comes first"
        self._joining.result(JOIN_SECONDS + 15)
        self._pool.shutdown()

    @property
    def address(self) -> str:
        if self._address is None:
            self._address = ipv4(self.daemon.addresses())
        return self._address

    def via(self, address: str) -> Via:
        peer = self.daemon.peer(address)
        if peer.get("CurAddr"):
            return Via.DIRECT
        return Via.RELAY if peer.get("Active") and peer.get("Relay") else Via.NOTHING

    def endpoint(self, address: str) -> str | None:
        return self.daemon.peer(address).get("CurAddr") or None

    def restart(self) -> None:
        self.daemon.restart()

    def leave(self) -> None:
        if self._joining is not None:
            self.daemon.logout()
        self.daemon.close()

    def abandon(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.daemon.process.kill()


def ipv4(addresses: list[str]) -> str:
    """The first IPv4 address. Raises `ProcessError` if there is none."""
    for address in addresses:
        if ":" not in address:
            return address
    raise ProcessError(f"there is no IPv4 address among {addresses}")
