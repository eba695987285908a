"""Whether a policy may come into force: it reads well, names nobody ambiguously, passes its own tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from warren_control.policy.document import Document
from warren_control.policy.index import PolicyIndex, build_index
from warren_control.policy.load import load
from warren_control.policy.network import Network, User, UserNames
from warren_control.policy.problems import MAX_PROBLEMS, PolicyError, Problem, quoted
from warren_control.policy.reach_tests import ReachTests
from warren_control.policy.selectors import Kind, Names, Selector
from warren_control.policy.ssh_tests import SshTests


def accept(text: str | bytes, network: Network, server_url: str = "") -> PolicyIndex:
    """The policy bound to the mesh, ready to be put in force; `PolicyError` if it must not be."""
    index = build_index(load(text, network.settings.domains), network, server_url)
    check(index)
    return index


def check(index: PolicyIndex) -> None:
    """Run what a policy asserts about itself against the nodes there are now."""
    failures = tuple(islice(failing(index), MAX_PROBLEMS))
    if failures:
        raise PolicyError(failures)


def failing(index: PolicyIndex) -> Iterator[Problem]:
    document = index.document
    yield from ambiguous_users(document, index.network.users)
    names = names_of(document)
    yield from ReachTests(index.compiled, names).failures(document.tests)
    yield from SshTests(index.compiled, index.ssh, names).failures(document.ssh_tests)


def names_of(document: Document) -> Names:
    return Names(
        frozenset(document.groups),
        document.hosts,
        frozenset(document.tag_owners),
        frozenset(document.ipsets),
        frozenset(document.postures),
        document.domains,
    )


def ambiguous_users(document: Document, users: Mapping[int, User]) -> Iterator[Problem]:
    """Names that mean several users. Such a name would select nobody."""
    users_by_name = UserNames(users)
    for name, (line, column, path) in sorted(_user_names(document).items()):
        found = users_by_name.matching(name)
        if len(found) > 1:
            text = f"{quoted(name)} means {len(found)} users"
            yield Problem(line, column, path, text, "an e-mail address that only one user has")


def _user_names(document: Document) -> dict[str, tuple[int, int, str]]:
    found: dict[str, tuple[int, int, str]] = {}
    seen: set[int] = set()

    def add(selectors: tuple[Selector, ...], place: tuple[int, int, str]) -> None:
        # The rules made of one ACL share the tuple of its sources.
        if id(selectors) in seen:
            return
        seen.add(id(selectors))
        for selector in selectors:
            if selector.kind is Kind.USER:
                found.setdefault(selector.text, place)

    for grant in document.grants:
        place = (grant.place.line, grant.place.column, grant.place.path)
        add(grant.sources, place)
        add(grant.destinations, place)
    for rule in document.ssh:
        place = (rule.place.line, rule.place.column, rule.place.path)
        add(rule.sources, place)
        add(rule.destinations, place)
    for entry in document.node_attributes:
        add(entry.targets, (entry.place.line, entry.place.column, entry.place.path))
    for tag, owners in document.tag_owners.items():
        add(owners, (1, 1, f"tagOwners[{quoted(tag)}]"))
    for group, members in document.groups.items():
        for member in members:
            found.setdefault(member, (1, 1, f"groups[{quoted(group)}]"))
    return found
