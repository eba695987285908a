"""Secrets the operator makes: what is missing is added, what is there is never replaced.

Two exceptions: a certificate of ours near its end, or for other hosts, is signed anew by the same CA.
"""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from warren_operator import naming
from warren_operator.certificates import (
    KeyPair,
    needs_renewal,
    new_ca,
    new_leaf,
    new_self_signed,
)
from warren_operator.desired.control import CONTROL
from warren_operator.desired.objects import head
from warren_operator.errors import InvalidResourceError
from warren_operator.kinds import Kind, Manifest
from warren_operator.resources.derprelay import DerpRelay
from warren_operator.resources.mesh import Managed, Mesh

_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_SECRET_ALPHABET: Final = string.ascii_letters + string.digits

Observed = Mapping[str, Manifest]
"""Secrets of the namespace by name; those that are absent are left out."""


@dataclass(frozen=True, slots=True)
class SecretChange:
    """A Secret to make or to complete."""

    manifest: Manifest = field(repr=False)
    """Whole for one that does not exist; else only the data to add or replace."""
    exists: bool


def mesh_secrets(mesh: Mesh, managed: Managed, observed: Observed, now: datetime) -> list[SecretChange]:
    labels = naming.labels(CONTROL, mesh=mesh.name)
    wanted: dict[str, dict[str, Callable[[], str]]] = {
        naming.keys_name(mesh.name): {"noise.key": new_private_key, "derp.key": new_private_key},
        naming.admin_name(mesh.name): {"token": new_token},
        naming.join_name(mesh.name): {"key": new_join_key},
    }
    changes = [
        change
        for name, makers in wanted.items()
        if (change := _completed(name, makers, mesh.manifest, labels, observed.get(name)))
    ]
    if managed.secure and managed.tls_secret is None:
        changes += _certificates(mesh, managed, labels, observed, now)
    return changes


def relay_secrets(relay: DerpRelay, observed: Observed, now: datetime) -> list[SecretChange]:
    labels = naming.labels("relay", relay=relay.name)
    name = naming.relay_keys_name(relay.name)
    change = _completed(name, {"mesh.key": new_mesh_key}, relay.manifest, labels, observed.get(name))
    changes = [change] if change is not None else []
    if relay.tls_secret is None:
        name = naming.relay_tls_name(relay.name)
        found = observed.get(name)
        if needs_renewal(secret_data(found, "tls.crt"), [relay.host], now):
            pair = new_self_signed([relay.host], now)
            data = {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()}
            changes.append(_change(name, data, relay.manifest, labels, found, "kubernetes.io/tls"))
    return changes


def control_hosts(mesh: Mesh, managed: Managed) -> list[str]:
    """What the control server's certificate must be good for: its URL, its relay and its Service."""
    service = naming.control_name(mesh.name)
    hosts = [managed.host, f"{service}.{mesh.namespace}.svc"]
    if managed.relay.enabled:
        hosts.append(managed.relay.host)
    return list(dict.fromkeys(hosts))


def secret_data(secret: Manifest | None, key: str) -> bytes:
    """The decoded value, empty if there is none."""
    text = ((secret or {}).get("data") or {}).get(key, "")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def new_private_key() -> str:
    return f"privkey:{secrets.token_hex(32)}\n"


def new_mesh_key() -> str:
    """What the relays of one region prove to each other."""
    return f"{secrets.token_hex(32)}\n"


def new_token() -> str:
    return secrets.token_urlsafe(32)


def new_join_key() -> str:
    def pick(alphabet: str, count: int) -> str:
        return "".join(secrets.choice(alphabet) for _ in range(count))

    return f"warren-auth-{pick(_ID_ALPHABET, 12)}-{pick(_SECRET_ALPHABET, 48)}"


def _completed(
    name: str,
    makers: Mapping[str, Callable[[], str]],
    owner: Manifest,
    labels: Mapping[str, str],
    found: Manifest | None,
) -> SecretChange | None:
    missing = {key: make() for key, make in makers.items() if not secret_data(found, key)}
    return _change(name, missing, owner, labels, found) if missing else None


def _certificates(
    mesh: Mesh, managed: Managed, labels: Mapping[str, str], observed: Observed, now: datetime
) -> list[SecretChange]:
    changes = []
    ca_name, tls_name = naming.ca_name(mesh.name), naming.tls_name(mesh.name)
    ca_secret, tls_secret = observed.get(ca_name), observed.get(tls_name)
    ca = KeyPair(secret_data(ca_secret, "ca.crt"), secret_data(ca_secret, "ca.key"))
    if not ca.certificate or not ca.key:
        ca = new_ca(f"warren {mesh.namespace}/{mesh.name}", now)
        data = {"ca.crt": ca.certificate.decode(), "ca.key": ca.key.decode()}
        changes.append(_change(ca_name, data, mesh.manifest, labels, ca_secret))
    hosts = control_hosts(mesh, managed)
    same_ca = secret_data(tls_secret, "ca.crt") == ca.certificate
    if not same_ca or needs_renewal(secret_data(tls_secret, "tls.crt"), hosts, now):
        leaf = new_leaf(ca, hosts, now)
        data = {
            "tls.crt": leaf.certificate.decode(),
            "tls.key": leaf.key.decode(),
            "ca.crt": ca.certificate.decode(),
        }
        changes.append(_change(tls_name, data, mesh.manifest, labels, tls_secret, "kubernetes.io/tls"))
    return changes


def _change(
    name: str,
    data: Mapping[str, str],
    owner: Manifest,
    labels: Mapping[str, str],
    found: Manifest | None,
    secret_type: str = "Opaque",  # noqa: S107 - a type, not a secret
) -> SecretChange:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    if found is not None:
        if (found["metadata"].get("labels") or {}).get(naming.MANAGED_BY) != naming.FIELD_MANAGER:
            raise InvalidResourceError([f"the Secret {name} exists and is not the operator's; remove it"])
        # The version makes a second writer fail instead of replacing what the first one wrote.
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
        return SecretChange({"metadata": {**metadata, "name": name}, "data": encoded}, exists=True)
    manifest = head(Kind.SECRET, name, owner, labels)
    return SecretChange({**manifest, "type": secret_type, "data": encoded}, exists=False)
