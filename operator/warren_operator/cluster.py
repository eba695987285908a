"""The Kubernetes API behind a Protocol. Nothing else in the operator imports a client library.

The client works with blocking calls, so each call runs in a thread. Objects are plain JSON both ways, and
paths come from `kinds`: discovery of every API group at start would cost more than all the rest.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import urllib3.exceptions
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError

from warren_operator.errors import ClusterError, ConflictError, NotFoundError, RefusedError
from warren_operator.kinds import Kind, Manifest
from warren_operator.naming import FIELD_MANAGER, query

T = TypeVar("T")

REQUEST_SECONDS: Final = (5.0, 30.0)
PAGE: Final = 500


class Cluster(Protocol):
    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None: ...

    async def list(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]: ...

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """`ConflictError` if it exists."""
        ...

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply as our field manager; fields of ours that others took are taken back."""
        ...

    async def merge(
        self, kind: Kind, namespace: str, name: str, patch: Manifest, subresource: str | None = None
    ) -> Manifest:
        """Merge patch. A `resourceVersion` in it makes it conditional."""
        ...

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None = None) -> None:
        """In the background; nothing happens if it is gone, or another one of that name is there."""
        ...

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int) -> str: ...


class KubernetesCluster:
    def __init__(self, api: client.ApiClient, page: int = PAGE) -> None:
        self._page = page
        self._dynamic = DynamicClient(  # type: ignore[no-untyped-call]  # untyped there
            api, discoverer=lambda *_: None
        )

    @classmethod
    def connect(cls, kubeconfig: str | None = None, page: int = PAGE) -> KubernetesCluster:
        """As a pod if we are one, else as the person whose kubeconfig it is."""
        settings = client.Configuration()
        try:
            if kubeconfig is not None:
                raise config.ConfigException("a kubeconfig was given")
            config.load_incluster_config(  # type: ignore[no-untyped-call]  # untyped there
                client_configuration=settings
            )
        except config.ConfigException:
            try:
                config.load_kube_config(  # type: ignore[no-untyped-call]  # untyped there
                    config_file=kubeconfig, client_configuration=settings
                )
            except config.ConfigException as error:
                raise ClusterError(f"neither in a pod nor with a kubeconfig: {error}") from error
        settings.connection_pool_maxsize = 8
        return cls(client.ApiClient(settings), page)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        try:
            return await self._json("GET", kind.path(namespace, name))
        except NotFoundError:
            return None

    async def list(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        found: list[Manifest] = []
        token: str | None = None
        while True:
            page = await self._json(
                "GET",
                kind.path(namespace),
                label_selector=query(dict(labels)) if labels else None,
                limit=self._page,
                _continue=token,
            )
            # Items of a list come without their kind.
            head = {"apiVersion": kind.api_version, "kind": kind.kind}
            found += [{**head, **item} for item in page.get("items") or []]
            token = (page.get("metadata") or {}).get("continue") or None
            if token is None:
                return found

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        path = kind.path(manifest["metadata"]["namespace"])
        return await self._json("POST", path, manifest, field_manager=FIELD_MANAGER)

    async def apply(self, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        return await self._json(
            "PATCH",
            Kind.of(manifest).path(metadata["namespace"], metadata["name"]),
            manifest,
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            force_conflicts="true",
        )

    async def merge(
        self, kind: Kind, namespace: str, name: str, patch: Manifest, subresource: str | None = None
    ) -> Manifest:
        return await self._json(
            "PATCH",
            kind.path(namespace, name, subresource),
            patch,
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None = None) -> None:
        options: Manifest = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self._json("DELETE", kind.path(namespace, name), options)
        except (NotFoundError, ConflictError):
            return

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int) -> str:
        path = Kind.POD.path(namespace, pod, "log")
        options = [("container", container), ("tailLines", lines), ("limitBytes", 65536)]
        data = await self._call("GET", path, None, query_params=options)
        return data.decode("utf-8", "replace")

    async def _json(self, method: str, path: str, body: Manifest | None = None, **options: Any) -> Manifest:
        data = await self._call(method, path, body, **options)
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ClusterError(f"{method} {path}: the answer is not an object")
        return value

    async def _call(self, method: str, path: str, body: Manifest | None, **options: Any) -> bytes:
        def call() -> bytes:
            response = self._dynamic.request(
                method, path, body=body, serialize=False, _request_timeout=REQUEST_SECONDS, **options
            )
            data: bytes = response.data
            return data

        return await asyncio.to_thread(_translated, call, f"{method} {path}")


def _translated(call: Callable[[], T], what: str) -> T:
    try:
        return call()
    except (ApiException, DynamicApiError) as error:
        status = error.status or 0
        text = f"{what}: {_message(error.body) or error.reason}"
        match status:
            case 404:
                raise NotFoundError(text) from error
            case 409:
                raise ConflictError(text) from error
            case 400 | 401 | 403 | 405 | 415 | 422:
                raise RefusedError(text) from error
            case _:
                raise ClusterError(text) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ClusterError(f"{what}: {type(error).__name__}") from error


def _message(body: object) -> str:
    """What the API server says. It may repeat values of ours, but none of those that are secret."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    try:
        value = json.loads(body) if isinstance(body, str) else None
    except ValueError:
        return ""
    message = value.get("message") if isinstance(value, dict) else None
    return message[:1000] if isinstance(message, str) else ""
