"""The rules that lead to the agent's own routing table."""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from typing import Any, Final

from warren_agent.host import Rule
from warren_agent.kernel.rtnetlink import EXISTS, GONE, unless

INVERT: Final = 2


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
