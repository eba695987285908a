"""The host's side of the mesh in one place: link, addresses, routes, rules and firewall table.

Every method blocks and runs outside the event loop. Touches our interface, table and rules only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from warren_agent.config import Config
from warren_agent.errors import KernelError
from warren_agent.host import Host
from warren_agent.kernel import links, rules
from warren_agent.kernel.firewall import Firewall
from warren_agent.kernel.links import Neighbourhood
from warren_agent.kernel.route_netlink import DELROUTE, NEWROUTE, RouteSocket
from warren_agent.kernel.rtnetlink import rtnetlink
from warren_agent.plan import (
    Action,
    AddAddress,
    AddRoute,
    AddRule,
    RemoveAddress,
    RemoveFirewall,
    RemoveRoute,
    RemoveRule,
    ReplaceFirewall,
    SetLink,
    network_order,
)

SYSCTL: Final = Path("/proc/sys/net")


def sysctl_flag(name: str) -> bool | None:
    """A switch of the kernel, read and never written; None where the kernel lacks it."""
    try:
        return (SYSCTL / name).read_text().strip() not in {"0", ""}
    except OSError:
        return None


class HostNetwork:
    """What the kernel has of ours."""

    def __init__(self, config: Config) -> None:
        self._name = config.interface
        self._table = config.table
        self._firewall = Firewall()

    def check(self) -> None:
        self._firewall.check()

    def link_index(self) -> int | None:
        with rtnetlink() as ip:
            link = links.find_link(ip, self._name)
        return None if link is None else link.index

    def neighbourhood(self) -> Neighbourhood:
        with rtnetlink() as ip:
            link = links.find_link(ip, self._name)
            return links.neighbourhood(ip, None if link is None else link.index)

    def ipv6(self) -> bool:
        """Whether our interface may have IPv6 addresses."""
        for scope in (self._name, "default"):
            disabled = sysctl_flag(f"ipv6/conf/{scope}/disable_ipv6")
            if disabled is not None:
                return not disabled
        return False

    def observe(self) -> Host:
        """Everything but the WireGuard device and its peers."""
        with rtnetlink() as ip:
            link = links.find_link(ip, self._name)
            found = rules.table_rules(ip, self._table)
            if link is None:
                return Host(rules=found, firewall=self._firewall.observe())
            with RouteSocket() as sock:
                destinations = sock.routes(self._table, link.index)
            return Host(
                link_up=link.up,
                mtu=link.mtu,
                addresses=links.link_addresses(ip, link.index),
                routes=destinations,
                rules=found,
                firewall=self._firewall.observe(),
            )

    def apply(self, actions: Iterable[Action]) -> list[str]:
        """Run each action; what fails is reported and the rest goes on."""
        problems: list[str] = []
        with rtnetlink() as ip:
            link = links.find_link(ip, self._name)
        index = None if link is None else link.index
        for kind, group in groupby(actions, key=type):
            batch = list(group)
            if issubclass(kind, AddRoute | RemoveRoute):
                problems += self._change_routes(index, batch)
                continue
            for action in batch:
                try:
                    with rtnetlink() as ip:
                        self._run(ip, index, action)
                except KernelError as error:
                    problems.append(f"{_description(action)}: {error}")
        return problems

    def _change_routes(self, index: int | None, batch: Sequence[Action]) -> list[str]:
        """All of one kind, in few messages."""
        if index is None:
            return [f"{_description(batch[0])}: interface {self._name} is gone"]
        operation = NEWROUTE if isinstance(batch[0], AddRoute) else DELROUTE
        destinations = [action.destination for action in batch if isinstance(action, AddRoute | RemoveRoute)]
        try:
            with RouteSocket() as sock:
                failures = sock.change(operation, self._table, index, destinations)
        except KernelError as error:
            return [f"{_description(batch[0])}: {error}"]
        name = type(batch[0]).__name__
        return [f"{name} {destination}: netlink: {reason}" for destination, reason in failures.items()]

    def _run(self, ip: Any, index: int | None, action: Action) -> None:
        match action:
            case AddRule(rule):
                rules.add_rule(ip, rule)
            case RemoveRule(rule):
                rules.remove_rule(ip, rule)
            case ReplaceFirewall(ruleset):
                self._firewall.replace(ruleset)
            case RemoveFirewall():
                self._firewall.remove()
            case _:
                if index is None:
                    raise KernelError(f"interface {self._name} is gone")
                self._run_on_link(ip, index, action)

    def _run_on_link(self, ip: Any, index: int, action: Action) -> None:
        match action:
            case SetLink(mtu):
                links.set_link_up(ip, index, mtu)
            case AddAddress(address):
                links.add_address(ip, index, address)
            case RemoveAddress(address):
                links.remove_address(ip, index, address)
            case _:
                raise KernelError(f"{_description(action)} is not a network action")

    def remove_everything(self) -> list[str]:
        """Rules first, so that nothing looks into the table any more; what is gone already is no failure."""
        steps: list[tuple[str, Callable[[Any], None]]] = [
            ("rules", self._remove_rules),
            ("routes", lambda _: self._remove_routes()),
            ("interface", self._remove_link),
            ("firewall table", lambda _: self._firewall.remove()),
        ]
        problems = []
        for what, step in steps:
            try:
                with rtnetlink() as ip:
                    step(ip)
            except KernelError as error:
                problems.append(f"removing our {what}: {error}")
        return problems

    def _remove_routes(self) -> None:
        with RouteSocket() as sock:
            found = sorted(sock.routes(self._table, None), key=network_order)
            sock.change(DELROUTE, self._table, None, found)

    def _remove_rules(self, ip: Any) -> None:
        for rule in rules.table_rules(ip, self._table):
            rules.remove_rule(ip, rule)

    def _remove_link(self, ip: Any) -> None:
        link = links.find_link(ip, self._name)
        if link is not None:
            links.remove_link(ip, link.index)


def _description(action: Action) -> str:
    """`AddRoute 10.2.0.0/16`."""
    match action:
        case AddRoute(value) | RemoveRoute(value) | AddAddress(value) | RemoveAddress(value):
            return f"{type(action).__name__} {value}"
        case _:
            return type(action).__name__
