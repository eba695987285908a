"""The policy in a running server: what clients are told of it, who may change it, what survives."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.control_client import ControlClient
from support.eventually import eventually
from warren_control import backup
from warren_control.db import policies as db_policies
from warren_control.errors import ConfigError
from warren_control.policies import keeper
from warren_control.policy.document import Document
from warren_control.policy.load import load
from warren_runtime.tls import client_context
from warren_wire.control.messages import Hostinfo, Node

from .conftest import TOKEN, Running, StartServer


def policy(*grants: tuple[str, str, str], **sections: Any) -> str:
    """Grants of source, destination and ports, with comments as people write them."""
    rules = [{"src": [src], "dst": [dst], "ip": [ip]} for src, dst, ip in grants]
    return "// who may what\n" + json.dumps({"grants": rules, **sections})


TAGS: dict[str, Any] = {"tagOwners": {"tag:web": [], "tag:lab": []}}
ALL_TO_WEB = policy(("*", "tag:web", "tcp:80"), **TAGS)


async def put(server: Running, text: str, expected: int = 200) -> Any:
    status, document = await server.api("PUT", "/api/v1/policy", {"text": text})
    assert status == expected, document
    return document


async def tag(server: Running, hostname: str, *tags: str) -> None:
    node = await named(server, hostname)
    assert (await server.api("PATCH", f"/api/v1/nodes/{node['id']}", {"tags": tags}))[0] == 200


async def named(server: Running, hostname: str) -> Any:
    _, document = await server.api("GET", f"/api/v1/nodes?name={hostname}")
    return document["nodes"][0]


def ports(client: ControlClient) -> set[tuple[int, int]]:
    """The port ranges that the client's filter lets in."""
    return {
        (port.ports.first, port.ports.last)
        for rules in client.netmap.packet_filters.values()
        for rule in rules or ()
        for port in rule.dst_ports or ()
    }


def filters_since(client: ControlClient, start: int) -> int:
    return sum(message.packet_filters is not None for message in client.messages[start:])


async def members(server: Running, names: Iterable[str]) -> list[ControlClient]:
    return [await server.member(name) for name in names]


async def test_a_policy_closes_and_opens_and_tells_those_concerned_alone(server: Running) -> None:
    web, laptop, lab = await members(server, ["web", "laptop", "lab"])
    await tag(server, "web", "tag:web")
    await tag(server, "lab", "tag:lab")
    assert ports(web) == {(0, 65535)}
    await put(server, ALL_TO_WEB)
    await web.until(lambda: ports(web) == {(80, 80)})
    await laptop.until(lambda: ports(laptop) == set())
    # They need not see each other: neither may reach the other.
    await laptop.until(lambda: laptop.peer("lab") is None)
    await lab.until(lambda: lab.peer("laptop") is None)
    assert laptop.peer("web") is not None
    counts = [len(client.messages) for client in (web, laptop, lab)]
    await put(server, policy(("*", "tag:web", "tcp:80-81"), **TAGS))
    await web.until(lambda: ports(web) == {(80, 81)})
    # A later change reaches everybody: had there been something to tell before it, it would have come first.
    await put(server, policy(("*", "*", "*"), **TAGS))
    await laptop.until(lambda: laptop.peer("lab") is not None)
    await lab.until(lambda: ports(lab) == {(0, 65535)})
    assert filters_since(web, counts[0]) == 2
    assert filters_since(laptop, counts[1]) == 1
    assert filters_since(lab, counts[2]) == 1


async def test_a_tag_makes_peers_appear_and_disappear(server: Running) -> None:
    web, laptop, other = await members(server, ["web", "laptop", "other"])
    await put(server, ALL_TO_WEB)
    await laptop.until(lambda: not laptop.netmap.peers)
    await tag(server, "web", "tag:web")
    await laptop.until(lambda: laptop.peer("web") is not None)
    await web.until(lambda: set(peer_names(web)) == {"laptop", "other"})
    await web.until(lambda: ports(web) == {(80, 80)})
    await tag(server, "web", "tag:lab")
    await laptop.until(lambda: not laptop.netmap.peers)
    await other.until(lambda: not other.netmap.peers)
    await web.until(lambda: not web.netmap.peers)


