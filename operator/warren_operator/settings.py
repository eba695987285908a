"""kopf's settings: a library that brings events, and keeps nothing in the cluster."""

from __future__ import annotations

import kopf

from warren_operator.kinds import GROUP


def kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # Events come from changed conditions, not from log lines.
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Unused as long as only events are handled; kopf's own domain must never appear on objects.
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{GROUP}")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"kopf.{GROUP}")
    # Kubernetes ends a pod that does not end itself.
    settings.process.ultimate_exiting_timeout = None
    # A watch that a broken network keeps open says nothing for ever.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    return settings
