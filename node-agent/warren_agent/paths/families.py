"""Which address families direct paths may use. Pure.

Userspace WireGuard writes wrong destinations when it sends to peers of both families (the mixed-family
fault of wireguard-go), so a node with it keeps to one: IPv4, or IPv6 where IPv4 leads nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from warren_agent.paths.actions import IPAddress
from warren_agent.paths.values import NetcheckReport

Families = frozenset[int]

BOTH: Final[Families] = frozenset({4, 6})
IPV4: Final[Families] = frozenset({4})
IPV6: Final[Families] = frozenset({6})

REPORTS_BEFORE_CHANGE: Final = 2
"""Looks at the network that must agree: one lost answer is no reason to leave a family."""


class FamilyChoice:
    """The families in use, from local addresses and measurements."""

    def __init__(self, one_at_a_time: bool) -> None:
        self._one_at_a_time = one_at_a_time
        self._local: Families = IPV4
        self._broken_ipv4 = 0
        self.families: Families = IPV4 if one_at_a_time else BOTH

    def have(self, local: Iterable[IPAddress]) -> Families:
        """The host's addresses are these now."""
        self._local = frozenset(address.version for address in local)
        self._broken_ipv4 = 0
        return self._choose()

    def measured(self, report: NetcheckReport) -> Families:
        """One more look at the network."""
        broken = report.ipv4 is None and report.ipv6 is not None
        self._broken_ipv4 = self._broken_ipv4 + 1 if broken else 0
        return self._choose()

    def _choose(self) -> Families:
        if self._one_at_a_time:
            only_ipv6 = self._local == IPV6
            leads_nowhere = 6 in self._local and self._broken_ipv4 >= REPORTS_BEFORE_CHANGE
            self.families = IPV6 if only_ipv6 or leads_nowhere else IPV4
        return self.families
