"""What two stock clients live through whose only way to each other is a region of two relays of ours.

One TCP connection is busy all the time. Each event says how long it stood still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from warren_lab.errors import LabError
from warren_lab.hosts import Tailscaled
from warren_lab.process import Process
from warren_lab.scenario.exchange import Exchange
from warren_lab.scenario.relays import RelayLab
from warren_lab.tools import Toolbox

SETTLE_SECONDS: Final = 60.0
GOES_ON_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.1
ROAMING: Final = (IPv4Address("192.168.2.77"), IPv4Address("192.168.2.78"))
"""Addresses that the office host moves between."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, and the longest silence of the TCP connection around it."""

    what: str
    stall_seconds: float


class RelayStory:
    """The clients are on different relays at the beginning; whoever uses it makes things happen."""

    def __init__(
        self,
        lab: RelayLab,
        home: Tailscaled,
        office: Tailscaled,
        relays: dict[str, Process],
        exchange: Exchange,
    ) -> None:
        self.lab = lab
        self.home = home
        self.office = office
        self.relays = relays
        self.exchange = exchange
        self._roamed = 0

    def round(self) -> Iterator[Event]:
        """Everything once; both relays run at its end as they did at its beginning."""
        yield self.after("the office host gets another address", self._roam)
        yield self.after("the office client is killed and starts again", self.office.restart)
        yield self.after("the first relay is killed", self.relays["one"].kill)
        self._start("one")
        yield self.after("the second relay is told to stop", self.relays["two"].stop)
        self._start("two")

    def after(self, what: str, action: Callable[[], object]) -> Event:
        """Do it and wait until blocks come back again."""
        began = time.monotonic()
        action()
        done = time.monotonic()
        self.exchange.wait_for_block(done, GOES_ON_SECONDS)
        # A client may notice late: the silence, if there is one, begins after the first blocks.
        time.sleep(1.0)
        self.exchange.wait_for_block(time.monotonic(), GOES_ON_SECONDS)
        return Event(what, self.exchange.longest_stall(began, time.monotonic()))

    def home_clients(self) -> dict[str, float]:
        """How many clients each relay has as their home."""
        return {name: self.lab.metrics(name)["warren_relay_home_clients"] for name in self.relays}

    def _roam(self) -> None:
        self.lab.network.readdress("office", ROAMING[self._roamed % len(ROAMING)])
        self._roamed += 1

    def _start(self, name: str) -> None:
        self.relays[name] = self.lab.start_relay(name)
        wait_until(lambda: self.lab.metrics(name)["warren_relay_links"] == 1, "the relays are linked")


@contextmanager
def relay_story(lab: RelayLab, toolbox: Toolbox, release: str | None) -> Iterator[RelayStory]:
    """Two clients of one release, each on a relay of its own, and blocks going to and fro."""
    lab.start_control("one", "two")
    relays = {"two": lab.start_relay("two")}
    with lab.join("home", toolbox, release) as home:
        wait_until(
            lambda: lab.metrics("two")["warren_relay_home_clients"] == 1, "home is on the second relay"
        )
        # Clients take the first relay of the list that answers, so the later one lands on the other.
        relays["one"] = lab.start_relay("one")
        wait_until(lambda: lab.metrics("one")["warren_relay_links"] == 1, "the relays are linked")
        with lab.join("office", toolbox, release) as office:
            address = office.addresses()[0]
            wait_until(lambda: _answers(home, address), "the clients reach each other")
            near, far = (lab.network.namespace(name) for name in ("home", "office"))
            with Exchange(near, far, address) as exchange:
                exchange.wait_for_block(time.monotonic(), GOES_ON_SECONDS)
                yield RelayStory(lab, home, office, relays, exchange)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Raises `LabError` when it takes too long."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise LabError(f"not so after {SETTLE_SECONDS:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def _answers(client: Tailscaled, address: str) -> bool:
    try:
        return "via DERP" in client.ping(address)
    except LabError:
        return False
