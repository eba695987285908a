"""Messages as Go writes and reads them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.control.messages import (
    ZERO_TIME,
    CapGrant,
    ClientVersion,
    ControlKey,
    Debug,
    DERPMap,
    DERPNode,
    DERPRegion,
    DNSConfig,
    FilterRule,
    Hostinfo,
    Login,
    MapRequest,
    MapResponse,
    NetInfo,
    NetPortRange,
    Node,
    PeerChange,
    PingRequest,
    PingResponse,
    PortRange,
    PreparedMapResponse,
    RegisterAuth,
    RegisterRequest,
    RegisterResponse,
    Resolver,
    Service,
    User,
    UserProfile,
    decode,
    encode,
    is_zero_time,
    prepare,
)
from warren_wire.errors import DecodeError
from warren_wire.keys import DiscoPublic, MachinePublic, NodePublic

NODE_KEY = NodePublic(bytes([0x11]) * 32)
NODE_TEXT = "nodekey:" + "11" * 32
MACHINE_KEY = MachinePublic(bytes([0x22]) * 32)
MACHINE_TEXT = "mkey:" + "22" * 32
DISCO_KEY = DiscoPublic(bytes([0x33]) * 32)
DISCO_TEXT = "discokey:" + "33" * 32
ZERO = "0001-01-01T00:00:00Z"
NOON = datetime(2026, 8, 10, 12, tzinfo=UTC)

WRITTEN: list[tuple[Any, dict[str, Any]]] = [
    (ControlKey(public_key=MACHINE_KEY), {"publicKey": MACHINE_TEXT}),
    (
        RegisterRequest(
            version=145,
            node_key=NODE_KEY,
            auth=RegisterAuth(auth_key="secret"),
            expiry=NOON,
            hostinfo=Hostinfo(os="linux", hostname="web"),
            ephemeral=True,
        ),
        {
            "Version": 145,
            "NodeKey": NODE_TEXT,
            "Auth": {"AuthKey": "secret"},
            "Expiry": "2026-08-10T12:00:00Z",
            "Hostinfo": {"OS": "linux", "Hostname": "web"},
            "Ephemeral": True,
        },
    ),
    (
        RegisterResponse(
            user=User(id=10, display_name="Alice"),
            login=Login(id=10, login_name="alice"),
            machine_authorized=True,
        ),
        {
            "User": {"ID": 10, "DisplayName": "Alice"},
            "Login": {"ID": 10, "LoginName": "alice"},
            "MachineAuthorized": True,
        },
    ),
    (
        RegisterResponse(
            auth_url="https://control.example.net/register/1", node_key_expired=True, error="no"
        ),
        {"AuthURL": "https://control.example.net/register/1", "NodeKeyExpired": True, "Error": "no"},
    ),
    (
        MapRequest(
            version=145,
            compress="zstd",
            keep_alive=True,
            node_key=NODE_KEY,
            disco_key=DISCO_KEY,
            stream=True,
            omit_peers=True,
            read_only=True,
            endpoints=("192.0.2.1:41641",),
            endpoint_types=(1,),
            tka_head="x",
        ),
        {
            "Version": 145,
            "Compress": "zstd",
            "KeepAlive": True,
            "NodeKey": NODE_TEXT,
            "DiscoKey": DISCO_TEXT,
            "Stream": True,
            "OmitPeers": True,
            "ReadOnly": True,
            "Endpoints": ["192.0.2.1:41641"],
            "EndpointTypes": [1],
            "TKAHead": "x",
        },
    ),
    (
        Node(
            id=1,
            stable_id="n1",
            name="web.mesh.internal.",
            key=NODE_KEY,
            machine=MACHINE_KEY,
            key_expiry=NOON,
            allowed_ips=(),
            home_derp=900,
            derp="127.3.3.40:900",
            online=False,
            cap_map={"https": None, "funnel": (1, {"a": True})},
            is_wireguard_only=True,
            unsigned_peer_api_only=True,
            self_node_v4_masq_addr_for_this_peer="100.64.0.9",
        ),
        {
            "ID": 1,
            "StableID": "n1",
            "Name": "web.mesh.internal.",
            "Key": NODE_TEXT,
            "Machine": MACHINE_TEXT,
            "KeyExpiry": "2026-08-10T12:00:00Z",
            "AllowedIPs": [],
            "HomeDERP": 900,
            "DERP": "127.3.3.40:900",
            "Online": False,
            "CapMap": {"https": None, "funnel": [1, {"a": True}]},
            "IsWireGuardOnly": True,
            "UnsignedPeerAPIOnly": True,
            "SelfNodeV4MasqAddrForThisPeer": "100.64.0.9",
        },
    ),
    (
        PeerChange(node_id=2, derp_region=900, disco_key=DISCO_KEY, endpoints=(), last_seen=NOON),
        {
            "NodeID": 2,
            "DERPRegion": 900,
            "DiscoKey": DISCO_TEXT,
            "Endpoints": [],
            "LastSeen": "2026-08-10T12:00:00Z",
        },
    ),
    (
        DERPMap(
            regions={
                900: DERPRegion(
                    region_id=900,
                    region_code="home",
                    no_measure_no_home=True,
                    nodes=(
                        DERPNode(
                            name="900a",
                            region_id=900,
                            host_name="203.0.113.10",
                            ipv4="203.0.113.10",
                            ipv6="none",
                            stun_port=-1,
                            stun_only=True,
                            derp_port=8443,
                            can_port80=True,
                            insecure_for_tests=True,
                            stun_test_ip="192.0.2.1",
                        ),
                    ),
                )
            },
            omit_default_regions=True,
        ),
        {
            "omitDefaultRegions": True,
            "Regions": {
                "900": {
                    "RegionID": 900,
                    "RegionCode": "home",
                    "NoMeasureNoHome": True,
                    "Nodes": [
                        {
                            "Name": "900a",
                            "RegionID": 900,
                            "HostName": "203.0.113.10",
                            "IPv4": "203.0.113.10",
                            "IPv6": "none",
                            "STUNPort": -1,
                            "STUNOnly": True,
                            "DERPPort": 8443,
                            "CanPort80": True,
                            "InsecureForTests": True,
                            "STUNTestIP": "192.0.2.1",
                        }
                    ],
                }
            },
        },
    ),
    (
        DNSConfig(
            proxied=True, routes={"lab": ()}, resolvers=(Resolver(addr="192.0.2.53"),), cert_domains=("a",)
        ),
        {"Proxied": True, "Routes": {"lab": []}, "Resolvers": [{"Addr": "192.0.2.53"}], "CertDomains": ["a"]},
    ),
    (
        FilterRule(
            src_ips=("*",),
            ip_proto=(6,),
            dst_ports=(NetPortRange(ip="100.64.0.1", ports=PortRange(first=0, last=65535)),),
        ),
        {
            "SrcIPs": ["*"],
            "IPProto": [6],
            "DstPorts": [{"IP": "100.64.0.1", "Ports": {"First": 0, "Last": 65535}}],
        },
    ),
    (
        FilterRule(src_ips=("*",), cap_grant=(CapGrant(dsts=("100.64.0.1/32",), cap_map={"a": None}),)),
        {"SrcIPs": ["*"], "CapGrant": [{"Dsts": ["100.64.0.1/32"], "CapMap": {"a": None}}]},
    ),
    (
        UserProfile(id=10, login_name="alice", profile_pic_url="https://example.net/a.png"),
        {"ID": 10, "LoginName": "alice", "ProfilePicURL": "https://example.net/a.png"},
    ),
    (
        PingRequest(
            url="https://control.example.net/ping/1", url_is_noise=True, types="c2n", ip="100.64.0.1"
        ),
        {
            "URL": "https://control.example.net/ping/1",
            "URLIsNoise": True,
            "Types": "c2n",
            "IP": "100.64.0.1",
        },
    ),
    (
        PingResponse(type="TSMP", ip="100.64.0.2", node_name="nas", latency_seconds=0.5, derp_region_id=9),
        {
            "Type": "TSMP",
            "IP": "100.64.0.2",
            "NodeName": "nas",
            "LatencySeconds": 0.5,
            "DERPRegionID": 9,
        },
    ),
    (PingRequest(payload=b"\x00\x01"), {"Payload": "AAE="}),
    (ClientVersion(running_latest=True, notify_url="u"), {"RunningLatest": True, "NotifyURL": "u"}),
    (Debug(disable_log_tail=True, sleep_seconds=1.5), {"DisableLogTail": True, "SleepSeconds": 1.5}),
    (
        NetInfo(
            preferred_derp=900,
            derp_latency={"900-v4": 0.01},
            mapping_varies_by_dest_ip=False,
            working_ipv6=True,
            os_has_ipv6=True,
            working_udp=True,
            working_icmpv4=False,
            have_port_map=True,
            upnp=False,
            pmp=True,
            pcp=False,
        ),
        {
            "PreferredDERP": 900,
            "DERPLatency": {"900-v4": 0.01},
            "MappingVariesByDestIP": False,
            "WorkingIPv6": True,
            "OSHasIPv6": True,
            "WorkingUDP": True,
            "WorkingICMPv4": False,
            "HavePortMap": True,
            "UPnP": False,
            "PMP": True,
            "PCP": False,
        },
    ),
    (
        MapResponse(
            peers_removed=(2, 3),
            online_change={2: True},
            peer_seen_change={3: False},
            packet_filters={"*": None, "base": ()},
            dns_config=DNSConfig(),
            collect_services=False,
            control_time=NOON,
        ),
        {
            "PeersRemoved": [2, 3],
            "OnlineChange": {"2": True},
            "PeerSeenChange": {"3": False},
            "PacketFilters": {"*": None, "base": []},
            "DNSConfig": {},
            "CollectServices": False,
            "ControlTime": "2026-08-10T12:00:00Z",
        },
    ),
    (
        Hostinfo(
            hostname="web",
            os="linux",
            os_version="6",
            ipn_version="1.102.5",
            device_model="m",
            go_arch="amd64",
            package="p",
            app="a",
            backend_log_id="b",
            shields_up=True,
            userspace=False,
            userspace_router=True,
            routable_ips=("10.1.0.0/16",),
            request_tags=("tag:web",),
            services=(Service(proto="peerapi4", port=1, description="d"),),
            net_info=NetInfo(preferred_derp=900),
            ssh_host_keys=("ssh-ed25519 A",),
        ),
        {
            "Hostname": "web",
            "OS": "linux",
            "OSVersion": "6",
            "IPNVersion": "1.102.5",
            "DeviceModel": "m",
            "GoArch": "amd64",
            "Package": "p",
            "App": "a",
            "BackendLogID": "b",
            "ShieldsUp": True,
            "Userspace": False,
            "UserspaceRouter": True,
            "RoutableIPs": ["10.1.0.0/16"],
            "RequestTags": ["tag:web"],
            "Services": [{"Proto": "peerapi4", "Port": 1, "Description": "d"}],
            "NetInfo": {"PreferredDERP": 900},
            "sshHostKeys": ["ssh-ed25519 A"],
        },
    ),
]


@pytest.mark.parametrize(("value", "document"), WRITTEN)
def test_written_and_read(value: Any, document: dict[str, Any]) -> None:
    assert json.loads(encode(value)) == document
    assert decode(type(value), encode(value)) == value
    assert decode(type(value), json.dumps(document | {"SomethingNew": [1]}).encode()) is not None


@pytest.mark.parametrize(("value", "document"), WRITTEN)
def test_a_document_cut_anywhere_is_refused(value: Any, document: dict[str, Any]) -> None:
    text = encode(value)
    for length in range(len(text)):
        with pytest.raises(DecodeError):
            decode(type(value), text[:length])


def test_a_node_as_a_server_may_send_it_has_nothing_but_its_id_and_key() -> None:
    document = f'{{"ID":2,"Key":"{NODE_TEXT}","Addresses":null,"Online":null,"Hostinfo":null,"CapMap":null}}'
    assert decode(Node, document.encode()) == Node(id=2, key=NODE_KEY)


def test_the_zero_time_is_no_time() -> None:
    register = f'{{"NodeKey":"{NODE_TEXT}","Expiry":"{ZERO}"}}'
    assert decode(RegisterRequest, register.encode()).expiry is None
    node = f'{{"ID":2,"Key":"{NODE_TEXT}","KeyExpiry":"{ZERO}","LastSeen":"{ZERO}","Created":"{ZERO}"}}'
    assert decode(Node, node.encode()) == Node(id=2, key=NODE_KEY)
    assert is_zero_time(ZERO_TIME)
    assert is_zero_time(None)
    assert not is_zero_time(NOON)


def test_a_logout_keeps_its_time() -> None:
    register = f'{{"NodeKey":"{NODE_TEXT}","Expiry":"1970-01-01T02:02:03+02:00"}}'
    expected = datetime(1970, 1, 1, 0, 2, 3, tzinfo=UTC)
    assert decode(RegisterRequest, register.encode()).expiry == expected


@pytest.mark.parametrize(
    "time", ["2026-08-10T12:00:00", "9999-12-31T23:59:59-12:00", "noon", 7, "2026-13-01T00:00:00Z"]
)
def test_a_time_that_is_none_is_refused(time: object) -> None:
    register = json.dumps({"NodeKey": NODE_TEXT, "Expiry": time})
    with pytest.raises(DecodeError):
        decode(RegisterRequest, register.encode())


def test_nanoseconds_and_offsets_are_read() -> None:
    register = f'{{"NodeKey":"{NODE_TEXT}","Expiry":"2026-08-10T14:00:00.123456789+02:00"}}'
    expiry = decode(RegisterRequest, register.encode()).expiry
    assert expiry is not None
    assert expiry.replace(microsecond=0) == NOON


def test_a_zero_key_is_no_key() -> None:
    zero = "0" * 64
    register = f'{{"NodeKey":"{NODE_TEXT}","OldNodeKey":"nodekey:{zero}"}}'
    assert decode(RegisterRequest, register.encode()).old_node_key is None
    request = f'{{"NodeKey":"{NODE_TEXT}","DiscoKey":"discokey:{zero}"}}'
    assert decode(MapRequest, request.encode()).disco_key is None
    node = f'{{"ID":2,"Key":"{NODE_TEXT}","DiscoKey":"discokey:{zero}","Machine":"mkey:{zero}"}}'
    assert decode(Node, node.encode()) == Node(id=2, key=NODE_KEY)


@pytest.mark.parametrize("key", ["", "nodekey:", "mkey:" + "11" * 32, 7, None])
def test_an_empty_or_wrong_key_is_refused(key: object) -> None:
    with pytest.raises(DecodeError):
        decode(Node, json.dumps({"ID": 1, "Key": key}).encode())


@pytest.mark.parametrize("number", [0, -1, 2**53, 1.5, "1"])
def test_ids_are_positive_and_fit_a_double(number: object) -> None:
    with pytest.raises(DecodeError):
        decode(Node, json.dumps({"ID": number, "Key": NODE_TEXT}).encode())


def test_the_error_names_the_place() -> None:
    with pytest.raises(DecodeError, match=r"\$\.Key"):
        decode(Node, b'{"ID":1,"Key":"nodekey:1"}')


def test_a_document_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(DecodeError, match="not allowed"):
        decode(MapResponse, b'{"Domain":"mesh"}', max_bytes=10)


def test_an_auth_key_is_not_shown() -> None:
    request = RegisterRequest(node_key=NODE_KEY, auth=RegisterAuth(auth_key="warren-auth-1-secret"))
    assert "secret" not in repr(request)


# Hostinfo.


def test_unknown_members_of_hostinfo_are_passed_on() -> None:
    document = {"OS": "linux", "Cloud": "x", "Location": {"City": "y", "Priority": 100}, "TPM": None}
    hostinfo = decode(Hostinfo, json.dumps(document).encode())
    assert hostinfo.os == "linux"
    assert hostinfo.extra == {k: v for k, v in document.items() if k != "OS"}
    assert json.loads(encode(hostinfo)) == document


def test_hostinfo_inside_a_node_is_passed_on_as_well() -> None:
    document = {"ID": 2, "Key": NODE_TEXT, "Hostinfo": {"Cloud": "x", "Services": None}}
    node = decode(Node, json.dumps(document).encode())
    assert json.loads(encode(node))["Hostinfo"] == {"Cloud": "x"}


def test_an_empty_hostinfo_is_written() -> None:
    assert json.loads(encode(Node(id=1, key=NODE_KEY, hostinfo=Hostinfo())))["Hostinfo"] == {}


def test_hostinfo_is_replaced_not_changed() -> None:
    before = Hostinfo(os="linux", net_info=NetInfo(preferred_derp=1), extra={"Cloud": "x"})
    after = before.replace(net_info=None, hostname="web")
    assert after == Hostinfo(os="linux", hostname="web", extra={"Cloud": "x"})
    assert before.net_info is not None
    assert after != before
    assert hash(after) == hash(Hostinfo(os="linux", hostname="web", extra={"Cloud": "x"}))


@pytest.mark.parametrize("document", [b"7", b"[]", b'{"OS":7}', b'{"NetInfo":{"PreferredDERP":"x"}}'])
def test_a_hostinfo_of_other_types_is_refused(document: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(Hostinfo, document)


# Prepared parts.


def test_prepared_parts_give_the_same_message() -> None:
    node = Node(id=1, key=NODE_KEY, hostinfo=Hostinfo(os="linux"))
    peer = Node(id=2, key=NODE_KEY)
    rules = (FilterRule(src_ips=("*",)),)
    plain = MapResponse(
        node=node,
        peers=(peer,),
        packet_filters={"base": rules, "old": None},
        derp_map=DERPMap(regions={}),
        domain="mesh",
    )
    prepared = PreparedMapResponse(
        node=prepare(node),
        peers=(prepare(peer),),
        packet_filters={"base": prepare(rules), "old": None},
        derp_map=prepare(DERPMap(regions={})),
        domain="mesh",
    )
    assert json.loads(encode(prepared)) == json.loads(encode(plain))


# Anything else.


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for kind in (MapResponse, MapRequest, RegisterRequest, Hostinfo):
        for document in (data, b'{"NodeKey":"%s","Hostinfo":%s}' % (NODE_TEXT.encode(), data)):
            try:
                decode(kind, document)
            except DecodeError:
                pass


@pytest.mark.parametrize(
    "document", [b"[" * 200_000, b'{"Hostinfo":' * 50_000, b'{"CapMap":{"a":[' + b"[" * 99_999]
)
def test_deep_documents_are_refused(document: bytes) -> None:
    for kind in (MapResponse, Node, Hostinfo):
        with pytest.raises(DecodeError):
            decode(kind, document)


hostinfos = st.builds(
    Hostinfo,
    hostname=st.text(max_size=10),
    routable_ips=st.none() | st.tuples(st.text(max_size=5)),
    net_info=st.none() | st.builds(NetInfo, preferred_derp=st.integers(-(2**31), 2**31)),
    extra=st.dictionaries(
        st.text(max_size=5).map("X".__add__), st.integers(0, 9) | st.text(max_size=3), max_size=3
    ),
)
nodes = st.builds(
    Node,
    id=st.integers(1, 2**53 - 1),
    key=st.binary(min_size=32, max_size=32).map(NodePublic),
    name=st.text(max_size=20),
    addresses=st.none() | st.lists(st.text(max_size=10), max_size=3).map(tuple),
    online=st.none() | st.booleans(),
    hostinfo=st.none() | hostinfos,
    last_seen=st.none() | st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    key_signature=st.none() | st.binary(max_size=10),
)


@given(nodes)
def test_nodes_round_trip(node: Node) -> None:
    assert decode(Node, encode(node)) == node
