"""A Mesh's policy: the one step towards it, and what its status says."""

from __future__ import annotations

import json

from warren_operator import policies
from warren_operator.conditions import Truth
from warren_operator.errors import ControlApiError
from warren_operator.machines import PolicyInForce, PolicyProblem
from warren_operator.policies import Put, Remove, digest, step

OURS = PolicyInForce(3, "{}", "api", policies.AUTHOR)
THEIRS = PolicyInForce(3, "{}", "api", "console")


def test_another_text_is_put_in_place_of_the_version_that_was_read() -> None:
    assert step('{"grants": []}', THEIRS, {}) == Put('{"grants": []}', 3, tested=True)
    assert step("{}", THEIRS, {}) is None


def test_failing_tests_do_not_keep_a_mesh_without_a_policy_open() -> None:
    assert step("{}", PolicyInForce(), {}) == Put("{}", 0, tested=False)


def test_a_policy_taken_out_of_the_mesh_is_removed_only_if_the_operator_put_it() -> None:
    assert step(None, OURS, {}) == Remove(3)
    assert step(None, THEIRS, {}) is None
    put_before = {"policy": {"hash": digest("{}"), "acceptedGeneration": 2}}
    assert step(None, THEIRS, put_before) == Remove(3)
    changed_since = {"policy": {"hash": digest("{ }"), "acceptedGeneration": 2}}
    assert step(None, THEIRS, changed_since) is None
    only_shown = {"policy": {"hash": digest("{}"), "acceptedGeneration": None}}
    assert step(None, THEIRS, only_shown) is None
    assert step(None, PolicyInForce(4, ""), put_before) is None


def test_a_refusal_names_places_and_what_to_do() -> None:
    problems = [
        {"line": 3, "column": 5, "message": 'tag not found: "tag:wbe"', "hint": 'did you mean "tag:web"?'},
        *({"line": line, "column": 1, "message": "wrong"} for line in range(4, 8)),
    ]
    error = ControlApiError("PUT: refused", 422, json.dumps({"problems": problems}).encode())
    condition = policies.refused(error)
    assert (condition.status, condition.reason) == (Truth.FALSE, "Invalid")
    assert condition.message.startswith(
        'line 3, column 5: tag not found: "tag:wbe" (did you mean "tag:web"?); line 4'
    )
    assert condition.message.endswith("; and 2 more")


def test_failed_tests_have_a_reason_of_their_own() -> None:
    tests = [
        {"line": 9, "path": "tests[0]", "passed": True, "message": ""},
        {"line": 10, "path": "tests[1]", "passed": False, "message": "may not reach tag:web:22"},
    ]
    error = ControlApiError("PUT: refused", 422, json.dumps({"tests": tests}).encode())
    condition = policies.refused(error)
    assert condition.reason == "TestsFailed"
    assert condition.message == "line 10: tests[1]: may not reach tag:web:22"


def test_other_answers_have_their_reasons() -> None:
    reasons = {
        status: policies.refused(ControlApiError("x", status, b"<html>")).reason
        for status in (409, 413, 412, 503, 0)
    }
    assert reasons == {
        409: "ManagedElsewhere",
        413: "Invalid",
        412: "Waiting",
        503: "Waiting",
        0: "Waiting",
    }


def test_the_status_says_where_the_policy_comes_from() -> None:
    shown = policies.own_fields(OURS, "inline", 7)
    assert shown == {"version": 3, "hash": digest("{}"), "source": "inline", "acceptedGeneration": 7}
    other = policies.other_fields(PolicyInForce(1, "{}", "file"), {})
    assert other == {"version": 1, "hash": digest("{}"), "source": "file"}
    assert policies.other_fields(PolicyInForce(), {}) is None


def test_a_generation_that_holds_no_more_is_taken_away_once() -> None:
    before = {"policy": {"version": 1, "hash": "x", "source": "inline", "acceptedGeneration": 7}}
    patch = policies.other_fields(PolicyInForce(2, "{}", "api"), before)
    assert patch is not None
    assert patch["acceptedGeneration"] is None
    stored = {name: value for name, value in patch.items() if value is not None}
    assert policies.other_fields(PolicyInForce(2, "{}", "api"), {"policy": stored}) == stored


def test_warnings_are_told_with_their_places() -> None:
    warned = PolicyInForce(2, "{}", warnings=(PolicyProblem("has no effect here", 4, 2),))
    assert policies.accepted(warned).message == "version 2 is in force; line 4, column 2: has no effect here"