def seen(client: ControlClient, hostname: str) -> Node:
    found = client.peer(hostname)
    assert found is not None
    return found


def peer_names(client: ControlClient) -> list[str]:
    return [node.name.partition(".")[0] for node in client.netmap.peers.values()]


async def test_a_joining_node_is_told_to_those_who_may_see_it(server: Running) -> None:
    await put(server, policy(("tag:lab", "tag:web", "443"), ("autogroup:member", "tag:web", "22"), **TAGS))
    web, laptop = await members(server, ["web", "laptop"])
    await tag(server, "web", "tag:web")
    await laptop.until(lambda: peer_names(laptop) == ["web"])
    count = len(laptop.messages)
    phone = await server.member("phone")
    await web.until(lambda: set(peer_names(web)) == {"laptop", "phone"})
    await phone.until(lambda: peer_names(phone) == ["web"])
    await tag(server, "phone", "tag:lab")
    await web.until(lambda: seen(web, "phone").tags == ("tag:lab",))
    await server.api("DELETE", f"/api/v1/nodes/{(await named(server, 'phone'))['id']}")
    await web.until(lambda: peer_names(web) == ["laptop"])
    # The laptop never heard of the phone: neither that it came nor that it went.
    told = laptop.messages[count:]
    assert not any(message.peers_changed or message.peers_removed for message in told)


async def test_endpoints_are_told_to_those_who_see_the_node_alone(server: Running) -> None:
    web, laptop, other = await members(server, ["web", "laptop", "other"])
    await put(server, ALL_TO_WEB)
    await tag(server, "web", "tag:web")
    await laptop.until(lambda: peer_names(laptop) == ["web"])
    count = len(other.messages)
    await laptop.report(endpoints=("192.0.2.7:41641",))
    await web.until(lambda: seen(web, "laptop").endpoints == ("192.0.2.7:41641",))
    await web.report(endpoints=("192.0.2.8:41641",))
    await other.until(lambda: seen(other, "web").endpoints == ("192.0.2.8:41641",))
    assert [len(message.peers_changed_patch or ()) for message in other.messages[count:]] == [1]


async def test_a_bad_policy_is_refused_with_every_reason_and_the_old_one_stays(server: Running) -> None:
    await server.member("laptop")
    good = await put(server, policy(("*", "*", "22")))
    refused = await put(server, '{"grants": [{"src": ["tag:nobody"], "dst": ["*"], "ip": ["*"]}]}', 422)
    [problem] = refused["problems"]
    assert (problem["line"], problem["path"]) == (1, "grants[0].src[0]")
    assert "tag not found" in problem["message"]
    tests = [{"src": "members@", "accept": ["100.64.0.1:22"], "deny": ["100.64.0.1:80"]}]
    failing = await put(server, policy(("*", "*", "80"), tests=tests), 422)
    assert [test["path"] for test in failing["tests"] if not test["passed"]] == [
        "tests[0].accept[0]",
        "tests[0].deny[0]",
    ]
    status, shown = await server.api("GET", "/api/v1/policy")
    assert status == 200
    assert (shown["version"], shown["text"]) == (good["version"], good["text"])
    _, checked = await server.api(
        "POST", "/api/v1/policy/check", {"text": policy(("*", "*", "22"), tests=tests)}
    )
    assert checked["ok"] is True
    assert [test["passed"] for test in checked["tests"]] == [True]


async def test_failing_tests_only_warn_where_that_is_asked_for(server: Running) -> None:
    tests = [{"src": "members@", "accept": ["100.64.0.1:22"]}]
    text = policy(("*", "*", "80"), tests=tests)
    status, shown = await server.api("PUT", "/api/v1/policy", {"text": text, "tests": "warn"})
    assert (status, shown["version"], shown["text"]) == (200, 1, text)
    assert (await server.api("PUT", "/api/v1/policy", {"text": "{", "tests": "warn"}))[0] == 422


