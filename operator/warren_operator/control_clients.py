"""Clients of the control servers of managed meshes: made from what the cluster holds, kept while it is so."""

from __future__ import annotations

from collections.abc import Callable

from warren_operator import naming
from warren_operator.cluster import Cluster
from warren_operator.control_api import ControlApi, Endpoint
from warren_operator.desired.control import SERVICE_PORT, tls_secret_name
from warren_operator.desired.secrets import secret_data
from warren_operator.errors import ControlApiError
from warren_operator.kinds import Kind
from warren_operator.resources.mesh import Managed, Mesh

Locate = Callable[[Mesh, Managed], str]
"""The base URL at which the operator reaches a control server."""


def by_service(mesh: Mesh, managed: Managed) -> str:
    scheme = "https" if managed.secure else "http"
    return f"{scheme}://{naming.control_name(mesh.name)}.{mesh.namespace}.svc:{SERVICE_PORT}"


class ControlClients:
    def __init__(self, cluster: Cluster, locate: Locate = by_service) -> None:
        self._cluster = cluster
        self._locate = locate
        self._clients: dict[tuple[str, str], tuple[str, ControlApi]] = {}

    async def of(self, mesh: Mesh, managed: Managed) -> ControlApi:
        endpoint = await self._endpoint(mesh, managed)
        key = (mesh.namespace, mesh.name)
        # Forgetting waits, and somebody else may make the new client meanwhile.
        while (known := self._clients.get(key)) is not None:
            if known[0] == endpoint.fingerprint:
                return known[1]
            await self.forget(*key)
        api = ControlApi(endpoint)
        self._clients[key] = (endpoint.fingerprint, api)
        return api

    async def forget(self, namespace: str, name: str) -> None:
        known = self._clients.pop((namespace, name), None)
        if known is not None:
            await known[1].close()

    async def close(self) -> None:
        for namespace, name in list(self._clients):
            await self.forget(namespace, name)

    async def _endpoint(self, mesh: Mesh, managed: Managed) -> Endpoint:
        admin = await self._cluster.get(Kind.SECRET, mesh.namespace, naming.admin_name(mesh.name))
        token = secret_data(admin, "token").decode("utf-8", "replace")
        if not token:
            raise ControlApiError(f"the Secret {naming.admin_name(mesh.name)} is missing")
        base = self._locate(mesh, managed)
        if not managed.secure:
            return Endpoint(base, None, "", token)
        tls = await self._cluster.get(Kind.SECRET, mesh.namespace, tls_secret_name(mesh, managed))
        trusted = b"\n".join(secret_data(tls, key) for key in ("ca.crt", "tls.crt"))
        return Endpoint(base, managed.host, trusted.decode("utf-8", "replace").strip(), token)
