"""An agent beside the rules of others on one host: kube-proxy, Docker, a firewall, strict reverse paths.

home (the rules of the others) --+            +-- office
                                 +- internet -+
                       control (203.0.113.10)
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from support.agents import AgentHost, Mesh, mesh
from support.lab import accepting_tcp, connected, eventually, require_namespaces
from support.requirements import require_nftables, require_program, require_root_netns, require_tun
from warren_lab.net import namespaces
from warren_lab.process import entering

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

PORT = 8080
LAN, MACHINE, GATEWAY = "10.9.0.0/24", "10.9.0.5", "10.9.0.1"

# As kube-proxy writes it: connections to Services get mark 0x4000 and are masqueraded by it.
KUBE_PROXY = """
table ip kube-proxy {
    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.96.0.1 . tcp . 443 : goto service-a }
    }
    chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
    chain nat-output { type nat hook output priority -100; jump services; }
    chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
    chain filter-forward {
        type filter hook forward priority -110;
        ct state new jump no-endpoints
        ct state invalid drop
    }
    chain no-endpoints { ip daddr 10.96.0.9 reject; }
    chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
    chain service-a {
        ip saddr != 10.1.0.0/16 jump mark-for-masquerade
        meta l4proto tcp dnat to 10.9.0.5:8080
    }
    chain mark-for-masquerade { meta mark set meta mark | 0x4000; }
    chain masquerading {
        meta mark & 0x4000 == 0 return
        meta mark set meta mark ^ 0x4000
        masquerade fully-random
    }
}
"""

# As iptables-nft lists Docker's: nothing is forwarded but for the bridge's own; DOCKER-USER is the owner's.
DOCKER = """
table ip filter {
    chain DOCKER-USER { %s counter return; }
    chain DOCKER-ISOLATION { iifname "docker0" oifname != "docker0" counter return; counter return; }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        counter jump DOCKER-ISOLATION
        oifname "docker0" ct state related,established counter accept
        iifname "docker0" counter accept
    }
}
table ip nat {
    chain DOCKER { iifname "docker0" counter return; }
    chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local counter jump DOCKER; }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat;
        ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
    }
}
"""

# As firewalld's default zone: only answers, the loopback, pings and what the owner trusts come in.
FIREWALLD = """
table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state established,related accept
        ct status dnat accept
        iifname "lo" accept
        %s
        ct state invalid drop
        icmp type echo-request accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
        reject with icmpx admin-prohibited
    }
    chain filter_OUTPUT {
        type filter hook output priority filter + 10; policy accept;
        ct state established,related accept
        oifname "lo" accept
    }
}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Mesh]:
    require_root_netns()
    require_namespaces()
    require_tun()
    require_nftables()
    with mesh(tmp_path, require_program("wireguard")) as running:
        for switch in ("all", "default", "eth0"):
            strict = {f"net/ipv4/conf/{switch}/rp_filter": "1"}
            namespaces.set_kernel_values(running.network.namespace("home"), strict)
        yield running


def at(world: Mesh, host: str, *words: str, given: str | None = None) -> str:
    command = entering(words, world.network.namespace(host))
    return subprocess.run(command, check=True, capture_output=True, text=True, input=given).stdout


def install(world: Mesh, *tables: str) -> str:
    """The others' tables on home; gives them as listed without counters."""
    at(world, "home", "nft", "-f", "-", given="".join(tables))
    return others(world)


def others(world: Mesh) -> str:
    """Every table but the agent's, byte for byte; what counters counted is no change."""
    tables = [line.split()[1:] for line in at(world, "home", "nft", "list", "tables").splitlines()]
    listed = [at(world, "home", "nft", "-s", "list", "table", *t) for t in tables if t != ["inet", "warren"]]
    return "".join(listed)


def source_seen(world: Mesh, host: str, address: str, port: int = PORT) -> str | None:
    try:
        with connected(world.network, host, ip_address(address), port) as sock:
            return sock.makefile().readline().strip()
    except OSError:
        return None