async def send(server: Running, body: bytes) -> tuple[int, Any]:
    """PUT of whatever bytes."""
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            f"https://127.0.0.1:{server.port}/api/v1/policy",
            data=io.BytesIO(body),
            headers={"Authorization": f"Bearer {TOKEN}"},
            ssl=client_context(server.pair.certificate),
        ) as response,
    ):
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" " * 10_000_000, "10000000 bytes"),
        ('{"acls":' + "[" * 10_000, "nested deeper"),
        ('{"a":' * 10_000, "nested deeper"),
        ('{"groups": {"group:a": ["group:b"], "group:b": ["group:a"]}}', "cannot be recursive"),
        ('{"ipsets": {"ipset:a": ["ipset:b"], "ipset:b": ["ipset:a"]}}', "ipset:"),
        ('{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:65536"]}]}', "at most 65535"),
        ('{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["tcp:' + "9" * 400 + '"]}]}', "port range"),
        ('{"acls": [{"action": "accept", "src": ["10.0.0.1/8"], "dst": ["*:*"]}]}', "host bits"),
    ],
    ids=["10 MB", "lists", "objects", "groups", "ipsets", "port", "long port", "host bits"],
)
async def test_hostile_policies_get_a_short_answer_and_change_nothing(
    server: Running, text: str, words: str
) -> None:
    await put(server, ALL_TO_WEB)
    status, document = await send(server, json.dumps({"text": text}).encode())
    assert status == 422
    assert words in document["problems"][0]["message"]
    assert len(json.dumps(document)) < 10_000
    _, current = await server.api("GET", "/api/v1/policy")
    assert (current["version"], current["text"]) == (1, ALL_TO_WEB)


async def test_bytes_that_are_no_utf_8_are_refused(server: Running) -> None:
    status, document = await send(server, b'{"text": "\xff"}')
    assert status == 422
    assert "not acceptable" in document["detail"]


async def test_versions_guard_against_overwriting_and_are_kept(server: Running) -> None:
    first = await put(server, policy(("*", "*", "22")))
    assert (first["version"], first["source"], first["author"]) == (1, "api", "admin token")
    assert (await put(server, first["text"]))["version"] == 1
    body = {"text": policy(("*", "*", "23")), "comment": "telnet"}
    status, stale = await server.api("PUT", "/api/v1/policy", body, headers={"If-Match": '"7"'})
    assert (status, stale["version"]) == (412, 1)
    status, second = await server.api("PUT", "/api/v1/policy", body, headers={"If-Match": '"1"'})
    assert (status, second["version"], second["comment"]) == (200, 2, "telnet")
    status, gone = await server.api("DELETE", "/api/v1/policy")
    assert (status, gone["version"], gone["source"], gone["text"]) == (200, 3, "none", "")
    _, history = await server.api("GET", "/api/v1/policy/history?limit=2&offset=1")
    assert [(item["version"], item["comment"]) for item in history["items"]] == [(2, "telnet"), (1, "")]
    _, former = await server.api("GET", "/api/v1/policy/history/1")
    assert former["text"] == first["text"]
    assert (await server.api("GET", "/api/v1/policy/history/9"))[0] == 404


async def test_a_restart_keeps_the_policy_in_force(server: Running) -> None:
    web = await server.member("web")
    await tag(server, "web", "tag:web")
    await put(server, ALL_TO_WEB)
    await web.until(lambda: ports(web) == {(80, 80)})
    await server.stop()
    await server.start()
    again = await server.client(web.identity)
    await again.poll()
    assert ports(again) == {(80, 80)}
    assert (await server.api("GET", "/api/v1/policy"))[1]["version"] == 1


async def test_a_file_alone_decides_and_a_bad_one_changes_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "policy.hujson"
    file.write_text(policy(("*", "*", "22")))
    server = await start_server(policy={"file": str(file)})
    laptop = await server.member("laptop")
    assert ports(laptop) == {(22, 22)}
    status, problem = await server.api("PUT", "/api/v1/policy", {"text": "{}"})
    assert status == 409
    assert str(file) in problem["detail"]
    file.write_text(policy(("*", "*", "23")))
    await laptop.until(lambda: ports(laptop) == {(23, 23)})
    file.write_text("{")
    assert server.server is not None
    policies = server.server.policies
    await eventually(lambda: bool(policies.alarm))
    assert ports(laptop) == {(23, 23)}
    await server.stop()
    await server.start()
    shown = (await server.api("GET", "/api/v1/policy"))[1]
    assert (shown["source"], shown["text"]) == ("file", policy(("*", "*", "23")))
    assert "policy.hujson" in shown["alarm"]


