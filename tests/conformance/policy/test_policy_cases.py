"""Recorded answers of a control service: ours must be equal in everything a client sees.

The cases are read from the folder that WARREN_POLICY_CASES names, else from `../shared/conformance/policy`
beside the checkout. There is no list of exceptions.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import MappingProxyType

import pytest

from support.policy_cases import Case, case_files, differences, folder
from warren_control.policy.acceptance import accept

FILES = case_files()
ABSENT = f"no recorded cases in {folder()} (WARREN_POLICY_CASES names another folder)"


@pytest.mark.skipif(not FILES, reason=ABSENT)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_node_is_told_what_the_service_told_it(path: Path) -> None:
    found = next(differences(Case.read(path)), None)
    assert found is None, f"{path.name}: {found}"


@pytest.mark.skipif(not FILES, reason=ABSENT)
def test_a_policy_written_anew_and_in_another_order_means_the_same() -> None:
    for path in FILES:
        case = Case.read(path)
        if case.expect["accepted"]:
            turned = _turned(case)
            found = next(differences(turned, _rewritten(case.policy)), None)
            assert found is None, f"{path.name}: {found}"


@pytest.mark.skipif(not FILES, reason=ABSENT)
def test_answers_are_the_same_objects_in_every_run() -> None:
    for path in FILES[::10]:
        case = Case.read(path)
        if case.expect["accepted"]:
            first, second = accept(case.policy, case.network), accept(case.policy, _turned(case).network)
            for node_id in case.network.nodes:
                assert first.filter(node_id) == second.filter(node_id)
                assert first.ssh_rules(node_id) == second.ssh_rules(node_id)


def _turned(case: Case) -> Case:
    """The same mesh with its users and nodes listed backwards."""
    network = dataclasses.replace(
        case.network,
        nodes=MappingProxyType(dict(sorted(case.network.nodes.items(), reverse=True))),
        users=MappingProxyType(dict(sorted(case.network.users.items(), reverse=True))),
    )
    return dataclasses.replace(case, network=network)


def _rewritten(policy: str) -> str:
    """The same policy with sections and names in reverse order, comments and trailing commas."""
    document = json.loads(policy)
    turned = {
        name: dict(reversed(section.items())) if isinstance(section, dict) else section
        for name, section in reversed(document.items())
    }
    text = json.dumps(turned, indent=2, ensure_ascii=True)
    return "// written anew\n" + text.replace("\n}", ", /* the end */\n}") + "\n"
