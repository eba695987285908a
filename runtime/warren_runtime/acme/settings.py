"""The settings below `tls.acme`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from warren_runtime.settings import Listen, Section

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
FIELDS: Final = (
    "names",
    "directory_url",
    "accept_terms",
    "contacts",
    "ca_file",
    "http_listen",
    "external_account.key_id",
    "external_account.key_file",
)
_NAME: Final = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")
MAX_NAMES: Final = 100
"""Let's Encrypt's limit."""


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """What ties the account to one the CA knows already; the file holds a base64url key."""

    key_id: str
    key_file: Path


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """`http_listen`: a plain port (80 for the CA) for HTTP-01; else TLS-ALPN-01 on the service's own."""

    names: tuple[str, ...]
    directory_url: str = LETS_ENCRYPT
    contacts: tuple[str, ...] = ()
    ca_file: Path | None = None
    http_listen: Listen | None = None
    external_account: ExternalAccount | None = None


def read_acme(section: Section) -> AcmeSettings:
    """The settings in a section; what is wrong is noted there."""
    names = tuple(name.lower().rstrip(".") for name in section.list_of_texts("names"))
    if not names:
        section.problem("names", "is required: the names of this service")
    for name in names:
        if not _NAME.fullmatch(name):
            section.problem("names", f"{name[:64]!r} is not a full DNS name such as relay.example.net")
    if len(names) > MAX_NAMES:
        section.problem("names", f"must be at most {MAX_NAMES}")
    url = section.text("directory_url", LETS_ENCRYPT)
    if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
        section.problem("directory_url", "must be an https:// URL")
    if not section.boolean("accept_terms", False):
        section.problem("accept_terms", "must be true: read the terms of the certificate authority first")
    contacts = section.list_of_texts("contacts")
    for contact in contacts:
        if "@" not in contact or contact.startswith("mailto:"):
            section.problem("contacts", f"{contact[:64]!r} is not a mail address")
    found = AcmeSettings(
        names=names,
        directory_url=url,
        contacts=contacts,
        ca_file=section.path("ca_file"),
        http_listen=section.listen("http_listen"),
        external_account=_external_account(section),
    )
    section.finish()
    return found


def _external_account(root: Section) -> ExternalAccount | None:
    if not root.has("external_account"):
        root.raw("external_account")
        return None
    section = root.section("external_account")
    key_id = section.text("key_id", required=True)
    key_file = section.path("key_file", required=True)
    section.finish()
    return ExternalAccount(key_id, key_file) if key_id and key_file else None