async def test_questions_are_answered_with_the_rules(server: Running) -> None:
    await members(server, ["web", "laptop"])
    await tag(server, "web", "tag:web")
    await put(server, ALL_TO_WEB)
    ask = {"source": "laptop", "destination": "web", "port": 80, "protocol": "tcp"}
    _, answer = await server.api("POST", "/api/v1/policy/explain", ask)
    assert answer["allowed"] is True
    [rule] = answer["rules"]
    assert (rule["section"], rule["index"], rule["line"]) == ("grants", 0, 2)
    _, answer = await server.api("POST", "/api/v1/policy/explain", {**ask, "port": 81})
    assert (answer["allowed"], answer["rules"]) == (False, [])
    _, who = await server.api("POST", "/api/v1/policy/who-can", {"destination": "web", "port": 80})
    assert who == {"sources": ["laptop"]}
    _, where = await server.api("POST", "/api/v1/policy/who-can", {"source": "laptop", "port": 80})
    assert where == {"destinations": ["web"]}
    assert (await server.api("POST", "/api/v1/policy/explain", {**ask, "source": "nobody"}))[0] == 404
    new = policy(("*", "tag:web", "tcp:443"), **TAGS)
    _, diff = await server.api("POST", "/api/v1/policy/diff", {"text": new})
    pair = {"source": "laptop", "destination": "web", "protocol": "tcp"}
    assert diff == {
        "opened": [{**pair, "ports": "443"}],
        "closed": [{**pair, "ports": "80"}],
        "truncated": False,
    }


def host(client: ControlClient, *tags: str, routes: tuple[str, ...] = ()) -> Hostinfo:
    """What a machine says of itself that asks for tags and announces routes."""
    name = client.identity.hostname
    return Hostinfo(hostname=name, os="linux", request_tags=tags or None, routable_ips=routes or None)


async def joined(client: ControlClient, key: str, *tags: str, routes: tuple[str, ...] = ()) -> str:
    """Registers with tags and routes; the server's refusal."""
    return (await client.register(key, hostinfo=host(client, *tags, routes=routes))).error


async def user_key(server: Running, name: str, email: str) -> str:
    status, _ = await server.api("POST", "/api/v1/users", {"name": name, "email": email})
    assert status == 201
    _, key = await server.api("POST", "/api/v1/keys", {"user": name, "reusable": True})
    return str(key["key"])


async def test_tags_are_given_to_their_owners_alone(server: Running) -> None:
    owners = await user_key(server, "ops", "ops@example.net")
    others = await user_key(server, "guest", "guest@example.net")
    await put(server, policy(("*", "*", "*"), tagOwners={"tag:web": ["ops@example.net"]}))
    refused = await server.client("intruder")
    error = await joined(refused, others, "tag:web")
    assert "tagOwners" in error
    assert "tag:web" in error
    assert (await server.api("GET", "/api/v1/nodes?name=intruder"))[1]["nodes"] == []
    assert "tag:new" in await joined(refused, owners, "tag:web", "tag:new")
    web = await server.client("web")
    assert await joined(web, owners, "tag:web") == ""
    assert (await named(server, "web"))["tags"] == ["tag:web"]
    plain = await server.client("plain")
    assert await joined(plain, owners) == ""
    assert (await named(server, "plain"))["tags"] == []
    # It comes again and asks for more than before.
    assert await joined(plain, "", "tag:web") == ""
    assert (await named(server, "plain"))["tags"] == ["tag:web"]


async def test_routes_are_approved_when_announced_and_when_the_policy_comes(server: Running) -> None:
    key = await user_key(server, "ops", "ops@example.net")
    early, late = await server.client("early"), await server.client("late")
    await joined(early, key, routes=("10.20.1.0/24", "10.99.0.0/16", "0.0.0.0/0", "::/0"))
    assert (await named(server, "early"))["approved_routes"] == []
    approvers = {"routes": {"10.20.0.0/16": ["ops@example.net"]}, "exitNode": ["ops@example.net"]}
    await put(server, policy(("*", "*", "*"), autoApprovers=approvers))
    assert (await named(server, "early"))["approved_routes"] == ["0.0.0.0/0", "10.20.1.0/24", "::/0"]
    await joined(late, key, routes=("10.20.2.0/24",))
    assert (await named(server, "late"))["approved_routes"] == ["10.20.2.0/24"]
    viewer = await server.member("viewer")
    assert "10.20.2.0/24" in (seen(viewer, "late").allowed_ips or ())


