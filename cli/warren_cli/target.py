"""Finds the control server a command is about: named by flags, or by a Mesh of the current cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from .client import UNIX, ApiError, Target

LOCAL_SOCKET = Path("/run/warren/control.sock")
"""Where a server on this machine is looked for when none is named."""


def from_flags(server: str | None, token_file: Path | None, ca_file: Path | None) -> Target:
    """The server named directly. Raises `ApiError` saying which flag is missing or unreadable."""
    if not server and LOCAL_SOCKET.is_socket():
        server = f"{UNIX}{LOCAL_SOCKET}"
    if not server:
        raise ApiError(
            "no control server named: give --server URL and --token-file FILE, or --mesh NAMESPACE/NAME"
        )
    if server.startswith(UNIX):
        return Target(server, "")
    if token_file is None:
        raise ApiError("no token: give --token-file FILE (the file named by admin_token_file at the server)")
    return Target(server, _read(token_file).strip(), _read(ca_file) if ca_file else None)


def from_mesh(mesh: str, kubeconfig: Path | None) -> Target:
    """The server a managed Mesh runs, with the token and the CA from its Secrets, read through kubectl."""
    namespace, _, name = mesh.rpartition("/")
    if not namespace or not name:
        raise ApiError(f"--mesh wants NAMESPACE/NAME, got {mesh!r}")
    resource = _kubectl(kubeconfig, namespace, "meshes.warren.dev", name)
    managed = resource["spec"].get("controlServer", {}).get("managed")
    if not managed:
        raise ApiError(
            f"mesh {mesh} only joins a control server elsewhere: run this against the cluster that has it"
        )
    secrets = resource.get("status", {}).get("secrets", {})
    token_secret = secrets.get("adminToken")
    if not token_secret:
        raise ApiError(
            f"mesh {mesh} has no control server yet: kubectl describe mesh/{name} -n {namespace} says why"
        )
    token = _secret(_kubectl(kubeconfig, namespace, "secrets", token_secret), "token")
    if token is None:
        raise ApiError(f"secret {namespace}/{token_secret} has no key `token`")
    ca_secret = secrets.get("ca")
    ca_pem = _secret(_kubectl(kubeconfig, namespace, "secrets", ca_secret), "ca.crt") if ca_secret else None
    return Target(managed["url"], token.strip(), ca_pem)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ApiError(f"cannot read {path}: {error.strerror}") from error


def _kubectl(kubeconfig: Path | None, namespace: str, kind: str, name: str) -> dict[str, Any]:
    command = ["kubectl", "get", kind, name, "--namespace", namespace, "--output", "json"]
    if kubeconfig:
        command += ["--kubeconfig", str(kubeconfig)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise ApiError("kubectl is not installed; it is what reads the Mesh") from error
    except subprocess.TimeoutExpired as error:
        raise ApiError("the cluster did not answer kubectl within 30 s") from error
    if done.returncode != 0:
        raise ApiError(done.stderr.strip() or f"kubectl failed with exit code {done.returncode}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _secret(secret: dict[str, Any], key: str) -> str | None:
    value = secret.get("data", {}).get(key)
    return base64.b64decode(value).decode() if value else None
