"""The outcome of each kind of register request, in the order the questions are asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.control_records import NOW, key, machine_key, node, node_key, snapshot
from warren_control.registration import (
    Admitted,
    ApprovalWanted,
    ExpiryShortened,
    LoggedOut,
    NewNodeKeyWanted,
    Refusal,
    Refused,
    Unchanged,
    decide,
    grant_of,
)
from warren_wire.control.messages import RegisterAuth, RegisterRequest
from warren_wire.keys import NodePublic

LOGOUT = datetime(1970, 1, 1, 0, 2, 3, tzinfo=UTC)
ONE_SHOT = key("one-shot")
REUSABLE = key("reusable", reusable=True)
USED = key("used", used_at=NOW)
OLD = key("old", expiry=NOW)
KEYS = (ONE_SHOT, REUSABLE, USED, OLD)


def request(number: int = 1, auth: str = "", **fields: Any) -> RegisterRequest:
    values: dict[str, Any] = {"version": 133, "node_key": node_key(number)}
    if auth:
        values["auth"] = RegisterAuth(auth_key=auth)
    return RegisterRequest(**values | fields)


def test_a_client_below_the_minimum_is_refused() -> None:
    outcome = decide(request(auth="one-shot", version=112), machine_key(1), snapshot(keys=KEYS), NOW)
    assert outcome == Refused(Refusal.VERSION)


def test_a_zero_node_key_is_refused() -> None:
    outcome = decide(request(auth="one-shot", node_key=NodePublic.zero()), machine_key(1), snapshot(), NOW)
    assert outcome == Refused(Refusal.NODE_KEY)


def test_a_node_key_of_another_machine_is_refused_whatever_else_is_asked() -> None:
    known = snapshot(node(1), keys=KEYS)
    for fields in ({}, {"auth": "reusable"}, {"expiry": LOGOUT}):
        assert decide(request(1, **fields), machine_key(9), known, NOW) == Refused(Refusal.FOREIGN_NODE_KEY)


def test_an_expiry_in_the_past_is_a_logout_even_with_a_key() -> None:
    known = node(1)
    outcome = decide(request(auth="reusable", expiry=LOGOUT), machine_key(1), snapshot(known, keys=KEYS), NOW)
    assert outcome == LoggedOut(known, delete=False)


def test_the_logout_of_a_node_that_is_gone_is_no_error() -> None:
    assert decide(request(expiry=LOGOUT), machine_key(1), snapshot(), NOW) == LoggedOut(None, delete=False)


def test_a_logout_that_calls_the_node_ephemeral_deletes_it() -> None:
    known = node(1)
    outcome = decide(request(expiry=LOGOUT, ephemeral=True), machine_key(1), snapshot(known), NOW)
    assert outcome == LoggedOut(known, delete=True)


def test_the_zero_time_is_no_logout() -> None:
    known = node(1)
    outcome = decide(request(expiry=datetime(1, 1, 1, tzinfo=UTC)), machine_key(1), snapshot(known), NOW)
    assert outcome == Unchanged(known)


@pytest.mark.parametrize("auth", ["", "one-shot", "used"])
def test_an_earlier_expiry_is_accepted_with_and_without_key(auth: str) -> None:
    known = node(1, expiry=NOW + timedelta(days=2))
    earlier = NOW + timedelta(days=1)
    outcome = decide(request(auth=auth, expiry=earlier), machine_key(1), snapshot(known, keys=KEYS), NOW)
    assert outcome == ExpiryShortened(known, earlier)


def test_a_later_expiry_is_refused() -> None:
    known = node(1, expiry=NOW + timedelta(days=2))
    later = NOW + timedelta(days=3)
    outcome = decide(request(expiry=later), machine_key(1), snapshot(known), NOW)
    assert outcome == Refused(Refusal.LATER_EXPIRY)


@pytest.mark.parametrize("auth", ["", "one-shot", "used", "old", "unknown"])
def test_a_known_node_stays_as_it_is_whatever_key_it_repeats(auth: str) -> None:
    known = node(1)
    outcome = decide(request(auth=auth), machine_key(1), snapshot(known, keys=KEYS), NOW)
    assert outcome == Unchanged(known)


def test_a_known_node_follows_another_reusable_key() -> None:
    known = node(1, auth_key_id="id-before")
    outcome = decide(request(auth="reusable"), machine_key(1), snapshot(known, keys=KEYS), NOW)
    assert outcome == Unchanged(known, rebind=REUSABLE)


def test_an_expired_node_without_key_has_to_make_a_new_node_key() -> None:
    known = node(1, expiry=NOW)
    assert decide(request(), machine_key(1), snapshot(known), NOW) == NewNodeKeyWanted(known)


def test_an_expired_node_with_a_key_is_renewed_in_place_with_the_same_node_key() -> None:
    known = node(1, expiry=NOW)
    outcome = decide(request(auth="one-shot"), machine_key(1), snapshot(known, keys=KEYS), NOW)
    assert outcome == Admitted(grant_of(ONE_SHOT), known)


def test_a_rotation_of_a_known_machine_keeps_its_node() -> None:
    known = node(1)
    outcome = decide(request(7, auth="reusable"), machine_key(1), snapshot(known, keys=KEYS), NOW)
    assert outcome == Admitted(grant_of(REUSABLE), known)


def test_a_new_node_key_without_an_auth_key_takes_a_persons_approval() -> None:
    for known in (snapshot(), snapshot(node(1))):
        assert decide(request(7), machine_key(1), known, NOW) == ApprovalWanted()


def test_a_machine_has_a_node_for_each_of_its_users() -> None:
    hers = key("hers", owner=7)
    known = snapshot(node(1), keys=(hers,))
    outcome = decide(request(7, auth="hers"), machine_key(1), known, NOW)
    assert outcome == Admitted(grant_of(hers), None)


def test_a_live_node_is_not_taken_over_with_another_users_key() -> None:
    for fields in ({}, {"reusable": True}):
        known = snapshot(node(1), keys=(key("hers", owner=7, **fields),))
        outcome = decide(request(1, auth="hers"), machine_key(1), known, NOW)
        assert outcome == Refused(Refusal.FOREIGN_USER)


def test_an_old_key_of_another_user_hinders_nobody() -> None:
    known = snapshot(node(1), keys=(key("hers", owner=7, used_at=NOW),))
    assert decide(request(1, auth="hers"), machine_key(1), known, NOW) == Unchanged(node(1))


def test_an_expired_node_keeps_its_owner_when_another_users_key_comes() -> None:
    gone = node(1, expiry=NOW)
    outcome = decide(
        request(1, auth="hers"), machine_key(1), snapshot(gone, keys=(key("hers", owner=7),)), NOW
    )
    assert outcome == NewNodeKeyWanted(gone)


@pytest.mark.parametrize(
    ("auth", "refusal"),
    [
        ("unknown", Refusal.UNKNOWN_KEY),
        ("old", Refusal.EXPIRED_KEY),
        ("used", Refusal.USED_KEY),
    ],
)
def test_a_new_machine_without_a_good_key_is_refused(auth: str, refusal: Refusal) -> None:
    assert decide(request(auth=auth), machine_key(1), snapshot(keys=KEYS), NOW) == Refused(refusal)


def test_a_new_machine_with_a_good_key_is_admitted() -> None:
    outcome = decide(request(auth=" one-shot\n"), machine_key(1), snapshot(keys=KEYS), NOW)
    assert outcome == Admitted(grant_of(ONE_SHOT), None)


def test_a_disabled_node_is_refused() -> None:
    known = snapshot(node(1, disabled=True), keys=KEYS)
    assert decide(request(), machine_key(1), known, NOW) == Refused(Refusal.DISABLED)
    assert decide(request(7, auth="reusable"), machine_key(1), known, NOW) == Refused(Refusal.DISABLED)
