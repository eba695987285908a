"""Reports of nodes applied to their records."""

from __future__ import annotations

from typing import Any

from support.control_records import disco_key, key, node, node_key
from warren_control.reports import after_lite_update, after_poll
from warren_control.routes import parse_prefixes
from warren_wire.control.messages import Hostinfo, MapRequest, NetInfo

SAME = Hostinfo(hostname="node1", os="linux")


def request(**fields: Any) -> MapRequest:
    values: dict[str, Any] = {"version": 133, "node_key": node_key(1), "hostinfo": SAME}
    return MapRequest(**values | fields)


def test_an_update_without_endpoints_keeps_them_and_an_empty_list_clears_them() -> None:
    known = node(1, endpoints=("192.0.2.1:1",))
    assert after_lite_update(known, request(), None, set()).endpoints == ("192.0.2.1:1",)
    assert after_lite_update(known, request(endpoints=()), None, set()).endpoints == ()


def test_an_update_with_nothing_new_gives_an_equal_record() -> None:
    assert after_lite_update(node(1), request(disco_key=disco_key(1)), None, set()) == node(1)


def test_another_host_name_renames_unless_a_person_chose_the_name() -> None:
    renamed = request(hostinfo=Hostinfo(hostname="web"))
    assert after_lite_update(node(1), renamed, None, {"web"}).name == "web-1"
    assert after_lite_update(node(1, name_pinned=True), renamed, None, set()).name == "node1"


def test_the_same_host_name_keeps_a_numbered_name() -> None:
    known = node(1, name="node1-3")
    changed = request(hostinfo=Hostinfo(hostname="node1", os="linux", os_version="2"))
    assert after_lite_update(known, changed, None, set()).name == "node1-3"


def test_approval_survives_a_withdrawn_route() -> None:
    approving = key(approve_routes=parse_prefixes(["10.0.0.0/8"]))
    advertised = request(hostinfo=Hostinfo(hostname="node1", routable_ips=("10.1.0.0/16",)))
    with_route = after_lite_update(node(1), advertised, approving, set())
    assert with_route.effective_routes == parse_prefixes(["10.1.0.0/16"])
    without = after_lite_update(with_route, request(), None, set())
    assert without.effective_routes == ()
    again = after_lite_update(without, advertised, None, set())
    assert again.effective_routes == parse_prefixes(["10.1.0.0/16"])


def test_a_poll_fills_gaps_only() -> None:
    known = node(1, endpoints=("192.0.2.1:1",))
    poll = request(endpoints=("192.0.2.9:9",), disco_key=disco_key(9), hostinfo=Hostinfo(hostname="old"))
    assert after_poll(known, poll, None, set()) == known
    gaps = node(1, disco_key=None)
    filled = after_poll(gaps, poll, None, set())
    assert (filled.endpoints, filled.disco_key, filled.name) == (("192.0.2.9:9",), disco_key(9), "node1")


def test_a_poll_counts_in_full_after_a_restart_of_the_server() -> None:
    stored = node(1, reported=False, net_info=NetInfo(preferred_derp=900))
    poll = request(endpoints=("192.0.2.9:9",), disco_key=disco_key(9))
    filled = after_poll(stored, poll, None, set())
    assert (filled.endpoints, filled.disco_key, filled.home_region, filled.reported) == (
        ("192.0.2.9:9",),
        disco_key(9),
        900,
        True,
    )
