"""Secrets that the operator makes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from support.operator_cases import CASES
from warren_operator import certificates
from warren_operator.desired.secrets import (
    SecretChange,
    mesh_secrets,
    new_join_key,
    new_private_key,
    relay_secrets,
    secret_data,
)
from warren_operator.errors import InvalidResourceError
from warren_operator.resources.derprelay import parse_relay
from warren_operator.resources.mesh import Managed, parse_mesh
from warren_wire.keys import MachinePrivate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MESH = parse_mesh(CASES["managed-everything"])
assert isinstance(MESH.control, Managed)
MANAGED: Managed = MESH.control
Secrets = dict[str, dict[str, Any]]


def written(changes: list[SecretChange], known: Secrets | None = None) -> Secrets:
    """The Secrets after the changes."""
    found = dict(known or {})
    for change in changes:
        manifest, name = change.manifest, change.manifest["metadata"]["name"]
        if change.exists:
            found[name] = {**found[name], "data": {**found[name]["data"], **manifest["data"]}}
        else:
            found[name] = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "1"}}
    return found


def test_everything_a_control_server_needs_is_made_once() -> None:
    made = written(mesh_secrets(MESH, MANAGED, {}, NOW))
    assert sorted(made) == ["home-admin", "home-ca", "home-control-tls", "home-join", "home-keys"]
    assert mesh_secrets(MESH, MANAGED, made, NOW) == []


def test_what_is_missing_in_a_secret_is_added_and_the_rest_stays() -> None:
    made = written(mesh_secrets(MESH, MANAGED, {}, NOW))
    noise = made["home-keys"]["data"]["noise.key"]
    del made["home-keys"]["data"]["derp.key"]
    changes = mesh_secrets(MESH, MANAGED, made, NOW)
    assert [(change.exists, list(change.manifest["data"])) for change in changes] == [(True, ["derp.key"])]
    assert written(changes, made)["home-keys"]["data"]["noise.key"] == noise


def test_a_certificate_near_its_end_is_signed_anew_by_the_same_ca() -> None:
    made = written(mesh_secrets(MESH, MANAGED, {}, NOW))
    later = NOW + certificates.LEAF_LIFE - timedelta(days=10)
    changes = mesh_secrets(MESH, MANAGED, made, later)
    assert [change.manifest["metadata"]["name"] for change in changes] == ["home-control-tls"]
    renewed = written(changes, made)
    assert secret_data(renewed["home-control-tls"], "ca.crt") == secret_data(made["home-ca"], "ca.crt")
    assert mesh_secrets(MESH, MANAGED, renewed, later) == []


def test_the_certificate_is_for_the_url_and_the_service() -> None:
    made = written(mesh_secrets(MESH, MANAGED, {}, NOW))
    found = x509.load_pem_x509_certificate(secret_data(made["home-control-tls"], "tls.crt"))
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == ["203.0.113.10"]
    assert names.get_values_for_type(x509.DNSName) == ["home-control.warren-system.svc"]


def test_a_given_certificate_is_left_to_the_person_who_gave_it() -> None:
    mesh = parse_mesh(CASES["managed"])
    assert isinstance(mesh.control, Managed)
    assert "home-control-tls" not in written(mesh_secrets(mesh, mesh.control, {}, NOW))


def test_a_secret_of_someone_else_is_not_written() -> None:
    foreign = {"home-join": {"metadata": {"name": "home-join", "resourceVersion": "1"}, "data": {}}}
    with pytest.raises(InvalidResourceError, match="home-join exists and is not the operator's"):
        mesh_secrets(MESH, MANAGED, foreign, NOW)


def test_a_relay_pins_the_one_certificate_it_has() -> None:
    relay = parse_relay(CASES["relay"])
    made = written(relay_secrets(relay, {}, NOW))
    assert sorted(made) == ["balcony-relay-keys", "balcony-relay-tls"]
    pem = secret_data(made["balcony-relay-tls"], "tls.crt")
    assert pem.count(b"BEGIN CERTIFICATE") == 1
    assert re.fullmatch(r"sha256-raw:[0-9a-f]{64}", certificates.pin(pem))
    assert relay_secrets(relay, made, NOW) == []


def test_keys_are_in_the_form_that_programs_read() -> None:
    assert MachinePrivate.parse(new_private_key().strip()).public
    assert re.fullmatch(r"warren-auth-[a-z0-9]{12}-[A-Za-z0-9]{48}", new_join_key())


def test_no_secret_shows_in_a_representation() -> None:
    for change in mesh_secrets(MESH, MANAGED, {}, NOW):
        assert "data" not in repr(change)
