"""Routes in the agent's own table, and the rules that lead there."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from socket import AF_INET, AF_INET6
from typing import Any, Final

from warren_agent.host import Network, Rule
from warren_agent.kernel.rtnetlink import EXISTS, GONE, unless

INVERT: Final = 2
UNICAST: Final = 1
_FAMILY: Final = {4: AF_INET, 6: AF_INET6}
_ANY: Final = {AF_INET: IPv4Address(0), AF_INET6: IPv6Address(0)}


def _table_routes(ip: Any, table: int, index: int | None) -> Iterator[Network]:
    for family in (AF_INET, AF_INET6):
        for message in ip.get_routes(family=family, table=table):
            if message.get_attr("RTA_TABLE") != table or message["type"] != UNICAST:
                continue
            if index is not None and message.get_attr("RTA_OIF") != index:
                continue
            address = message.get_attr("RTA_DST") or _ANY[family]
            yield ip_network(f"{address}/{message['dst_len']}")


def table_routes(ip: Any, table: int, index: int) -> frozenset[Network]:
    """The destinations that leave by our interface."""
    return frozenset(_table_routes(ip, table, index))


def add_route(ip: Any, table: int, index: int, destination: Network) -> None:
    family = _FAMILY[destination.version]
    with unless(EXISTS):
        ip.route("add", family=family, dst=str(destination), oif=index, table=table)


def remove_route(ip: Any, table: int, destination: Network, index: int | None = None) -> None:
    family = _FAMILY[destination.version]
    where = {} if index is None else {"oif": index}
    with unless(*GONE):
        ip.route("del", family=family, dst=str(destination), table=table, **where)


def flush_table(ip: Any, table: int) -> None:
    for destination in list(_table_routes(ip, table, None)):
        remove_route(ip, table, destination)


def table_rules(ip: Any, table: int) -> frozenset[Rule]:
    """Every rule that leads to the table."""
    found = set()
    for family in (AF_INET, AF_INET6):
        for message in ip.get_rules(family=family):
            if message.get_attr("FRA_TABLE") != table:
                continue
            inverted = bool(message["flags"] & INVERT)
            found.add(
                Rule(
                    family=int(family),
                    priority=message.get_attr("FRA_PRIORITY") or 0,
                    table=table,
                    # A rule without inversion is a wrong one of ours; a mask of 0 marks it as different.
                    mark=message.get_attr("FRA_FWMARK") or 0,
                    mask=(message.get_attr("FRA_FWMASK") or 0) if inverted else 0,
                )
            )
    return frozenset(found)


def add_rule(ip: Any, rule: Rule) -> None:
    with unless(EXISTS):
        ip.rule(
            "add",
            family=rule.family,
            priority=rule.priority,
            table=rule.table,
            fwmark=rule.mark,
            fwmask=rule.mask,
            flags=INVERT,
        )


def remove_rule(ip: Any, rule: Rule) -> None:
    with unless(*GONE):
        ip.rule("del", family=rule.family, priority=rule.priority, table=rule.table)