def reaches(world: Mesh, host: str, address: str, source: str | None = None, port: int = PORT) -> bool:
    seen = source_seen(world, host, address, port)
    return seen is not None and source in (None, seen)


@pytest.fixture
def machine(world: Mesh) -> Iterator[str]:
    """A plain machine in a network behind home, which forwards. Gives its namespace's short name."""
    name, namespace = "home-lan", world.network.namespace("home-lan")
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        pair = ["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", namespace]
        at(world, "home", *pair)
        at(world, "home", "ip", "addr", "add", f"{GATEWAY}/24", "dev", "lan0")
        at(world, "home", "ip", "link", "set", "lan0", "up")
        at(world, "home", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        at(world, name, "ip", "addr", "add", f"{MACHINE}/24", "dev", "eth0")
        at(world, name, "ip", "link", "set", "eth0", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def routed(world: Mesh) -> tuple[AgentHost, AgentHost]:
    """Home offers the network of the machine; office has the route."""
    home = world.host("home", advertise_routes=[LAN], keep_source={"local": []})
    home.start()
    (office,) = world.joined("office")
    assert eventually(home.ready, within=30.0), home.log.read_text()
    assert eventually(lambda: office.peer("home").get("routes") == [LAN])
    return home, office


def test_a_network_behind_the_agent_is_reached_beside_kube_proxy_and_strict_reverse_paths(
    world: Mesh, machine: str
) -> None:
    before = install(world, KUBE_PROXY)
    home, office = routed(world)
    with (
        accepting_tcp(world.network, machine, PORT),
        accepting_tcp(world.network, "home", PORT),
        accepting_tcp(world.network, "office", PORT),
    ):
        for address in (home.address(), MACHINE):
            assert eventually(partial(reaches, world, "office", address))
        assert reaches(world, "office", MACHINE, GATEWAY)
        assert reaches(world, "home", office.address())
        # A Service of home, by kube-proxy's rules, from home itself.
        assert reaches(world, "home", "10.96.0.1", port=443)
        assert eventually(lambda: office.peer("home").get("path") == "direct")
    home.run("down")
    assert others(world) == before


def test_a_firewall_that_lets_only_answers_in_costs_what_its_owner_means_and_nothing_more(
    world: Mesh,
) -> None:
    before = install(world, FIREWALLD % "")
    home, office = world.joined("home", "office")
    with accepting_tcp(world.network, "home", PORT), accepting_tcp(world.network, "office", PORT):
        assert eventually(partial(reaches, world, "home", office.address()))
        assert eventually(lambda: home.peer("office").get("path") == "direct")
        # New connections into this host are what this firewall is against.
        assert not reaches(world, "office", home.address())
        assert others(world) == before
        trusted = install(
            world, "delete table inet firewalld\n", FIREWALLD % f'iifname "{home.interface}" accept'
        )
        assert eventually(partial(reaches, world, "office", home.address()))
    home.run("down")
    assert others(world) == trusted


def test_dockers_rules_forward_for_the_mesh_once_their_owner_says_so(world: Mesh, machine: str) -> None:
    before = install(world, DOCKER % "")
    home, office = routed(world)
    with (
        accepting_tcp(world.network, machine, PORT),
        accepting_tcp(world.network, "home", PORT),
        accepting_tcp(world.network, "office", PORT),
    ):
        assert eventually(partial(reaches, world, "office", home.address()))
        assert reaches(world, "home", office.address())
        assert not reaches(world, "office", MACHINE)
        assert others(world) == before
        for direction in ("iifname", "oifname"):
            rule = f'{direction} "{home.interface}" accept'
            at(world, "home", "nft", "insert", "rule", "ip", "filter", "DOCKER-USER", rule)
        allowed = others(world)
        assert eventually(partial(reaches, world, "office", MACHINE, GATEWAY))
    home.run("down")
    assert others(world) == allowed
