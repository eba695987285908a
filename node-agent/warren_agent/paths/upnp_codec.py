"""Texts of UPnP IGD, as far as one UDP port mapping needs them: SSDP, device descriptions, SOAP. Pure.

Every device of the home network can answer here, so nothing is believed but the router itself: whatever
names another host, is too long or plays with XML raises `UpnpError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final
from urllib.parse import urljoin, urlsplit
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

SSDP_PORT: Final = 1900
SSDP_GROUP: Final = IPv4Address("239.255.255.250")
GATEWAY_DEVICE: Final = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"

MAX_ANSWER_BYTES: Final = 4096
MAX_DOCUMENT_BYTES: Final = 128 * 1024
"""Real descriptions have some 3 to 10 KB."""

MAX_URL_CHARACTERS: Final = 512
MAX_SERVICES: Final = 64

ONLY_PERMANENT: Final = frozenset({402, 725})
"""Faults of routers that know only mappings without an end."""

CONFLICT: Final = frozenset({718, 729})
"""Faults that mean that somebody else has the external port."""

_SERVICES: Final = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
"""From the best on."""


class UpnpError(Exception):
    """The router's answer cannot be used; the text says why."""


class SoapError(UpnpError):
    """The router refused an action. `code` is UPnP's, or 0 if it told none."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the router refused: {code} {text[:100]}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Service:
    """One service that can map ports."""

    kind: str
    control_url: str


def search(target: str, to: IPv4Address) -> bytes:
    """An SSDP search; `target` is a device type or `ssdp:all`."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {to}:{SSDP_PORT}",
        'MAN: "ssdp:discover"',
        "MX: 2",
        f"ST: {target}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def location(answer: bytes, router: IPv4Address) -> str | None:
    """Where a gateway's description is; None for an answer of another kind of device."""
    text = answer[:MAX_ANSWER_BYTES].decode("latin-1")
    if not text.startswith("HTTP/1.1 200") or ":InternetGatewayDevice:" not in text:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            return checked_url(value.strip(), router)
    raise UpnpError("an answer to the search names no description")


def checked_url(url: str, router: IPv4Address) -> str:
    """The URL, if it is plain HTTP at the router itself."""
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable():
        raise UpnpError("a URL of the router is not one")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UpnpError("a URL of the router is not one") from error
    if parts.scheme != "http" or parts.username is not None or port == 0:
        raise UpnpError("a URL of the router is not plain HTTP")
    if host != str(router):
        raise UpnpError("the router names another host")
    return url


def services(description: bytes, base: str, router: IPv4Address) -> list[Service]:
    """The services that can map ports, best first. `base` is where the description came from."""
    root = _parse(description)
    named = _text_of(root, "URLBase")
    if named:
        base = checked_url(named, router)
    found: list[Service] = []
    for element in _named(root, "service"):
        kind, url = _text_of(element, "serviceType"), _text_of(element, "controlURL")
        if kind in _SERVICES and url:
            found.append(Service(kind, checked_url(urljoin(base, url), router)))
        if len(found) > MAX_SERVICES:
            raise UpnpError("the router describes too many services")
    return sorted(found, key=lambda service: _SERVICES.index(service.kind))


def request(service: Service, action: str, arguments: Mapping[str, str | int]) -> tuple[bytes, str]:
    """The body and the SOAPAction header of one action."""
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\r\n'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.kind}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    return body.encode(), f'"{service.kind}#{action}"'


def add_arguments(
    internal_port: int, own: IPv4Address, external_port: int, lifetime: int
) -> dict[str, str | int]:
    """For AddPortMapping and AddAnyPortMapping, in the order that strict routers want."""
    return {
        "NewRemoteHost": "",
        "NewExternalPort": external_port,
        "NewProtocol": "UDP",
        "NewInternalPort": internal_port,
        "NewInternalClient": str(own),
        "NewEnabled": 1,
        "NewPortMappingDescription": "warren",
        "NewLeaseDuration": lifetime,
    }


def delete_arguments(external_port: int) -> dict[str, str | int]:
    return {"NewRemoteHost": "", "NewExternalPort": external_port, "NewProtocol": "UDP"}


def answer(body: bytes, status: int, wanted: str) -> str:
    """The value called `wanted` in an answer, "" if there is none; raises `SoapError` for a refusal."""
    if status == 200:
        return _text_of(_parse(body), wanted)
    try:
        root = _parse(body)
        code, text = _text_of(root, "errorCode"), _text_of(root, "errorDescription")
    except UpnpError:
        code, text = "", f"status {status}"
    raise SoapError(int(code) if code.isascii() and code.isdigit() and len(code) < 6 else 0, text)


def _parse(document: bytes) -> Element:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise UpnpError("the router's document is too long")
    try:
        root: Element = fromstring(document, forbid_dtd=True)
    except DefusedXmlException as error:
        raise UpnpError("the router's document declares entities or a DTD") from error
    except (ParseError, ValueError, LookupError) as error:
        raise UpnpError("the router's document is no XML") from error
    return root


def _named(root: Element, name: str) -> Iterable[Element]:
    """Elements by local name: routers disagree on namespaces."""
    return (
        element
        for element in root.iter()
        if isinstance(element.tag, str) and element.tag.rpartition("}")[2] == name
    )


def _text_of(root: Element, name: str) -> str:
    for element in _named(root, name):
        return (element.text or "").strip()
    return ""
