"""Reading a policy: every error names its place, what was expected and the nearest valid name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_control.policy.document import Document
from warren_control.policy.hujson import MAX_BYTES
from warren_control.policy.load import load
from warren_control.policy.problems import MAX_PROBLEMS, PolicyError, Problem

NAMES: dict[str, Any] = {
    "groups": {"group:dev": ["ana@example.com"], "group:ops": ["ben@example.com"]},
    "hosts": {"printer": "10.1.2.3", "site": "10.1.0.0/16"},
    "tagOwners": {"tag:web": ["group:ops"], "tag:db": []},
    "ipsets": {"ipset:plant": ["10.0.0.0/8", "remove 10.1.0.0/16"]},
    "postures": {"posture:linux": ["node:os == 'linux'"]},
}


def read(**sections: Any) -> Document:
    return load(json.dumps({**NAMES, **sections}), ["example.com"])


def refusal(text: str | bytes) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load(text, ["example.com"])
    return caught.value


def refused(**sections: Any) -> str:
    return str(refusal(json.dumps({**NAMES, **sections})))


def acl(src: Any = ("*",), dst: Any = ("*:*",), **more: Any) -> dict[str, Any]:
    return {"acls": [{"action": "accept", "src": src, "dst": dst, **more}]}


def grant(src: Any = ("*",), dst: Any = ("*",), **more: Any) -> dict[str, Any]:
    return {"grants": [{"src": src, "dst": dst, **more}]}


def ssh(**fields: Any) -> dict[str, Any]:
    rule = {"action": "accept", "src": ["ana@example.com"], "dst": ["tag:web"], "users": ["root"], **fields}
    return {"ssh": [{name: value for name, value in rule.items() if value is not ...}]}


APP: dict[str, list[Any]] = {"example.com/cap/x": [{}]}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (acl(src=["tag:wob"]), 'src=tag not found: "tag:wob"'),
        (acl(dst=["tag:wob:22"]), 'dst="tag:wob": tag not found: "tag:wob"'),
        ({"nodeAttrs": [{"target": ["tag:wob"], "attr": ["x"]}]}, 'tag not found: "tag:wob"'),
        (grant(ip=["*"], via=["tag:wob"]), 'tag "tag:wob" not found'),
        (grant(ip=["*"], via=["group:dev"]), "via can only be a tag"),
        (acl(src=["autogroup:self"]), '"autogroup:self" not valid on the src side of a rule'),
        (grant(src=["autogroup:internet"], ip=["*"]), '"autogroup:internet" not valid on the src side'),
        (
            acl(src=["tag:web"], dst=["autogroup:self:*"]),
            "autogroup:self can only be used with users, groups, or supported autogroups",
        ),
        (acl(src=["printer"], dst=["autogroup:self:*"]), "autogroup:self can only be used with"),
        (acl(src=["10.0.0.0/8"], dst=["autogroup:self:*"]), "autogroup:self can only be used with"),
        (acl(src=["autogroup:tagged"], dst=["autogroup:self:*"]), "autogroup:self can only be used with"),
        (grant(src=["*"], dst=["autogroup:self"], ip=["*"]), "autogroup:self can only be used with"),
        (acl(dst=["autogroup:danger-all:*"]), "cannot use autogroup:danger-all as a dst"),
        (acl(dst=["tag:web:ssh"]), 'dst="tag:web:ssh": port range "ssh": invalid first integer'),
        (acl(dst=["autogroup:self"]), 'port range "self": invalid first integer'),
        (acl(dst=["printer"]), 'dst="printer": the ports are missing'),
        (grant(ip=["icmp"]), 'port range "icmp": invalid first integer'),
        (grant(ip=["tcp:0"]), "port range \"0\": first port must be >0, or use '*' for wildcard"),
        (acl(action="deny"), 'action="deny" is not supported'),
        (acl(proto="icmp", dst=["*:22"]), "protocol icmp has no ports"),
        (acl(proto="tpc"), 'protocol "tpc" is not known'),
        (grant(), "ip and app can not both be empty"),
        (grant(ip=[], app={}), "ip and app can not both be empty"),
        (
            grant(dst=["0.0.0.0/0"], ip=["*"]),
            'dst "0.0.0.0/0": to allow all IP addresses, use "*" or "autogroup:internet"',
        ),
        (grant(dst=["autogroup:internet"], app=APP), "cannot use app grants with autogroup:internet"),
        (grant(app={"https://example.com/x": []}), "capability name must have the form {domain}/{path}"),
        (grant(app={"nothing": []}), "capability name must have the form {domain}/{path}"),
        (
            grant(app={"tailscale.com/cap/relay-target": []}),
            "capability name must not be in the tailscale.com domain",
        ),
        (
            {"groups": {"group:a": ["group:b"], "group:b": ["group:c"], "group:c": []}},
            'groups["group:b"]: "group:c": group members cannot be recursive',
        ),
        (
            {"tagOwners": {"tag:сервер": []}},
            "tagOwners[\"tag:сервер\"]: tag names must start with a letter, after 'tag:'",
        ),
        ({"tagOwners": {"tag:1": []}}, "tag names must start with a letter, after 'tag:'"),
        ({"nodeAttrs": [{"target": ["%bogus%"], "attr": ["x"]}]}, '"%bogus%": invalid address'),
        ({"nodeAttrs": [{"target": ["autogroup:self"]}]}, '"autogroup:self" cannot'),
        (
            {"nodeAttrs": [{"target": ["*"], "ipPool": ["100.100.100.0/24"]}]},
            "IPPool(100.100.100.0/24): network within reserved range",
        ),
        ({"nodeAttrs": [{"target": ["*"], "ipPool": ["100.115.92.0/24"]}]}, "network within reserved range"),
        ({"nodeAttrs": [{"target": ["*"], "ipPool": ["10.0.0.0/8"]}]}, "outside of 100.64.0.0/10"),
        (ssh(action=...), "action must be specified"),
        (ssh(action=""), "action must be specified"),
        (ssh(action="deny"), '"deny" is not a valid action'),
        (ssh(action="Accept"), '"Accept" is not a valid action'),
        (ssh(users=...), "users must be specified"),
        (ssh(users=None), "users must be specified"),
        (ssh(users=[]), "users must be specified"),
        (ssh(users=["root", ""]), 'user "" is not valid'),
        (ssh(users=["*"]), 'user "*" is not valid'),
        (ssh(acceptEnv=["A", ""]), "acceptEnv values cannot be empty"),
        (ssh(action="check", checkPeriod="soon"), 'time: invalid duration "soon"'),
        (ssh(action="check", checkPeriod="-1m"), "checkPeriod -1m0s must be a positive duration"),
        (ssh(action="check", checkPeriod="168h1s"), "checkPeriod 168h0m1s is above the max (168h)"),
        (ssh(checkPeriod="1h"), "checkPeriod needs the action check"),
        (ssh(dst=["printer"]), 'invalid dst "printer"'),
        (ssh(dst=["*"]), 'invalid dst "*"'),
        (ssh(dst=["group:dev"]), 'invalid dst "group:dev"'),
        (ssh(src=["10.0.0.1"]), 'invalid src "10.0.0.1"'),
        (ssh(dst=["ben@example.com"]), "a user's nodes accept that same user alone as src"),
        (ssh(src=["tag:web"], dst=["autogroup:self"]), "tagged nodes may not be src for the nodes of users"),
        (
            ssh(users=["localpart:*@example.org"]),
            "example.org is not associated with this Tailnet and cannot be used in user:*@<domain>",
        ),
        (ssh(users=["localpart:*@Example.com"]), "Example.com is not associated with this Tailnet"),
        (ssh(src=["user:*@example.org"]), "[ssh] example.org is not associated with this Tailnet"),
        (
            {"sshTests": [{"src": "ana@example.com", "dst": ["10.0.0.0/8"], "accept": ["root"]}]},
            'SSH tests dst contains disallowed element "10.0.0.0/8"',
        ),
        (
            {"sshTests": [{"src": "ana@example.com", "dst": ["autogroup:internet"], "accept": ["root"]}]},
            'SSH tests dst contains disallowed element "autogroup:internet"',
        ),
        (
            {"sshTests": [{"src": "ana@example.com", "dst": ["tag:web:22"], "accept": ["root"]}]},
            'SSH tests dst contains unknown tag "tag:web:22"',
        ),
        ({"hosts": {"a": "10.0.0.1/8"}}, "10.0.0.1/8 has host bits set; the network is 10.0.0.0/8"),
        ({"autoApprovers": {"routes": {"10.0.0.1/8": []}}}, "host bits"),
        (
            {"autoApprovers": {"exitNode": ["printer"]}},
            '"printer" cannot stand here (expected users, groups or tags)',
        ),
        ({"ipsets": {"ipset:a": ["ipset:b"], "ipset:b": ["ipset:a"]}}, "contains itself"),
        ({"ipsets": {"ipset:a": ["tag:web"]}}, '"tag:web" cannot be part of an IP set'),
        ({"postures": {"posture:a": ["node:os is linux"]}}, '"node:os is linux" is not a condition'),
        ({"postures": {"posture:a": []}}, '"posture:a" has no condition'),
        (acl(srcPosture=["posture:lynux"]), 'posture not found: "posture:lynux"'),
        ({"groups": {"dev": []}}, '"dev" is not a name here (expected a name that starts with "group:")'),
        ({"groups": {"group:x": ["ana"]}}, '"ana": not a user'),
        ({"groups": []}, "groups: found a list (expected an object)"),
        ({"acls": {}}, "acls: found an object (expected a list)"),
        (acl(src="*"), "acls[0].src: found a string (expected a list)"),
        (acl(src=[1]), "acls[0].src[0]: found a number (expected a string)"),
        ({"randomizeClientPort": "yes"}, "found a string (expected true or false)"),
        (
            {"acls": [{"action": "accept", "users": ["*"], "ports": ["*:*"]}]},
            'unknown field: "users" (expected src)',
        ),
        ({"tests": [{"src": "*", "acept": ["*:1"]}]}, 'unknown field: "acept"'),
    ],
)
def test_what_is_wrong_is_said_in_the_services_words(sections: dict[str, Any], words: str) -> None:
    assert words in refused(**sections)


POLICY = """{
  // what a team reviews
  "tagOwners": {"tag:webserver": []},
  "groups": {"group:developers": ["ana@example.com"]},
  "hosts": {"printer": "10.1.2.3"},
  "acls": [
    {"action": "accept", "src": ["group:developers"],
     "dst": ["printer:631",
             "WORD"]},
  ],
}"""


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("tag:websrever:443", "tag:webserver"),
        ("group:developer:443", "group:developers"),
        ("prnter:631", "printer"),
        ("autogroup:members:22", "autogroup:member"),
    ],
)
def test_a_problem_has_line_column_path_and_nearest_name(word: str, nearest: str) -> None:
    problem = refusal(POLICY.replace("WORD", word)).problems[0]
    assert (problem.line, problem.column, problem.where) == (9, 14, "acls[0].dst[1]")
    assert problem.nearest == nearest
    assert problem.expected
    assert f'did you mean "{nearest}"?' in str(problem)


def test_a_mistyped_section_is_named_with_the_one_that_was_meant() -> None:
    problem = refusal('{\n "tagOwner": {}}').problems[0]
    assert (problem.line, problem.column, problem.nearest) == (2, 2, "tagOwners")


def test_all_problems_are_told_at_once_in_the_order_of_the_text() -> None:
    error = refusal('{"acls": [{"action": "drop", "src": ["tag:a"], "dst": ["*:x"]}],\n"groups": {"a": []}}')
    assert [(one.line, one.column) for one in error.problems] == [(1, 22), (1, 38), (1, 56), (2, 12)]


def test_many_problems_are_counted_and_the_first_are_told() -> None:
    error = refusal(json.dumps(acl(src=[f"tag:t{number}" for number in range(50)])))
    assert len(error.problems) == MAX_PROBLEMS
    assert error.more == 50 - MAX_PROBLEMS
    assert str(error).endswith("and 30 more")


def test_problems_of_syntax_have_their_place_too() -> None:
    assert refusal('{"acls": [\n  }').problems[0] == Problem(2, 3, "", 'expected a value, found "}"')
    assert refusal(b'{"a":\n "\xff"}').problems[0].line == 2
    assert refusal(b"[]").problems[0].text == "found a list"


def test_names_of_fields_match_without_regard_to_case_and_notes_are_skipped() -> None:
    text = (
        '{"ACLs": [{"#ui": {"x": 1}, "Action": "accept", "SRC": ["*"], "dst": ["*:*"]}], "TagOwners": null}'
    )
    assert len(load(text).grants) == 1


def test_a_name_given_twice_is_refused() -> None:
    assert "given twice" in str(refusal('{"acls": [], "ACLs": []}'))
    assert "given twice" in str(refusal('{"groups": {"group:a": [], "group:a": []}}'))


def test_no_rules_allow_all_and_an_empty_list_denies_all() -> None:
    assert [one.sources[0].text for one in read().grants] == ["*"]
    assert [one.sources[0].text for one in read(acls=None, grants=None).grants] == ["*"]
    assert read(acls=[]).grants == ()
    assert read(grants=[]).grants == ()


def test_grants_come_before_acls_and_each_destination_of_an_acl_is_a_rule() -> None:
    document = read(
        **acl(src=["*"], dst=["autogroup:self:1", "tag:web:2", "autogroup:member:3", "tag:db:4"]),
        **grant(ip=["5"]),
    )
    assert [str(one.packets[0].ports[0]) for one in document.grants] == ["5", "2", "3", "4", "1"]


def test_an_acl_of_autogroups_alone_keeps_its_order() -> None:
    document = read(**acl(src=["*"], dst=["autogroup:self:1", "autogroup:member:2"]))
    assert [str(one.packets[0].ports[0]) for one in document.grants] == ["1", "2"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("[fd00::1]:22", "fd00::1"),
        ("[fd00::]/64:22", "fd00::/64"),
        ("fd00::1:22", "fd00::1"),
        ("fd00::/64:22", "fd00::/64"),
        ("10.0.0.0/8:22", "10.0.0.0/8"),
        (" printer:22 ", "printer"),
        ("ipset:plant:22", "ipset:plant"),
        ("user:*@example.com:22", "user:*@example.com"),
    ],
)
def test_destinations_are_split_at_the_last_colon(written: str, text: str) -> None:
    assert read(**acl(dst=[written])).grants[0].destinations[0].text == text


def test_sections_may_refer_to_each_other_in_any_order() -> None:
    rules = '{"acls": [{"action": "accept", "src": ["tag:web"], "dst": ["nas:*"]}],'
    assert (
        load(rules + ' "hosts": {"nas": "10.1.1.1"}, "tagOwners": {"tag:web": []}}')
        .grants[0]
        .destinations[0]
        .block
        is not None
    )


def test_ipsets_are_resolved_through_each_other() -> None:
    document = read(
        ipsets={
            "ipset:all": ["ipset:some", "add host:site", "autogroup:internet", "remove 8.0.0.0/8"],
            "ipset:some": ["192.168.0.0/24", "remove 192.168.0.128/25"],
        }
    )
    assert document.ipsets["ipset:some"].texts() == ("192.168.0.0/25",)
    assert "10.1.0.0/16" in document.ipsets["ipset:all"].texts()
    assert not document.ipsets["ipset:all"].overlaps(8 << 24, 8 << 24)


def test_every_other_word_of_users_is_a_login_name() -> None:
    logins = ["autogroup:member", "group:foo", "tag:foo", "localpart:foo", "localpart:*@", " root "]
    rule = read(**ssh(users=[*logins, "autogroup:nonroot", "localpart:*@example.com"])).ssh[0]
    assert rule.logins == tuple(one.strip() for one in logins)
    assert rule.nonroot
    assert rule.localpart_domains == ("example.com",)


def test_a_check_without_period_lasts_twelve_hours_and_always_lasts_none() -> None:
    hour = 3600 * 10**9
    periods = [None, "always", "0", "168h", "30s"]
    found = [read(**ssh(action="check", checkPeriod=one)).ssh[0].check_period for one in periods]
    assert found == [12 * hour, 0, 0, 168 * hour, 30 * 10**9]


def test_tags_that_own_each_other_are_no_error() -> None:
    owners = read(tagOwners={"tag:a": ["tag:b"], "tag:b": ["tag:a"], "tag:c": ["tag:c"]}).tag_owners
    assert sorted(owners) == ["tag:a", "tag:b", "tag:c"]


def test_settings_of_the_whole_network_are_kept() -> None:
    document = read(
        randomizeClientPort=True, disableIPv4=True, derpMap={"Regions": {"1": None}}, OneCGNATRoute=""
    )
    assert document.randomize_client_port
    assert document.disable_ipv4
    assert document.derp_map == {"Regions": {"1": None}}
    assert [one.where for one in document.warnings] == ["OneCGNATRoute"]


def _many(template: Callable[[int], str], count: int, around: str) -> bytes:
    return around.replace("@", ",".join(template(number) for number in range(count))).encode()


@pytest.mark.parametrize(
    "text",
    [
        b" " * 10_000_000,
        b'{"acls":' + b"[" * 10_000,
        b'{"a":' * 10_000,
        b"[" + b"0," * 1_000_000,
        b'"' + b"x" * (MAX_BYTES - 1),
        b"/*" + b"*" * (MAX_BYTES - 2),
        b"/* " * 1_000_000,
        b'{"hosts": {"a": "' + b"1." * 1_000_000 + b'"}}',
        b'{"grants": [{"src": [], "dst": [], "app": {"' + b"a." * 1_000_000 + b'": []}}]}',
        b'{"postures": {"posture:a": ["' + b"a:b " * 900_000 + b'"]}}',
        b'{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:' + b"1," * 1_000_000 + b'1"]}]}',
        _many(lambda n: f'"tag:u{n}"', 50_000, '{"acls":[{"action":"accept","src":[@],"dst":["*:*"]}]}'),
        _many(
            lambda n: f'"10.0.{n >> 8}.{n & 255}:*"',
            40_000,
            '{"acls":[{"action":"accept","src":[],"dst":[@]}]}',
        ),
        _many(lambda n: f'"ipset:a{n}":["ipset:a{(n + 1) % 20000}"]', 20_000, '{"ipsets":{@}}'),
        _many(
            lambda n: f'"add 10.0.{n >> 8}.{2 * n & 255}","remove 9.0.0.0/32"',
            20_000,
            '{"ipsets":{"ipset:a":[@]}}',
        ),
        _many(lambda n: f'"group:a{n}":["group:a{n + 1}"]', 20_000, '{"groups":{@}}'),
        _many(lambda n: f'{{"src":"*","accept":["10.0.0.1:{n + 1}"]}}', 10_000, '{"acls":[@],"tests":[@]}'),
    ],
    ids=range(17),
)
def test_hostile_texts_are_refused_soon_with_a_short_error(text: bytes) -> None:
    assert len(str(refusal(text))) < 40_000


WORDS = st.sampled_from(
    [
        "*",
        "tag:web",
        "tag:x",
        "group:dev",
        "group:",
        "autogroup:self",
        "autogroup:",
        "@",
        "a@b",
        "10.0.0.0/8",
        "::",
        "10.0.0.1/8",
        "printer",
        "*:*",
        "tag:web:22",
        "[::]:1",
        ":",
        "",
        "user:*@example.com",
        "ipset:plant",
        "accept",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["action", "src", "dst", "ip", "app", "via", "proto", "users", "accept", "target", "attr"]
            )
            | WORDS,
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
SECTIONS = st.sampled_from(
    [
        "acls",
        "grants",
        "ssh",
        "groups",
        "hosts",
        "tagOwners",
        "autoApprovers",
        "nodeAttrs",
        "tests",
        "sshTests",
        "ipsets",
        "postures",
        "defaultSrcPosture",
        "derpMap",
        "randomizeClientPort",
    ]
)


@given(st.dictionaries(SECTIONS, VALUES, max_size=4))
def test_any_document_gives_a_policy_or_an_error_with_places(document: dict[str, Any]) -> None:
    try:
        load(json.dumps({**NAMES, **document}), ["example.com"])
        problems: tuple[Problem, ...] = ()
    except PolicyError as error:
        problems = error.problems
    assert all(one.line == 1 and one.column >= 1 and one.text for one in problems)
