"""The configuration and the files beside it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from warren_control import config
from warren_control.db.engine import parse_url
from warren_control.errors import ConfigError, InvalidError
from warren_control.keyfiles import noise_key, read_secret, relay_key
from warren_control.relaymap import check_region
from warren_runtime.settings import SettingsError
from warren_wire.control.messages import DERPNode, DERPRegion


def parse(**fields: Any) -> config.Config:
    return config.parse({"server_url": "https://203.0.113.10"} | fields)


def problems(**fields: Any) -> str:
    with pytest.raises(SettingsError) as found:
        parse(**fields)
    return "\n".join(found.value.problems)


def test_an_address_is_all_that_is_needed() -> None:
    found = parse()
    assert str(found.pools.v4) == "100.64.0.0/10"
    assert found.base_domain == "mesh.internal"
    assert found.dns.domains == ("mesh.internal",)
    assert found.relay is None


def test_the_embedded_relay_becomes_a_region_that_stock_clients_can_use() -> None:
    found = parse(relay={"enabled": True}, server_url="https://203.0.113.10:30443")
    [node] = found.regions[900].nodes or ()
    assert (node.host_name, node.ipv4, node.derp_port, node.stun_port) == (
        "203.0.113.10",
        "203.0.113.10",
        30443,
        3478,
    )


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:8080", "http://localhost", "http://[::1]:80", "http://192.168.1.1"]
)
def test_plain_http_is_allowed_on_private_addresses(url: str) -> None:
    assert parse(server_url=url).server_url == url


@pytest.mark.parametrize(
    "url",
    ["http://203.0.113.10", "http://control.example.net", "http://100.64.0.1", "http://169.254.1.1"],
)
def test_plain_http_on_a_public_address_is_refused_with_the_reason(url: str) -> None:
    assert "never come back" in problems(server_url=url)


def test_every_problem_is_named_at_once() -> None:
    text = problems(
        server_url="ftp://x",
        base_domain="-",
        addresses={"v4": "10.0.0.0/8", "v6": "fd7a:115c:a1e0::1/48"},
        tls={"certificate": "a"},
        dns={"extra_records": [{"name": "web", "value": "x"}]},
        regions=[{"RegionID": 0}],
        bootstrap_keys=[{"secret_file": "x", "approve_routes": ["10.0.0.1/8"], "tags": ["web"]}],
        unheard=1,
    )
    for place in (
        "server_url",
        "base_domain",
        "addresses.v4",
        "addresses.v6",
        "tls.key",
        "dns.extra_records[0].value",
        "regions[0]",
        "bootstrap_keys[0].approve_routes",
        "bootstrap_keys[0].tags",
        "unheard",
    ):
        assert place in text


def test_the_base_domain_must_not_hold_the_server() -> None:
    assert "base_domain" in problems(server_url="https://control.example.net", base_domain="example.net")


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://host", "sqlite://", "nonsense"])
def test_a_database_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="database"):
        parse_url(url)


def test_the_noise_key_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "state/noise.key"
    made = noise_key(file, first_start=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert noise_key(file, first_start=False) == made


def test_a_database_without_noise_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="locked out"):
        noise_key(tmp_path / "noise.key", first_start=False)


def test_a_damaged_key_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "derp.key"
    file.write_text("privkey:12")
    with pytest.raises(ConfigError, match=r"derp\.key"):
        relay_key(file)


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("short\n")
    with pytest.raises(ConfigError, match="fewer than 16"):
        read_secret(file, "admin_token_file", least=16)
    with pytest.raises(ConfigError, match="cannot read"):
        read_secret(tmp_path / "none", "admin_token_file", least=16)


def test_ids_of_a_region_are_made_to_agree() -> None:
    region = check_region(
        DERPRegion(region_code="office", nodes=(DERPNode(host_name="a"), DERPNode(host_name="b", name="x"))),
        expected=901,
    )
    assert [(node.region_id, node.name) for node in region.nodes or ()] == [(901, "901a"), (901, "x")]


@pytest.mark.parametrize(
    "region",
    [
        DERPRegion(region_id=7, region_code="office", nodes=(DERPNode(host_name="a"),)),
        DERPRegion(region_code="", nodes=(DERPNode(host_name="a"),)),
        DERPRegion(region_code="office"),
        DERPRegion(region_code="office", nodes=(DERPNode(),)),
        DERPRegion(region_code="office", nodes=(DERPNode(host_name="a", derp_port=70000),)),
    ],
)
def test_a_region_that_clients_would_stumble_over_is_refused(region: DERPRegion) -> None:
    with pytest.raises(InvalidError):
        check_region(region, expected=901)


def test_a_password_in_a_database_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url("mysql://warren:s3cret@db/mesh")
    assert "s3cret" not in str(caught.value)
