"""How long things last in path selection.

Those marked *stock* are what stock peers use; the others are ours and only decide when *we* stop using a
path, which no peer can see or object to.
"""

from typing import Final

SESSION_ACTIVE_SECONDS: Final = 45.0
"""Stock: heartbeats and sweeps go on this long after the last traffic."""

HEARTBEAT_SECONDS: Final = 3.0
"""Stock: spacing of the pings that keep a direct path trusted."""

TRUST_SECONDS: Final = 6.5
"""Stock: how long a pong makes an address trusted; two heartbeats and some slack."""

GOOD_ENOUGH_LATENCY_SECONDS: Final = 0.005
"""Stock: a direct path this fast is not improved any further."""

UPGRADE_SWEEP_SECONDS: Final = 60.0
"""Stock: how often a slower direct path looks for a better one."""

SWEEP_SECONDS: Final = 5.0
"""Stock: spacing of sweeps while there is no trusted direct path."""

EAGER_SWEEP_SECONDS: Final = 2.5
EAGER_FOR_SECONDS: Final = 60.0
"""The same in the first minute of a search: most paths that were lost come back soon or not at all."""

BURST_SECONDS: Final = (0.0, 0.5, 1.0, 2.0)
"""First sweeps after traffic starts, a path is lost or a peer calls. The first ping of either side often
dies at the other's NAT, and the first call at a relay that the peer has not reached yet; waiting 5 s for
the next try is what makes upgrades slow."""

BURST_CALLS: Final = frozenset({0.0, 1.0})
"""The sweeps of a burst that also call the peer."""

CALLED_BURST_SECONDS: Final = 30.0
"""Least time between two bursts that a call starts; peers that never get through call each other for ever."""

PING_TIMEOUT_SECONDS: Final = 5.0
"""Stock: a ping unanswered this long is forgotten."""

ENDPOINTS_FRESH_SECONDS: Final = 27.0
"""Stock: an own endpoint list this old is measured again before a peer is called with it."""

ANSWER_SECONDS: Final = 1.0
"""A heartbeat unanswered for this long, or twice the usual latency and a bit, puts the path in doubt."""

PROBE_SECONDS: Final = 0.2
"""Spacing of pings to a path in doubt."""

PATIENCE_SECONDS: Final = 1.0
"""A path in doubt is given up after this long without a pong, five pings, and three times its latency on
top: with 10 % loss in each direction that happens to a living path once in 4000 doubts. Stock's 6.5 s
stays the upper bound."""

PROBES_BEFORE_CALL: Final = 2
"""After so many quick pings without a pong the peer is told over the relay, so that it looks at the path
too; the side that only receives would otherwise notice last."""

SHORT_PATIENCE_SECONDS: Final = 0.75
"""The same once the peer itself has turned to the relay, which it does only when it lost the path too."""

ADOPTION_PATIENCE_SECONDS: Final = 3.0
"""A path found in WireGuard by a starting agent is believed this long, since traffic may be flowing on it."""

DOUBT_GRACE_SECONDS: Final = 0.5
"""A pong younger than this answers any doubt by itself."""

EARLY_LAPSES: Final = 2
EARLY_LAPSE_WINDOW_SECONDS: Final = 60.0
"""After so many early lapses in the window only stock's rule applies: the path is lossy rather than dead, and
changing to and fro is worse than either path."""

SHORT_SPELL_SECONDS: Final = 10.0
HOLD_SECONDS: Final = (2.0, 5.0, 10.0, 30.0)
"""A direct path that lasted less than the short spell may come back only after a hold that grows each
time."""

ROAM_PATIENCE_SECONDS: Final = 1.0
"""WireGuard roamed to an address we do not trust: it is pinged, and undone only if no pong comes in this
time, because it is usually the peer whose trust returned first."""

REFUSAL_SECONDS: Final = 30.0
"""How long an address that WireGuard roamed to in vain is undone at once, unless it answers a ping
meanwhile."""

REASSERT_SECONDS: Final = 1.0
"""Least time between two corrections of one peer's endpoint."""

PING_SOURCE_SECONDS: Final = 45.0
"""Stock: a candidate known only as the source of pings is dropped this long after the last one."""

LATENCY_NOISE_SECONDS: Final = 0.001
"""Two trusted addresses closer together than this are equally fast; only their kinds decide. On one LAN
the order would otherwise change with every measurement."""
