"""What is sent to a control server and what its answers lead to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from support.members import networks, node_key, node_private
from warren_agent.config import Config
from warren_agent.control.address import ServerAddress
from warren_agent.control.registration import (
    LogIn,
    Refused,
    Step,
    after_registration,
    has_expired,
    hostinfo,
    map_request,
    poll_failure,
    register_request,
)
from warren_agent.errors import UnknownNodeError
from warren_agent.keystore import Keys
from warren_agent.paths.values import LocalState
from warren_wire.addresses import AddrPort
from warren_wire.control.messages import NetInfo, Node, RegisterResponse, encode
from warren_wire.keys import DiscoPrivate, MachinePrivate

KEYS = Keys(
    machine=MachinePrivate.from_seed(bytes(32)),
    node=node_private("home"),
    disco=DiscoPrivate.from_seed(bytes(32)),
)
CONFIG = Config(
    server_url="https://203.0.113.10",
    hostname="home",
    advertise_routes=networks("10.1.0.0/16"),
    tags=("tag:k8s",),
)
LOCAL = LocalState((AddrPort.parse("203.0.113.20:41641"),), (2,), NetInfo(preferred_derp=900))
INFO = hostinfo(CONFIG, "0.1.0", "x86_64", LOCAL)


def test_hostinfo_tells_routes_tags_and_the_home_relay() -> None:
    sent = json.loads(encode(INFO))
    assert (sent["Hostname"], sent["OS"], sent["IPNVersion"]) == ("home", "linux", "warren-0.1.0")
    assert (sent["RoutableIPs"], sent["RequestTags"]) == (["10.1.0.0/16"], ["tag:k8s"])
    assert sent["NetInfo"]["PreferredDERP"] == 900


def test_a_join_key_is_sent_and_never_shown() -> None:
    request = register_request(KEYS, INFO, "warren-auth-secret")
    assert json.loads(encode(request))["Auth"] == {"AuthKey": "warren-auth-secret"}
    assert "secret" not in repr(request)


def test_without_a_join_key_there_is_no_auth() -> None:
    assert "Auth" not in json.loads(encode(register_request(KEYS, INFO, None)))


def test_a_poll_asks_for_the_stream_and_an_update_for_no_peers() -> None:
    poll = json.loads(encode(map_request(KEYS, INFO, LOCAL, stream=True)))
    update = json.loads(encode(map_request(KEYS, INFO, LOCAL, stream=False)))
    assert (poll["Stream"], poll.get("OmitPeers"), poll["Compress"]) == (True, None, "zstd")
    assert (update.get("Stream"), update["OmitPeers"]) == (None, True)
    for request in (poll, update):
        assert request["DiscoKey"] == str(KEYS.disco.public)
        assert request["Endpoints"] == ["203.0.113.20:41641"]
        assert request["EndpointTypes"] == [2]


def test_unknown_endpoints_are_left_out_because_an_empty_list_would_clear_them() -> None:
    assert "Endpoints" not in json.loads(encode(map_request(KEYS, INFO, None, stream=True)))


def test_an_empty_answer_is_a_success() -> None:
    assert after_registration(RegisterResponse(), sent_auth_key=True, has_auth_key=True) is Step.REGISTERED


def test_a_refusal_has_the_servers_words_on_one_line() -> None:
    refused = after_registration(
        RegisterResponse(error="key was\nused up\x1b[31m"), sent_auth_key=True, has_auth_key=True
    )
    assert refused == Refused("key was used up [31m")


@pytest.mark.parametrize(
    "response",
    [RegisterResponse(error="not known"), RegisterResponse(auth_url="https://203.0.113.10/register/x")],
)
def test_a_forgotten_node_presents_its_join_key(response: RegisterResponse) -> None:
    assert after_registration(response, sent_auth_key=False, has_auth_key=True) is Step.USE_AUTH_KEY


def test_without_a_join_key_a_person_gets_the_link_letter_by_letter() -> None:
    link = "https://203.0.113.10/register/x?y=%20z"
    answer = after_registration(RegisterResponse(auth_url=link), sent_auth_key=False, has_auth_key=False)
    assert answer == LogIn(link)
    assert json.loads(encode(register_request(KEYS, INFO, None, link)))["Followup"] == link


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "https://",
        "https://a.example/\x1b[2J",
        "https://a.example/ b",
        "https://é.example/",
        "https://a.example/" + "x" * 2000,
    ],
)
def test_a_link_that_is_not_safe_to_show_is_refused(link: str) -> None:
    answer = after_registration(RegisterResponse(auth_url=link), sent_auth_key=False, has_auth_key=False)
    assert isinstance(answer, Refused)


def test_an_expired_key_is_renewed_by_a_join_key_or_rotated() -> None:
    response = RegisterResponse(node_key_expired=True)
    assert after_registration(response, sent_auth_key=False, has_auth_key=True) is Step.USE_AUTH_KEY
    assert after_registration(response, sent_auth_key=True, has_auth_key=True) is Step.ROTATE
    assert after_registration(response, sent_auth_key=False, has_auth_key=False) is Step.ROTATE


@pytest.mark.parametrize(
    ("status", "unknown"), [(404, True), (401, True), (403, True), (500, False), (429, False)]
)
def test_a_refused_poll_leads_to_a_new_registration_only_if_the_node_is_not_known(
    status: int, unknown: bool
) -> None:
    assert isinstance(poll_failure(status, "node not found"), UnknownNodeError) is unknown


def test_expiry_counts_from_its_moment() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    node = Node(id=1, key=node_key("home"), key_expiry=now)
    assert has_expired(node, now)
    assert not has_expired(node, now - timedelta(seconds=1))
    assert not has_expired(Node(id=1, key=node_key("home")), now)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("https://203.0.113.10", "203.0.113.10", 443, "203.0.113.10"),
        ("https://control.example.net:8443", "control.example.net", 8443, "control.example.net:8443"),
        ("https://[2001:db8::1]", "2001:db8::1", 443, "[2001:db8::1]"),
        ("http://192.168.1.10", "192.168.1.10", 80, "192.168.1.10"),
    ],
)
def test_the_port_of_the_url_is_the_one_that_is_dialled(
    url: str, host: str, port: int, authority: str
) -> None:
    address = ServerAddress.parse(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)