async def test_the_policy_sets_attributes_pools_ssh_and_relays(server: Running) -> None:
    laptop = await server.member("laptop")
    region = {"RegionID": 901, "RegionCode": "far", "Nodes": [{"Name": "901a", "HostName": "relay.example"}]}
    await put(
        server,
        policy(
            ("*", "*", "*"),
            **TAGS,
            nodeAttrs=[
                {"target": ["*"], "attr": ["funnel"]},
                {"target": ["tag:lab"], "ipPool": ["100.80.0.0/24"]},
            ],
            randomizeClientPort=True,
            ssh=[
                {
                    "action": "accept",
                    "src": ["autogroup:member"],
                    "dst": ["autogroup:self"],
                    "users": ["root"],
                }
            ],
            derpMap={"Regions": {"901": region}},
        ),
    )
    await laptop.until(lambda: laptop.netmap.ssh_policy and laptop.netmap.ssh_policy.rules)
    await laptop.until(lambda: laptop.netmap.derp_map and 901 in (laptop.netmap.derp_map.regions or {}))
    assert laptop.netmap.self_node is not None
    caps = laptop.netmap.self_node.cap_map or {}
    assert {"funnel", "randomize-client-port", "https://tailscale.com/cap/ssh"} <= caps.keys()
    _, key = await server.api("POST", "/api/v1/keys", {"tags": ["tag:lab"]})
    lab = await server.client("lab")
    assert await joined(lab, key["key"]) == ""
    assert (await named(server, "lab"))["addresses"][0] == "100.80.0.1"
    bad = '{"grants": [],\n "derpMap": {"Regions": {"1": {"RegionCode": "x"}}}}'
    [problem] = (await put(server, bad, 422))["problems"]
    assert (problem["line"], problem["path"]) == (2, "derpMap")


async def test_roles_and_addresses_of_users_decide_at_once(server: Running) -> None:
    key = await user_key(server, "ops", "ops@example.net")
    web, laptop = await server.member("web"), await server.client("laptop")
    await joined(laptop, key)
    await laptop.poll()
    await put(server, policy(("autogroup:admin", "members@", "22"), ("dev@example.net", "members@", "23")))
    await laptop.until(lambda: not laptop.netmap.peers)
    await server.api("PATCH", "/api/v1/users/ops", {"roles": ["admin"]})
    await laptop.until(lambda: peer_names(laptop) == ["web"])
    await web.until(lambda: ports(web) == {(22, 22)})
    assert laptop.netmap.self_node is not None
    await laptop.until(lambda: "https://tailscale.com/cap/is-admin" in caps_of(laptop))
    await server.api("PATCH", "/api/v1/users/ops", {"roles": [], "email": "dev@example.net"})
    await web.until(lambda: ports(web) == {(23, 23)})
    assert (await server.api("PATCH", "/api/v1/users/ops", {"roles": ["king"]}))[0] == 422


def caps_of(client: ControlClient) -> set[str]:
    node = client.netmap.self_node
    return set() if node is None else set(node.cap_map or {})


async def test_via_sends_viewers_through_different_routers(server: Running) -> None:
    ops, guest = (
        await user_key(server, "ops", "ops@example.net"),
        await user_key(server, "guest", "g@example.net"),
    )
    routers = {}
    for name in ("north", "south"):
        _, key = await server.api("POST", "/api/v1/keys", {"tags": [f"tag:{name}"]})
        routers[name] = await server.client(name)
        await joined(routers[name], key["key"], routes=("10.50.0.0/16",))
        await routers[name].poll(hostinfo=host(routers[name], routes=("10.50.0.0/16",)))
    grants = [
        {"src": ["ops@example.net"], "dst": ["10.50.0.0/16"], "ip": ["*"], "via": ["tag:north"]},
        {"src": ["g@example.net"], "dst": ["10.50.0.0/16"], "ip": ["*"], "via": ["tag:south"]},
    ]
    tags: dict[str, Any] = {"tag:north": [], "tag:south": []}
    approvers = {"routes": {"10.50.0.0/16": ["tag:north", "tag:south"]}}
    await put(server, json.dumps({"grants": grants, "tagOwners": tags, "autoApprovers": approvers}))
    viewers = {"north": await server.client("a"), "south": await server.client("b")}
    for name, key in (("north", ops), ("south", guest)):
        await joined(viewers[name], key)
        await viewers[name].poll()
        assert peer_names(viewers[name]) == [name]
        assert "10.50.0.0/16" in (seen(viewers[name], name).allowed_ips or ())


