"""What a Headscale database becomes here, row by row."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from warren_control import headscale
from warren_control.allocation import Pools
from warren_control.errors import ConfigError
from warren_control.headscale import Found, read, translate

NOW = datetime(2027, 1, 1, tzinfo=UTC)
POOLS = Pools(ip_network("100.64.0.0/10"), ip_network("fd7a:115c:a1e0::/48"))  # type: ignore[arg-type]


def user(number: int, name: str, **fields: Any) -> dict[str, Any]:
    row = {"id": number, "name": name, "display_name": "", "email": ""}
    return row | {"created_at": "2026-11-24 14:17:47.16686908+00:00"} | fields


def node(number: int, **fields: Any) -> dict[str, Any]:
    row = {
        "id": number,
        "machine_key": f"mkey:{number:064x}",
        "node_key": f"nodekey:{number:064x}",
        "disco_key": f"discokey:{number:064x}",
        "host_info": '{"OS": "linux", "Hostname": "host", "RoutableIPs": ["10.9.0.0/16"]}',
        "ipv4": f"100.64.0.{number}",
        "ipv6": f"fd7a:115c:a1e0::{number:x}",
        "hostname": "host",
        "given_name": f"host{number}",
        "user_id": 1,
        "tags": None,
        "auth_key_id": None,
        "expiry": None,
        "last_seen": "2026-11-24 14:17:51.6+00:00",
        "approved_routes": None,
        "created_at": "2026-11-24 14:17:47+00:00",
    }
    return row | fields


def taken(
    *nodes: dict[str, Any], users: tuple[dict[str, Any], ...] = (user(1, "alice"),)
) -> headscale.Translated:
    return translate(Found(users, nodes, ({"id": 7, "ephemeral": 1},), ""), POOLS, NOW)


def test_a_node_keeps_id_keys_addresses_name_routes_and_owner() -> None:
    found = taken(
        node(5, approved_routes='["10.9.0.0/16"]', auth_key_id=7, expiry="2027-06-01 00:00:00+02:00")
    )
    kept = found.snapshot.nodes[5]
    assert found.left_out == ()
    assert (kept.name, kept.name_pinned, str(kept.v4), kept.ephemeral) == ("host5", True, "100.64.0.5", True)
    assert found.snapshot.users[kept.owner].name == "alice"
    assert [str(route) for route in kept.effective_routes] == ["10.9.0.0/16"]
    assert kept.expiry == datetime(2027, 5, 31, 22, tzinfo=UTC)
    assert kept.created.year == 2026
    assert found.snapshot.next_node_id == 6


def test_a_name_that_is_the_host_name_goes_on_following_it() -> None:
    assert not taken(node(1, given_name="host")).snapshot.nodes[1].name_pinned


def test_tagged_nodes_never_expire_and_the_year_one_is_no_time() -> None:
    found = taken(
        node(1, tags='["tag:web"]', user_id=None, expiry="2027-06-01 00:00:00+00:00"),
        node(2, expiry="0001-01-01 00:00:00+00:00"),
    )
    assert found.snapshot.nodes[1].tags == ("tag:web",)
    assert {each.expiry for each in found.snapshot.nodes.values()} == {None}


def test_people_of_an_identity_provider_get_a_name_of_their_own() -> None:
    people = (
        user(1, "alice"),
        user(2, "Alice", email="alice@example.net"),
        user(3, "", display_name="Nobody"),
    )
    found = taken(node(1, user_id=3), users=people)
    names = [each.name for each in found.snapshot.users.values()]
    assert names == ["members", "alice", "alice@example.net", "headscale-3"]
    assert found.snapshot.users[found.snapshot.nodes[1].owner].display_name == "Nobody"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ipv4": "10.1.2.3"}, "outside addresses.v4, which is 100.64.0.0/10"),
        ({"ipv4": None, "ipv6": ""}, "has no address"),
        ({"given_name": "host1"}, "there twice"),
        ({"given_name": "not a name"}, "not a DNS label"),
        ({"machine_key": "mkey:12"}, "mkey"),
        ({"host_info": "{broken"}, ""),
        ({"tags": '["web"]'}, "'web' is not a tag"),
        ({"tags": "[broken"}, ""),
    ],
)
def test_one_bad_row_is_named_and_the_others_are_taken(fields: dict[str, Any], reason: str) -> None:
    found = taken(node(1), node(2, **fields), node(3))
    assert set(found.snapshot.nodes) == {1, 3}
    (said,) = found.left_out
    assert said.startswith("node 2 ")
    assert reason in said


def test_a_file_that_is_no_headscale_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing of the kind")
    sqlite3.connect(tmp_path / "empty").close()
    for name in ("text", "empty", "missing"):
        with pytest.raises(ConfigError, match="cannot be read as a database of Headscale"):
            read(tmp_path / name)
