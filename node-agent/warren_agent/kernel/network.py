"""The host's side of the mesh in one place: link, addresses, routes, rules and firewall table.

Every method blocks and runs outside the event loop. Touches our interface, table and rules only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from warren_agent.config import Config
from warren_agent.errors import KernelError
from warren_agent.host import Host
from warren_agent.kernel import links, routes
from warren_agent.kernel.firewall import Firewall
from warren_agent.kernel.links import Neighbourhood
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
            rules = routes.table_rules(ip, self._table)
            if link is None:
                return Host(rules=rules, firewall=self._firewall.observe())
            return Host(
                link_up=link.up,
                mtu=link.mtu,
                addresses=links.link_addresses(ip, link.index),
                routes=routes.table_routes(ip, self._table, link.index),
                rules=rules,
                firewall=self._firewall.observe(),
            )

    def apply(self, actions: Iterable[Action]) -> list[str]:
        """Run each action; what fails is reported and the rest goes on."""
        problems: list[str] = []
        with rtnetlink() as ip:
            link = links.find_link(ip, self._name)
        for action in actions:
            try:
                with rtnetlink() as ip:
                    self._run(ip, link.index if link is not None else None, action)
            except KernelError as error:
                problems.append(f"{_description(action)}: {error}")
        return problems

    def _run(self, ip: Any, index: int | None, action: Action) -> None:
        match action:
            case AddRule(rule):
                routes.add_rule(ip, rule)
            case RemoveRule(rule):
                routes.remove_rule(ip, rule)
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
            case AddRoute(destination):
                routes.add_route(ip, self._table, index, destination)
            case RemoveRoute(destination):
                routes.remove_route(ip, self._table, destination, index)
            case _:
                raise KernelError(f"{_description(action)} is not a network action")

    def remove_everything(self) -> list[str]:
        """Rules first, so that nothing looks into the table any more; what is gone already is no failure."""
        steps: list[tuple[str, Callable[[Any], None]]] = [
            ("rules", self._remove_rules),
            ("routes", lambda ip: routes.flush_table(ip, self._table)),
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

    def _remove_rules(self, ip: Any) -> None:
        for rule in routes.table_rules(ip, self._table):
            routes.remove_rule(ip, rule)

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
