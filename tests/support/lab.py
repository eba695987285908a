"""Small networks of namespaces for tests, and the datagrams that show what a NAT does."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from warren_lab import preflight
from warren_lab.net import Forward, Network, PublicHost, Router, RouterKind, Topology, Transport, namespaces
from warren_lab.patience import patient
from warren_lab.run import sweep

HOME_WAN = IPv4Address("203.0.113.10")
OFFICE_WAN = IPv4Address("203.0.113.20")
WEB = IPv4Address("203.0.113.80")
HOME_LAN_V6 = IPv6Network("2001:db8:1::/64")
MAIL = IPv4Address("203.0.113.81")


def require_namespaces() -> None:
    """Skip, saying why, where namespaces cannot be made; remove what killed runs left."""
    problems = preflight.check({"network"})
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    sweep()


def home_and_office(
    kind: RouterKind = RouterKind.EASY,
    other: RouterKind = RouterKind.EASY,
    forwards: tuple[Forward, ...] = (),
    *,
    public_v6: bool = False,
) -> Topology:
    """Two routers with a host each, ``home`` and ``office``, and the public hosts ``web`` and ``mail``."""
    return Topology(
        routers=(
            Router(
                "home-router",
                HOME_WAN,
                IPv4Network("192.168.1.0/24"),
                ("home", "nas"),
                kind=kind,
                forwards=forwards,
                lan_v6=HOME_LAN_V6 if public_v6 else None,
            ),
            Router("office-router", OFFICE_WAN, IPv4Network("192.168.2.0/24"), ("office",), kind=other),
        ),
        public_hosts=(PublicHost("web", WEB), PublicHost("mail", MAIL)),
        public_v6=public_v6,
    )


@contextmanager
def echo_udp(network: Network, host: str, port: int) -> Iterator[None]:
    """Answers each datagram with the address it came from, as STUN does."""
    sock = open_udp(network, host, port)
    sock.settimeout(None)
    stop, wake = socket.socketpair()

    def serve() -> None:
        while True:
            ready, _, _ = select.select([sock, stop], [], [])
            if stop in ready:
                return
            _, source = sock.recvfrom(2048)
            sock.sendto(f"{source[0]}:{source[1]}".encode(), source)

    thread = threading.Thread(target=serve, name=f"echo-{host}")
    thread.start()
    try:
        yield
    finally:
        wake.close()
        thread.join()
        stop.close()
        sock.close()


def open_udp(network: Network, host: str, port: int = 0) -> socket.socket:
    """A datagram socket in a host's namespace."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", port))
        sock.settimeout(1.0)
        return sock

    return network.inside(host, make)


def seen_as(sock: socket.socket, address: IPv4Address, port: int, tries: int = 3) -> str | None:
    """The source that an :func:`echo_udp` saw, or None if no answer came."""
    for _ in range(tries):
        sock.sendto(b"who am I", (str(address), port))
        try:
            return sock.recv(2048).decode()
        except (TimeoutError, OSError):
            continue
    return None


@contextmanager
def accepting_tcp(network: Network, host: str, port: int) -> Iterator[None]:
    """A server that says to each connection where it came from, and then echoes what it gets."""

    def make() -> socket.socket:
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    server = network.inside(host, make)

    def serve() -> None:
        connections: list[threading.Thread] = []
        while True:
            try:
                connection, source = server.accept()
            except OSError:
                break
            thread = threading.Thread(target=echo, args=(connection, source))
            thread.start()
            connections.append(thread)
        for thread in connections:
            thread.join()

    def echo(connection: socket.socket, source: tuple[str, int]) -> None:
        # A client that has heard enough resets the connection.
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(f"{source[0].removeprefix('::ffff:')}\n".encode())
            while data := connection.recv(2048):
                connection.sendall(data)

    thread = threading.Thread(target=serve, name=f"tcp-{host}")
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@contextmanager
def connected(
    network: Network, host: str, address: IPv4Address | IPv6Address, port: int
) -> Iterator[socket.socket]:
    """A TCP connection from a host."""
    sock = network.inside(host, lambda: socket.create_connection((str(address), port), 2.0))
    with sock:
        yield sock


def eventually(check: Callable[[], bool], within: float = 10.0, every: float = 0.05) -> bool:
    """Whether ``check`` came true in time."""
    deadline = time.monotonic() + patient(within)
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


@dataclass(frozen=True, slots=True)
class Traces:
    """What a run could leave behind on the machine; other labs' namespaces come and go meanwhile."""

    namespaces: tuple[str, ...]
    links: tuple[str, ...]
    descriptors: int

    @classmethod
    def of_machine(cls) -> Traces:
        return cls(
            namespaces=tuple(name for name in namespaces.names("wl") if not _of_another(name)),
            links=tuple(sorted(name for _, name in socket.if_nameindex())),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
        )


def _of_another(namespace: str) -> bool:
    """Whether a namespace is of a lab that another process runs now."""
    found = re.match(r"wl(\d+)-", namespace)
    return found is not None and int(found[1]) != os.getpid() and not pid_is_gone(int(found[1]))


def pid_is_gone(pid: int) -> bool:
    """Whether a process has ended (or is a zombie nobody collected)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


__all__ = [
    "HOME_WAN",
    "MAIL",
    "OFFICE_WAN",
    "WEB",
    "Forward",
    "Traces",
    "Transport",
    "accepting_tcp",
    "connected",
    "echo_udp",
    "eventually",
    "home_and_office",
    "open_udp",
    "pid_is_gone",
    "require_namespaces",
    "seen_as",
]
