"""Why packets of a peer do not travel directly, in words for people. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from warren_agent.member import Member
from warren_agent.paths.values import LocalState, PathKind, PathStatus

LOOKING: Final = timedelta(seconds=5)
"""A search that finds something has found it by then."""


def why_not_direct(
    member: Member, path: PathStatus | None, local: LocalState | None, now: datetime
) -> str | None:
    """None for a peer that is reached directly. `local` is what this node knows of its own network."""
    if path is not None and path.path is PathKind.DIRECT:
        return None
    if member.expired:
        return "its key has expired"
    if path is None:
        return "it has told no key to find it by"
    if path.path is PathKind.IDLE:
        return "no traffic" if member.online else "offline"
    if local is not None and local.net_info.working_udp is False:
        return "no UDP gets out of this host's network"
    if not member.endpoints:
        return "it has told no address of its own"
    if not member.online:
        return "the control server calls it offline"
    if now - path.since < LOOKING:
        return "still looking for a direct path"
    if local is not None and not _shared_families(member, local):
        return "it and this host have no address family in common"
    tried = len(member.endpoints)
    text = f"none of its {tried} addresses answers" if tried > 1 else "its only address does not answer"
    if local is not None and local.net_info.mapping_varies_by_dest_ip:
        text += "; the NAT here is hard"
    return text


def _shared_families(member: Member, local: LocalState) -> bool:
    ours = {endpoint.ip.version for endpoint in local.endpoints}
    return not ours or any(endpoint.ip.version in ours for endpoint in member.endpoints)
