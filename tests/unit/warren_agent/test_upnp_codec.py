"""Texts of UPnP, good and hostile."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.paths import upnp_codec as codec
from warren_agent.paths.upnp_codec import Service, SoapError, UpnpError

ROUTER = IPv4Address("192.168.1.1")
BASE = "http://192.168.1.1:5000/rootDesc.xml"
FOUND = (
    b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n"
    b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
    b"Location: http://192.168.1.1:5000/rootDesc.xml\r\nEXT:\r\n\r\n"
)
V2 = "urn:schemas-upnp-org:service:WANIPConnection:2"
V1 = "urn:schemas-upnp-org:service:WANIPConnection:1"


def description(*services: tuple[str, str], base: str = "") -> bytes:
    url_base = f"<URLBase>{base}</URLBase>" if base else ""
    listed = "".join(
        f"<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service>"
        for kind, url in services
    )
    return (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"{url_base}<device><deviceList><device><serviceList>{listed}</serviceList></device></deviceList>"
        "</device></root>"
    ).encode()


def test_a_search_is_one_http_request_over_udp() -> None:
    assert codec.search("ssdp:all", ROUTER) == (
        b'M-SEARCH * HTTP/1.1\r\nHOST: 192.168.1.1:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\n'
        b"ST: ssdp:all\r\n\r\n"
    )


def test_an_answer_says_where_the_description_is() -> None:
    assert codec.location(FOUND, ROUTER) == BASE


@pytest.mark.parametrize(
    "answer",
    [b"", FOUND.replace(b"InternetGatewayDevice", b"MediaServer"), FOUND.replace(b"200 OK", b"404 No")],
)
def test_answers_of_other_devices_are_passed_over(answer: bytes) -> None:
    assert codec.location(answer, ROUTER) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.1.77:5000/rootDesc.xml",
        "http://evil.example/rootDesc.xml",
        "https://192.168.1.1/rootDesc.xml",
        "file:///etc/passwd",
        "http://192.168.1.1@evil.example/",
        "http://user@192.168.1.1/",
        "http://192.168.1.1:0/",
        "http://192.168.1.1:99999/",
        "http://[::1/",
        "http://192.168.1.1/" + "a" * 600,
        "http://192.168.1.1/\x7f",
        "//192.168.1.77/",
    ],
)
def test_only_plain_http_at_the_router_itself_is_a_url(url: str) -> None:
    with pytest.raises(UpnpError):
        codec.checked_url(url, ROUTER)


def test_the_better_service_comes_first_and_paths_are_completed() -> None:
    found = codec.services(description((V1, "/one"), ("urn:other", "/x"), (V2, "ctl/two")), BASE, ROUTER)
    assert found == [
        Service(V2, "http://192.168.1.1:5000/ctl/two"),
        Service(V1, "http://192.168.1.1:5000/one"),
    ]


def test_an_old_url_base_counts_if_it_is_the_router() -> None:
    found = codec.services(description((V1, "/one"), base="http://192.168.1.1:80/"), BASE, ROUTER)
    assert found == [Service(V1, "http://192.168.1.1:80/one")]


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(
        b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 10)  # each ten times the one before
        for n in range(8)
    )
    + b"]><root>&i;</root>"
)


@pytest.mark.parametrize(
    "document",
    [
        description((V1, "http://192.168.1.77/ctl")),
        description((V1, "//evil.example/ctl")),
        description((V1, "/ctl"), base="http://evil.example/"),
        description(*[(V1, f"/{n}") for n in range(100)]),
        BOMB,
        b'<?xml version="1.0"?><!DOCTYPE r SYSTEM "http://evil.example/dtd"><root/>',
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><root>&x;</root>',
        b"<root>" + b" " * codec.MAX_DOCUMENT_BYTES + b"</root>",
        b"",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such-encoding"?><root/>',
    ],
    ids=[
        "host-in-url", "host-without-scheme", "base", "many", "bomb", "dtd", "file", "long", "empty",
        "garbage", "encoding",
    ],
)  # fmt: skip
def test_hostile_descriptions_are_refused(document: bytes) -> None:
    with pytest.raises(UpnpError):
        codec.services(document, BASE, ROUTER)


def test_a_deep_description_is_no_trouble() -> None:
    deep = b"<a>" * 20000 + b"</a>" * 20000
    assert len(deep) > codec.MAX_DOCUMENT_BYTES or codec.services(deep, BASE, ROUTER) == []
    half = b"<a>" * 9000 + b"</a>" * 9000
    assert codec.services(half, BASE, ROUTER) == []


@given(st.integers(0, len(description((V1, "/one"), (V2, "/two")))))
def test_a_cut_description_is_refused_or_harmless(length: int) -> None:
    try:
        found = codec.services(description((V1, "/one"), (V2, "/two"))[:length], BASE, ROUTER)
    except UpnpError:
        return
    assert len(found) == 2


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    try:
        assert codec.location(data, ROUTER) is None
        codec.services(data, BASE, ROUTER)
    except UpnpError:
        pass


def test_a_request_names_its_action_and_escapes_its_values() -> None:
    body, header = codec.request(Service(V1, BASE), "AddPortMapping", {"NewRemoteHost": "<&>", "NewPort": 7})
    assert header == f'"{V1}#AddPortMapping"'
    assert f'<u:AddPortMapping xmlns:u="{V1}">'.encode() in body
    assert b"<NewRemoteHost>&lt;&amp;&gt;</NewRemoteHost><NewPort>7</NewPort>" in body


def envelope(inner: str) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<s:Body>{inner}</s:Body></s:Envelope>"
    ).encode()


def test_answers_and_faults_are_told_apart() -> None:
    good = envelope("<u:R xmlns:u='x'><NewExternalIPAddress> 203.0.113.5 </NewExternalIPAddress></u:R>")
    assert codec.answer(good, 200, "NewExternalIPAddress") == "203.0.113.5"
    assert codec.answer(good, 200, "NewReservedPort") == ""
    fault = envelope(
        "<s:Fault><detail><UPnPError xmlns='urn:schemas-upnp-org:control-1-0'><errorCode>725</errorCode>"
        "<errorDescription>OnlyPermanentLeasesSupported</errorDescription></UPnPError></detail></s:Fault>"
    )
    with pytest.raises(SoapError, match="725 OnlyPermanent") as refused:
        codec.answer(fault, 500, "")
    assert refused.value.code in codec.ONLY_PERMANENT
    with pytest.raises(SoapError) as unsaid:
        codec.answer(b"<html>", 501, "")
    assert unsaid.value.code == 0
