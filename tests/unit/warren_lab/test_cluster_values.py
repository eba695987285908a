"""The values of a lab cluster: addresses, credentials, configuration files."""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import tomllib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from cryptography import x509

from warren_lab.cluster import ClusterError, ClusterSpec, cgroups, configs, manifests, pki
from warren_lab.cluster.cluster import cgroup_name
from warren_lab.cluster.layout import Layout

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def spec(
    name: str = "home",
    node_ip: str = "192.168.1.10",
    pods: str = "10.1.0.0/16",
    services: str = "10.96.0.0/16",
    upstream_dns: tuple[str, ...] = (),
) -> ClusterSpec:
    return ClusterSpec(
        name, "lab-home", IPv4Address(node_ip), IPv4Network(pods), IPv4Network(services), 1500, upstream_dns
    )


def test_addresses_follow_from_the_ranges() -> None:
    home = spec()
    assert str(home.api_service_ip) == "10.96.0.1"
    assert str(home.dns_service_ip) == "10.96.0.10"
    assert str(home.node_pod_cidr) == "10.1.0.0/24"
    assert str(spec(pods="10.1.0.0/26").node_pod_cidr) == "10.1.0.0/26"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"name": "Home"}, "DNS label"),
        ({"name": "x" * 40}, "at most 32"),
        ({"pods": "10.96.0.0/12"}, "overlaps"),
        ({"node_ip": "10.1.0.9"}, "inside the cluster's own ranges"),
        ({"pods": "10.1.0.0/30"}, "at least 16"),
    ],
)
def test_a_cluster_that_cannot_work_is_refused_with_the_reason(broken: dict[str, str], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        spec(**broken)  # type: ignore[arg-type]  # the broken values are texts, as the others


def test_the_api_server_s_certificate_names_every_way_to_it() -> None:
    made = pki.generate(spec(), NOW)
    certificate = x509.load_pem_x509_certificate(made.api_server.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"192.168.1.10", "10.96.0.1", "127.0.0.1"}
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca.certificate))


def test_credentials_hide_what_they_hold() -> None:
    made = pki.generate(spec(), NOW)
    assert "PRIVATE" not in repr(made)
    assert made.tokens["admin"] not in repr(made)


def test_each_user_has_a_token_and_the_node_its_group() -> None:
    made = pki.generate(spec(), NOW)
    rows = list(csv.reader(io.StringIO(pki.token_file(made, "home"))))
    assert {row[1]: row[3] for row in rows}["system:node:home"] == "system:nodes"
    assert {row[1]: row[3] for row in rows}["admin"] == "system:masters"
    assert len({row[0] for row in rows}) == len(rows) == 5


def test_a_kubeconfig_names_server_authority_and_token() -> None:
    made = pki.generate(spec(), NOW)
    document = json.loads(configs.kubeconfig(spec(), made, "admin"))
    (cluster,) = document["clusters"]
    assert cluster["cluster"]["server"] == "https://192.168.1.10:6443"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == made.ca.certificate
    assert document["users"][0]["user"]["token"] == made.tokens["admin"]


def test_containerd_s_file_is_valid_and_names_plugins_runtime_and_sandbox() -> None:
    text = configs.containerd(
        plugins=Path("/tools/cni"), runc=Path("/usr/sbin/runc"), pause_image="localhost/pause:1"
    )
    plugins = tomllib.loads(text)["plugins"]
    runtime = plugins["io.containerd.cri.v1.runtime"]
    assert runtime["cni"]["bin_dirs"] == ["/tools/cni", "/opt/cni/bin"]
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/usr/sbin/runc"
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == "localhost/pause:1"


def test_the_kubelet_keeps_to_its_own_control_group() -> None:
    group = cgroup_name(Path("/var/tmp/warren/77/clusters/home"))
    document = json.loads(configs.kubelet(spec(), group))
    assert document["cgroupRoot"] == "/warren-lab-77-home"
    assert document["clusterDNS"] == ["10.96.0.10"]


def test_every_file_of_a_node_lies_below_its_etc() -> None:
    files = configs.node_files(
        spec(),
        pki.generate(spec(), NOW),
        plugins=Path("/tools/cni"),
        runc=Path("/usr/sbin/runc"),
        pause_image="localhost/pause:1",
        cgroup="warren-lab-77-home",
    )
    layout = Layout(Path("/run/home"))
    assert all(layout.etc(path).is_relative_to("/run/home/overlay/etc/upper") for path in files)


def test_names_outside_the_cluster_are_forwarded_only_if_there_is_somebody_to_ask() -> None:
    assert "forward" not in manifests.corefile(spec())
    assert "forward . 192.168.1.1" in manifests.corefile(spec(upstream_dns=("192.168.1.1",)))
    assert configs.resolver(spec(upstream_dns=("192.168.1.1",))) == "nameserver 192.168.1.1\n"


def test_control_group_hierarchies_of_both_versions_are_found() -> None:
    mountinfo = (
        "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
        "32 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
        "33 1 0:29 / /tmp rw - ext4 /dev/vda rw\n"
    )
    assert cgroups.hierarchies(mountinfo) == [Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/unified")]
