"""Paths over a long time and over everything that networks do, on a virtual clock."""

from __future__ import annotations

import gc
import os
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from support.simnet import Host, Nat, SimNet, pair
from warren_agent.paths.values import PathKind

DIRECT, RELAY = PathKind.DIRECT, PathKind.RELAY
CLOSED_TO_HARD = {Nat.EASY, Nat.HARD}
"""Routers that let in only the port that was sent to, which nobody can guess of a hard one."""

PEERS = 200
HOURS = float(os.environ.get("WARREN_CHURN_HOURS", "0.25"))
"""24 for the whole day, which takes some minutes."""


def possible(one: Nat, other: Nat) -> bool:
    """Whether physics allows a direct path."""
    return not (
        (one is Nat.HARD and other in CLOSED_TO_HARD) or (other is Nat.HARD and one in CLOSED_TO_HARD)
    )


@settings(max_examples=60, deadline=None)
@given(
    one=st.sampled_from(Nat),
    other=st.sampled_from(Nat),
    seed=st.integers(0, 1 << 30),
    loss=st.floats(0, 0.2),
    latency=st.floats(0.001, 0.2),
    jitter=st.floats(0, 0.3),
)
def test_the_best_path_that_physics_allows_is_found_and_kept(
    one: Nat, other: Nat, seed: int, loss: float, latency: float, jitter: float
) -> None:
    net, home, office = pair(one, other, seed=seed, latency=latency)
    net.loss, net.jitter = loss, jitter
    net.talk(home, office, every=0.2)
    net.run(60)
    net.loss = net.jitter = 0.0
    net.run(60)
    wanted = DIRECT if possible(one, other) else RELAY
    assert (home.path_to(office), office.path_to(home)) == (wanted, wanted)
    changes = len(home.changes) + len(office.changes)
    net.run(120)
    assert len(home.changes) + len(office.changes) == changes, "a path flaps without a reason"


class Day:
    """One host with many peers that come and go, restart, roam and fall silent."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.net = SimNet(seed)
        self.hub = self.net.host("hub", Nat.EASY)
        kinds = [Nat.NONE, Nat.CONE, Nat.EASY, Nat.EASY, Nat.HARD]
        self.all = [self.net.host(f"peer-{n}", self.rng.choice(kinds)) for n in range(PEERS)]
        self.present = set(range(PEERS))
        self.sessions = 0
        self.disturbances = 0
        for host in self.all:
            self.net.tell(host, [self.hub])
        self.map_changed()

    def map_changed(self) -> None:
        self.net.tell(self.hub, [self.all[n] for n in sorted(self.present)])

    def take_changes(self) -> int:
        """How often the hub's paths changed; what was noted of it is forgotten."""
        count = len(self.hub.changes)
        for host in (self.hub, *self.all):
            host.changes.clear()
            host.received.clear()
        return count

    def anybody(self) -> Host:
        return self.all[self.rng.choice(sorted(self.present))]

    def run(self, hours: float) -> None:
        end = self.net.now + hours * 3600
        while self.net.now < end:
            self.disturb()
            peer = self.anybody()
            self.sessions += 1
            stop = self.net.talk(self.hub, peer, every=1.0)
            self.net.at(self.rng.uniform(2, 40), stop)
            self.net.run(self.rng.uniform(5, 25))

    def disturb(self) -> None:
        number = self.rng.randrange(PEERS)
        host = self.all[number]
        self.disturbances += 1
        match self.rng.randrange(6):
            case 0:
                self.present.symmetric_difference_update({number})
                self.present = self.present or {number}
                self.map_changed()
            case 1:
                self.net.renew(host, new_disco_key=self.rng.random() < 0.5)
                self.net.tell(host, [self.hub])
                self.map_changed()
            case 2 if host.router is not None:
                host.router.reboot()
            case 3 if host.router is not None:
                router = host.router
                router.udp = False
                self.net.at(self.rng.uniform(1, 60), lambda: setattr(router, "udp", True))
            case 4:
                # A ping of nobody's: a NAT that changes its port with each.
                self.net.send(host, self.hub, b"request")
            case _:
                self.disturbances -= 1


def objects_of_paths() -> int:
    """Everything alive that paths are made of."""
    gc.collect()
    # Some classes have a descriptor in the place of the name.
    modules = Counter(str(type(thing).__module__) for thing in gc.get_objects())
    return sum(count for module, count in modules.items() if module.startswith("warren_agent.paths"))


def test_a_day_of_churn_leaves_nothing_behind_and_nothing_flapping() -> None:
    day = Day(seed=7)
    day.run(HOURS / 4)
    changes = day.take_changes()
    day.run(HOURS * 3 / 4)
    changes += day.take_changes()
    assert objects_of_paths() < 120 * PEERS, "memory grows with time"
    # A session goes relay, direct, idle; each disturbance may cost it one way there and back.
    assert changes <= 4 * day.sessions + 4 * day.disturbances
    day.net.run(120)
    assert day.hub.machine.next_timeout() is None, "a timer goes on for peers that nobody talks to"
    assert {path.kind for path in day.hub.machine} <= {PathKind.IDLE}
    assert len(list(day.hub.machine)) == len(day.present)
