"""Random meshes and random policies about them."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any, Final

from hypothesis import strategies as st

from warren_control.policy.network import Network, Node, Role, Settings, User

DOMAIN: Final = "example.com"
USERS: Final = {
    1: User(1, "ana", "ana@example.com", roles=frozenset({Role.OWNER})),
    2: User(2, "ben", "ben@example.com", roles=frozenset({Role.ADMIN})),
    3: User(3, "cleo", "cleo@example.org"),
}
TAGS: Final = ("tag:web", "tag:db", "tag:router", "tag:exit")
ROUTES: Final = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "192.168.7.0/24",
        "203.0.113.0/24",
        "100.64.0.0/29",
        "fd00:7::/64",
        "0.0.0.0/0",
        "::/0",
    )
)
GROUPS: Final = {
    "group:dev": ["ana@example.com", "cleo@example.org"],
    "group:ops": ["ben@example.com"],
    "group:none": [],
}
HOSTS: Final = {"printer": "10.1.2.3", "site": "10.1.0.0/16", "first": "100.64.0.1"}
PEOPLE: Final = (
    *(user.email for user in USERS.values()),
    "gone@example.com",
    *GROUPS,
    "user:*@example.com",
    "autogroup:member",
    "autogroup:admin",
)
LITERALS: Final = (
    "100.64.0.2",
    "100.64.0.0/29",
    "fd7a:115c:a1e0::3",
    "10.0.0.0/8",
    "10.1.2.0/24",
    "192.168.0.0/16",
    "203.0.113.9",
    "8.8.8.0/24",
    "fd00:7::/48",
    *HOSTS,
)
NODES: Final = (*PEOPLE, *TAGS, "autogroup:tagged")


def nodes() -> st.SearchStrategy[dict[int, Node]]:
    one = st.tuples(
        st.sampled_from([1, 2, 3]),
        st.frozensets(st.sampled_from(TAGS), max_size=2),
        st.one_of(
            st.just(frozenset[Any]()),
            st.just(frozenset(ROUTES[-2:])),
            st.just(frozenset(ROUTES[5:6])),
            st.frozensets(st.sampled_from(ROUTES), max_size=2),
        ),
        st.booleans(),
    )
    return st.lists(one, min_size=3, max_size=6).map(_numbered)


def _numbered(found: list[tuple[int, frozenset[str], frozenset[Any], bool]]) -> dict[int, Node]:
    return {
        number: Node(
            number,
            f"node-{number}",
            (ip_address(f"100.64.0.{number}"), ip_address(f"fd7a:115c:a1e0::{number}")),
            None if tagged and tags else user,
            tags if tagged else frozenset(),
            routes,
        )
        for number, (user, tags, routes, tagged) in enumerate(found, start=1)
    }


def networks() -> st.SearchStrategy[Network]:
    settings = Settings(frozenset({DOMAIN}))
    return nodes().map(lambda found: Network(MappingProxyType(found), USERS, settings))


def _lists(choices: tuple[str, ...], smallest: int = 1, largest: int = 2) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(choices), min_size=smallest, max_size=largest, unique=True)


_PORTS: Final = st.sampled_from(["*", "22", "80,443", "8000-8100"])
_ENTRIES: Final = st.one_of(_PORTS, st.sampled_from(["tcp:22", "udp:53", "icmp:*", "tcp:*"]))
_SOURCES: Final = ("*", "autogroup:danger-all", *NODES, *LITERALS)
_TARGETS: Final = ("*", "autogroup:internet", *NODES, *LITERALS)


def _acl() -> st.SearchStrategy[dict[str, Any]]:
    targets = st.lists(
        st.tuples(st.sampled_from((*_TARGETS, "0.0.0.0/0", "::/0")), _PORTS).map(
            lambda pair: f"{pair[0]}:{pair[1]}"
        ),
        min_size=1,
        max_size=2,
    )
    return st.fixed_dictionaries(
        {"action": st.just("accept"), "src": _lists(_SOURCES), "dst": targets},
        optional={"proto": st.sampled_from(["tcp", "udp"])},
    )


def _self_rule() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "src": _lists(PEOPLE),
            "dst": st.sampled_from([["autogroup:self"], ["autogroup:self", "tag:web"]]),
            "ip": st.lists(_ENTRIES, min_size=1, max_size=2),
        }
    )


def _grant() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "src": _lists(_SOURCES, 0),
            "dst": _lists(_TARGETS, 0),
            "ip": st.lists(_ENTRIES, min_size=1, max_size=2),
        }
    )


def _app_grant() -> st.SearchStrategy[dict[str, Any]]:
    app = st.sampled_from(
        [{"example.com/cap/a": [{"x": 1}]}, {"tailscale.com/cap/drive": [{"shares": ["*"]}]}]
    )
    targets = tuple(one for one in _TARGETS if one != "autogroup:internet")
    return st.fixed_dictionaries({"src": _lists(_SOURCES), "dst": _lists(targets), "app": app})


def _via_grant() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "src": _lists(_SOURCES),
            "dst": _lists(("10.0.0.0/8", "10.1.2.0/24", "site", "printer", "autogroup:internet", "tag:web")),
            "ip": st.lists(_ENTRIES, min_size=1, max_size=1),
            "via": _lists(TAGS),
        }
    )


def policies() -> st.SearchStrategy[dict[str, Any]]:
    """Few rules each: with many, one hides what another does."""
    rule = st.one_of(_acl(), _grant(), _self_rule(), _app_grant(), _via_grant())
    return st.builds(
        _policy,
        st.lists(rule, max_size=2),
        st.lists(_ssh_rule(), max_size=2),
        st.lists(_attributes(), max_size=2),
    )


def _policy(
    rules: list[dict[str, Any]], ssh: list[dict[str, Any]], attributes: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "groups": GROUPS,
        "hosts": HOSTS,
        "tagOwners": {tag: [] for tag in TAGS},
        "acls": [rule for rule in rules if "action" in rule],
        "grants": [rule for rule in rules if "action" not in rule],
        "ssh": ssh,
        "nodeAttrs": attributes,
    }


def _ssh_rule() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "action": st.sampled_from(["accept", "check"]),
            "src": _lists(PEOPLE),
            "dst": st.sampled_from([["tag:web"], ["autogroup:self"], ["tag:db", "autogroup:member"]]),
            "users": _lists(("root", "autogroup:nonroot", "localpart:*@example.com", "backup")),
        }
    )


def _attributes() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "target": _lists(("*", *NODES, "100.64.0.0/29")),
            "attr": _lists(("funnel", "disable-ipv4", "custom:x")),
        }
    )


def text(policy: dict[str, Any]) -> str:
    return json.dumps(policy)
