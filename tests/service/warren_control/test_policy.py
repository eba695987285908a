"""The policy in a running server: what clients are told of it, who may change it, what survives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from support.control_client import ControlClient
from support.eventually import eventually
from warren_wire.control.messages import Node

from .conftest import Running, StartServer


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
    start_server: StartServer, tmp_path: Any
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
