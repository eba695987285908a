"""Whose address a connection comes from. A header that says so counts only from configured proxies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from warren_control.routes import Prefix

FORWARDED_FOR = "X-Forwarded-For"


class Sources:
    """Knows the proxies."""

    def __init__(self, proxies: Iterable[Prefix]) -> None:
        self._proxies = tuple(proxies)

    def of(self, peer: str, headers: Mapping[str, str]) -> str:
        """The client's address: the last one in the header that is no proxy of ours."""
        if not self._is_proxy(peer):
            return peer
        given = headers.get(FORWARDED_FOR) or headers.get(FORWARDED_FOR.lower()) or ""
        source = peer
        for text in reversed(given.split(",")):
            address = _address(text.strip())
            if address is None:
                break
            source = str(address)
            if not self._is_proxy(source):
                break
        return source

    def _is_proxy(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in proxy for proxy in self._proxies)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
