"""Whether packets flow through the tunnel, and by which path."""

from __future__ import annotations

from support.agents import AgentHost, Mesh
from support.lab import open_udp
from warren_lab.patience import patient

ECHO_PORT = 7777


def answered(world: Mesh, address: str) -> bool:
    """Whether a packet from the home host through the tunnel comes back."""

    with open_udp(world.network, "home") as sock:
        sock.settimeout(patient(0.5))
        try:
            sock.sendto(b"ping", (address, ECHO_PORT))
            return bool(sock.recv(2048))
        except OSError:
            return False


def paths(host: AgentHost, peer: str) -> list[str]:
    """The paths that were used for a peer, in order."""
    return [change["path"] for change in host.peer(peer).get("history", [])]


def is_on(world: Mesh, host: AgentHost, peer: str, path: str, address: str) -> bool:
    """Whether packets flow, and flow by this path."""
    return answered(world, address) and host.peer(peer).get("path") == path
