"""What the path engine is told about members."""

from __future__ import annotations

from dataclasses import replace

from support.members import member, node_key
from warren_agent.path_peers import PathPeers


def test_only_members_that_can_be_found_are_told() -> None:
    silent = replace(member("silent", 4), disco=None)
    members = [member("home", 1), member("office", 2), member("old", 3, expired=True), silent]
    told = PathPeers(node_key("home")).of(members)
    assert [peer.name for peer in told.values()] == ["office"]
    assert [str(address) for address in told[node_key("office")].addresses] == ["100.64.0.2"]


def test_a_member_that_did_not_change_gives_the_same_value() -> None:
    reader = PathPeers(node_key("home"))
    office, branch = member("office", 2), member("branch", 3)
    before = reader.of([office, branch])
    moved = replace(branch, home_relay=901)
    after = reader.of([office, moved])
    assert after[office.key] is before[office.key]
    assert after[branch.key].home_relay == 901
    assert reader.of([moved]) == {branch.key: after[branch.key]}