async def test_a_policy_that_a_newer_program_refuses_leaves_the_last_one_it_can_read(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = await server.member("laptop")
    await put(server, policy(("*", "*", "22")))
    newest = policy(("*", "*", "23"))
    await put(server, newest)
    await server.stop()

    def stricter(text: str, domains: frozenset[str]) -> Document:
        return load("{" if text == newest else text, domains)

    monkeypatch.setattr(keeper, "load", stricter)
    await server.start()
    again = await server.client(laptop.identity)
    await again.poll()
    assert ports(again) == {(22, 22)}
    _, status = await server.api("GET", "/api/v1/status")
    assert status["policy"]["version"] == 2
    assert "version 2" in status["policy"]["alarm"]
    assert server.server is not None
    assert server.server.metrics.registry.get_sample_value("warren_control_policy_failing") == 1
    await put(server, policy(("*", "*", "24")))
    await again.until(lambda: ports(again) == {(24, 24)})
    assert (await server.api("GET", "/api/v1/status"))[1]["policy"] == {
        "version": 3,
        "source": "api",
        "alarm": "",
    }


async def test_when_nothing_can_be_read_nothing_is_allowed(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop, _ = await members(server, ["laptop", "web"])
    await put(server, policy(("*", "*", "22")))
    await server.stop()
    monkeypatch.setattr(keeper, "load", lambda text, domains: load("{", domains))
    await server.start()
    again = await server.client(laptop.identity)
    await again.poll()
    assert (ports(again), peer_names(again)) == (set(), [])


async def test_a_first_start_with_a_bad_file_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "policy.hujson"
    file.write_text('{"grants": 3}')
    with pytest.raises(ConfigError, match=r"policy\.file"):
        await start_server(policy={"file": str(file)})
    # Tests about nodes that have yet to join are no reason.
    file.write_text(policy(("*", "*", "22"), tests=[{"src": "members@", "accept": ["members@:22"]}]))
    server = await start_server(policy={"file": str(file)})
    assert (await server.api("GET", "/api/v1/policy"))[1]["version"] == 1


async def test_old_versions_go_and_all_that_stay_are_in_a_backup(
    server: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(db_policies, "MAX_VERSIONS", 2)
    for port in ("22", "23", "24"):
        await put(server, policy(("*", "*", port)))
    _, history = await server.api("GET", "/api/v1/policy/history")
    assert [item["version"] for item in history["items"]] == [3, 2]
    summary = await backup.make(server.config(), tmp_path / "backup", datetime.now(UTC))
    assert summary.tables["policies"] == 2


async def test_tokens_that_may_only_read_ask_and_change_nothing(server: Running) -> None:
    _, made = await server.api("POST", "/api/v1/tokens", {"name": "watcher", "scope": "read-only"})
    token = made["token"]
    text = {"text": policy(("*", "*", "22"))}
    assert (await server.api("POST", "/api/v1/policy/check", text, token=token))[0] == 200
    assert (await server.api("PUT", "/api/v1/policy", text, token=token))[0] == 403
    assert (await server.api("DELETE", "/api/v1/policy", token=token))[0] == 403
    assert (await server.api("GET", "/api/v1/policy", token=token))[1]["version"] == 0


async def test_what_no_database_keeps_is_refused_as_a_mistake(server: Running) -> None:
    [problem] = (await put(server, policy(("*", "*", "22")) + " // \0", 422))["problems"]
    assert "NUL" in problem["message"]
    body = {"text": policy(("*", "*", "22")), "comment": "a\0b"}
    assert (await server.api("PUT", "/api/v1/policy", body))[0] == 422
    assert (await server.api("PUT", "/api/v1/policy", {"text": 3}))[0] == 422
    assert (await put(server, policy(("*", "*", "22"))))["version"] == 1
